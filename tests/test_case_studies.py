"""Case studies: rows resume, figures are small PNGs, pages are written between their marks."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.case_studies import (
    antispoofing,
    antispoofing_page,
    making,
    rows,
    showing,
    synthetic_page,
    vad,
    vad_page,
)
from benchmarks.case_studies.rows import Fit
from benchmarks.quality.showing import END, START

PAGES = ("vad", "antispoofing", "synthetic")
MOST = 120_000  # bytes of a figure


def row_of(fit: Fit, **others: str) -> dict[str, str]:
    """What a fit to its budget might have given."""
    share = {"half": 0.8, "quarter": 0.7}.get(fit.budget) or float(fit.budget.rstrip("%")) / 100
    common = {"share": f"{share:.5f}", "flops": f"{1e8 * share:.0f}", "params": "1000", "date": "2026-01-01"}
    key = dict(zip(Fit.__dataclass_fields__, fit.key(), strict=True))
    return {**key, **common, "machine": "none", "torch": "none", "settings": rows.defaults(), **others}


def vad_row(fit: Fit) -> dict[str, str]:
    bands = "0 5 79" if fit.model == "transformer_vad" and fit.budget != "100%" else ""
    return row_of(fit, eer="10.0", bands=bands, **dict.fromkeys(vad.RANGES, "11.0"))


def spoof_row(fit: Fit, eer: str = "33.0") -> dict[str, str]:
    numbers = {"eer": eer, "low": "25.0", "high": "41.0", "less": "-3.0", "more": "2.0", "auc": "0.7"}
    return row_of(fit, **{f"{split}_{name}": value for split in ("test", "val") for name, value in numbers.items()})


def check_png(path: Path) -> None:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < MOST


def test_rows_resume(tmp_path: Path) -> None:
    path = tmp_path / "case.csv"
    plan = [*antispoofing.plan()]
    assert len(rows.missing(plan, path)) == len(set(plan)) < len(plan)  # a fit that is wanted twice is made once
    for fit in plan[:2]:
        rows.append(spoof_row(fit), path)
    left = rows.missing(plan, path)
    assert left == [fit for fit in dict.fromkeys(plan) if fit not in plan[:2]]
    assert [rows.key_of(row) for row in rows.planned(plan, path)] == [fit.key() for fit in plan[:2]]
    rows.append({**spoof_row(plan[2]), "settings": "of another day"}, path)
    assert rows.missing(plan, path) == left  # shown, but to be made again
    assert [rows.key_of(row) for row in rows.planned(plan, path)] == [fit.key() for fit in plan[:3]]
    with pytest.raises(ValueError, match="columns"):
        rows.append({"other": "1"}, path)
    assert rows.missing(plan, path) == left


def test_a_stage_is_its_own_groups() -> None:
    import shrinkspeech
    from benchmarks.quality.cases import Case

    captured = Case(antispoofing.MODEL).captured()
    groups = shrinkspeech.label(captured)
    found = {
        stage: {g.name for g in groups.restrict(only=globs).shrinkable} for stage, globs in antispoofing.STAGES.items()
    }
    assert set().union(*found.values()) == {group.name for group in groups.shrinkable}
    assert sum(map(len, found.values())) == len(groups.shrinkable)  # none belongs to two stages
    alone = groups.restrict(only=antispoofing.STAGES["stage 2"])
    whole, half, quarter = (making.budget(name, captured, alone, 1.28) for name in ("100%", "half", "quarter"))
    assert whole > half > quarter > whole / 2


def test_vad_figures(tmp_path: Path) -> None:
    found = [vad_row(fit) for fit in vad.plan()]
    vad_page.draw(found, tmp_path)
    for name in ("vad", "vad_snr", "vad_bands"):
        check_png(tmp_path / f"{name}.png")
    assert "| 6.25% | 6.25M | 6.25 | 1,000 | **10.00** | 11.00 |" in vad_page.table(found, "transformer_vad")
    assert vad_page.table(found, "transformer_vad").rstrip().endswith("| 3 |")
    assert "slides" in vad_page.why_not()


def test_antispoofing_figure_and_answer(tmp_path: Path) -> None:
    found = [spoof_row(fit) for fit in dict.fromkeys(antispoofing.plan())]
    antispoofing_page.draw(found, tmp_path)
    check_png(tmp_path / "antispoofing.png")
    assert "On test: yes" in antispoofing_page.answer(found)
    worse = [spoof_row(fit, "33.0" if fit.budget == "100%" else "34.0") for fit in dict.fromkeys(antispoofing.plan())]
    assert "On val: no" in antispoofing_page.answer(worse)


def test_change_of_eer_is_paired() -> None:
    labels = np.arange(40) % 2 == 0
    scores = labels + np.random.default_rng(0).normal(0, 0.7, 40)
    assert antispoofing.change((scores, labels), (scores, labels), 20) == (0.0, 0.0)
    low, high = antispoofing.change((-scores, labels), (scores, labels), 20)
    assert 0 < low < high


def test_synthetic_page_has_the_numbers_of_the_sample_model(tmp_path: Path) -> None:
    shutil.copy(showing.PAGES / "synthetic.md", tmp_path)
    showing.show("synthetic", tmp_path)
    check_png(tmp_path / "synthetic.png")
    tables = synthetic_page.read()
    assert tables.markdown in (tmp_path / "synthetic.md").read_text(encoding="utf-8")
    assert len(tables.known) == 5


@pytest.mark.parametrize("name", PAGES)
def test_pages_have_their_marks_and_figures(name: str) -> None:
    page = (showing.PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert page.index(START) < page.index(END)
    for part in page.split("](")[1:]:
        if part.split(")")[0].endswith(".png"):
            check_png(showing.PAGES / part.split(")")[0])
    assert f"({name}.md)" in (showing.PAGES / "README.md").read_text(encoding="utf-8")
