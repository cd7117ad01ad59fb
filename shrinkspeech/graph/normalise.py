"""Clean-up of a captured graph, so that later stages see fewer forms. What the graph computes stays the same.

One pass a function; each takes a ``GraphModule`` and changes it in place. ``normalise`` runs them all.
"""

from __future__ import annotations

import math
import operator
from typing import Any, cast

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from shrinkspeech.graph.assignments import write_assignments
from shrinkspeech.graph.common_forms import use_common_forms
from shrinkspeech.graph.inplace import mutates, use_pure_forms
from shrinkspeech.graph.modes import is_recurrent
from shrinkspeech.graph.regions import WITHOUT_GRADIENT, inline_regions, replace_results

aten = torch.ops.aten


def normalise(graph_module: fx.GraphModule) -> None:
    """Every pass in order, then dead code is removed."""
    inline_regions(graph_module)
    drop_guards(graph_module)
    use_pure_forms(graph_module)
    use_common_forms(graph_module)
    write_assignments(graph_module)
    merge_attributes(graph_module)
    name_sizes(graph_module)
    loosen_views(graph_module)
    split_recurrent(graph_module)
    remove_dead(graph_module.graph)
    graph_module.graph.lint()
    graph_module.recompile()


def remove_dead(graph: fx.Graph) -> None:
    """Remove what nobody reads; attention and dropout draw random numbers, which keeps nothing alive here."""
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output") or mutates(node))


ASSERTIONS = (aten._assert_tensor_metadata.default, aten._assert_async.msg, aten._assert_scalar.default)


def drop_guards(graph_module: fx.GraphModule) -> None:
    """Guards on input sizes and assertions compute nothing."""
    graph = graph_module.graph
    for node in reversed(list(graph.nodes)):
        guard = node.op == "call_module" and node.target == "_guards_fn"
        if guard or (node.op == "call_function" and node.target in ASSERTIONS):
            graph.erase_node(node)
    if hasattr(graph_module, "_guards_fn"):
        delattr(graph_module, "_guards_fn")


def merge_attributes(graph_module: fx.GraphModule) -> None:
    """One node for each parameter, buffer and constant."""
    first: dict[str, fx.Node] = {}
    for node in list(graph_module.graph.nodes):
        if node.op == "get_attr":
            known = first.setdefault(str(node.target), node)
            if known is not node:
                node.replace_all_uses_with(known)
                graph_module.graph.erase_node(node)


PARTED = (aten.chunk.default, aten.split.Tensor)
"""Operators that cut a tensor into parts whose sizes they leave unsaid."""

TRANSFORMS: dict[Any, Any] = {
    **dict.fromkeys((aten.fft_rfft2.default, aten.fft_rfftn.default), aten.fft_rfft.default),
    **dict.fromkeys((aten.fft_irfft2.default, aten.fft_irfftn.default), aten.fft_irfft.default),
    **dict.fromkeys((aten.fft_fft2.default, aten.fft_fftn.default), aten.fft_fft.default),
    **dict.fromkeys((aten.fft_ifft2.default, aten.fft_ifftn.default), aten.fft_ifft.default),
}
"""Fourier transforms over several axes, with those over one."""

WINDOWED = (aten.stft.default, aten.stft.center, aten.istft.default)
"""Transforms of frames, which torch warns about on stderr where no window is given."""


def name_sizes(graph_module: fx.GraphModule) -> None:
    """Say what an operator leaves implicit: the parts of a chunk, the squeezed axes, the scale of attention."""
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in PARTED:
            _name_parts(node)
        elif node.target is aten.squeeze.default:
            node.target, node.args = aten.squeeze.dims, (node.args[0], list(range(len(_shape(node.args[0])))))
            _name_squeezed(node)
        elif node.target in (aten.squeeze.dim, aten.squeeze.dims):
            _name_squeezed(node)
        elif node.target in TRANSFORMS:
            _name_transform(node)
        elif node.target in WINDOWED:
            _name_window(node)
        elif node.target is aten.scaled_dot_product_attention.default and node.kwargs.get("scale") is None:
            node.kwargs = {**node.kwargs, "scale": 1.0 / math.sqrt(_shape(node.args[0])[-1])}


def _name_transform(node: fx.Node) -> None:
    """A transform over one axis among those over several is what it is."""
    names = [argument.name for argument in cast("Any", node.target)._schema.arguments]
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    dims, sizes = given.get("dim"), given.get("s") or [None]
    dims = [dims] if isinstance(dims, int) else dims
    if dims is not None and len(dims) == 1 and len(sizes) == 1:
        node.target = TRANSFORMS[node.target]
        node.args, node.kwargs = (given["self"], sizes[0], dims[0]), {"norm": given.get("norm")}


def _name_window(node: fx.Node) -> None:
    """Ones are the window where none is given."""
    names = [argument.name for argument in cast("Any", node.target)._schema.arguments]
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    value = cast("Any", given["self"]).meta.get("val")
    if given.get("window") is not None or value is None:
        return
    dtype = value.dtype.to_real()
    with node.graph.inserting_before(node):
        window = node.graph.call_function(
            aten.ones.default, ([given.get("win_length") or given["n_fft"]],), {"dtype": dtype}
        )
    window.meta = {key: node.meta[key] for key in ("nn_module_stack", "stack_trace") if key in node.meta}
    place = names.index("window")
    if len(node.args) > place:
        node.update_arg(place, window)
    else:
        node.update_kwarg("window", window)


def _name_squeezed(node: fx.Node) -> None:
    """Only the axes that are squeezed: one of several elements stays, also where slicing leaves it just one.

    A dynamic size is never 1 where the graph was traced; the tracer squeezes only what it knows to be 1.
    """
    shape, given = _shape(node.args[0]), cast("int | list[int]", node.args[1])
    dims = [dim % len(shape) for dim in ([given] if isinstance(given, int) else given)] if shape else []
    dims = [dim for dim in dims if is_concrete_int(shape[dim]) and shape[dim] == 1]
    if dims and node.target is aten.squeeze.dims:
        node.args = (node.args[0], dims)
    elif not dims:
        _drop(node, node)


def _drop(node: fx.Node, result: fx.Node) -> None:
    """Use the input of ``node`` in place of a result that is the same."""
    result.replace_all_uses_with(cast("fx.Node", node.args[0]))
    node.graph.erase_node(result)


MOVED = frozenset((aten.transpose.int, aten.permute.default, aten.t.default, aten.mT.default, aten.swapaxes.default))


def loosen_views(graph_module: fx.GraphModule) -> None:
    """A view of transposed memory may copy: whether it has to depends on strides, which attention kernels choose by width."""
    for node in graph_module.graph.nodes:
        if node.target is aten.view.default and isinstance(node.args[0], fx.Node) and node.args[0].target in MOVED:
            node.target = aten.reshape.default


def own_memory(graph_module: fx.GraphModule) -> None:
    """For ONNX, which knows no strides: what may be copied is. The exporter drops copies that look needless by the
    strides of one attention kernel, and then decomposes attention into operators that leave others."""
    contiguous: dict[str, Any] = {"memory_format": torch.contiguous_format}
    for node in list(graph_module.graph.nodes):
        if node.target is aten.contiguous.default:
            node.target, node.args, node.kwargs = aten.clone.default, node.args[:1], contiguous
        elif node.target is aten.reshape.default and isinstance(node.args[0], fx.Node) and node.args[0].target in MOVED:
            with graph_module.graph.inserting_before(node):
                node.update_arg(0, graph_module.graph.call_function(aten.clone.default, node.args[:1], contiguous))
    graph_module.recompile()


def _name_parts(node: fx.Node) -> None:
    dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    sizes = [value.shape[dim] for value in node.meta.get("val", ())]
    if len(sizes) == 1:  # ONNX has no list of one part
        for part in list(node.users):
            _drop(node, part)
        return
    if sizes and all(is_concrete_int(size) for size in sizes):
        into_parts(node, [*map(int, sizes)], dim)


def into_parts(node: fx.Node, sizes: list[int], dim: Any) -> None:
    """Let an operator that cuts a tensor into parts say how large they are."""
    node.target, node.args, node.kwargs = aten.split_with_sizes.default, (node.args[0], sizes, dim), {}


def _shape(node: Any) -> tuple[Any, ...]:
    return tuple(node.meta["val"].shape)


def split_recurrent(graph_module: fx.GraphModule) -> None:
    """A fused recurrent layer becomes one call for each layer and direction, so that each can have its own width."""
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and is_recurrent(node.target):
            _Splitter(graph_module.graph, node).run()


PLACE = ("nn_module_stack", "stack_trace", WITHOUT_GRADIENT)
"""What a node that takes another's place has of its ``meta``."""


class _Splitter:
    def __init__(self, graph: fx.Graph, node: fx.Node) -> None:
        self.graph, self.node = graph, node
        arguments: Any = node.args
        states: Any
        params: Any
        _, states, params, self.biases, self.layers, self.dropout, self.train, both, self.batch_first = arguments
        self.params, self.directions = list(params), 2 if both else 1
        self.states = list(states) if isinstance(states, list | tuple) else [states]
        self.several = isinstance(states, list | tuple)

    def call(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        node = self.graph.call_function(target, args, kwargs)
        node.meta = {key: self.node.meta[key] for key in PLACE if key in self.node.meta}
        return node

    def run(self) -> None:
        if self.layers * self.directions == 1:
            return
        each = len(self.params) // (self.layers * self.directions)
        x, finals = self.node.args[0], []
        with self.graph.inserting_before(self.node):
            for layer in range(self.layers):
                outputs = []
                for direction in range(self.directions):
                    index = layer * self.directions + direction
                    out, final = self.single(x, index, self.params[index * each : (index + 1) * each], direction == 1)
                    outputs.append(out)
                    finals.append(final)
                x = outputs[0] if len(outputs) == 1 else self.call(aten.cat.default, outputs, 2)
                if self.dropout and layer < self.layers - 1:
                    x = self.call(aten.dropout.default, x, self.dropout, self.train)
            results = [x, *(self.joined(finals, i) for i in range(len(self.states)))]
        replace_results(self.graph, self.node, results)

    def joined(self, finals: list[list[fx.Node]], which: int) -> fx.Node | None:
        """The final states of all layers and directions, if anybody asks for them."""
        if not any(user.args[1] == which + 1 for user in self.node.users):
            return None
        return self.call(aten.cat.default, [final[which] for final in finals], 0)

    def single(self, x: Any, index: int, params: list[Any], backwards: bool) -> tuple[fx.Node, list[fx.Node]]:
        """One layer in one direction: (output, final states)."""
        time = 1 if self.batch_first else 0
        states = [self.state(state, index) for state in self.states]
        source = self.call(aten.flip.default, x, [time]) if backwards else x
        given = states if self.several else states[0]
        fused = self.call(
            self.node.target, source, given, params, self.biases, 1, 0.0, self.train, False, self.batch_first
        )
        out = self.call(operator.getitem, fused, 0)
        finals = [self.call(operator.getitem, fused, 1 + i) for i in range(len(states))]
        return (self.call(aten.flip.default, out, [time]) if backwards else out), finals

    def state(self, state: fx.Node, index: int) -> fx.Node:
        """The initial state of one layer: zeros are made anew, anything else is sliced."""
        if state.target is aten.zeros.default:
            sizes: Any = state.args[0]
            return self.call(aten.zeros.default, [1, *sizes[1:]], **dict(state.kwargs))
        return self.call(aten.slice.Tensor, state, 0, index, index + 1)
