"""The user's model as one ATen graph.

captured.py     the record that every later stage works on
names.py        what inputs and outputs are called
ends.py         tensors that go in and come out, as ends of states
pairs.py        which outputs are inputs of the next chunk
states.py       where these come in and go out, and what they hold at the start
start.py        a streaming model that starts from zero states by itself
routes.py       what is tried to be dynamic
capture.py      from a module or an exported program to that record
calls.py        what of a model is captured, and how it is called
stand_ins.py    recurrent layers as one node while a graph is traced
inverse_stft.py the same for the way back from a spectrum
normalise.py    fewer forms of the same computation, none of which changes a result
agreement.py    the graph against the model on the example
regions.py      no_grad and autocast regions, inlined
inplace.py      in-place operators and their pure forms
assignments.py  x[…] = y, in forms with a derivative
evaluation.py   evaluation mode, and what no mode switches
frozen.py       parameters that their owner froze
state.py        what a model writes into its own tensors
repeats.py      what is computed twice from one input is computed once
modes.py        train() and eval() of a captured graph
sizes.py        inputs of other sizes
proof.py        which dimensions are dynamic
batch.py        whether the first dimension is a batch
copies.py       copies that somebody trains, and records that are out of date
quiet.py        torch's messages about itself
compare.py      how far two results are apart
"""
