"""A user's own ``autograd.Function``: torch.export keeps its forward and forgets its backward.

Where the backward is a multiple c of the gradient (gradient reversal, straight-through rounding), the function is traced as
c · x + detach(f(x) − c · x), which has the value of f(x) and that gradient. Any other backward is named in a note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from shrinkspeech.graph.compare import seeded

aten = torch.ops.aten


PROBES = (0.1, 1.0, 10.0, 1000.0)
"""Deviations of the random values on which a backward is tried, beside the example's own."""


@dataclass(frozen=True)
class OwnFunction:
    """One call of an ``autograd.Function`` that is not torch's own.

    Attributes:
        name: of its class.
        factor: by which its backward multiplies the gradient; None where it does something else.
    """

    name: str
    factor: float | None


def own_functions(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[tuple[OwnFunction, ...], Any]:
    """The calls of own functions in one run of the model, in order, and what it returns.

    Raises:
        Exception: whatever the model raises.
    """
    found: list[OwnFunction] = []

    def note(original: Callable[..., Any], kind: type, args: tuple[Any, ...]) -> Any:
        found.append(OwnFunction(kind.__name__, _factor(original, args)))
        return original(*args)

    with _applied(note):
        outputs = seeded(model, inputs)
    return tuple(found), outputs


@contextmanager
def kept(functions: Sequence[OwnFunction]) -> Iterator[None]:
    """While a model is traced, its own functions keep the gradients that ``own_functions`` has found."""
    calls = 0

    def trace(original: Callable[..., Any], kind: type, args: tuple[Any, ...]) -> Any:
        nonlocal calls
        function, calls = functions[calls % len(functions)], calls + 1
        result = original(*args)
        if function.factor is None or not isinstance(result, Tensor):
            return result
        x = args[0] if function.factor == 1.0 else args[0] * function.factor
        return x + (result - x).detach()

    if not functions:
        yield
        return
    with _applied(trace):
        yield


def lost(functions: Sequence[OwnFunction], all_of_them: bool = False) -> tuple[str, ...]:
    """What the user should know of functions whose backward is not kept, in sentences."""
    names = dict.fromkeys(function.name for function in functions if all_of_them or function.factor is None)
    return tuple(
        f"the backward of {name}, an autograd.Function of the model's own, is not kept: in a fit its gradient is that of "
        "the operators in its forward"
        for name in names
    )


def without_detours(graph_module: fx.GraphModule) -> None:
    """x + detach(y − x) becomes y, in place: where no gradient flows it is the same."""
    for node in list(graph_module.graph.nodes):
        if node.target is aten.add.Tensor and len(node.args) == 2:
            x, held = node.args
            if isinstance(held, fx.Node) and held.target is aten.detach.default:
                difference: Any = held.args[0]
                if difference.target is aten.sub.Tensor and len(difference.args) == 2 and difference.args[1] is x:
                    node.replace_all_uses_with(difference.args[0])
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()


def _factor(original: Callable[..., Any], args: tuple[Any, ...]) -> float | None:
    """The number by which the backward multiplies the gradient of the first argument; None where there is none.

    One input does not tell: a gradient that is cut off beyond a limit is whole on faint noise. So the number must be the
    same on the example, on zeros, and on values far around it.
    """
    if not args or not isinstance(args[0], Tensor) or not args[0].is_floating_point():
        return None
    x, generator = args[0].detach(), torch.Generator().manual_seed(0)
    far = [scale * torch.randn(x.shape, generator=generator).to(x) for scale in PROBES]
    try:
        factors = {_factor_at(original, value, args[1:]) for value in (x, torch.zeros_like(x), *far)}
    except Exception:  # the user's function may refuse values: then nothing is known of its backward there
        return None
    return factors.pop() if len(factors) == 1 else None


def _factor_at(original: Callable[..., Any], value: Tensor, others: tuple[Any, ...]) -> float | None:
    """The same at one value of the argument."""
    with torch.enable_grad():
        x = value.clone().requires_grad_()
        y = original(x, *others)
        if not isinstance(y, Tensor) or y.shape != x.shape or not y.requires_grad:
            return None
        given = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y.dtype)
        (found,) = torch.autograd.grad(y, x, given, allow_unused=True)
    if found is None:
        return None
    factor = float((found * given).sum() / given.square().sum())
    return factor if torch.allclose(found, factor * given, rtol=1e-5, atol=1e-7) else None


@contextmanager
def _applied(call: Callable[[Callable[..., Any], type, tuple[Any, ...]], Any]) -> Iterator[None]:
    """Inside, ``call(original, kind, args)`` answers where the model applies an own function."""
    base: Any = torch.autograd.Function
    original = base.__dict__["apply"]

    def apply(kind: type, *args: Any, **kwargs: Any) -> Any:
        plain = original.__get__(None, kind)
        if kwargs or kind.__module__.split(".")[0] == "torch":
            return plain(*args, **kwargs)
        return call(plain, kind, args)

    base.apply = classmethod(apply)
    try:
        yield
    finally:
        base.apply = original
