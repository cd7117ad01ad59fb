"""Graphs without complex numbers: every operator has the values of torch's own, and none stays complex."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from shrinkspeech.errors import ExportError
from shrinkspeech.export import spectra
from shrinkspeech.export.complex_forms import FORMS, form
from shrinkspeech.export.complex_parts import Kinds
from shrinkspeech.export.onnx_graph import onnx_model
from shrinkspeech.export.real_numbers import use_real_numbers
from shrinkspeech.export.transforms import CONV, Forms
from shrinkspeech.graph.capture import capture
from shrinkspeech.graph.captured import Captured
from shrinkspeech.graph.compare import max_difference
from tests.export_cases import Apply, noise

aten = torch.ops.aten
PAIRS = noise(3, 4, 6, 2)
"""Complex numbers ``[3, 4, 6]`` as pairs: ``z`` in the cases; ``w`` are others, ``r`` their real parts."""

CASES: dict[str, Callable[[Any, Tensor, Tensor, Tensor], Any]] = {
    "sum": lambda m, z, w, r: z + w,
    "sum with a real tensor": lambda m, z, w, r: r + z,
    "sum with a larger real tensor": lambda m, z, w, r: z[:, :1] + r,
    "sum with a number": lambda m, z, w, r: 1.5 + z + (2 - 1j),
    "scaled sum": lambda m, z, w, r: torch.add(z, w, alpha=3),
    "scaled sum with a real tensor": lambda m, z, w, r: torch.add(z, r, alpha=3),
    "difference": lambda m, z, w, r: z - w,
    "difference from a real tensor": lambda m, z, w, r: r - z,
    "difference from a number": lambda m, z, w, r: 1 - z,
    "scaled difference": lambda m, z, w, r: torch.sub(z, w, alpha=2),
    "reversed difference": lambda m, z, w, r: torch.rsub(z, w, alpha=2),
    "product": lambda m, z, w, r: z * w,
    "product with a mask": lambda m, z, w, r: z * r.sigmoid()[:1],
    "product with numbers": lambda m, z, w, r: 2 * z * 1j,
    "a real tensor times i": lambda m, z, w, r: r * 1j,
    "quotient": lambda m, z, w, r: z / (w + 3),
    "quotient by a real tensor": lambda m, z, w, r: z / (r.abs() + 1),
    "quotient by a number": lambda m, z, w, r: z / 3,
    "quotient of a real tensor": lambda m, z, w, r: r / (z + 4),
    "quotient of a number": lambda m, z, w, r: 1 / (z + 4),
    "square": lambda m, z, w, r: z**2 + w.square(),
    "exponential": lambda m, z, w, r: z.exp(),
    "a phase": lambda m, z, w, r: r.abs() * torch.exp(1j * z.angle()),
    "polar": lambda m, z, w, r: torch.polar(z.abs(), w.angle()),
    "of two parts": lambda m, z, w, r: torch.complex(w.imag, z.real),
    "of two parts of several sizes": lambda m, z, w, r: torch.complex(w.imag[:1], z.real),
    "conjugate": lambda m, z, w, r: z.conj() * torch.conj_physical(w),
    "conjugate, written down": lambda m, z, w, r: z.conj().resolve_conj(),
    "size": lambda m, z, w, r: z.abs(),
    "angle": lambda m, z, w, r: z.angle(),
    "parts": lambda m, z, w, r: z.real * w.imag,
    "sign": lambda m, z, w, r: torch.sgn(z * (r > 0)),
    "cast": lambda m, z, w, r: r.to(torch.complex64) + z.to(torch.complex64),
    "negative": lambda m, z, w, r: -z,
    "transposed": lambda m, z, w, r: (z * w).transpose(-1, 1) * z.transpose(1, -1),
    "permuted": lambda m, z, w, r: z.permute(2, 0, -2),
    "reshaped": lambda m, z, w, r: z.reshape(-1, 24).unflatten(1, (2, 12)),
    "flattened": lambda m, z, w, r: z.flatten(-2),
    "squeezed and back": lambda m, z, w, r: z.unsqueeze(1).squeeze(1),
    "chosen": lambda m, z, w, r: z[:, 1:, ::2] + w[:, 0, None, :3],
    "indexed": lambda m, z, w, r: z[:, torch.tensor([2, 0])],
    "split": lambda m, z, w, r: torch.cat(z.split([1, 3], 1)[::-1], 1),
    "beside a real tensor": lambda m, z, w, r: torch.cat([z, r], 1),
    "stacked": lambda m, z, w, r: torch.stack([z, w], -1),
    "summed": lambda m, z, w, r: z.sum(1) + w.mean(1, keepdim=True)[:, 0],
    "where": lambda m, z, w, r: torch.where(r > 0, z, w),
    "masked": lambda m, z, w, r: z.masked_fill(r > 0, 0.0),
    "padded": lambda m, z, w, r: nn.functional.pad(z, (1, 2)),
    "flipped and rolled": lambda m, z, w, r: z.flip(1).roll(1, -1),
    "windows": lambda m, z, w, r: z.unfold(-1, 3, 2),
    "as wide as another": lambda m, z, w, r: z[:, :1].expand(-1, 4, -1) * w,
    "times its own size": lambda m, z, w, r: z * z.shape[1],
    "complex parameters": lambda m, z, w, r: z * m.gain,
    "zeros": lambda m, z, w, r: torch.cat([torch.zeros_like(z), z], 1),
    "several outputs": lambda m, z, w, r: {"spectrum": z * w, "power": z.abs()},
    "a pair, twice": lambda m, z, w, r: torch.view_as_real(z) + torch.view_as_real(z * w),
}


def captured_case(name: str) -> Captured:
    def forward(m: Any, pairs: Tensor) -> Any:
        z = torch.view_as_complex(pairs)
        w = torch.view_as_complex(pairs.flip(-1) * 0.5)
        return CASES[name](m, z, w, pairs[..., 1])

    gain = nn.Parameter(torch.view_as_complex(noise(6, 2)))
    return capture(Apply(forward, gain=gain).eval(), (PAIRS,))


def without_complex(captured: Captured) -> Captured:
    copy = replace(captured, graph_module=captured.copy())
    use_real_numbers(copy, Forms(CONV))
    return copy


def as_pairs(outputs: Any) -> Any:
    return pytree.tree_map(lambda x: torch.view_as_real(x.resolve_conj()) if x.is_complex() else x, outputs)


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_complex_numbers(name: str) -> None:
    captured = captured_case(name)
    found = without_complex(captured)
    for pairs in (PAIRS, noise(5, 4, 6, 2)):
        wanted = as_pairs(captured.graph_module(pairs))
        assert max_difference(found.graph_module(pairs), wanted) < 1e-6
    assert not any(kind.is_complex for kind in Kinds(found).found.values())


def test_zero_has_the_sign_zero() -> None:
    captured = capture(Apply(lambda m, x: torch.sgn(torch.view_as_complex(x))).eval(), (PAIRS,))
    zeros = torch.zeros(3, 4, 6, 2)
    assert torch.equal(without_complex(captured).graph_module(zeros), zeros)


def test_every_form_is_tried() -> None:
    """Overloads of one form share their cases; transforms have tests of their own."""
    tried = {node.target for name in CASES for node in captured_case(name).graph_module.graph.nodes}
    untried = {function for function in FORMS.values() if function.__module__ != spectra.__name__}
    untried -= {FORMS[target] for target in tried & FORMS.keys()}
    assert untried == set()


def test_an_operator_has_one_form() -> None:
    with pytest.raises(ValueError, match=r"aten.abs.default has two forms"):
        form(aten.abs.default)(lambda w: None)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda m, x: torch.view_as_complex(x).log(), "aten.log.default"),
        (lambda m, x: torch.view_as_complex(x) ** 3, "aten.pow.Tensor_Scalar"),
        (lambda m, x: torch.view_as_complex(x).masked_fill(x[..., 0] > 0, 2.0), "aten.masked_fill.Scalar"),
        (lambda m, x: nn.functional.pad(torch.view_as_complex(x), (1, 1), value=3.0), "aten.pad.default"),
        (lambda m, x: torch.view_as_complex(x).to(torch.complex128), "aten.to.dtype"),
        (lambda m, x: torch.view_as_complex(x) @ torch.view_as_complex(x).mT, "aten.matmul.default"),
    ],
)
def test_what_has_no_form_is_refused_by_name(function: Any, name: str) -> None:
    captured = capture(Apply(function).eval(), (PAIRS,))
    with pytest.raises(ExportError, match=rf"{name} of complex numbers at model .*torch.view_as_real"):
        onnx_model(captured)


def test_a_complex_input_is_refused() -> None:
    captured = capture(Apply(lambda m, z: z.abs()).eval(), (torch.view_as_complex(PAIRS),))
    with pytest.raises(ExportError, match=r"input 'x' is complex.*call torch.view_as_complex in it"):
        onnx_model(captured)


def test_a_graph_of_real_numbers_stays() -> None:
    captured = capture(nn.Linear(6, 3).eval(), (noise(2, 9, 6),))
    before = str(captured.graph_module.graph)
    use_real_numbers(captured, Forms(CONV))
    assert str(captured.graph_module.graph) == before


def test_a_phase_of_bins_without_one() -> None:
    """Of 40 points, where the matrix would have rounding errors: the first and last bin of a real signal are real."""
    window = nn.Buffer(torch.ones(40))
    model = Apply(lambda m, x: torch.stft(x, 40, 20, 40, m.window, return_complex=True).angle(), window=window)
    captured = capture(model.eval(), (noise(2, 400),))
    angles = without_complex(captured).graph_module(noise(2, 400))[:, [0, -1]]
    assert set((angles / math.pi).unique().tolist()) == {0.0, 1.0}
