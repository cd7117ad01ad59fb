"""What an ONNX file costs, counted from its graph: whoever wrote it, and whatever its metadata says.

The sizes of the tensors are read off a run in onnxruntime, so that they are those that really occur.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import inliner

from shrinkspeech.errors import InputError
from shrinkspeech.export.onnx_file import (
    Example,
    Shape,
    batch_size,
    example_shapes,
    first_line,
    metadata,
    open_session,
    random_feed,
    read_model,
)

Sizes = Mapping[str, Shape]


@dataclass(frozen=True)
class OnnxCost:
    """The cost of an ONNX graph.

    Attributes:
        flops: FLOP/s (2 × multiply-accumulates) of the contractions, for each second of one item's audio.
        nodes: the same for each node that was counted, by node name.
        transforms: FLOP/s of Fourier transforms (5/2 · n · log2 n a frame), which ``flops`` leaves out.
        parameters: elements of the floating-point and 8-bit constants that the file holds.
        bytes: size of the file.
        uncounted: operators that might cost something and are not counted, with how often each occurs.
        shapes: shapes of the inputs that this holds for, by name.
        seconds: audio of one item of them, in s.
    """

    flops: float
    nodes: Mapping[str, float]
    transforms: float
    parameters: int
    bytes: int
    uncounted: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    seconds: float = 1.0


def onnx_flops(path: str | Path, seconds: float | None = None, example: Example | None = None) -> OnnxCost:
    """Count the operations, parameters and bytes of an ONNX file.

    Args:
        seconds: audio that one item of the example batch holds, in s; from the file's metadata if not given.
        example: shapes of the inputs; from the file's metadata if not given, or as fixed in the graph.

    Raises:
        InputError: the file is not ONNX, or neither it nor the arguments say sizes and seconds.
    """
    model = read_model(path)
    seconds = _seconds(model, path, seconds)
    shapes = example_shapes(model, example)
    scale = 1.0 / (seconds * batch_size(model, shapes))
    flat = inliner.inline_local_functions(model)
    named = _named_nodes(flat)
    sizes = _run_for_shapes(flat, named, shapes)
    counted = {name: COUNTS[node.op_type](node, sizes) * scale for name, node in named.items() if _known(node, COUNTS)}
    return OnnxCost(
        flops=sum(counted.values()),
        nodes=counted,
        transforms=sum(
            TRANSFORMS[node.op_type](node, sizes) * scale for node in named.values() if _known(node, TRANSFORMS)
        ),
        parameters=parameters(model),
        bytes=Path(path).stat().st_size,
        uncounted=dict(Counter(_uncounted(flat.graph.node))),
        shapes=shapes,
        seconds=seconds,
    )


def _seconds(model: onnx.ModelProto, path: str | Path, given: float | None) -> float:
    text = metadata(model).get("seconds") if given is None else str(given)
    if text is None:
        raise InputError(f"{path} does not say how many seconds of audio its example holds: give --seconds")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise InputError(f"the seconds of audio in the example must be a number above 0, not '{text}' (--seconds)")
    return seconds


def _named_nodes(model: onnx.ModelProto) -> dict[str, Any]:
    """Nodes of the main graph under unique names."""
    named: dict[str, Any] = {}
    for index, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        named[name if name not in named else f"{name}#{index}"] = node
    return named


def _run_for_shapes(model: onnx.ModelProto, named: Mapping[str, Any], shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes of every tensor that a counted node reads or writes."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    nodes = [node for node in named.values() if _known(node, COUNTS) or _known(node, TRANSFORMS)]
    wanted = {name for node in nodes for name in (*node.input, *node.output) if name}
    sizes |= shapes
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    present = {value.name for value in model.graph.output}
    made = {name for node in model.graph.node for name in node.output}
    extra = sorted((wanted & made) - present - sizes.keys())
    exposed.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in extra)
    session = open_session(exposed, optimise=False)
    names = [value.name for value in session.get_outputs() if value.name in wanted]
    try:
        values = session.run(names, random_feed(model, shapes)) if names else []
    except Exception as error:  # onnxruntime has an exception class for each status code
        raise InputError(f"onnxruntime cannot run the model on {dict(shapes)}: {first_line(error)}") from error
    return sizes | {name: tuple(value.shape) for name, value in zip(names, values, strict=True)}


def _conv(weight_at: int) -> Callable[[Any, Sizes], float]:
    """Every output meets the input channels of its group under the whole kernel; the weight is ``[O, I/g, k…]``."""
    return lambda node, sizes: 2.0 * math.prod(sizes[node.output[0]]) * math.prod(sizes[node.input[weight_at]][1:])


def _conv_transpose(node: Any, sizes: Sizes) -> float:
    """Every input meets the output channels of its group under the whole kernel; the weight is ``[I, O/g, k…]``."""
    return 2.0 * math.prod(sizes[node.input[0]]) * math.prod(sizes[node.input[1]][1:])


def _matmul(node: Any, sizes: Sizes) -> float:
    return 2.0 * math.prod(sizes[node.output[0]]) * sizes[node.input[0]][-1]


def _gemm(node: Any, sizes: Sizes) -> float:
    depth = sizes[node.input[0]][0 if _attribute(node, "transA", 0) else 1]
    return 2.0 * math.prod(sizes[node.output[0]]) * depth


def _recurrent(node: Any, sizes: Sizes) -> float:
    """X ``[T, B, I]`` or ``[B, T, I]``, W ``[directions, gates · H, I]``, R ``[directions, gates · H, H]``."""
    steps = math.prod(sizes[node.input[0]][:2])
    return 2.0 * steps * (math.prod(sizes[node.input[1]]) + math.prod(sizes[node.input[2]]))


def _attention(node: Any, sizes: Sizes) -> float:
    """Queries against keys and weights against values, over all keys (cached ones too); heads apart or packed."""
    query, key, out = sizes[node.input[0]], sizes[node.input[1]], sizes[node.output[0]]
    keys = key[-2]
    if len(node.input) > 4 and node.input[4]:
        keys += sizes[node.input[4]][-2]
    return 2.0 * keys * (math.prod(query) + math.prod(out))


def _einsum(node: Any, sizes: Sizes) -> float:
    """Operands from left to right; a letter is dropped as soon as nothing after needs it."""
    equation = _attribute(node, "equation", b"").decode().replace(" ", "")
    left, arrow, out = equation.partition("->")
    shapes = [sizes[name] for name in node.input]
    parts = [_letters(part, len(shape)) for part, shape in zip(left.split(","), shapes, strict=True)]
    extent: dict[str, int] = {}
    for part, shape in zip(parts, shapes, strict=True):
        for letter, size in zip(part, shape, strict=True):
            extent[letter] = max(extent.get(letter, 1), size)
    times = Counter(letter for part in parts for letter in part)
    once = {letter for letter, count in times.items() if count == 1 or letter.startswith(".")}
    kept = set(_letters(out, len(sizes[node.output[0]]))) if arrow else once
    current, total = set(parts[0]), 0.0
    for index, part in enumerate(parts[1:], start=1):
        current |= set(part)
        total += 2.0 * math.prod(extent[letter] for letter in current)
        current &= kept.union(*parts[index + 1 :])
    return total


def _letters(part: str, rank: int) -> list[str]:
    """Letters of one operand; ``...`` becomes ``.1``, ``.2``, … counted from the right."""
    before, dots, after = part.partition("...")
    extra = rank - len(before) - len(after) if dots else 0
    return [*before, *(f".{extra - i}" for i in range(extra)), *after]


def _stft(node: Any, sizes: Sizes) -> float:
    """Frames × 5/2 · n · log2 n; the output is ``[B, frames, bins, 2]``, with half the bins of a real signal or all."""
    batch, frames, bins, _ = sizes[node.output[0]]
    points = 2 * (bins - 1) if _attribute(node, "onesided", 1) else bins
    return 2.5 * batch * frames * points * math.log2(max(points, 2))


def _dft(node: Any, sizes: Sizes) -> float:
    """5/2 · n · log2 n for each transform; of all dimensions but the last, of parts, the one that changes is the signal's."""
    given, found = sizes[node.input[0]], sizes[node.output[0]]
    changed = [i for i in range(len(found) - 1) if given[i] != found[i]]
    axis = changed[0] if changed else _attribute(node, "axis", -2)
    points = max(given[axis], found[axis])
    return 2.5 * math.prod(found[:-1]) / found[axis] * points * math.log2(max(points, 2))


def _attribute(node: Any, name: str, default: Any) -> Any:
    found = next((item for item in node.attribute if item.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)


COUNTS: dict[str, Callable[[Any, Sizes], float]] = {
    "Attention": _attention,
    "Conv": _conv(1),
    "ConvInteger": _conv(1),
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "GRU": _recurrent,
    "Gemm": _gemm,
    "LSTM": _recurrent,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearConv": _conv(3),
    "QLinearMatMul": _matmul,
    "RNN": _recurrent,
}
TRANSFORMS: dict[str, Callable[[Any, Sizes], float]] = {"DFT": _dft, "STFT": _stft}
CONTROL = frozenset({"If", "Loop", "Scan"})
FREE_NAMES = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Bernoulli BitShift
    BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike Ceil Celu CenterCropPad Clip Col2Im
    Compress Concat ConcatFromSequence Constant ConstantOfShape Cos Cosh CumSum DepthToSpace DequantizeLinear Div
    Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu
    GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HammingWindow HannWindow
    HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax LpNormalization LpPool Max MaxPool MaxUnpool Mean MeanVarianceNormalization
    MelWeightMatrix Min Mish Mod Mul Multinomial Neg NonZero Not OneHot Optional OptionalGetElement
    OptionalHasElement Or PRelu Pad Pow QuantizeLinear RMSNormalization RandomNormal RandomNormalLike RandomUniform
    RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RotaryEmbedding Round ScatterElements
    ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength Shape
    Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split SplitToSequence Sqrt
    Squeeze Sub Sum Swish Tan Tanh TensorScatter ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Upsample
    Where Xor
"""
FREE = frozenset(FREE_NAMES.split())
"""Elementwise operators, reductions, norms, pooling and moves: the budget leaves them out."""


def _known(node: Any, names: Iterable[str]) -> bool:
    """Whether a node is one of the standard's operators with these names."""
    return node.domain in ("", "ai.onnx") and node.op_type in names


def _uncounted(nodes: Iterable[Any], inner: bool = False) -> list[str]:
    """Operators that might cost something: any that is not known, and what stands inside control flow."""
    found: list[str] = []
    for node in nodes:
        if _known(node, CONTROL):
            bodies = [item.g.node for item in node.attribute if item.type == onnx.AttributeProto.GRAPH]
            inside = sorted({name for body in bodies for name in _uncounted(body, inner=True)})
            found += [f"{node.op_type} ({', '.join(inside)})"] if inside else []
        elif not _known(node, FREE) and (inner or not (_known(node, COUNTS) or _known(node, TRANSFORMS))):
            found.append(f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type)
    return found


WEIGHTS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "UINT8", "INT4", "UINT4")
WEIGHT_TYPES = frozenset(getattr(onnx.TensorProto, name) for name in WEIGHTS)


def parameters(model: onnx.ModelProto) -> int:
    """Elements of the floating-point and 8-bit (or smaller) constants that the file holds."""
    bodies = [model.graph, *model.functions]
    nodes = [node for body in bodies for node in body.node if _known(node, {"Constant"})]
    constants = [item.t for node in nodes for item in node.attribute if item.name == "value"]
    held = [*model.graph.initializer, *constants]
    return sum(math.prod(tensor.dims) for tensor in held if tensor.data_type in WEIGHT_TYPES)
