"""Width groups: sets of channels that live or die together, and what they cost.

groups.py      the record: groups, the axes of every tensor, the effect of every node
label.py       from a captured graph to that record, by the operators' rules
rule_check.py  what no rule may say: wrong sizes, a lost axis
work.py        what nodes without a rule cost, by torch's formulas
cost.py        FLOP/s as a polynomial in the widths
flops.py       FLOP/s of a model in one call
remedies.py    what a user can do about a group that may not shrink
"""
