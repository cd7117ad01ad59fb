"""What gates ask of a batch: how strong a feature is, and noise for it.

Both are functions that a ``TorchFunctionMode`` may answer in their place, as one of several processes does that has only some
rows of the batch (``fitting/processes``).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function


def level(part: Tensor, dim: int) -> Tensor:
    """Root mean square of each unit of ``dim`` over all other dimensions, which are kept with a size of 1."""
    if has_torch_function((part,)):
        return handle_torch_function(level, (part,), part, dim)
    others = [other for other in range(part.dim()) if other != dim]
    wide = torch.promote_types(part.dtype, torch.float32)
    norm = torch.linalg.vector_norm(part, dim=others, keepdim=True, dtype=wide)
    return norm * (part.shape[dim] / max(part.numel(), 1)) ** 0.5


def noise_like(part: Tensor, dim: int, node: str) -> Tensor:
    """Gaussian noise for the units of ``dim`` in what a node of the graph gives."""
    if has_torch_function((part,)):
        return handle_torch_function(noise_like, (part,), part, dim, node)
    return torch.randn_like(part)
