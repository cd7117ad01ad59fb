"""Masked forms of operators: a unit with keep n / 2 counts as n / 2 of an element, in whatever is computed over its axis.

So with every unit repeated n times the operator itself says what the masked form must give.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from shrinkspeech.rules import masked
from shrinkspeech.rules import masked_norms as norms
from shrinkspeech.rules.cells import masked_cell
from shrinkspeech.rules.recurrences import masked_state
from shrinkspeech.rules.reduction import tensor_only

TIMES = torch.tensor([2, 0, 1, 2, 1])
KEEP = TIMES / 2
TWO = torch.tensor([1, 2, 0])
X = torch.randn(3, 5, 4, 3, generator=torch.Generator().manual_seed(0))
"""``[B, C, T, F]``; the channels have the keeps above, the last axis those of ``TWO / 2``."""
ONE_AXIS: Any = ([KEEP], [1])
BOTH: Any = ([KEEP, None, TWO / 2], [1, 2, 3])
OPEN: Any = ([None], [1])


def repeated(x: Tensor, keeps: list[Tensor | None], dims: list[int]) -> Tensor:
    for keep, dim in zip(keeps, dims, strict=True):
        if keep is not None:
            x = x.repeat_interleave((2 * keep).long(), dim)
    return x


def near(found: Tensor, wanted: Tensor, to: float = 1e-5) -> bool:
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=to, atol=to)


@pytest.mark.parametrize("axes", [ONE_AXIS, BOTH, OPEN], ids=["channels", "all", "open"])
@pytest.mark.parametrize("keepdim", [False, True])
class TestReductions:
    def test_mean(self, axes: Any, keepdim: bool) -> None:
        assert near(masked.mean(*axes, keepdim, X), repeated(X, *axes).mean(axes[1], keepdim))

    @pytest.mark.parametrize("root", [False, True])
    def test_variance(self, axes: Any, keepdim: bool, root: bool) -> None:
        """Biased; the unbiased one divides by the sum of the keeps less one."""
        own, plain = repeated(X, *axes), torch.std if root else torch.var
        wanted = plain(own, axes[1], correction=0, keepdim=keepdim)
        assert near(masked.variance(*axes, keepdim, 0.0, root, X), wanted)
        count = {1: float(KEEP.sum()), 3: float(KEEP.sum()) * 4 * float(TWO.sum()) / 2}[len(axes[1])]
        count = 5.0 if axes is OPEN else count
        factor = count / (count - 1.5)
        unbiased = wanted * (factor**0.5 if root else factor)
        assert near(masked.variance(*axes, keepdim, 1.5, root, X), unbiased)

    @pytest.mark.parametrize("largest", [False, True])
    def test_extremes_are_those_of_what_is_kept_at_all(self, axes: Any, keepdim: bool, largest: bool) -> None:
        own = repeated(X, *axes)
        wanted = own.amax(axes[1], keepdim) if largest else own.amin(axes[1], keepdim)
        assert torch.equal(masked.extreme(*axes, keepdim, largest, X), wanted)

    def test_logsumexp(self, axes: Any, keepdim: bool) -> None:
        """Every keep halves what a repeated unit counts."""
        halves = sum(keep is not None for keep in axes[0])
        wanted = repeated(X, *axes).logsumexp(axes[1], keepdim) - halves * torch.log(torch.tensor(2.0))
        assert near(masked.logsumexp(*axes, keepdim, X), wanted)

    @pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
    def test_norms(self, axes: Any, keepdim: bool, order: float) -> None:
        share = 0.5 ** (sum(keep is not None for keep in axes[0]) / order)
        wanted = torch.linalg.vector_norm(repeated(X, *axes), order, axes[1], keepdim) * share
        assert near(masked.norm(*axes, keepdim, order, X), wanted)


@pytest.mark.parametrize("log", [False, True])
def test_softmax(log: bool) -> None:
    """Closed units get nothing (0 in both forms); a unit of keep ½ half of what it would get."""
    found = masked.softmax([KEEP], 1, log, X)
    weighed = X.exp() * KEEP.view(1, -1, 1, 1)
    wanted = weighed / weighed.sum(1, keepdim=True)
    assert near(found, wanted.log().where(wanted > 0, 0.0) if log else wanted)
    plain = masked.softmax([None], 1, log, X)
    assert near(plain, X.log_softmax(1) if log else X.softmax(1))


def test_exponentials_of_large_numbers_in_half_precision_stay_finite() -> None:
    x = (60 * X).half()
    assert bool(masked.softmax([KEEP], 1, False, x).isfinite().all())
    assert bool(masked.shift(x, [KEEP], [1]).isfinite().all())


def test_the_slope_of_a_root_at_zero_is_zero() -> None:
    x = torch.tensor([0.0, 4.0], requires_grad=True)
    found = masked.power(x, 0.5)
    assert found.tolist() == [0.0, 2.0]
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.25]


def test_nothing_kept_is_finite() -> None:
    none = [torch.zeros(5)]
    for found in (masked.mean(none, [1], False, X), masked.variance(none, [1], False, 1.0, True, X)):
        assert bool((found == 0).all())


def test_the_reductions_own_arguments_are_left_alone() -> None:
    call = tensor_only(lambda keeps, x: (keeps, x))
    assert call([KEEP], X, [1], keepdim=True)[1] is X


# -- norms --------------------------------------------------------------------------------------------------------


def normal(x: Tensor, keeps: list[Tensor | None], dims: list[int], eps: float) -> Tensor:
    own = repeated(x, keeps, dims)
    return (x - own.mean(dims, keepdim=True)) / (own.var(dims, correction=0, keepdim=True) + eps).sqrt()


SCALE, SHIFT = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.5, 0.0, 1.0])


def test_layer_norm() -> None:
    over = [None, TWO / 2]
    wanted = normal(X, over, [2, 3], 1e-5)
    assert near(norms.layer_norm(over, X, [4, 3]), wanted)
    scale, shift = torch.randn(4, 3), torch.randn(4, 3)
    assert near(norms.layer_norm(over, X, [4, 3], scale, shift, 1e-5, True), wanted * scale + shift)
    assert near(norms.layer_norm([TWO / 2], X, [3], None, SHIFT, 0.5), normal(X, [TWO / 2], [3], 0.5) + SHIFT)


@pytest.mark.parametrize("eps", [None, 0.25])
def test_rms_norm(eps: float | None) -> None:
    own = repeated(X, [TWO / 2], [3])
    wanted = X / (own.square().mean(3, keepdim=True) + (eps or torch.finfo(X.dtype).eps)).sqrt()
    options: Any = () if eps is None else (eps,)
    assert near(norms.rms_norm([TWO / 2], X, [3], None, *options), wanted)
    assert near(norms.rms_norm([TWO / 2], X, [3], SCALE, *options), wanted * SCALE)
    assert near(norms.rms_norm([None], X, [3], SCALE, eps), F.rms_norm(X, [3], SCALE, eps))


def test_group_norm() -> None:
    """``[B, 2 · 5, F]`` with the same keeps in both groups."""
    x, over = torch.randn(3, 10, 3), [KEEP, TWO / 2]
    wanted = normal(x.view(3, 2, 5, 3), over, [2, 3], 1e-5).view(3, 10, 3)
    assert near(norms.group_norm(over, x, 2), wanted)
    scale, shift = torch.randn(10), torch.randn(10)
    found = norms.group_norm(over, x, 2, scale, shift, 1e-5, False)
    assert near(found, wanted * scale[:, None] + shift[:, None])
    assert near(norms.group_norm(over, x, 2, eps=0.5), normal(x.view(3, 2, 5, 3), over, [2, 3], 0.5).view(3, 10, 3))


@pytest.mark.parametrize(
    ("form", "dims"), [(norms.batch_norm, [0, 2, 3]), (norms.instance_norm, [2, 3])], ids=["batch", "instance"]
)
class TestRunningNorms:
    def call(self, form: Callable[..., Tensor], training: bool, statistics: Any, keeps: Any) -> Tensor:
        scale, shift = torch.arange(1.0, 6.0), torch.arange(5.0)
        return form(keeps, X, scale, shift, *statistics, training, 0.3, 1e-3, False)

    def keeps(self, dims: list[int]) -> list[Tensor | None]:
        return [*[None] * (len(dims) - 1), TWO / 2]

    def test_in_training(self, form: Any, dims: list[int]) -> None:
        mean, var = torch.full((5,), 2.0), torch.full((5,), 3.0)
        found = self.call(form, True, (mean, var), self.keeps(dims))
        shape = (1, 5, 1, 1)
        wanted = normal(X, self.keeps(dims), dims, 1e-3) * torch.arange(1.0, 6.0).view(shape)
        assert near(found, wanted + torch.arange(5.0).view(shape))
        own = repeated(X, self.keeps(dims), dims)
        count = 0.5 * own[0, 0].numel() * (len(X) if 0 in dims else 1)
        means = own.mean(dims, keepdim=True).transpose(0, 1).flatten(1).mean(1)
        spread = own.var(dims, correction=0, keepdim=True).transpose(0, 1).flatten(1).mean(1) * count / (count - 1)
        assert near(mean, 0.7 * 2 + 0.3 * means)
        assert near(var, 0.7 * 3 + 0.3 * spread)

    def test_without_running_statistics(self, form: Any, dims: list[int]) -> None:
        statistics = torch.zeros(5), torch.ones(5)
        assert torch.equal(
            self.call(form, True, (None, None), self.keeps(dims)), self.call(form, True, statistics, self.keeps(dims))
        )

    def test_in_evaluation(self, form: Any, dims: list[int]) -> None:
        """The running statistics count, whatever is kept."""
        mean, var = torch.rand(5), torch.rand(5) + 0.5
        found = self.call(form, False, (mean, var), self.keeps(dims))
        scale, shift = torch.arange(1.0, 6.0), torch.arange(5.0)
        assert near(found, F.batch_norm(X, mean, var, scale, shift, False, 0.3, 1e-3))


# -- recurrences --------------------------------------------------------------------------------------------------


def test_the_columns_of_a_state_are_scaled() -> None:
    torch.manual_seed(0)
    x, state = torch.randn(2, 7, 4), torch.randn(1, 2, 5)
    weights = [torch.randn(15, 4), torch.randn(15, 5), torch.randn(15), torch.randn(15)]
    rest = (True, 1, 0.0, False, False, True)
    call = masked_state(torch.ops.aten.gru.input)
    scaled = [weights[0], weights[1] * KEEP, *weights[2:]]
    wanted = torch.ops.aten.gru.input(x, state, scaled, *rest)
    assert all(map(torch.equal, call([KEEP], x, state, weights, *rest), wanted))
    plain = torch.ops.aten.gru.input(x, state, weights, *rest)
    assert all(map(torch.equal, call([None], x, state, weights, *rest), plain))


def test_the_columns_of_a_cells_state_are_scaled() -> None:
    torch.manual_seed(0)
    x, state, weights = torch.randn(2, 4), torch.randn(2, 5), (torch.randn(15, 4), torch.randn(15, 5))
    biases = torch.randn(15), torch.randn(15)
    call = masked_cell(torch.gru_cell)
    assert torch.equal(
        call([KEEP], x, state, *weights, *biases), torch.gru_cell(x, state, weights[0], weights[1] * KEEP, *biases)
    )
    assert torch.equal(call([None], x, state, *weights, *biases), torch.gru_cell(x, state, *weights, *biases))
