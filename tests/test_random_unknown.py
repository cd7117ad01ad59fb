"""Random graphs with operators that have no rule: the count is torch's, and what nobody can count is refused by name.

SHRINKSPEECH_EXAMPLES sets how many, twice.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from laws import Checked, Referee, check_laws

from shrinkspeech.budget.flops import Flops, refuse_uncounted
from shrinkspeech.budget.goal import Goal
from shrinkspeech.budget.params import Params
from shrinkspeech.budget.widths import repair, uniform
from shrinkspeech.errors import BudgetError
from shrinkspeech.surgery.slice import slice as slice_graph
from tests.random_graphs import FEATURES, FRAMES, HEADS, STEPS, Net, Step, step
from tests.unknown_steps import COUNTED, OPAQUE

UNKNOWN = COUNTED | {name: make for name, (make, _) in OPAQUE.items()}
unknown = st.tuples(st.sampled_from(sorted(UNKNOWN)), st.integers(0, 5), st.integers(0, 5))


@settings(max_examples=max(1, settings().max_examples // 2))
@given(st.lists(st.one_of(step, unknown), max_size=2), unknown, st.sampled_from(HEADS), st.integers(0, 1000))
def test_the_count_is_that_of_torch_and_refusals_name_the_node(
    steps: list[Step], one: Step, head: str, seed: int
) -> None:
    """At the full widths and at random ones; an operator that nobody can count stands with nothing and is named."""
    torch.manual_seed(seed)
    net = Net("conv1d", [*steps, one], head, STEPS | UNKNOWN).eval()
    checked = check_laws(net, (torch.randn(2, FEATURES, FRAMES),), seed=seed, choices=1, train=False)
    assert checked.groups.unknown
    uncounted = checked.groups.uncounted
    opaque = [OPAQUE[name][1] for name, _, _ in [*steps, one] if name in OPAQUE]
    assert sorted(text.split(" ")[0] for text in uncounted.values()) == sorted(opaque)
    nodes = {node.name: node for node in checked.captured.graph_module.graph.nodes}
    assert all(checked.captured.where(nodes[name]) in text for name, text in uncounted.items())
    budget_holds(checked)
    refuse_uncounted(Params, checked.groups, ignore=False)
    refuse_uncounted(Flops, checked.groups, ignore=True)
    if opaque:
        with pytest.raises(BudgetError, match="nobody can count") as refused:
            refuse_uncounted(Flops, checked.groups, ignore=False)
        assert all(text in str(refused.value) for text in uncounted.values())
    else:
        refuse_uncounted(Flops, checked.groups, ignore=False)
    event(f"{len(opaque)} nodes that nobody can count")


def budget_holds(checked: Checked) -> None:
    """Half of what can go: the cost that a fit would say is the one that torch finds in the sliced graph."""
    goal = Goal.whole(Flops, checked.captured, checked.groups)
    target = (goal.original + goal.smallest) / 2
    widths = repair({name: float(width) for name, width in uniform(goal, target).items()}, goal, target)
    small = slice_graph(checked.captured, checked.groups, widths)
    assert Referee(small.graph_module).count(small) / small.batch == pytest.approx(goal.at(widths), rel=1e-12)
    assert goal.at(widths) <= target
