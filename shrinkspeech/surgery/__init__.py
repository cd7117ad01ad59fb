"""What is done to a labelled graph: gates go in, channels and branches come out.

gates.py     a width as a real number
noise.py     what gates ask of a batch: how strong a feature is, and noise for it
insert.py    where gates stand
slice.py     units are removed physically
depth.py     branches of width 0 are removed
fold.py      the weights of what is removed are added to those of what stays
part.py      what is left of a model on the way, and where its units come from
"""
