"""Models of 🤗 transformers: a folder that ``save_pretrained`` wrote, or a class. Code that a folder brings is never run."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from shrinkspeech.errors import LoadError
from shrinkspeech.loading.processors import Folder, read_folder
from shrinkspeech.loading.usercode import one_line

PACKAGE = "transformers"


def class_named(spec: str | None) -> str | None:
    """The class in ``transformers:Wav2Vec2ForCTC``; None for every other factory."""
    module, _, name = (spec or "").partition(":")
    return name if module == PACKAGE and name.isidentifier() else None


def load_folder(path: str | Path, wanted: str | None = None) -> tuple[nn.Module, tuple[str, ...]]:
    """The model of a folder, and notes.

    Args:
        wanted: its class; the one that ``config.json`` names if not given.

    Raises:
        LoadError: transformers is not installed, does not know the class, or the weights are not all there.
    """
    folder = read_folder(path)
    kind = _class(folder, wanted)
    with silent():
        try:
            model, told = kind.from_pretrained(
                str(folder.path), local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
        except Exception as error:  # transformers raises what it likes
            raise LoadError(f"{path} cannot be loaded as {kind.__name__}: {one_line(error)}") from error
    wrong = {name: sorted(map(str, told[name])) for name in ("missing_keys", "mismatched_keys") if told.get(name)}
    if wrong:
        first = next(iter(wrong.values()))
        raise LoadError(
            f"{path} does not hold all weights of {kind.__name__} ({first[0]} is missing, or of another shape; "
            f"{sum(map(len, wrong.values()))} in all): give the class that was trained, with --factory transformers:CLASS"
        )
    notes = list(folder.notes)
    if told.get("unexpected_keys"):
        names = sorted(told["unexpected_keys"])
        notes.insert(
            0, f"{path} holds weights that are not the model's: {', '.join(names[:3])}{', …' if names[3:] else ''}"
        )
    return model.eval(), tuple(notes)


def build_class(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A model of a class of transformers from the arguments of its configuration, with random weights.

    Raises:
        LoadError: transformers is not installed, does not know the class, or its configuration refuses the arguments.
    """
    kind = _known(name)
    with silent():
        try:
            model: nn.Module = kind(kind.config_class(**arguments))
        except Exception as error:
            raise LoadError(f"transformers:{name} cannot be built of its configuration: {one_line(error)}") from error
    return model.eval()


def transformers() -> Any:
    """The package.

    Raises:
        LoadError: it is not installed.
    """
    try:
        return importlib.import_module(PACKAGE)
    except ImportError as error:
        raise LoadError(
            "models of Hugging Face need the package transformers, which is not installed: pip install 'shrinkspeech[hf]'"
        ) from error


def _class(folder: Folder, wanted: str | None) -> Any:
    names = [str(name) for name in folder.config.get("architectures") or ()]
    if wanted is None and len(names) != 1:
        raise LoadError(
            f"{folder.path / 'config.json'} names {len(names) or 'no'} architectures: say which class the model is of with "
            "--factory transformers:CLASS"
        )
    name = wanted or names[0]
    package = transformers()
    if not hasattr(package, name) and "auto_map" in folder.config:
        raise LoadError(
            f"{folder.path} is of the class {name}, whose code it brings itself (auto_map), and such code is not run: "
            "build the model in a function of your own, and name that with --factory package.module:function"
        )
    return _known(name)


def _known(name: str) -> Any:
    package = transformers()
    kind = getattr(package, name, None)
    if not isinstance(kind, type) or not issubclass(kind, package.PreTrainedModel):
        raise LoadError(
            f"transformers {package.__version__} has no model of the class {name}: install the version that the folder was "
            "saved with, or name another class with --factory transformers:CLASS"
        )
    return kind


@contextmanager
def silent() -> Iterator[None]:
    """transformers shows bars, and warns about what is said better here."""
    told = importlib.import_module(f"{PACKAGE}.utils.logging")
    level, bars = told.get_verbosity(), told.is_progress_bar_enabled()
    told.set_verbosity(50)
    told.disable_progress_bar()
    try:
        yield
    finally:
        told.set_verbosity(level)
        if bars:
            told.enable_progress_bar()
