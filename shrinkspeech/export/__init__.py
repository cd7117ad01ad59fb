"""ONNX files: written, compared with torch, counted and timed.

exporter.py     a captured graph as one file that agrees with it
onnx_graph.py   the graph's translation
onnx_file.py    what can be read from a file
file_cost.py    FLOP/s and parameters of a file
timing.py       time in onnxruntime
check.py        agreement, and the limits of ``shrinkspeech check``
"""
