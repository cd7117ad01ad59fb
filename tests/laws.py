"""The first two laws, which every rule, every graph and every model must keep, and the count against two referees.

1. Open gates change nothing: the gated graph equals the captured one bit for bit.
2. Closed equals sliced: at integer widths the gated graph and the sliced one give the same output.

A fit slices on the way and goes on with the labels that it has, so both must hold for these too.
(The third law, no axis is lost, is asked by the labeller itself.)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.flop_counter import FlopCounterMode

from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import max_difference
from shrinkspeech.graph.modes import is_recurrent
from shrinkspeech.groups.cost import count
from shrinkspeech.groups.flops import flops
from shrinkspeech.groups.groups import Groups
from shrinkspeech.groups.label import label
from shrinkspeech.surgery.gates import Gate, MaskedOperator
from shrinkspeech.surgery.insert import GatedModule, gate
from shrinkspeech.surgery.slice import slice as slice_graph

EAGER = 1e-6
CLOSED = 1e-5


@dataclass(frozen=True)
class Checked:
    """What a check saw: tests assert on it that something could shrink at all."""

    captured: Captured
    groups: Groups
    sliced: Captured | None

    @property
    def shrinkable(self) -> int:
        return len(self.groups.shrinkable)

    @property
    def operators(self) -> set[Any]:
        """Operators that the captured graph really contains."""
        return {node.target for node in self.captured.graph_module.graph.nodes if node.op == "call_function"}


def check_laws(
    model: nn.Module | Captured,
    example_inputs: tuple[Any, ...] | None = None,
    *,
    seed: int = 0,
    widths: Mapping[str, int] | None = None,
    choices: int = 3,
    referee: bool = True,
    train: bool = True,
) -> Checked:
    """Check both laws and the cost on one model.

    Args:
        widths: integer widths to check instead of ``choices`` random ones.
        referee: compare the count with torch's own (not where that counts wrong).
        train: also take one gradient with noise, real widths and a wide window.
    """
    captured = model if isinstance(model, Captured) else capture(model, example_inputs, states=("none",))
    if isinstance(model, nn.Module):
        difference = max_difference(run(captured.graph_module, captured), run(copy.deepcopy(model).eval(), captured))
        assert difference <= EAGER, f"captured and eager differ by {difference:.1e}"
    groups = label(captured)
    gated = gate(captured, groups)
    check_open(captured, gated)
    check_cost(captured, groups, captured, {}, referee)
    sliced, generator = None, torch.Generator().manual_seed(seed)
    for index in range(choices if widths is None and groups.shrinkable else int(widths is not None)):
        chosen = dict(widths) if widths is not None else random_widths(groups, generator, index)
        sliced = check_closed(captured, gated, chosen, generator)
        check_cost(captured, groups, sliced, chosen, referee)
        check_smaller(captured, groups, sliced, chosen)
    if sliced is not None:
        check_narrowed(groups.narrowed(gated.widths.ranks.best(chosen)), sliced, generator)
    if train and groups.shrinkable:
        check_gradient(captured, gated, generator)
    return Checked(captured, groups, sliced)


def run(module: nn.Module, captured: Captured) -> Any:
    """The output for the example inputs, which in-place operators in the model must not change."""
    with torch.no_grad():
        return module(*copy.deepcopy(captured.example_inputs))


def random_widths(groups: Groups, generator: torch.Generator, index: int) -> dict[str, int]:
    """A width for each group; the first choice makes every group smaller, later ones leave some whole."""

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    chosen = {}
    for group in groups.shrinkable:
        high = group.size - 1 if index == 0 or draw(0, 2) else group.size
        chosen[group.name] = draw(group.min_width, max(high, group.min_width))
    return chosen


def check_open(captured: Captured, gated: GatedModule) -> None:
    """Law 1."""
    wanted, found = (pytree.tree_leaves(run(module, captured)) for module in (captured.graph_module, gated))
    assert len(wanted) == len(found)
    for a, b in zip(wanted, found, strict=True):
        assert torch.equal(a, b), f"open gates change the output by {max_difference(a, b):.1e}"
        assert not a.is_floating_point() or bool(torch.isfinite(a).all()), "the sample itself is not finite"


def check_closed(
    captured: Captured, gated: GatedModule, widths: dict[str, int], generator: torch.Generator
) -> Captured:
    """Law 2, at random ranks; returns the sliced graph."""
    scores = {name: torch.rand(gated.groups[name].size, generator=generator) for name in widths}
    ranks = gated.widths.ranks.with_scores(scores)
    gated.widths.set_ranks(ranks)
    gated.widths.set(widths)
    sliced = slice_graph(captured, gated.groups, ranks.best(widths))
    difference = max_difference(run(gated, captured), run(sliced.graph_module, captured))
    assert difference <= CLOSED, f"closed and sliced differ by {difference:.1e} at {widths}"
    return sliced


def check_narrowed(groups: Groups, sliced: Captured, generator: torch.Generator) -> None:
    """Both laws for a sliced graph with the labels of the whole one, where nothing may have kept its old size."""
    gated = gate(sliced, groups)
    check_open(sliced, gated)
    if groups.shrinkable:
        check_closed(sliced, gated, random_widths(groups, generator, 0), generator)


def check_cost(captured: Captured, groups: Groups, sliced: Captured, widths: Mapping[str, int], referee: bool) -> None:
    """The polynomial at integer widths, a count of the sliced graph, and torch's own count agree."""
    promised, counted = count(captured, groups).at(widths), flops(sliced)
    assert math.isclose(promised, counted, rel_tol=1e-12), f"{promised} FLOP/s promised, {counted} counted at {widths}"
    if referee:
        refereed = Referee(sliced.graph_module).count(sliced) / sliced.batch
        assert math.isclose(counted, refereed, rel_tol=1e-12), f"{counted} FLOP/s counted, torch counts {refereed}"


def check_smaller(captured: Captured, groups: Groups, sliced: Captured, widths: Mapping[str, int]) -> None:
    """Every parameter that carries a smaller group is smaller, every other is as large as it was."""
    touched = {c.parameter for g in groups if widths.get(g.name, g.size) < g.size for c in g.carriers}
    before, after = captured.parameters(), sliced.parameters()
    for name in groups.parameters:
        if name in before:
            assert (after[name].numel() < before[name].numel()) == (name in touched), name


def check_gradient(captured: Captured, gated: GatedModule, generator: torch.Generator) -> None:
    """Noise, real widths, a window of three units: output and the gradient of the widths are finite."""
    widths = gated.widths
    widths.window = 3.0
    real = {
        group.name: 0.5 + (group.size - 0.5) * float(torch.rand((), generator=generator))
        for group in gated.groups.shrinkable
    }
    widths.set(real)
    widths.fractions.grad = None
    outputs = [
        x for x in pytree.tree_leaves(gated.train()(*copy.deepcopy(captured.example_inputs))) if isinstance(x, Tensor)
    ]
    loss = torch.stack([x.abs().square().mean() for x in outputs if x.requires_grad] or [torch.zeros(())]).sum()
    gated.eval()
    widths.window = 1.0
    assert bool(torch.isfinite(loss)), "the loss is not finite with noise"
    assert loss.requires_grad, "the loss does not depend on anything that trains"
    loss.backward()
    gates = [child for child in gated.graph.children() if isinstance(child, Gate | MaskedOperator)]
    if not gates:  # a group that nobody reads, such as channels that a slice leaves out
        assert widths.fractions.grad is None
        return
    assert widths.fractions.grad is not None, "no width has a gradient"
    assert bool(torch.isfinite(widths.fractions.grad).all()), "a width's gradient is not finite"


class Referee(fx.Interpreter):
    """torch's own counter, and the textbook formula for recurrent layers, which it does not see on a CPU."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.recurrent = 0

    def count(self, captured: Captured) -> int:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            self.run(*copy.deepcopy(captured.example_inputs))
        return counter.get_total_flops() + self.recurrent

    def run_node(self, n: fx.Node) -> Any:
        if not is_recurrent(n.target):
            return super().run_node(n)
        self.recurrent += recurrent_operations(*self.fetch_args_kwargs_from_env(n)[0][:3])
        with _disable_current_modes():
            return super().run_node(n)


def recurrent_operations(x: Tensor, _state: Any, weights: list[Tensor]) -> int:
    """2 × the elements of the matrices at each step: 8·H·(I + H) for an LSTM, 6·H·(I + H) for a GRU."""
    return 2 * x.shape[0] * x.shape[1] * sum(weight.numel() for weight in weights if weight.dim() == 2)
