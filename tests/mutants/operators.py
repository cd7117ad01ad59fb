"""What a fault can be: mutmut's changes of single nodes, and four of our own.

Left out of mutmut's are those that break whatever runs them (an argument or a value replaced by None): they would be killed by
any test that passes by, and raise the share of the killed without saying anything. Texts for people are no target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import libcst as cst
import libcst.matchers as m
from mutmut.mutation import mutators

Change = Callable[[Any], Iterable[cst.CSTNode]]

PAIRS = (("min", "max"), ("any", "all"), ("ceil", "floor"), ("clamp_min", "clamp_max"))
SWAPS = {**dict(PAIRS), **{b: a for a, b in PAIRS}}
"""Functions and methods that are taken for each other."""

ALIKE = set(
    "abs all any ceil clamp clamp_max clamp_min cumsum detach double eval exp flatten float floor log lower mean movedim "
    "requires_grad_ reshape reversed round rsqrt sort sorted sqrt square strip sum train transpose unsqueeze upper".split()
)
"""Methods without which an expression still is what its surroundings can go on with."""

OPTIONAL = {"get", "arg", "sum", "mean", "flatten", "all", "any", "getattr", "range", "sorted"}
"""Functions and methods that can do without their last argument."""

MODULES = {"torch", "math", "np"}
"""Names whose functions are no methods."""


def _name(node: cst.Call) -> str:
    name = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
    return name.value if isinstance(name, cst.Name) else ""


def text(node: cst.SimpleString) -> Iterator[cst.CSTNode]:
    """Words that the program reads, not those that people do: one word, or an equation."""
    value = node.value.strip("'\"")
    if value and (" " not in value or "->" in value):
        yield from list(mutators.operator_string(node))[:1]


def fewer_arguments(node: cst.Call) -> Iterator[cst.CSTNode]:
    """A call without one of its arguments where something else stands in for it: a default, or all there is."""
    gone = [arg for arg in node.args if arg.keyword is not None and arg.keyword.value != "strict"]
    if _name(node) in OPTIONAL and (len(node.args) > 1 or isinstance(node.func, cst.Attribute)):
        gone += [arg for arg in node.args[-1:] if arg.keyword is None and not arg.star]
    for arg in gone:
        yield node.with_changes(args=[other for other in node.args if other is not arg])


def drop(node: cst.SimpleStatementLine) -> Iterator[cst.CSTNode]:
    """A statement that is there for its effect alone is left out."""
    [*others, last] = node.body
    effect = m.Expr(value=m.Call()) | m.AugAssign() | m.Assign(targets=[m.AssignTarget(m.Attribute() | m.Subscript())])
    if not others and m.matches(last, effect):
        yield node.with_changes(body=[cst.Pass()])


def negate(node: cst.If | cst.While | cst.CompIf) -> Iterator[cst.CSTNode]:
    """A condition the other way round, where no other change says the same."""
    same = m.UnaryOperation(operator=m.Not()) | m.Comparison(
        comparisons=[m.ComparisonTarget(operator=m.Equal() | m.NotEqual() | m.In() | m.NotIn() | m.Is() | m.IsNot())]
    )
    if not m.matches(node.test, same):
        inner = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        yield node.with_changes(test=cst.UnaryOperation(cst.Not(), inner))


def unwrap(node: cst.Call) -> Iterator[cst.CSTNode]:
    """``x.f()`` becomes ``x``."""
    if isinstance(node.func, cst.Attribute) and _name(node) in ALIKE:
        owner = node.func.value
        if not (isinstance(owner, cst.Name) and owner.value in MODULES) and not m.matches(
            owner, m.Call(m.Name("super"))
        ):
            yield owner


def swap(node: cst.Call) -> Iterator[cst.CSTNode]:
    """``min`` for ``max``, and the like."""
    if _name(node) in SWAPS:
        name = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
        yield node.with_deep_changes(name, value=SWAPS[_name(node)])


OPERATORS: dict[str, tuple[type | tuple[type, ...], Change]] = {
    "number": (cst.BaseNumber, mutators.operator_number),
    "text": (cst.SimpleString, text),
    "name": (cst.Name, mutators.operator_name),
    "plain assignment": (cst.AugAssign, mutators.operator_augmented_assignment),
    "no negation": (cst.UnaryOperation, mutators.operator_remove_unary_ops),
    "fewer arguments": (cst.Call, fewer_arguments),
    "other method": (cst.Call, mutators.operator_symmetric_string_methods_swap),
    "other keyword": (cst.CSTNode, mutators.operator_keywords),
    "other operator": (cst.CSTNode, mutators.operator_swap_op),
    "fewer cases": (cst.Match, mutators.operator_match),
    "one branch": (cst.IfExp, mutators.operator_if_exp),
    "no statement": (cst.SimpleStatementLine, drop),
    "negation": ((cst.If, cst.While, cst.CompIf), negate),
    "no call": (cst.Call, unwrap),
    "other function": (cst.Call, swap),
}
"""Each kind of fault: the nodes that it applies to, and what becomes of one."""
