"""Write the trained spotter as an exported program, which needs no code of this folder to be shrunk.

python -m sample_models.dscnn_kws.program -o model.pt2
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.export import Dim

from sample_models.dscnn_kws.model import load
from sample_models.dscnn_kws.sample import SPOTTER


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write, .pt2")
    options = parser.parse_args(argv)
    model = load(Path(__file__).with_name("weights.safetensors"))
    dynamic = ({0: Dim.AUTO, 1: Dim.AUTO},)  # batch and frames
    torch.export.save(torch.export.export(model, (SPOTTER.example(),), dynamic_shapes=dynamic), options.output)


if __name__ == "__main__":
    main()
