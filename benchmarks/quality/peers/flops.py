"""What every method is measured with: our own counter on the module that it hands back."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import shrinkspeech


def flops(module: nn.Module, recipe: Any) -> float:
    """FLOP/s (2 × multiply-accumulates per second of audio) of a module, by capture, label and count."""
    captured = shrinkspeech.capture(module, recipe.example_inputs())
    return shrinkspeech.flops(captured, seconds=recipe.SECONDS)


class Meter:
    """The share of the original's cost that a module still has, fast enough for a loop.

    Where torch's own counter agrees with ours on the original, it stands in for ours (one forward pass instead of a
    capture). The result of a method is counted with ours in any case.
    """

    def __init__(self, original: nn.Module, recipe: Any) -> None:
        self.recipe = recipe
        self.original = flops(original, recipe)
        self.quick = abs(self._forward(original) / self.original - 1.0) < 1e-6

    def share(self, module: nn.Module) -> float:
        """FLOP/s of the module as a share of the original's."""
        return (self._forward(module) if self.quick else flops(module, self.recipe)) / self.original

    def exact(self, module: nn.Module) -> float:
        """The same with our counter."""
        return flops(module, self.recipe) / self.original

    def _forward(self, module: nn.Module) -> float:
        """FLOP/s by torch's counter on one forward pass; recurrent layers count nothing there."""
        inputs = self.recipe.example_inputs()
        fast_path = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        was_training = module.training
        module.eval()
        try:
            with torch.no_grad(), warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
                warnings.simplefilter("ignore")
                with FlopCounterMode(display=False) as counter:
                    module(*inputs)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            module.train(was_training)
        return counter.get_total_flops() / (len(inputs[0]) * self.recipe.SECONDS)
