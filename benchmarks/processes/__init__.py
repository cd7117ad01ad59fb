"""One fit in 1, 2 and 4 processes: widths, differences of the weights, bytes, throughput; and what a death does.

    python -m benchmarks.processes                 # measures, and writes benchmarks/results/processes.csv and docs/scale.md

work.py       what one process does
__main__.py   starts processes and compares what they leave
page.py       the tables of docs/scale.md
"""
