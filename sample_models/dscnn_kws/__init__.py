"""Keyword spotter DS-CNN: a convolution, four depthwise-separable blocks and a linear layer on log-mel features."""
