"""Keyword spotter TC-ResNet8: convolutions over time alone, the mel bands as their channels, in residual blocks."""
