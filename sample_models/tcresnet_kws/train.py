"""Train the spotter from scratch; an interrupted run resumes from its checkpoint."""

from __future__ import annotations

from sample_models.dscnn_kws.train import main
from sample_models.tcresnet_kws.sample import SPOTTER

if __name__ == "__main__":
    main(SPOTTER)
