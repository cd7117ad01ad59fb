"""Draw the figures of a study and write its page; nothing is measured here."""

from __future__ import annotations

from pathlib import Path

from benchmarks.case_studies import antispoofing, antispoofing_page, rows, synthetic_page, vad, vad_page
from benchmarks.quality.showing import write_between

PAGES = Path(__file__).parents[2] / "docs" / "case_studies"


def show(name: str, folder: Path = PAGES) -> None:
    """Figures beside the page, text between the marks of the page.

    Raises:
        ValueError: the page has no marks, or there are no results.
    """
    if name == "synthetic":
        tables = synthetic_page.read()
        synthetic_page.draw(tables, folder)
        write_between(folder / "synthetic.md", synthetic_page.text(tables))
        return
    study, page = {"vad": (vad, vad_page), "antispoofing": (antispoofing, antispoofing_page)}[name]
    found = rows.planned(study.plan(), rows.results(name))
    if not found:
        raise ValueError(f"there are no rows in {rows.results(name)}")
    page.draw(found, folder)
    write_between(folder / f"{name}.md", page.text(found))
