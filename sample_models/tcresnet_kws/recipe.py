"""What a shrinking tool needs to know about this model.

The data folder comes from the environment variable SHRINKSPEECH_DATA.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the folder that holds sample_models

from sample_models.dscnn_kws.protocol import Protocol
from sample_models.tcresnet_kws.sample import SPOTTER

METRIC, BETTER = "error", "lower"
SECONDS = SPOTTER.seconds  # of audio in one item
TRAINED = 2_500  # steps of the original
STEPS, RATE = 1_200, 5e-3

_protocol = Protocol(SPOTTER)
train_batches = _protocol.train_batches
loss = _protocol.loss
evaluate = _protocol.evaluate
test = _protocol.test
example_inputs = _protocol.example_inputs
