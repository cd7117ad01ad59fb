"""Points that the paper published (Gómez & Bäckström, arXiv 2601.13704): its own models on its own data, as context."""

from __future__ import annotations

from dataclasses import dataclass

M, G = 1e6, 1e9
LEGEND = "paper's own model and data"


@dataclass(frozen=True)
class Curve:
    """EERs in % against FLOP/s, from the most costly on."""

    name: str
    flops: tuple[float, ...]
    eers: tuple[float, ...]


CRNN = Curve("CRNNVAD, 80, 40, 20, 12 bands", (2.250 * M, 1.183 * M, 0.636 * M, 0.417 * M), (9.01, 9.12, 9.42, 10.32))
CRNN_LASSO = Curve("CRNNVAD, sparse group lasso", (2.07 * M, 0.64 * M, 0.44 * M), (9.98, 10.17, 10.52))
TRANSFORMER = Curve("TrVAD, 80, 40, 20, 12 bands", (19.57 * M, 5.05 * M, 1.34 * M, 0.52 * M), (8.08, 8.35, 9.66, 10.50))
TRANSFORMER_LASSO = Curve("TrVAD, sparse group lasso", (7.20 * M, 1.90 * M, 0.89 * M), (10.16, 10.49, 11.04))
RESNET = Curve(
    "ResNet34, original and floors 0.5, 0.25, 0.125",
    (5.64 * G, 2.05 * G, 1.18 * G, 0.91 * G),
    (6.26, 3.93, 3.48, 2.53),
)
