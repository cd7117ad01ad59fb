"""Voice activity detector: log-mel front end, three convolutions, two GRU layers, one logit per 10 ms."""
