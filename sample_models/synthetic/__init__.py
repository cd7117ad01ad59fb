"""Regression whose needed widths are known in advance: three branches, each of its own rank."""
