"""What a fit is held to.

quantity.py    what can be limited: FLOP/s, parameters, size, latency
latency.py     time as a polynomial in the widths
widths.py      the widths that meet a budget, real and whole
"""
