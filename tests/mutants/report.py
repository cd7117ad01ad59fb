"""What the faults say: killed and all by folder, and every survivor with the reason why it is let live."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.mutants.results import RETURN, Row

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "testing.md"
REASONS = Path(__file__).with_name("reasons.toml")
BEGIN, END = "<!-- made by make mutants -->\n", "<!-- until here -->\n"
OPEN = "**not judged yet**"


def reasons() -> dict[str, str]:
    """By the key of a fault: why it does not change what the library does."""
    found: dict[str, str] = tomllib.loads(REASONS.read_text(encoding="utf-8"))["equivalent"]
    return found


def since() -> dict[str, str]:
    """By the key of a fault that survived: what notices it since."""
    found: dict[str, str] = tomllib.loads(REASONS.read_text(encoding="utf-8"))["since"]
    return {key: f"changes something; noticed since by {test}" for key, test in found.items()}


def by_folder(rows: Sequence[Row]) -> dict[str, list[Row]]:
    return {
        folder: [row for row in rows if row.folder == folder] for folder in dict.fromkeys(row.folder for row in rows)
    }


def table(rows: Sequence[Row], known: Iterable[str]) -> str:
    """Killed, those that change nothing, and the killed share of the others, by folder."""
    known = set(known)
    lines = [
        "| folder | faults | killed | survived | of these change nothing | killed of those that change something |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for folder, some in [*by_folder(rows).items(), ("all", list(rows))]:
        alive = [row for row in some if row.survived]
        same = sum(row.key in known for row in alive)
        killed, real = len(some) - len(alive), len(some) - same
        share = f"{100 * killed / real:.0f} %" if real else "–"
        lines.append(f"| {folder} | {len(some)} | {killed} | {len(alive)} | {same} | {share} |")
    return "\n".join(lines)


def summary(rows: Sequence[Row]) -> str:
    """For the terminal: the table, then each survivor as a diff."""
    alive = [row for row in rows if row.survived]
    known = reasons()
    parts = [table(rows, known)]
    for row in alive:
        head = f"{row.key}  shrinkspeech/{row.file}:{row.line}  {row.function}  ({row.kind})  {known.get(row.key, '')}"
        parts.append("\n".join([head.rstrip(), *(f"    {line}" for line in row.change.split(RETURN))]))
    return "\n\n".join(parts)


def page(rows: Sequence[Row]) -> str:
    """For the documentation: the table, and the survivors with a reason each."""
    known, commands = reasons(), dict.fromkeys((row.command, row.commit, row.date) for row in rows)
    words = since() | known
    lines = [table(rows, known), ""]
    lines += [f"`{command}` ({date}, commit {commit})" for command, commit, date in commands]
    for folder, some in by_folder([row for row in rows if row.survived]).items():
        lines += ["", f"**{folder}**", "", "| where | fault | why it lives |", "|---|---|---|"]
        for row in some:
            change = "<br>".join(f"`{_cell(line)}`" for line in row.change.split(RETURN))
            lines.append(f"| `{row.file}` {row.function} | {change} | {words.get(row.key, OPEN)} |")
    return "\n".join(lines) + "\n"


def _cell(line: str) -> str:
    return line.replace("|", "\\|").replace("`", "'")


def write_page(rows: Sequence[Row]) -> None:
    """Put the table and the survivors between the marks of ``docs/testing.md``."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    PAGE.write_text(before + BEGIN + page(rows) + END + rest.split(END)[1], encoding="utf-8")
