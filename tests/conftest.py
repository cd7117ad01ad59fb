"""One thread for each test, as the models are small and cores are shared; and the same random numbers, whatever ran before."""

from __future__ import annotations

import copy
import functools
import gc
import importlib
import os
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from shrinkspeech_cli import status

torch.set_num_threads(1)

settings.register_profile(
    "shrinkspeech",
    max_examples=int(os.environ.get("SHRINKSPEECH_EXAMPLES", "25")),
    deadline=None,
    derandomize="SHRINKSPEECH_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("shrinkspeech")


LATER = "accelerate torchmetrics onnxscript onnxruntime matplotlib.pyplot networkx torch._dynamo torch.onnx"
"""What fits and exports import once they are called."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Modules live as long as the process: a fit, which collects garbage at each re-slice, need not look through them."""
    if len(session.items) > 100:
        for name in LATER.split():
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def one_registry() -> None:
    """onnxscript reads 500 translations from its own source at each export, half of the time of a small one: here, once."""
    registry = importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
    original = registry.from_torchlib

    @functools.cache
    def made(**options: int) -> Any:
        found = original(**options)
        gc.collect()
        gc.freeze()
        return found

    def from_torchlib(**options: int) -> Any:
        found = copy.copy(made(**options))
        found.functions = {target: [*translations] for target, translations in found.functions.items()}
        return found

    registry.from_torchlib = staticmethod(from_torchlib)


one_registry()


def pytest_runtest_setup(item: pytest.Item) -> None:
    random.seed(0)
    np.random.seed(0)
    torch.default_generator.manual_seed(0)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands say on stderr what takes them long, which depends on the machine."""
    monkeypatch.setattr(status, "PATIENCE", 600.0)
