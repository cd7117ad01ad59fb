"""Steps of random graphs whose operators have no rule: such as torch counts, such as cost nothing, such as nobody can count."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_graphs import Block


@torch.library.custom_op("shrinkspeech_tests::mystery", mutates_args=())
def mystery(x: Tensor) -> Tensor:
    """An operator of a user's own: torch sees nothing of what it does."""
    return x @ torch.ones(x.shape[-1], x.shape[-1]) / x.shape[-1]


mystery.register_fake(torch.empty_like)


class Weight(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(*shape) * 0.2)


def inner(c: int, a: int, b: int) -> Block:
    out = 3 + a
    return Block(c, out, lambda m, x: torch.inner(x.mT, m.w.value).mT, w=Weight(out, c))


def tensordot(c: int, a: int, b: int) -> Block:
    out = 3 + a
    return Block(c, out, lambda m, x: torch.tensordot(x, m.w.value, ([1], [0])).mT, w=Weight(c, out))


def chained(c: int, a: int, b: int) -> Block:
    layers = {"w": Weight(c, c), "v": Weight(c, c)}
    return Block(c, c, lambda m, x: torch.linalg.multi_dot([m.w.value, m.v.value, m.w.value]) @ x, **layers)


def power(c: int, a: int, b: int) -> Block:
    return Block(c, c, lambda m, x: torch.linalg.matrix_power(m.w.value, 2 + b % 3) @ x, w=Weight(c, c))


def diagonal(c: int, a: int, b: int) -> Block:
    return Block(c, c, lambda m, x: torch.einsum("bct,cc->bct", x, m.w.value), w=Weight(c, c))


def plain(c: int, a: int, b: int) -> Block:
    """Operators on elements, on their order, and on places."""
    kinds: list[Callable[[Tensor], Tensor]] = [
        lambda x: torch.special.erfcx(x.tanh()),
        lambda x: x.cummax(-1)[0],
        lambda x: x - x.median(-1, keepdim=True)[0],
        lambda x: x * x.argsort(1),
        lambda x: x * F.cosine_similarity(x, x + 1, 1).unsqueeze(1),
        lambda x: F.grid_sample(x.unsqueeze(1), x.new_zeros(*x.shape, 2), align_corners=True)[:, 0],
    ]
    return Block(c, c, lambda m, x: kinds[a % 6](x))


def distances(c: int, a: int, b: int) -> Block:
    out = 2 + a
    return Block(c, out, lambda m, x: torch.cdist(x.mT, m.w.value).mT, w=Weight(out, c))


def solved(c: int, a: int, b: int) -> Block:
    return Block(c, c, lambda m, x: torch.linalg.solve(m.w.value + 3 * torch.eye(c), x), w=Weight(c, c))


def own(c: int, a: int, b: int) -> Block:
    return Block(c, c, lambda m, x: mystery(x))


COUNTED = {step.__name__: step for step in (inner, tensordot, chained, power, diagonal, plain)}
OPAQUE = {
    "distances": (distances, "aten._cdist_forward.default"),
    "solved": (solved, "aten._linalg_solve_ex.default"),
    "own": (own, "shrinkspeech_tests.mystery.default"),
}
"""With the operator that is named."""
