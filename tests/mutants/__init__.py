"""Mutation testing: small faults are put into the library, and the tests near them must notice.

operators.py   what a fault can be
make.py        all faults of a file, and a sample that stays the same while the code around it moves
near.toml      which tests are near which file
reach.py       which of them run a function
memory.py      what was found of that, as long as nothing changes
warm.py        a process that has imported everything but the library forks for each fault
run.py         the command (``make mutants``)
results.py     the CSV of what it found
report.py      the page made of it
reasons.toml   why a survivor is let live
"""
