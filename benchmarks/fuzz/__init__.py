"""Damaged and hostile inputs of every kind, made at random: each must be used or refused in a sentence.

__main__.py   the command, and its page
kinds.py      what is fuzzed, from which seeds, and by which part of the tool
mutate.py     random changes of bytes, JSON, zips, ONNX graphs, tables and options
worker.py     a process that tries one input after another, and may be ended
"""
