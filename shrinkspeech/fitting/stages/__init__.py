"""The stages of a fit, in their order, each with its own state.

stage.py         what a stage is, and what stages hand to each other
warm_start.py    score units, slice to twice the budget, fold
gate.py          widths as real numbers, down to the budget
repair.py        whole units within the budget
tune.py          fine-tune the small model
"""
