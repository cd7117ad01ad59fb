"""Anti-spoofing detector: a small ResNet34 over cepstral features, one logit per clip, bona fide above 0."""
