"""All laws and the cost on random speech-like graphs, sliced once and then again.

SHRINKSPEECH_EXAMPLES sets how many.
"""

from __future__ import annotations

import torch
from hypothesis import event, given
from hypothesis import strategies as st
from laws import check_laws

from tests.random_graphs import BANDS, FEATURES, FRAMES, FRONTS, HEADS, Net, Step, step


@given(st.sampled_from(FRONTS), st.lists(step, min_size=1, max_size=5), st.sampled_from(HEADS), st.integers(0, 1000))
def test_random_graphs(front: str, steps: list[Step], head: str, seed: int) -> None:
    torch.manual_seed(seed)
    net = Net(front, steps, head).eval()
    x = torch.randn(2, 1, BANDS, FRAMES) if front == "conv2d" else torch.randn(2, FEATURES, FRAMES)
    checked = check_laws(net, (x,), seed=seed, choices=2)
    assert not checked.groups.unknown
    if checked.sliced is not None:
        check_laws(checked.sliced, seed=seed, choices=1, train=False)
    event(f"{min(checked.shrinkable, 5)} groups may shrink")
    learnt = {"plain", "residual", "gated", "recurrent", "excited", "attended"} & {name for name, _, _ in steps}
    free = [group.size for group in checked.groups if not group.frozen]
    single = bool(free) and max(free) == 1  # channels that were parted into single ones cannot be narrower than one
    assert checked.shrinkable or not learnt or single, "a layer inside the graph may always shrink"
