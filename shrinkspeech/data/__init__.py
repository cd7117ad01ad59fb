"""Audio from manifests: rows, splits, clips, augmentation, features, and a loader whose batches depend on a seed alone.

manifest.py   CSV, TSV, JSON lines → rows
splits.py     rows → train, val, test
audio.py      one piece of one file as samples of one rate
checking.py   which files are broken, and how many may be
augment.py    crop, pad, noise, room, gain, masks
items.py      row → one training example
loader.py     examples → batches, in worker processes
frontend.py   samples → features, inside a model or before it
pretrained.py the same as public pretrained models have it
options.py    what the user chooses
source.py     all of it put together
"""
