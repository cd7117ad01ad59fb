"""The main job on one sample model, as a user would run it: inspect, fit, export, check.

``python -m sample_models.demo`` needs no data from outside: speech is synthesised, noise is generated.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
MODEL = [
    "sample_models.crnn_vad.model:crnn_vad",
    "--weights",
    str(HERE / "crnn_vad" / "weights.safetensors"),
    "--recipe",
    str(HERE / "synth_recipe.py"),
]
RUN = Path("runs") / "demo"
THREADS = {"OMP_NUM_THREADS": "1"}
"""Unless the environment says otherwise: a second thread gains nothing here, and is waited for on a busy machine."""

COMMANDS = (
    ["inspect", *MODEL],
    ["fit", *MODEL, "--target-flops", "25%", "--steps", "150", "--overwrite", "-o", str(RUN)],
    ["export", str(RUN), "-o", str(RUN / "model.onnx")],
    ["check", str(RUN / "model.onnx"), "--max-flops", "24.4M", "--reference", str(RUN / "model.pt2")],
)


def main() -> None:
    """Run every command of the demo; stop at the first that fails."""
    started = time.perf_counter()
    tool = Path(sys.executable).with_name("shrinkspeech")
    for command in COMMANDS:
        print("\n$", shlex.join(["shrinkspeech", *command]), flush=True)
        result = subprocess.run([str(tool), *command], check=False, env=THREADS | os.environ)
        if result.returncode:
            raise SystemExit(result.returncode)
    print(f"\nThe demo took {time.perf_counter() - started:.0f} s. The small model: {RUN / 'model.onnx'}")


if __name__ == "__main__":
    main()
