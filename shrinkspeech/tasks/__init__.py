"""Tasks: how a model's output is read, its loss and its metrics, as a recipe for the fit.

registry.py   tasks by name
recipes.py    the recipe of a task, from a captured model and the user's options
intake.py     how the model takes a batch
outputs.py    what it returns, found out on one batch
reading.py    which of its outputs is read, and how it becomes scores
metrics.py    EER, detection costs, intervals
base.py       what tasks share

Every other file holds a task.
"""

from shrinkspeech.tasks.registry import task, task_names

__all__ = ["task", "task_names"]
