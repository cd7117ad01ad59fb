"""One thread for each test: the models are small, and cores are shared."""

from __future__ import annotations

import os

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

settings.register_profile(
    "shrinkspeech",
    max_examples=int(os.environ.get("SHRINKSPEECH_EXAMPLES", "25")),
    deadline=None,
    derandomize="SHRINKSPEECH_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("shrinkspeech")
