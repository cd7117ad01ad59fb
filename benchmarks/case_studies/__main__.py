"""Case studies: measure what is missing, then draw the figures and write the page.

    python -m benchmarks.case_studies vad --data DIR
    python -m benchmarks.case_studies antispoofing --data DIR
    python -m benchmarks.case_studies synthetic

Rows go to ``benchmarks/results/case_NAME.csv``; what is there is not measured again, so a run that was cut goes on where
it stopped. Figures and pages go to ``docs/case_studies``. ``synthetic`` shows what the sample model's own
command measured, and needs no data.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from types import ModuleType

from benchmarks.case_studies import antispoofing, rows, vad

MEASURED: dict[str, ModuleType] = {"vad": vad, "antispoofing": antispoofing}


def measure(name: str) -> None:
    """Make the fits of a study that have no row."""
    from benchmarks.case_studies import making

    study, path = MEASURED[name], rows.results(name)
    left = rows.missing(study.plan(), path)
    print(f"{len(left)} fits to be made", flush=True)
    for fit in left:
        row = making.measure(fit, study.only(fit), study.test)
        rows.append(row, path)
        print(*fit.key(), row["share"], row.get("eer") or row["test_eer"], row["duration"], flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*MEASURED, "synthetic"])
    parser.add_argument("--data", help="folder with speech.csv, noise.csv and spoof.csv (or set SHRINKSPEECH_DATA)")
    parser.add_argument("--show", action="store_true", help="measure nothing, only draw and write what is there")
    options = parser.parse_args(arguments)
    if options.data:
        os.environ["SHRINKSPEECH_DATA"] = options.data
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.name in MEASURED and not options.show:
        measure(options.name)
    from benchmarks.case_studies import showing

    showing.show(options.name)


if __name__ == "__main__":
    main()
