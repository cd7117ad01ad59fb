"""The zoo as tests, where SHRINKSPEECH_ZOO is set: each model is captured and keeps both laws."""

from __future__ import annotations

import os

import pytest

if "SHRINKSPEECH_ZOO" not in os.environ:
    pytest.skip("the zoo takes long: set SHRINKSPEECH_ZOO to test it", allow_module_level=True)

from . import ENTRIES, everything
from .measure import measure

LIMITS = {
    "encodec_encoder": "its padding is computed on tensors, and so known only at run time",
    "metricgan": "it pads by lengths that are tensors",
}
"""Models that cannot be captured, with the reason."""


def test_every_family_is_imported() -> None:
    assert everything.MISSING == {}


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.filterwarnings("ignore")
def test_model(name: str) -> None:
    row = measure(ENTRIES[name], onnx=False)
    if name in LIMITS:
        assert "capture" in row.errors
        return
    assert row.errors == {}
    assert row.law1 == 0
    assert row.law2 is not None
    assert row.law2 <= 1e-5
    assert row.reached is not None
    assert 0.98 <= row.reached <= 1.0
