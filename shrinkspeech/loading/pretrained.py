"""A small model as a folder that ``from_pretrained`` loads: its widths in the configuration, and units of zero where a
configuration has one number for all layers."""

from __future__ import annotations

import shutil
import tempfile
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from shrinkspeech.errors import InputError
from shrinkspeech.graph.agreement import TOLERANCE
from shrinkspeech.graph.calls import prepare
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import max_difference, seeded
from shrinkspeech.groups.label import label
from shrinkspeech.loading.configurations import family_of
from shrinkspeech.loading.heads import Attention, Heads, attention_in, fill_up
from shrinkspeech.loading.huggingface import class_named, load_folder, silent
from shrinkspeech.loading.processors import PROCESSOR, Folder


def save_pretrained(
    captured: Captured, original: Folder, path: str | Path, factory: str | None = None
) -> tuple[str, ...]:
    """Write a small model as a folder for transformers, after a comparison with its graph on the example.

    Args:
        captured: the small model.
        original: the folder that it was made from.
        path: of the folder to write; what is there is replaced.
        factory: the class that the original was loaded as, where its configuration does not say it.

    Returns:
        what the user should know, in sentences.

    Raises:
        InputError: the configuration cannot say these widths; nothing is written.
    """
    model, _ = load_folder(original.path, class_named(factory))
    small, notes = _small(model, captured)
    _prove(small, captured)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary, silent():
        made = Path(temporary) / "folder"
        small.save_pretrained(str(made))
        if original.processor:
            shutil.copyfile(original.path / PROCESSOR, made / PROCESSOR)
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    return notes


def _small(model: Any, captured: Captured) -> tuple[Any, tuple[str, ...]]:
    """A new model of the class with a configuration of the small widths, its weights, and notes.

    Raises:
        InputError: the configuration cannot say them; a bare reason.
    """
    groups, tensors = label(captured), {name: x.detach().clone() for name, x in captured.parameters().items()}
    found = [attention_in(module, name, groups) for name, module in model.named_modules()]
    attentions = [attention for attention in found if attention is not None]
    changes, heads = family_of(str(model.config.model_type)).changes(tensors, attentions)
    config = type(model.config).from_dict({**model.config.to_dict(), **changes})
    try:
        with silent(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            small = type(model)(config).eval()
    except Exception as error:  # transformers raises what it likes
        raise InputError(f"transformers refuses the configuration: {' '.join(str(error).split())}") from error
    if heads is not None:
        for attention in attentions:
            _scale(tensors, attention, heads)
            fill_up(tensors, attention, heads)
    new = _fill(small, tensors)
    count, own = (
        sum(p.numel() for p in small.parameters()) - sum(x.numel() for x in new.values()),
        captured.parameter_count,
    )
    notes = [f"filled up with zeros to {count:,} parameters, where the run's graph has {own:,}"] if count > own else []
    if new:
        notes.append(
            f"what the graph does not use begins anew: {', '.join(list(new)[:3])}{', …' if len(new) > 3 else ''}"
        )
    return small, tuple(notes)


def _scale(tensors: dict[str, Tensor], attention: Attention, heads: Heads) -> None:
    """The queries, so that the same is left after they are divided by the root of the new width."""
    for name in (f"{attention.queries}.weight", f"{attention.queries}.bias"):
        if name in tensors and heads.width != attention.usual.width:
            tensors[name] = tensors[name] * sqrt(heads.width / attention.usual.width)


@torch.no_grad()
def _fill(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put tensors into a model, with zeros behind those that are smaller; its parameters that are not among them."""
    left = dict(model.named_parameters())
    for name, x in tensors.items():
        path, _, leaf = name.rpartition(".")
        try:
            module = model.get_submodule(path)
            old: Tensor = getattr(module, leaf)
        except AttributeError:  # a constant of the graph
            continue
        if old.dim() != x.dim() or any(a < b for a, b in zip(old.shape, x.shape, strict=True)):
            raise InputError(f"{name} is {_size(x)}, where the configuration leaves {_size(old)}")
        wide = torch.zeros_like(old)
        wide[tuple(slice(size) for size in x.shape)] = x
        if parametrize.is_parametrized(module, leaf):
            setattr(module, leaf, wide)
            left = {key: p for key, p in left.items() if not key.startswith(f"{path}.parametrizations.{leaf}.")}
        else:
            old.copy_(wide)
        left.pop(name, None)
    return dict(left)


def _size(x: Tensor) -> str:
    return "x".join(map(str, x.shape))


def _prove(model: nn.Module, captured: Captured) -> None:
    """
    Raises:
        InputError: the model does not compute what the graph does; a bare reason.
    """
    inputs = captured.example_inputs
    # The class of the model is exchanged for the comparison alone: what is saved names it.
    kind = type(model)
    prepare(model, inputs)
    try:
        difference = max_difference(seeded(model, inputs), seeded(captured.graph_module, inputs))
    except Exception as error:
        raise InputError(f"a model of that configuration does not run: {' '.join(str(error).split())[:200]}") from error
    finally:
        model.__class__ = kind
    if not difference <= TOLERANCE:
        raise InputError(f"a model of that configuration differs by {difference:.1e} of the largest output")
