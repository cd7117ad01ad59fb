"""From a user's files to a captured model.

load.py        from what the user names to a captured graph
files.py       what a file is, and how it is opened
archive.py     what in a ``.pt2`` would run code: its members,
entries.py     the strings and numbers of its program,
expressions.py sizes and guards, which torch evaluates,
operators.py   and what it calls
factory.py     functions that build a model
checkpoints.py the weights that fill it, wherever a trainer keeps them
mapping.py     from the names of a checkpoint to the model's
arguments.py   which input is which
load_into.py   a small model back into its owner's own module:
layers.py      the sizes of torch.nn's layers,
heads.py       and of attention
huggingface.py folders and classes of transformers,
processors.py  what goes into their models,
configurations.py  what their configurations say of widths,
pretrained.py  and small ones as folders again
usercode.py    importing and calling the user's own Python
examples.py    example inputs, written as shapes
"""
