"""Memory: bytes of the activations that are alive at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shrinkspeech.budget.amounts import BYTES, bytes_text
from shrinkspeech.budget.registry import Quantity, quantity

if TYPE_CHECKING:
    from torch import Tensor, fx

    from shrinkspeech.graph.captured import Captured
    from shrinkspeech.groups.cost import Maximum, Polynomial


@quantity
class Memory(Quantity):
    """Bytes of the activations that are alive at once, at the worst node, for a batch of one of the example's length.

    Nodes run in the graph's own order. A tensor, in its own number type, is alive from the node that makes it to the last
    that reads it or a view of it; what a node reads and what it makes are alive together. Weights, what is computed from
    weights alone, and what an operator allocates for itself are not counted.

    The cost is the largest sum over the nodes. It is exact unless a branch has left the graph, and measured at the end.
    """

    name = "memory"
    unit = "bytes"
    units = BYTES
    example = "64kB, 64KiB, 1.2MB"
    help = "Bytes of activations alive at once, for a batch of one of the example's length: 64kB or 25%."

    def cost(self) -> Maximum:
        from shrinkspeech.groups.cost import ZERO, Maximum

        found = buffers(self.captured)
        sizes = {buffer: self._size(buffer) for buffer in found}
        return Maximum.of([sum((sizes[buffer] for buffer in live), ZERO) for live in alive(found)])

    def measure(self, small: Captured) -> float:
        return float(max(sum(buffer.bytes for buffer in live) for live in alive(buffers(small))))

    def _size(self, buffer: Buffer) -> Polynomial:
        """Bytes at any widths. Those of a batch of one are a share of the example's, which the axes are of."""
        from shrinkspeech.groups.cost import ONE, ZERO, polynomial

        size, axes = ONE, self.groups.axes[buffer.node][buffer.output]
        for axis in axes:
            size = size * polynomial(axis, self.groups)
        whole = size.at(self.full)
        return size.scale(buffer.bytes / whole) if whole else ZERO

    @classmethod
    def text(cls, amount: float) -> str:
        return bytes_text(amount)


@dataclass(frozen=True)
class Buffer:
    """Memory that a node has allocated for one of its outputs, alive from the place ``first`` in the graph to ``last``."""

    node: str
    output: int
    bytes: int
    first: int
    last: int


def buffers(captured: Captured) -> list[Buffer]:
    """The memory of all activations for a batch of one, as a run of the graph allocates it; views share their source's."""
    import torch
    from torch import fx

    runner = fx.Interpreter(captured.copy(), garbage_collect_values=False)  # a copy, for a run may change states
    with torch.no_grad():
        runner.run(*first_item(captured))
    order = {node: place for place, node in enumerate(runner.env)}
    made: dict[int, tuple[fx.Node, int, int]] = {}
    last: dict[int, int] = {}
    weights = _weights(order)
    for node, place in order.items():
        for output, tensor in enumerate(_tensors(runner.env[node])):
            storage = tensor.untyped_storage()
            key = storage.data_ptr()
            size = min(tensor.numel() * tensor.element_size(), storage.nbytes())
            made.setdefault(key, (node, output, size))
            last[key] = max([last.get(key, place), *(order[user] for user in node.users)])
    return [
        Buffer(node.name, output, size, order[node], last[key])
        for key, (node, output, size) in made.items()
        if node not in weights and size
    ]


def alive(found: Sequence[Buffer]) -> Iterator[list[Buffer]]:
    """What is alive at each place where something is made."""
    for place in sorted({buffer.first for buffer in found}):
        yield [buffer for buffer in found if buffer.first <= place <= buffer.last]


def first_item(captured: Captured) -> tuple[Any, ...]:
    """The first item of the example, as a batch of one, where the batch may have any size; else the example."""
    from torch import Tensor
    from torch.utils import _pytree as pytree

    from shrinkspeech.graph.sizes import axes_of

    leaves, spec = pytree.tree_flatten(captured.example_inputs)
    batch = {index: dim for axis in axes_of(captured) if axis.is_batch for index, dim in axis.places}
    items = [
        leaf.narrow(batch[index], 0, 1) if isinstance(leaf, Tensor) and index in batch else leaf
        for index, leaf in enumerate(leaves)
    ]
    return tuple(pytree.tree_unflatten(items, spec))


def _weights(order: dict[fx.Node, int]) -> set[fx.Node]:
    """Parameters, buffers and constants, and what is computed from them alone."""
    found: set[fx.Node] = set()
    for node in order:
        computed = node.op == "call_function" and all(source in found for source in node.all_input_nodes)
        if node.op == "get_attr" or computed:
            found.add(node)
    return found


def _tensors(value: Any) -> list[Tensor]:
    from torch import Tensor

    return [x for x in (value if isinstance(value, list | tuple) else [value]) if isinstance(x, Tensor)]
