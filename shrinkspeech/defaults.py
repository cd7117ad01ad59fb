"""Defaults that the library and the command line share.

Nothing is imported here, so that ``--help`` can show them at once. What a dataclass holds has its default there:
``fitting.settings.Settings`` and ``data.options.DataOptions``, which are quick to import too.
"""

from __future__ import annotations

SAMPLE_RATE = 16_000
"""Rate of a model's waveforms, in Hz."""

TOLERANCE = 1e-4
"""Largest difference between an ONNX file and torch, relative to the largest value of an output."""

HALF_TOLERANCE = 2e-3
"""The same of a model with numbers in float16: a graph of a few layers differs by up to 9e-4, as each rounds at 5e-4."""

STEPS = 1000
"""Optimiser steps of a fit, and of each budget of a sweep."""

LEARNING_RATE = 2e-3
"""The highest of a fit's cycle."""

BATCH_SIZE = 16
"""Clips in a batch."""

ROUND_TO = 1
"""Widths are multiples of this."""

MIN_WIDTH = 1
"""Units that every group keeps at least."""

CHECKPOINT_EVERY = "5m"
"""Time between two checkpoints; the end of each stage is saved too."""

TIMEOUT = 60.0
"""Seconds that a check may take."""

TOP_K = 3
"""Of the top-k accuracy."""

STFT_FORMS = ("auto", "conv", "op")
"""Of a Fourier transform in an ONNX file: the faster, a product with its matrix, or the runtime's own operator."""
