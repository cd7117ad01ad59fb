"""Tasks: how a model's output is read, its loss and its metrics, as a recipe for the fit.

recipes.py    the recipe of a task, from a captured model and the user's options
intake.py     how the model takes a batch
reading.py    what its outputs mean, found out on one batch
metrics.py    EER, detection costs, intervals
vad.py, classify.py, spoof.py, enhance.py, distil.py
"""

from __future__ import annotations

TASKS = ("vad", "classify", "spoof", "enhance", "distil")
