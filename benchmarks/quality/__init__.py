"""Error against FLOP/s: every task, model, method, budget and seed, with the same steps and data."""
