"""Voice activity detector: a transformer encoder as wide as its mel filterbank, one logit per 20 ms."""
