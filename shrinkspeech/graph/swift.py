"""torch.export in about two thirds of its time, with the same result."""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import sympy  # type: ignore[import-untyped]
import torch._dynamo.config


@contextmanager
def swift() -> Iterator[None]:
    """While a graph is traced: no collection of garbage, of which tracing makes little among very many objects that live; no
    cache of fake tensors, which runs each operator once more to be sure of an entry that is hardly ever asked for; and sizes
    that are simplified once each, as most of them occur at many operators.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        with (
            torch._dynamo.config.patch(fake_tensor_cache_enabled=False),
            mock.patch.object(sympy, "simplify", functools.cache(sympy.simplify)),
        ):
            yield
    finally:
        if collecting:
            gc.enable()
