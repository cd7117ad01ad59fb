"""Small weights in the layers of torch.nn: their tensors are replaced, and their attributes say the new sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from shrinkspeech.errors import InputError

Tensors = Mapping[str, Tensor]
"""The small tensors of one module, by their names in it."""

GROUPS = {"conv": 6, "group_norm": 1}
"""Where an operator that a name begins with has its number of groups."""


@dataclass(frozen=True)
class Use:
    """A layer's node of the small graph, and how many channels go in."""

    node: fx.Node
    channels: int


def resize(module: nn.Module, tensors: Tensors, use: Use | None) -> None:
    """Set the attributes of a layer to the sizes of its small tensors; modules that are not torch.nn's stay as they are.

    Args:
        use: the layer in the small graph, which knows its groups; None where it is not there.

    Raises:
        InputError: a layer of this kind cannot have these sizes; a bare reason.
    """
    if not tensors and use is None:
        return
    for kinds, setter in SETTERS:
        if isinstance(module, kinds):
            setter(module, tensors, use)
            return
    if type(module).__module__.startswith("torch.nn.modules") and tensors:
        raise InputError(f"the sizes of a {type(module).__name__} cannot be changed")


def _groups(use: Use | None, default: int) -> int:
    """The number of groups as the small graph has it."""
    name = str(getattr(use.node.target, "__name__", "")) if use is not None else ""
    place = next((index for start, index in GROUPS.items() if name.startswith(start)), None)
    if use is None or place is None:
        return default
    value = use.node.args[place] if len(use.node.args) > place else use.node.kwargs.get("groups", 1)
    return value if isinstance(value, int) else default


def _linear(module: Any, tensors: Tensors, use: Use | None) -> None:
    module.out_features, module.in_features = tensors["weight"].shape


def _convolution(module: Any, tensors: Tensors, use: Use | None) -> None:
    first, second = tensors["weight"].shape[:2]
    module.groups = _groups(use, module.groups)
    ends = (second * module.groups, first) if not module.transposed else (first, second * module.groups)
    module.in_channels, module.out_channels = ends


def _batch_norm(module: Any, tensors: Tensors, use: Use | None) -> None:
    sizes = [len(x) for x in tensors.values() if x.dim()]
    module.num_features = sizes[0] if sizes else module.num_features if use is None else use.channels


def _layer_norm(module: Any, tensors: Tensors, use: Use | None) -> None:
    if use is not None:
        module.normalized_shape = tuple(use.node.args[1])  # type: ignore[arg-type]


def _group_norm(module: Any, tensors: Tensors, use: Use | None) -> None:
    module.num_channels = (
        len(tensors["weight"]) if "weight" in tensors else module.num_channels if use is None else use.channels
    )
    module.num_groups = _groups(use, module.num_groups)


def _embedding(module: Any, tensors: Tensors, use: Use | None) -> None:
    module.num_embeddings, module.embedding_dim = tensors["weight"].shape


def _prelu(module: Any, tensors: Tensors, use: Use | None) -> None:
    module.num_parameters = len(tensors["weight"])


def _recurrent(module: Any, tensors: Tensors, use: Use | None) -> None:
    if module.proj_size:
        raise InputError("a recurrent layer with proj_size keeps its sizes")
    hidden = {name: x.shape[1] for name, x in tensors.items() if name.startswith("weight_hh")}
    if len(set(hidden.values())) > 1:
        sizes = ", ".join(f"{name.removeprefix('weight_hh_')} {size}" for name, size in hidden.items())
        raise InputError(
            f"its layers or directions have different widths ({sizes}), and a {type(module).__name__} has one"
        )
    module.hidden_size, module.input_size = next(iter(hidden.values())), tensors["weight_ih_l0"].shape[1]


def _recurrent_cell(module: Any, tensors: Tensors, use: Use | None) -> None:
    module.hidden_size, module.input_size = tensors["weight_hh"].shape[1], tensors["weight_ih"].shape[1]


def _attention(module: Any, tensors: Tensors, use: Use | None) -> None:
    pass  # ``heads.py`` sets what a MultiheadAttention is like, for its layers share sizes


Setter = Callable[[Any, Tensors, "Use | None"], None]

SETTERS: tuple[tuple[Any, Setter], ...] = (
    (nn.Linear, _linear),
    (nn.modules.conv._ConvNd, _convolution),
    (nn.modules.batchnorm._NormBase, _batch_norm),
    ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    (nn.GroupNorm, _group_norm),
    (nn.Embedding, _embedding),
    (nn.PReLU, _prelu),
    (nn.RNNBase, _recurrent),
    (nn.RNNCellBase, _recurrent_cell),
    (nn.MultiheadAttention, _attention),
)
