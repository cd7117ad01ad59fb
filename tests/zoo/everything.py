"""Registers every entry that can be imported; what cannot be is named with its reason."""

from __future__ import annotations

from importlib import import_module

FAMILIES = ("hugging", "brain", "classic", "frames", "enhance", "waves")
MISSING: dict[str, str] = {}

for _family in FAMILIES:
    try:
        import_module(f".{_family}", __package__)
    except ImportError as error:
        MISSING[_family] = str(error)
