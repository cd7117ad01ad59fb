"""The data folder of the sample models: named by the environment, and complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from sample_models.data_folder import VARIABLE, data_folder


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(RuntimeError, match=r"set SHRINKSPEECH_DATA .* holds speech\.csv and noise\.csv"):
        data_folder("speech.csv", "noise.csv")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "speech.csv").touch()
    with pytest.raises(RuntimeError, match=r"there is no noise\.csv in it"):
        data_folder("speech.csv", "noise.csv")
    assert data_folder("speech.csv") == tmp_path
