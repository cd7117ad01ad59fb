"""Case studies on the axes of the paper's figures (arXiv 2601.13704): detectors, anti-spoofing, and a known width."""
