"""Write manifests of the six keywords: CSV, JSON lines as NeMo has them, and one of noise.

keywords.csv        path, label, split, speaker
keywords.json       audio_filepath, duration, command; keywords that are neither val nor test
keywords_val.json   the same for the val split
noise.csv           path, split; without what a human voice made

Paths are those of the audio, made absolute; no audio is copied. Rows of the test split are in none of them.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from sample_models.dscnn_kws.data import keyword_rows, rows


def write_csv(path: Path, columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """A CSV file with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(lines)


def write_json_lines(path: Path, lines: Iterable[dict[str, object]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def write(data: Path, output: Path) -> list[Path]:
    """Write the manifests of a data folder into a folder; returns their paths."""
    data = data.resolve()
    output.mkdir(parents=True, exist_ok=True)
    words = {split: keyword_rows(data, split) for split in ("train", "val")}
    paths = [output / name for name in ("keywords.csv", "keywords.json", "keywords_val.json", "noise.csv")]
    write_csv(
        paths[0],
        ("path", "label", "split", "speaker"),
        (
            (str(data / row["path"]), row["text_or_label"], split, row["speaker"])
            for split in words
            for row in words[split]
        ),
    )
    for path, split in zip(paths[1:3], words, strict=True):
        write_json_lines(
            path,
            (
                {
                    "audio_filepath": str(data / row["path"]),
                    "duration": float(row["seconds"]),
                    "command": row["text_or_label"],
                }
                for row in words[split]
            ),
        )
    noise = (row for split in words for row in rows(data / "noise.csv", split) if row["human_voice"] != "yes")
    write_csv(paths[3], ("path", "split"), ((str(data / row["path"]), row["split"]) for row in noise))
    return paths


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data folder with speech.csv and noise.csv")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(argv)
    for path in write(options.data, options.output):
        print(path)


if __name__ == "__main__":
    main()
