"""What torch says of its own insides while it captures is not for the user to act on."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch.export._trace as export_trace
from torch._logging import _internal as torch_logging


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings and no messages of torch's own, which warns of every route that it gives up and prints half a graph.

    Whoever asks for them by ``TORCH_LOGS`` gets them.
    """
    handlers = [] if os.environ.get("TORCH_LOGS") else list(torch_logging.handlers)
    silence = _Silence()  # one of its own for each call, as calls stand in one another
    for handler in handlers:
        handler.addFilter(silence)
    try:
        with warnings.catch_warnings(), mock.patch.object(export_trace, "print", _no_print, create=True):
            warnings.simplefilter("ignore")
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(silence)


class _Silence(logging.Filter):
    """Lets nothing through."""

    def filter(self, record: logging.LogRecord) -> bool:
        return False


def _no_print(*values: object, **options: object) -> None:
    """In the place of the ``print`` by which ``torch.export`` shows the graph of a failure on stderr."""
