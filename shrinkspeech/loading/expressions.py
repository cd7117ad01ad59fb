"""Size expressions and guards, which torch evaluates as text when it reads a program: a grammar in which nothing can run.

torch hands a size such as ``Add(Symbol('s0', integer=True), Integer(-1))`` to sympy's evaluator, and a guard such as
``L['x'].size()[1] >= 2`` to Python's. Both are parsed here first, never evaluated: symbols, numbers, operators and the
functions named below are all there is.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

LONGEST = 50_000
"""Characters; the longest expression of a published model has some thousand."""

LARGEST_EXPONENT = 64
"""Exponents and shifts are plain numbers up to this one: sympy computes powers of numbers at once."""

POWERS = frozenset("Pow PowByNatural FloatPow LShift RShift".split())
SIZE_FUNCTIONS = POWERS | frozenset(
    """Integer Rational Add Mul Mod Abs Max Min floor ceiling Piecewise ExprCondPair
    Eq Ne Lt Le Gt Ge Equality Unequality LessThan StrictLessThan GreaterThan StrictGreaterThan And Or Not
    FloorDiv ModularIndexing Where PythonMod CleanDiv CeilDiv CeilToInt FloorToInt FloatTrueDiv IntTrueDiv
    IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt RoundDecimal ToFloat Identity""".split()
)
"""What sympy and ``torch.utils._sympy.functions`` make sizes of; ``Symbol`` and ``Float`` have rules of their own."""

OPAQUE = re.compile(r"OpaqueUnaryFn_(sqrt|cosh?|sinh?|tanh?|acos|asinh?|atan|exp|log2?)")
"""torch's names for functions of one number, which sympy takes for functions that it does not know."""

CONSTANTS = frozenset("oo int_oo nan pi E true false".split())
SYMBOL = re.compile(r"[a-z]+\d+(_\d+)?")
GUARD_FUNCTIONS = frozenset("min max abs int float round".split())
GUARD_METHODS = frozenset("size stride storage_offset".split())
MATHS = frozenset(
    "math.floor math.ceil math.trunc math.isnan math.cos math.cosh math.acos math.sin math.sinh math.asin math.tan "
    "math.tanh math.atan math.exp math.log math.log2 math.sqrt torch.sym_float torch.sym_int torch.sym_max "
    "torch.sym_min torch.sym_not torch.sym_ite torch._sym_sqrt".split()
)
MATHS_CONSTANTS = frozenset("math.inf math.nan math.pi math.e".split())

_CHARACTERS = re.compile(r"[A-Za-z0-9_+\-*/%(),.<>=!&|~'\[\] ]+")
_HUGE = re.compile(r"\d{20}|[eE][+-]?\d{4}")
_DECIMAL = re.compile(r"[+-]?[0-9.]+(e[+-]?\d{1,3})?")
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr)
_SIGNS = (ast.USub, ast.UAdd, ast.Not, ast.Invert)
_RELATIONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def is_size(text: str) -> bool:
    """Whether ``text`` is a size as torch writes it; then evaluating it computes a number or a symbol, and nothing else."""
    return _parsed(text, _Grammar(_size_call, _size_leaf))


def is_guard(text: str) -> bool:
    """Whether ``text`` is a guard on the sizes of inputs as torch writes it; then evaluating it compares, and nothing else."""
    return _parsed(text, _Grammar(_guard_call, _guard_leaf))


def is_word(text: str) -> bool:
    """Whether ``text`` is one Python name that reaches no internals: the names of nodes, arguments and symbols."""
    return text.isidentifier() and not text.startswith("__")


@dataclass(frozen=True)
class _Grammar:
    """Numbers and operators, with the calls and the leaves that one kind of text may hold besides."""

    call: Callable[[ast.Call], list[ast.expr] | None]
    leaf: Callable[[ast.expr], bool]

    def holds(self, node: ast.expr) -> bool:
        match node:
            case ast.Constant(value=bool() | int() | float()):
                return True
            case ast.BinOp():
                small = not isinstance(node.op, ast.Pow) or _is_small(node.right)
                return small and isinstance(node.op, _OPERATORS) and self.holds(node.left) and self.holds(node.right)
            case ast.UnaryOp():
                return isinstance(node.op, _SIGNS) and self.holds(node.operand)
            case ast.BoolOp():
                return all(self.holds(value) for value in node.values)
            case ast.IfExp():
                return all(self.holds(value) for value in (node.test, node.body, node.orelse))
            case ast.Compare():
                known = all(isinstance(relation, _RELATIONS) for relation in node.ops)
                return known and all(self.holds(value) for value in (node.left, *node.comparators))
            case ast.Tuple():
                return all(self.holds(value) for value in node.elts)
            case ast.Call():
                arguments = self.call(node)
                return self.leaf(node) if arguments is None else all(self.holds(value) for value in arguments)
        return self.leaf(node)


def _parsed(text: str, grammar: _Grammar) -> bool:
    if not isinstance(text, str) or len(text) > LONGEST or not _CHARACTERS.fullmatch(text) or _HUGE.search(text):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return grammar.holds(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_small(node: ast.expr) -> bool:
    """Whether an exponent is a plain number, such as ``2``, ``-1``, ``Integer(2)`` or ``Rational(1, 2)``."""
    match node:
        case ast.Constant(value=bool() | int() | float()):
            return abs(node.value) <= LARGEST_EXPONENT  # type: ignore[arg-type]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            return _is_small(node.operand)
        case ast.Call(func=ast.Name(id="Integer" | "Rational"), keywords=[]):
            return all(_is_small(value) for value in node.args)
    return False


def _size_call(node: ast.Call) -> list[ast.expr] | None:
    """The arguments of a call of a named function; None where it is none."""
    if not isinstance(node.func, ast.Name) or node.keywords:
        return None
    name = node.func.id
    if name in POWERS and not (len(node.args) == 2 and _is_small(node.args[1])):
        return None
    return node.args if name in SIZE_FUNCTIONS or OPAQUE.fullmatch(name) else None


def _size_leaf(node: ast.expr) -> bool:
    """A symbol or number with its own way of being written: ``s0``, ``Symbol('s0', integer=True)``, ``Float('0.5')``."""
    match node:
        case ast.Name():
            return node.id in CONSTANTS or SYMBOL.fullmatch(node.id) is not None
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))]):
            return is_word(name) and all(
                isinstance(k.value, ast.Constant) and isinstance(k.value.value, bool) for k in node.keywords
            )
        case ast.Call(func=ast.Name(id="Float"), args=[ast.Constant(value=str(digits))]):
            return bool(_DECIMAL.fullmatch(digits)) and all(
                k.arg == "precision" and isinstance(k.value, ast.Constant) and k.value.value == 53
                for k in node.keywords
            )
    return False


def _guard_call(node: ast.Call) -> list[ast.expr] | None:
    """The arguments of ``max(…)``, ``math.ceil(…)`` and their like; None where it is none."""
    named = isinstance(node.func, ast.Name) and node.func.id in GUARD_FUNCTIONS
    return node.args if (named or _dotted(node.func) in MATHS) and not node.keywords else None


def _guard_leaf(node: ast.expr) -> bool:
    """An input or a size of it, ``L['x'].size()[1]``, or a constant of ``math``."""
    match node:
        case ast.Name(id="L"):
            return True
        case ast.Subscript(slice=ast.Constant(value=key)):
            return _is_key(key) and _guard_leaf(node.value)
        case ast.Call(func=ast.Attribute(value=source, attr=method), args=[], keywords=[]):
            return method in GUARD_METHODS and _guard_leaf(source)
    return _dotted(node) in MATHS_CONSTANTS


def _is_key(key: object) -> bool:
    return isinstance(key, int) or (isinstance(key, str) and (is_word(key) or key.isdigit()))


def _dotted(node: ast.expr) -> str:
    """``math.inf`` of an attribute of a module; empty for anything else."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""
