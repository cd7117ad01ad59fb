"""Measure the spotter, in total and by signal-to-noise ratio."""

from __future__ import annotations

from sample_models.dscnn_kws.evaluate import main
from sample_models.tcresnet_kws.sample import SPOTTER

if __name__ == "__main__":
    main(SPOTTER)
