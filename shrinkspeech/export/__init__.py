"""ONNX files: written, compared with torch, counted and timed.

exporter.py     a captured graph as one file that agrees with it
onnx_graph.py   the graph's translation
real_numbers.py the graph without complex numbers (complex_parts.py, complex_forms.py)
spectra.py      its spectra, in operators that ONNX has (fourier.py)
onnx_file.py    a file, read once
constants.py    what it holds
feed.py         what it is fed
operator_costs.py what its operators cost
file_cost.py    FLOP/s and parameters of a file
timing.py       time in onnxruntime
parity.py       agreement with torch
check.py        the limits of ``shrinkspeech check``
"""
