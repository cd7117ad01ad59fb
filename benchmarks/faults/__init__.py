"""Faults that are done to fits and to their files, and what became of each."""
