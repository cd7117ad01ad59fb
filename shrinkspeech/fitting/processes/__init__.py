"""One fit in several processes: each has the model and a share of every batch, and all take the same steps.

team.py          who there is, and what they tell each other
split.py         which rows of a batch are whose, and the outputs put together again
in_step.py      what mixes the rows inside the model: batch statistics, and random numbers
sharing.py      all of this as the losses and the stages of a fit use it
goals.py        one goal for all, which the first process measures
"""
