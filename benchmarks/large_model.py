"""Time and memory of capture, labelling, slicing and export on a model of the shape of Wav2Vec2 base, at several depths.

    python -m benchmarks.large_model --layers 12 24 48

Needs the extra ``zoo``. Weights are random; every group is sliced to half. Each depth runs in a process of its own;
memory is the largest resident size beyond what it is with the model loaded, as a multiple of the model's weights.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch


def resident() -> float:
    """The largest resident size so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(layers: int, onnx: bool) -> str:
    """One row: layers, million parameters, nodes, seconds of each stage and in all, memory."""
    import transformers

    import shrinkspeech
    from tests.zoo import Output

    config = transformers.Wav2Vec2Config(num_hidden_layers=layers, mask_time_prob=0.0, layerdrop=0.0)
    model = Output(transformers.Wav2Vec2ForCTC(config).eval(), "logits").eval()
    parameters = sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        model(torch.randn(1, 16_000))
    start, times = resident(), [time.perf_counter()]
    captured = shrinkspeech.capture(model, (torch.randn(1, 16_000),))
    times.append(time.perf_counter())
    groups = shrinkspeech.label(captured)
    times.append(time.perf_counter())
    small = shrinkspeech.slice(captured, groups, {group.name: max(1, group.size // 2) for group in groups.shrinkable})
    times.append(time.perf_counter())
    peak = resident()
    if onnx:
        with tempfile.TemporaryDirectory() as folder:
            shrinkspeech.export_onnx(small, Path(folder) / "small.onnx")
    times.append(time.perf_counter())
    stages = [f"{after - before:.1f}" for before, after in itertools.pairwise(times)]
    weights = parameters * 4 / 2**20
    memory = [f"{(size - start) / weights:.2f}" for size in (peak, resident())]
    nodes = len(captured.graph_module.graph.nodes)
    total = f"{times[-1] - times[0]:.1f}"
    return "| " + " | ".join([str(layers), f"{parameters / 1e6:.0f}", str(nodes), *stages, total, *memory]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="+", type=int, default=[12, 24, 48])
    parser.add_argument("--no-onnx", action="store_true", help="stop after slicing")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(measure(options.layers[0], not options.no_onnx))
        return
    print(
        "| layers | M parameters | nodes | capture s | label s | slice s | export s | total s | memory to slice | in all |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for layers in options.layers:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.large_model", "--one", "--layers", str(layers)]
        subprocess.run(command + ["--no-onnx"] * options.no_onnx, check=True)


if __name__ == "__main__":
    main()
