"""Public speech models with their trained weights, untouched, through ``inspect``, ``fit``, ``export`` and ``check``."""
