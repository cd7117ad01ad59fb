"""The model and its features, as the tools of the keyword spotters take them."""

from __future__ import annotations

from sample_models.dscnn_kws.sample import Spotter
from sample_models.tcresnet_kws.model import FEATURES, tcresnet_kws

SPOTTER = Spotter(tcresnet_kws, FEATURES)
