"""Parameters that their owner froze: those without gradients, and those that are read in regions without gradients alone.

The flag ``requires_grad`` of a captured graph's parameters says which; a fit leaves them as they are, but for channels that go.
So it does with the matrices of Fourier transforms, whatever their flag says: no budget counts those.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from torch import fx, nn

from shrinkspeech.errors import InputError
from shrinkspeech.graph.captured import Captured, attribute
from shrinkspeech.graph.fourier import points_of_tensor
from shrinkspeech.graph.regions import WITHOUT_GRADIENT


def freeze_unfelt(graph_module: fx.GraphModule) -> None:
    """Freeze the parameters that only regions without gradients read, in place: no training of the owner's moves them."""
    for node in graph_module.graph.nodes:
        if node.op == "get_attr" and node.users and all(user.meta.get(WITHOUT_GRADIENT) for user in node.users):
            tensor = attribute(graph_module, str(node.target))
            if isinstance(tensor, nn.Parameter):
                tensor.requires_grad_(False)


def frozen(captured: Captured) -> dict[str, int]:
    """Elements of each parameter that its owner froze, by name."""
    parameters = captured.graph_module.named_parameters()
    return {name: p.numel() for name, p in parameters if p.is_floating_point() and not p.requires_grad}


def transforms(captured: Captured) -> dict[str, int]:
    """Elements of each parameter that is the matrix of a Fourier transform, by name."""
    parameters = captured.graph_module.named_parameters()
    return {name: p.numel() for name, p in parameters if points_of_tensor(p) is not None}


def learned(graph_module: fx.GraphModule) -> set[str]:
    """Names of the nodes whose value a parameter that is trained has a part in."""
    found: set[str] = set()
    for node in graph_module.graph.nodes:
        own = node.op == "get_attr" and getattr(attribute(graph_module, str(node.target)), "requires_grad", False)
        if own or any(source.name in found for source in node.all_input_nodes):
            found.add(node.name)
    return found


def for_training(captured: Captured, train_frozen: bool) -> Captured:
    """The record as a fit trains it: with all parameters open to training, or as its owner left them; transforms never are.

    Raises:
        InputError: there is nothing to train.
    """
    opened = _opened(captured) if train_frozen else captured
    held = transforms(opened).keys() - frozen(opened).keys()
    found = _closed(opened, held) if held else opened
    parameters = list(found.graph_module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        raise InputError(
            "every parameter of the model is frozen (requires_grad=False, or read under no_grad alone), so that there is "
            "nothing to train: give --train-frozen, or Settings(train_frozen=True), or unfreeze the model"
        )
    return found


def _opened(captured: Captured) -> Captured:
    module = captured.copy()
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    return replace(captured, graph_module=module)


def _closed(captured: Captured, names: Collection[str]) -> Captured:
    module = captured.copy()
    for name, parameter in module.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
    return replace(captured, graph_module=module)
