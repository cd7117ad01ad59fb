"""An empty stand-in for torchaudio, which speechbrain imports and its models do not use.

There is no build of torchaudio without CUDA for this torch. Any use of the stand-in raises.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types
from typing import Any, ClassVar


class _Absent(types.ModuleType):
    """A module in which every name is a class that cannot be made."""

    __version__ = "2.11.0"
    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_args: Any, **_kwargs: Any) -> None:
            raise ImportError(f"torchaudio.{name} is not there")

        return type(name, (), {"__init__": refuse})


def install() -> None:
    """Put the stand-in where ``import torchaudio`` finds it, unless the real one can be imported."""
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError):
        for name in ("torchaudio", "torchaudio.transforms", "torchaudio.functional", "torchaudio.compliance.kaldi"):
            module = _Absent(name)
            module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
            sys.modules[name] = module
        sys.modules["torchaudio"].list_audio_backends = lambda: ["none"]  # type: ignore[attr-defined]
