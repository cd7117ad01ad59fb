"""Modules answer to the names that they had before they moved."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from shrinkspeech.moved import HOME


@pytest.mark.parametrize("name", HOME)
def test_an_old_name_gives_the_same_module(name: str) -> None:
    sys.modules.pop(f"shrinkspeech.{name}", None)
    home = import_module(f"shrinkspeech.{HOME[name]}")
    with pytest.warns(DeprecationWarning, match=rf"is now {home.__name__}$"):
        assert import_module(f"shrinkspeech.{name}") is home
    assert home.__spec__ is not None
    assert home.__spec__.name == home.__name__


def test_a_name_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"shrinkspeech\.nothing"):
        import_module("shrinkspeech.nothing")


def test_an_old_name_is_found_by_a_fresh_process() -> None:
    code = "from shrinkspeech.recipe import Recipe; from shrinkspeech.fitting import recipe; assert recipe.Recipe is Recipe"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
