"""The quality benchmark's book-keeping: rows, means, verdicts and the pages that they go to. Nothing is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.quality import rows, showing, speed
from benchmarks.quality.cases import NAMES, Case
from benchmarks.quality.cells import LONG, Cells, cells
from benchmarks.quality.methods import names, shrink
from benchmarks.quality.rows import Run

MODEL = "tcresnet_kws"


def row(method: str, budget: str, seed: int, value: float, **more: object) -> dict[str, str]:
    recipe = Case(MODEL).recipe
    whole = {"steps": recipe.STEPS, "rate": recipe.RATE, "share": float(budget.rstrip("%")) / 100, "flops": 1e6}
    fixed = {"model": MODEL, "method": method, "budget": budget, "seed": seed, "value": value}
    return {name: str(({**whole, **fixed, **more}).get(name, "")) for name in rows.FIELDS}


def found() -> Cells:
    return cells(
        [
            row("original", "100%", 0, 3.0, steps=0, rate=0.0),
            *(row("ours", "25%", seed, value) for seed, value in enumerate((4.0, 4.2, 4.4))),
            *(row("tp-uniform-l2", "25%", seed, value) for seed, value in enumerate((6.0, 6.1, 6.2))),
            *(row("group-lasso", "25%", seed, value) for seed, value in enumerate((7.0, 9.0, 8.0))),
            row("ours", "50%", 0, 3.9),
            row("tp-uniform-l2", "50%", 0, 3.5),
            row("ours", "25%", 3, 99.0, steps=7),
        ]
    )


def test_rows_are_read_back_and_not_made_again(tmp_path: Path) -> None:
    file, run = tmp_path / "a" / "rows.csv", Run(MODEL, "ours", "25%", 1, 300, 0.005)
    assert rows.done(file) == set()
    values = {**row("ours", "25%", 1, 4.0), "steps": 300, "rate": 0.005, "widths": "a=1 b=2"}
    rows.append(values, file)
    rows.append({**values, "seed": 2}, file)
    assert [found["seed"] for found in rows.read(file)] == ["1", "2"]
    assert run.key() in rows.done(file)
    assert Run(MODEL, "ours", "25%", 3, 300, 0.005).key() not in rows.done(file)


def test_cells_hold_runs_of_the_recipe_alone() -> None:
    cell = found()[MODEL, "ours", "25%"]
    assert cell.values == (4.0, 4.2, 4.4)
    assert str(cell) == "4.20 ± 0.20 (3)"
    assert str(found()[MODEL, "ours", "50%"]) == "3.90 (1)"


def test_cells_of_other_lengths() -> None:
    runs = [row("ours", "25%", seed, 5.0, steps=7) for seed in (0, 1)]
    runs += [row("ours", "25%", 0, 9.0), row("ours", "25%", 0, 3.0, steps=7 + Case(MODEL).recipe.TRAINED)]
    short = cells(runs, {MODEL: 7})
    assert short.keys() == {(MODEL, "ours", "25%"), (MODEL, LONG, "25%")}
    assert short[MODEL, "ours", "25%"].values == (5.0, 5.0)
    assert short[MODEL, LONG, "25%"].values == (3.0,)
    assert cells(runs, {}) == {}
    short = cells([*runs, row("original", "100%", 0, 3.0, steps=0, rate=0.0)], {MODEL: 7})
    assert ", 7 steps" in showing.table(short, [MODEL], ["ours", LONG], ["25%"])


def test_tables_name_the_best() -> None:
    text = showing.table(found(), [MODEL], ["ours", "tp-uniform-l2", "group-lasso"], ["50%", "25%"])
    assert "| ours | 3.90 (1) | **4.20 ± 0.20 (3)** |" in text
    assert "| tp-uniform-l2 | **3.50 (1)** | 6.10 ± 0.10 (3) |" in text
    assert "| group-lasso |  | 8.00 ± 1.00 (3) |" in text
    assert "6.10 ± 0.10 (3), tp-uniform-l2 |" in showing.summary(found(), [MODEL], ["25%"])


def test_verdict_counts_what_is_clear() -> None:
    lines = showing.verdict(found(), [MODEL], ["25%", "50%", "12.5%"]).splitlines()[2:]
    assert lines == ["| 25% | 1 | 1 | 1 | 0 |", "| 50% | 1 | 0 | 0 | 0 |", "| 12.5% | 0 | 0 | 0 | 0 |"]


def test_details_are_means_over_the_seeds_that_have_them() -> None:
    these = cells(
        [
            row("original", "100%", 0, 3.0, steps=0, rate=0.0, others="auc=0.9871 eer_-5_to_0_dB=13.5"),
            row("ours", "25%", 0, 4.0, others="auc=0.98"),
            row("ours", "25%", 1, 4.0, others="auc=0.96 eer_-5_to_0_dB=14.25"),
        ]
    )
    lines = showing.details(these, [MODEL], ["ours", "group-lasso"], "25%").splitlines()
    assert lines[3] == "| method | auc | eer -5 to 0 dB |"
    assert lines[5:] == ["| original | 0.9871 (1) | 13.50 (1) |", "| ours | 0.9700 ± 0.0141 (2) | 14.25 (1) |"]


def test_another_measure_takes_the_place_of_the_metric() -> None:
    these = cells(
        [
            row("original", "100%", 0, 3.0, steps=0, rate=0.0, others="val_eer=8.9"),
            row("ours", "25%", 0, 4.0, others="val_eer=9.5"),
            row("ours", "25%", 1, 4.0, others="val_eer=10.5"),
            row("group-lasso", "25%", 0, 4.0, others="auc=1"),
        ]
    )
    lines = showing.table(showing.of(these, "val_eer"), [MODEL], ["ours", "group-lasso"], ["25%"], "val").splitlines()
    assert lines[1].startswith(f"**{MODEL}**: val (lower is better), original 8.90")
    assert lines[5:] == ["| ours | **10.00 ± 0.71 (2)** |"]


def test_pages_change_between_their_marks_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{showing.START}\nold\n{showing.END}\nafter\n")
    showing.write_between(page, "new")
    assert page.read_text() == f"before\n{showing.START}\nnew\n{showing.END}\nafter\n"
    page.write_text("no marks\n")
    with pytest.raises(ValueError, match="has no line"):
        showing.write_between(page, "new")


def test_every_page_has_its_marks() -> None:
    for page in (showing.PAGE, showing.FRONT, *(showing.SAMPLES / name / "README.md" for name in NAMES)):
        text = page.read_text()
        assert text.index(showing.START) < text.index(showing.END), page


def test_sizes_are_those_of_the_recipes_own_fits() -> None:
    fits = cells(
        [
            row("ours", "25%", 1, 4.0, widths="a=9 b#0=9"),
            row("ours", "25%", 0, 4.0, widths="a=1 b#0=2"),
            row("ours", "25%", 0, 4.0, widths="a=8 b#0=8", steps=7),
            row("ours", "50%", 1, 4.0, widths="a=9 b#0=9"),
        ]
    )
    assert speed.fitted_widths(fits, MODEL, ["50%", "25%", "12.5%"]) == {"25%": {"a": 1, "b#0": 2}}


def test_the_figure_shows_ours_and_peers_alone() -> None:
    methods = ["ours", "ours, no gates", "tp-uniform-l2"]
    drawn = showing.figure(found() | cells([row("ours, no gates", "25%", 0, 5.0)]), [MODEL], methods, ["50%", "25%"])
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["original", "ours", "tp-uniform-l2"]
    (panel,) = drawn.axes
    assert panel.get_title() == MODEL
    ours, peer = (bars.lines[0] for bars in panel.containers)
    assert list(ours.get_xdata()) == pytest.approx([50.0, 25.0])
    assert list(ours.get_ydata()) == pytest.approx([3.9, 4.2])
    assert list(peer.get_ydata()) == pytest.approx([3.5, 6.1])


def test_plot(tmp_path: Path) -> None:
    showing.plot(tmp_path / "a.png", found(), [MODEL], ["ours", "tp-uniform-l2"], ["50%", "25%"])
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_methods() -> None:
    assert {"original", "ours", "uniform l2", "tp-uniform-taylor", "group-lasso"} <= set(names())
    captured = Case(MODEL).captured()
    same = shrink(Case(MODEL), "original", 1.0, 0, 0.0, 0)
    assert same.share == 1.0
    assert len(list(same.module.parameters())) == len(list(captured.graph_module.parameters()))
