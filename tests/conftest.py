"""One thread for each test, as the models are small and cores are shared; and the same random numbers, whatever ran before."""

from __future__ import annotations

import gc
import importlib
import os
import random

import numpy as np
import pytest
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


LATER = "accelerate torchmetrics onnxscript onnxruntime matplotlib.pyplot torch._dynamo torch.onnx"
"""What fits and exports import once they are called."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Modules live as long as the process: a fit, which collects garbage at each re-slice, need not look through them."""
    if len(session.items) > 100:
        for name in LATER.split():
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
