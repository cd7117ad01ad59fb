"""The transformer voice activity detector: its mel bands are its width, and they can go."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sample_models.crnn_vad.evaluate import SNR_BANDS, flat, key, report
from sample_models.transformer_vad.model import BANDS, HOP, LogMel, TransformerVAD, load, transformer_vad
from shrinkspeech.graph.capture import capture
from shrinkspeech.groups.label import label
from tests.laws import check_laws

WEIGHTS = Path(__file__).parents[1] / "sample_models" / "transformer_vad" / "weights.safetensors"


@pytest.mark.parametrize("samples", [16_000, 32_000])
def test_one_logit_for_each_20_ms(samples: int) -> None:
    logits = transformer_vad()(0.01 * torch.randn(2, samples))
    assert logits.shape == (2, samples // HOP + 1)


def test_weights_load_and_tell_silence_from_loud_noise() -> None:
    model = load(WEIGHTS)
    assert not model.training
    with torch.no_grad():
        logits = model(1e-4 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0)))
    assert bool(torch.isfinite(logits).all())
    assert float(logits.mean()) < 0.0, "faint even noise is not speech"


def test_measures_by_snr() -> None:
    """A detector that is right above 5 dB alone."""
    snr = torch.tensor([-3.0, 2.0, 7.0, 15.0])
    labels = torch.tensor([[0.0, 1.0, 0.0, 1.0]]).repeat(4, 1)
    logits = torch.where(snr[:, None] > 5, 2 * labels - 1, 1 - 2 * labels)
    found = flat(report(lambda wave: logits, [(torch.zeros(4, 8), labels, snr)]))
    names = [key(f"{low} to {high} dB") for low, high in SNR_BANDS]
    assert [found[name] for name in names] == pytest.approx([100.0, 100.0, 0.0, 0.0])
    assert found["eer"] == pytest.approx(50.0)
    assert set(found) == {"eer", "auc", *names}


def test_normalisation_makes_even_bands() -> None:
    features, wave = LogMel(BANDS), 0.1 * torch.randn(4, 16_000, generator=torch.Generator().manual_seed(0))
    features.fit(wave)
    values = features(wave).flatten(0, 1)
    torch.testing.assert_close(values.mean(0), torch.zeros(BANDS), atol=1e-3, rtol=0.0)
    torch.testing.assert_close(values.std(0), torch.ones(BANDS), atol=1e-3, rtol=0.0)


def test_the_filterbank_loses_bands_and_both_laws_hold() -> None:
    torch.manual_seed(0)
    captured = capture(TransformerVAD(bands=24, layers=1, heads=2).eval(), (0.1 * torch.randn(2, 8_000),))
    groups = label(captured)
    bands = next(g for g in groups if ("features.filters", 1) in {(c.parameter, c.dim) for c in g.carriers})
    tied = {carrier.parameter for carrier in bands.carriers}
    assert bands.shrinkable
    assert {"features.mean", "features.std", "stem.conv.weight", "layers.0.attention.out.weight", "head.weight"} <= tied

    checked = check_laws(captured, widths={bands.name: 9})
    assert checked.sliced is not None
    small = checked.sliced.parameters()
    assert small["features.filters"].shape == (257, 9)
    assert small["layers.0.attention.query.weight"].shape == (24, 9)
    assert small["layers.0.outer.weight"].shape == (9, 48)
    assert small["head.weight"].shape == (1, 9)
