"""The fit: score, warm start, gate, repair, tune.

fit.py           the whole of it
sweep.py         several budgets in one run
stages.py        warm start, gates, repair
tune.py          the last stage
trainer.py       one optimiser step after another
accelerated.py   device, precision and several processes
processes/       what the processes of a fit share
segments.py      activations that are computed twice in the place of being kept
intake.py        whether a batch fits the model, and a loss its outputs
losses.py        what a fit descends
distance.py      how far outputs are from the original's
blame.py         where a loss or a gradient stops being finite
controller.py    widths at a given cost
selection.py     which units to keep, by what their readers need
taylor.py        which units to keep, by gradients or by norms
recipe.py        what a fit needs from the user
settings.py      what a fit is told, and what it tells
checkpoint.py    the state of a fit in a file
report.py        the result and its run folder
"""
