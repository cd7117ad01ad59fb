"""Whether what a batch holds for the model fits it, before the model runs; numbers of another width are cast."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from shrinkspeech.errors import InputError, RecipeError
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import seeded
from shrinkspeech.graph.start import without_states

HALF = (torch.float16, torch.bfloat16)


def refuse_half(captured: Captured) -> None:
    """Refuse to train numbers of half precision: small steps are lost in them, and small gradients are 0.

    Raises:
        InputError: a parameter that is to be trained has such a type.
    """
    found = [(name, p.dtype) for name, p in captured.graph_module.named_parameters() if p.requires_grad]
    half = [(name, dtype) for name, dtype in found if dtype in HALF]
    if half:
        name, dtype = half[0]
        raise InputError(
            f"{name} is {_type(dtype)} ({len(half)} of {len(found)} tensors are of half precision), where the small steps of a "
            "fit are lost: capture the model in float32 (model.float(), and its example), and convert what the fit leaves"
        )


class Intake:
    """The model's arguments as its example has them.

    Args:
        name: of the recipe.
    """

    def __init__(self, captured: Captured, name: str) -> None:
        self.captured, self.name = captured, name
        self.known: set[tuple[tuple[int, ...], ...]] = set()

    def __call__(self, given: Any) -> tuple[Any, ...]:
        """
        Raises:
            RecipeError: number, kind or shapes of the tensors are not those that the model takes.
        """
        arguments = tuple(given) if isinstance(given, tuple | list) else (given,)
        arguments = self._without_states(arguments)
        leaves, spec = pytree.tree_flatten(arguments)
        wanted = pytree.tree_leaves(self.captured.example_inputs)
        named = [isinstance(x, dict) for x in arguments]
        if len(leaves) != len(wanted) or named != [isinstance(x, dict) for x in self.captured.example_inputs]:
            raise self._unfit(
                f"it holds {_arranged(arguments, leaves)}, and the model takes "
                f"{_arranged(self.captured.example_inputs, wanted)}"
            )
        fitting = [self._as(i, x, like) for i, (x, like) in enumerate(zip(leaves, wanted, strict=True))]
        result = tuple(pytree.tree_unflatten(fitting, spec))
        self._try(result, fitting, wanted)
        return result

    def _without_states(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """A batch may hold the states that the model starts from, as long as they are zero."""
        inner = {state.input: state.source for state in self.captured.states}
        leaves = pytree.tree_leaves(arguments)
        wanted = len(pytree.tree_leaves(self.captured.example_inputs))
        if not inner or len(leaves) != wanted + len(inner):
            return arguments
        for index, name in inner.items():
            if isinstance(leaves[index], Tensor) and bool(leaves[index].any()):
                raise self._unfit(
                    f"its state '{name}' is not zero, and a fit starts from zeros: let inputs() leave the states out"
                )
        return without_states(arguments, inner.keys())

    def _as(self, index: int, x: Any, like: Any) -> Any:
        if not isinstance(like, Tensor):
            return x
        if not isinstance(x, Tensor):
            raise self._unfit(f"input {index} is of type {type(x).__name__}, and the model takes a tensor")
        if x.dtype == like.dtype:
            return x
        if (_kind(x), x.dim()) != (_kind(like), like.dim()):
            raise self._unfit(
                f"input {index} is {_type(x.dtype)} of shape {_shape(x)}, and the model takes {_type(like.dtype)} of shape "
                f"{_shape(like)}"
            )
        return x.to(like.dtype)

    def _try(self, arguments: tuple[Any, ...], leaves: list[Any], wanted: list[Any]) -> None:
        """Shapes that were not proved are tried once."""
        shapes = tuple(tuple(x.shape) for x in leaves if isinstance(x, Tensor))
        if shapes in self.known or all(
            self._proved(i, x, like) for i, (x, like) in enumerate(zip(leaves, wanted, strict=True))
        ):
            return
        try:
            seeded(self.captured.graph_module, tuple(pytree.tree_map_only(Tensor, Tensor.cpu, arguments)))
        except Exception as error:
            these, those = (", ".join(_shape(x) for x in xs if isinstance(x, Tensor)) for xs in (leaves, wanted))
            reason = str(error).strip().partition("\n")[0]
            raise self._unfit(f"the model fails on inputs of {these}, its example is {those}: {reason}") from error
        self.known.add(shapes)

    def _proved(self, index: int, x: Any, like: Any) -> bool:
        if not isinstance(like, Tensor):
            return True
        dynamic = self.captured.dynamic[index]
        return x.dim() == like.dim() and all(
            dim in dynamic or size == old for dim, (size, old) in enumerate(zip(x.shape, like.shape, strict=True))
        )

    def _unfit(self, why: str) -> RecipeError:
        return RecipeError(f"a batch of '{self.name}' does not fit the model: {why}")


def one_number(loss: Any, name: str) -> Tensor:
    """A loss as a tensor of one number.

    Raises:
        RecipeError: it is something else.
    """
    if not isinstance(loss, Tensor | float | int):
        raise RecipeError(f"loss() of '{name}' returns a {type(loss).__name__}: it must be one number, as a tensor")
    value = torch.as_tensor(loss)
    if value.numel() != 1:
        raise RecipeError(
            f"loss() of '{name}' returns a tensor of shape {_shape(value)}: it must be one number, such as its mean()"
        )
    if value.is_complex():
        raise RecipeError(f"loss() of '{name}' returns a complex number: it must be a real one, such as its abs()")
    return value.reshape(())


def depends(loss: Tensor, outputs: Any) -> bool:
    """Whether a loss has a gradient towards any of the model's outputs; the graph of the loss stays for its backward pass."""
    leaves = [x for x in pytree.tree_leaves(outputs) if isinstance(x, Tensor) and x.requires_grad]
    if not loss.requires_grad or not leaves:
        return False
    return any(x is not None for x in torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True))


def level_zero(outputs: Any) -> Tensor:
    """A zero that follows the outputs, without a slope: a step on it moves nothing."""
    zeros = [x.flatten()[:0].sum() for x in pytree.tree_leaves(outputs) if isinstance(x, Tensor) and x.requires_grad]
    return torch.stack(zeros).sum() if zeros else torch.zeros(())


def _arranged(arguments: tuple[Any, ...], leaves: list[Any]) -> str:
    named = "".join(f", in a dictionary of {', '.join(map(str, x))}" for x in arguments if isinstance(x, dict))
    return f"{len(leaves)} input{'s' if len(leaves) != 1 else ''}{named}"


def _kind(x: Tensor) -> str:
    if x.dtype is torch.bool:
        return "truth values"
    return "complex" if x.is_complex() else "real" if x.is_floating_point() else "whole"


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _shape(x: Tensor) -> str:
    return "×".join(map(str, x.shape)) or "()"
