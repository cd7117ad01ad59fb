"""What a budget limits: FLOP/s, parameters, bytes or time. An objective is a polynomial in the widths, a name and a unit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from shrinkspeech.budget.widths import Budget, human, parse_budget
from shrinkspeech.errors import BudgetError
from shrinkspeech.graph.captured import Captured
from shrinkspeech.groups.cost import ONE, ZERO, Polynomial, count, polynomial
from shrinkspeech.groups.groups import Groups


@dataclass(frozen=True)
class Quantity:
    """Something that a budget can limit: its name in options, its unit, and the units it may be written in."""

    name: str
    unit: str
    units: Mapping[str, float]
    example: str

    def text(self, amount: float) -> str:
        """``24.4M FLOP/s``, ``50k parameters``, ``300 kB``, ``2 ms``."""
        if self.unit == "s":
            power = 0 if amount >= 1 else 3 if amount >= 1e-3 else 6
            return f"{amount * 10**power:.3g} {['s', 'ms', 'µs'][power // 3]}"
        if self.unit != "bytes":
            return f"{human(amount)} {self.unit}"
        number = human(amount)
        return f"{number[:-1]} {number[-1]}B" if number[-1].isalpha() else f"{number} B"

    def parse(self, text: str | float) -> Budget:
        """Read a share (``25%``, ``0.25x``) or an amount in this quantity's units.

        Raises:
            BudgetError: it is neither, or not positive.
        """
        if self.unit in ("FLOP/s", "parameters"):
            return parse_budget(text)
        given = str(text).strip()
        found = re.fullmatch(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(%|x|[a-zA-Zµ]*)", given)
        if not found or float(found[1]) <= 0 or found[2] not in {"%", "x", *self.units}:
            raise BudgetError(
                f"cannot read the target '{given}': write a share (25% or 0.25x) or an amount ({self.example})"
            )
        if found[2] in ("%", "x"):
            return parse_budget(given)
        return Budget(given, float(found[1]) * self.units[found[2]], False)


FLOPS = Quantity("flops", "FLOP/s", {}, "600k, 1.2M")
PARAMS = Quantity("params", "parameters", {}, "50k, 1.2M")
SIZE = Quantity("size", "bytes", {"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9}, "300kB, 1.2MB")
LATENCY = Quantity("latency", "s", {"s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}, "2ms, 0.002s")
QUANTITIES = {quantity.name: quantity for quantity in (FLOPS, PARAMS, SIZE, LATENCY)}


@dataclass(frozen=True)
class Target:
    """A budget as the user gave it: of what, and how much."""

    quantity: Quantity
    budget: Budget

    def __str__(self) -> str:
        return self.budget.text if self.quantity is FLOPS else f"{self.budget.text} of {self.quantity.name}"


def only_target(**given: str | float | None) -> Target:
    """The one target among ``flops``, ``params``, ``size`` and ``latency``; the others are None.

    Raises:
        BudgetError: there is none, or more than one, or it cannot be read.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) != 1:
        raise BudgetError("give exactly one target: FLOP/s, parameters, size or latency (such as --target-flops 25%)")
    [(name, text)] = chosen.items()
    return Target(QUANTITIES[name], QUANTITIES[name].parse(text))


@dataclass(frozen=True)
class Objective:
    """What a fit holds to a budget.

    Attributes:
        cost: the quantity as a polynomial in the widths; for a latency a model of it.
        original: of the whole model.
        measure: the quantity of a sliced model, where the polynomial is only near it; None where it is exact.
    """

    quantity: Quantity
    cost: Polynomial
    original: float
    measure: Callable[[Captured], float] | None = None

    def resolve(self, target: Target) -> float:
        """The budget as an amount.

        Raises:
            BudgetError: it is above what the original has.
        """
        return target.budget.resolve(self.original, self.quantity.text)


def objective_for(quantity: Quantity, captured: Captured, groups: Groups, seconds: float) -> Objective:
    """The objective of a quantity for one model.

    Raises:
        ExportError: a size or latency is wanted of a model that cannot be written as ONNX.
    """
    full = {group.name: group.size for group in groups}
    if quantity is FLOPS:
        cost = count(captured, groups, seconds)
        return Objective(FLOPS, cost.total, cost.original)
    if quantity is PARAMS:
        elements = tensor_elements(captured, groups, dict(captured.graph_module.named_parameters()))
        return Objective(PARAMS, elements, elements.at(full))
    if quantity is SIZE:
        return _size(captured, groups, full)
    from shrinkspeech.budget.latency import latency_objective

    return latency_objective(captured, groups)


def tensor_elements(captured: Captured, groups: Groups, tensors: Mapping[str, Tensor]) -> Polynomial:
    """Elements of tensors as a polynomial in the widths; one under several names counts once."""
    axes = {
        id(tensor): groups.parameters[name]
        for name, tensor in captured.parameters().items()
        if name in groups.parameters
    }
    total = ZERO
    for tensor in {id(tensor): tensor for tensor in tensors.values()}.values():
        part = ONE
        if id(tensor) in axes:
            for axis in axes[id(tensor)]:
                part = part * polynomial(axis, groups)
        else:
            part = part.scale(tensor.numel())
        total = total + part
    return total


def _size(captured: Captured, groups: Groups, full: Mapping[str, int]) -> Objective:
    """Bytes of the weights in the ONNX file: those of the graph's tensors, and what the export adds or folds away."""
    read = {str(node.target) for node in captured.graph_module.graph.nodes if node.op == "get_attr"}
    tensors = {
        name: tensor for name, tensor in captured.parameters().items() if name in read and tensor.is_floating_point()
    }
    elements = tensor_elements(captured, groups, tensors).scale(4.0)
    original = onnx_bytes(captured)
    added = Polynomial({(): original - elements.at(full)})
    return Objective(SIZE, elements + added, original, onnx_bytes)


def onnx_bytes(captured: Captured) -> float:
    """Bytes of the weights, as float32, in the ONNX file of a model."""
    import onnx_ir

    from shrinkspeech.export.constants import parameters
    from shrinkspeech.export.onnx_graph import onnx_model

    return 4.0 * parameters(onnx_ir.to_proto(onnx_model(captured)))


def settled(cost: Polynomial, known: Mapping[str, float]) -> Polynomial:
    """The polynomial with numbers in the place of some widths."""
    result: dict[tuple[str, ...], float] = {}
    for key, value in cost.terms.items():
        rest = tuple(name for name in key if name not in known)
        factor = math.prod(known[name] for name in key if name in known)
        result[rest] = result.get(rest, 0.0) + value * factor
    return Polynomial(result)
