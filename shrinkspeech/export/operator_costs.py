"""What each standard ONNX operator costs, by the sizes of the tensors that it reads and writes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import onnx

from shrinkspeech.export.onnx_file import Shape
from shrinkspeech.graph.fourier import transform_cost

Sizes = Mapping[str, Shape]


def _conv(weight_at: int) -> Callable[[Any, Sizes], float]:
    """Every output meets the input channels of its group under the whole kernel; the weight is ``[O, I/g, k…]``."""
    return lambda node, sizes: 2.0 * math.prod(sizes[node.output[0]]) * math.prod(sizes[node.input[weight_at]][1:])


def _conv_transpose(node: Any, sizes: Sizes) -> float:
    """Every input meets the output channels of its group under the whole kernel; the weight is ``[I, O/g, k…]``."""
    return 2.0 * math.prod(sizes[node.input[0]]) * math.prod(sizes[node.input[1]][1:])


def _matmul(node: Any, sizes: Sizes) -> float:
    return 2.0 * math.prod(sizes[node.output[0]]) * sizes[node.input[0]][-1]


def _gemm(node: Any, sizes: Sizes) -> float:
    depth = sizes[node.input[0]][0 if attribute(node, "transA", 0) else 1]
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
    equation = attribute(node, "equation", b"").decode().replace(" ", "")
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
    """Frames × 5/2 · n · log2 n; the output is ``[B, frames, bins, 2]``, with half the bins of a real signal or all.

    So many bins have two numbers of points: an odd one is told by a window of its length.
    """
    batch, frames, bins, _ = sizes[node.output[0]]
    onesided = attribute(node, "onesided", 1)
    window = sizes[node.input[2]] if len(node.input) > 2 and node.input[2] else ()
    odd = window == (2 * bins - 1,)
    points = (2 * bins - 1 if odd else 2 * bins - 2) if onesided else bins
    return batch * frames * transform_cost(points)


def _dft(node: Any, sizes: Sizes) -> float:
    """5/2 · n · log2 n for each transform; of all dimensions but the last, of parts, the one that changes is the signal's."""
    given, found = sizes[node.input[0]], sizes[node.output[0]]
    changed = [i for i in range(len(found) - 1) if given[i] != found[i]]
    axis = changed[0] if changed else attribute(node, "axis", -2)
    points = max(given[axis], found[axis])
    return math.prod(found[:-1]) / found[axis] * transform_cost(points)


def attribute(node: Any, name: str, default: Any) -> Any:
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
