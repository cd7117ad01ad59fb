"""What a program of ``torch.export`` says, entry by entry: each string, number and key is of the kind that torch expects there.

torch reads the JSON of a program without looking at types. Strings from it are evaluated (sizes, guards), looked up by name
(operators, types of structures) or written into generated Python (names of nodes, arguments, parameters), so that a program
which holds anything else in one of these places runs code. The walk below goes over the records that torch itself makes of the
JSON; a string in a place that has no rule here is refused.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import types
import typing
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Annotated, Any

from shrinkspeech.loading import operators
from shrinkspeech.loading.expressions import is_guard, is_size, is_word

Rule = Callable[[str], str]
"""Names what is wrong with a string, as the end of a sentence; empty where nothing is."""


def faults(record: Any) -> Iterator[str]:
    """What in a record of ``torch._export.serde.schema`` could run code, each in words: ``a call of …, which …``."""
    yield from _walk(record, type(record), type(record).__name__, "")


def quoted(text: object) -> str:
    """The first 60 characters of a string out of a file, on one line."""
    shown = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "?" for c in shown[:60]) or "''"


# ------------------------------------------------------------------------------------------------------------ rules


def _rule(title: str, allowed: Callable[[str], bool], harm: str) -> Rule:
    return lambda text: "" if allowed(text) else f"{title} {quoted(text)}, which {harm}"


def _operator(text: str) -> str:
    why = operators.refusal(text)
    return f"a call of {quoted(text)}, which {why}" if why else ""


def _is_path(text: str) -> bool:
    """``layers.0.weight``: anything that cannot leave the quotes in which torch writes it, and reaches no internals."""
    plain = text.isprintable() and not set(text) & set("\"'\\{}")
    return plain and not any(part.startswith("__") and part.endswith("__") for part in text.split("."))


def _is_lookup(text: str) -> bool:
    """``conv,torch.nn.modules.conv.Conv1d``: names that torch looks up only to show them."""
    return "__" not in text.replace("<lambda>", "")


def _is_structure(text: str) -> bool:
    """A nest of plain containers: no entry of it is of a type that is made by importing a module."""
    return _is_plain(json.loads(text)[1])


def _is_plain(spec: Any) -> bool:
    from torch.utils import _pytree as pytree

    kind, context = spec["type"], spec["context"]
    if kind not in (None, "collections.namedtuple"):
        node = pytree.SUPPORTED_SERIALIZED_TYPES.get(pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE.get(kind))  # type: ignore[arg-type]
        if node is None or node.from_dumpable_context is not None or not _holds_keys(context):
            return False
    return all(_is_plain(child) for child in spec["children_spec"])


def _holds_keys(context: str) -> bool:
    keys = json.loads(context)
    return all(is_key(key) for key in (keys if isinstance(keys, list) else [keys]))


def is_key(key: object) -> bool:
    """Whether the key of a container is a number or a plain string."""
    return isinstance(key, bool | int | float | None) or (isinstance(key, str) and _is_path(key))


NAME = _rule("the name", lambda text: text == "" or is_word(text), "is no name but code")
PATH = _rule("the name", _is_path, "is no name but code")
SIZE = _rule("the expression", is_size, "is no size but code")
GUARD = _rule("the guard", is_guard, "is no comparison of sizes but code")
WORD = _rule("the word", lambda text: re.fullmatch(r"[\w.+<=:-]*", text) is not None, "is none that torch writes")
STRUCTURE = _rule("the structure", _is_structure, "is made of more than plain containers")
OBJECT = _rule("an object", lambda text: False, "runs code of its own")
FREE = _rule("", lambda text: True, "")

RULES: dict[tuple[str, str], Rule] = {
    **dict.fromkeys(
        [
            ("TensorArgument", "name"),
            ("TokenArgument", "name"),
            ("SymIntArgument", "as_name"),
            ("SymFloatArgument", "as_name"),
            ("SymBoolArgument", "as_name"),
            ("GraphArgument", "name"),
            ("NamedArgument", "name"),
            ("Node", "name"),
            ("InputToConstantInputSpec", "name"),
            ("UserInputMutationSpec", "user_input_name"),
            ("GradientToUserInputSpec", "user_input_name"),
            ("ModuleCallSignature", "forward_arg_names"),
            ("NamedTupleDef", "field_names"),
        ],
        NAME,
    ),
    **dict.fromkeys(
        [
            ("InputToParameterSpec", "parameter_name"),
            ("InputToBufferSpec", "buffer_name"),
            ("InputToTensorConstantSpec", "tensor_constant_name"),
            ("BufferMutationSpec", "buffer_name"),
            ("ParameterMutationSpec", "parameter_name"),
            ("GradientToParameterSpec", "parameter_name"),
            ("ModuleCallEntry", "fqn"),
            ("PayloadMeta", "path_name"),
            ("ConstantValue", "as_string"),
        ],
        PATH,
    ),
    **dict.fromkeys([("Node", "target"), ("Argument", "as_operator")], _operator),
    ("SymExpr", "expr_str"): SIZE,
    ("ExportedProgram", "guards_code"): GUARD,
    **dict.fromkeys([("ModuleCallSignature", "in_spec"), ("ModuleCallSignature", "out_spec")], STRUCTURE),
    **dict.fromkeys([("Device", "type"), ("ExportedProgram", "torch_version"), ("ExportedProgram", "verifiers")], WORD),
    **dict.fromkeys([("CustomObjArgument", "name"), ("CustomObjArgument", "class_fqn")], OBJECT),
    ("InputToCustomObjSpec", "custom_obj_name"): OBJECT,
    # torch writes these with repr into the code that it generates, and looks them up nowhere
    **dict.fromkeys([("Argument", "as_string"), ("Argument", "as_strings")], FREE),
    **dict.fromkeys([("Node", "metadata"), ("GraphModule", "metadata")], FREE),
}
"""What a string may be, by record and field."""

KEYS: dict[tuple[str, str], Rule] = {
    ("Argument", "as_string_to_argument"): NAME,
    ("Graph", "tensor_values"): NAME,
    ("Graph", "sym_int_values"): NAME,
    ("Graph", "sym_float_values"): NAME,
    ("Graph", "sym_bool_values"): NAME,
    ("Graph", "custom_obj_values"): OBJECT,
    ("ExportedProgram", "opset_version"): WORD,
    ("ExportedProgram", "range_constraints"): SIZE,
    ("PayloadConfig", "config"): PATH,
    ("GraphModule", "treespec_namedtuple_fields"): PATH,
    ("Node", "metadata"): WORD,
    ("GraphModule", "metadata"): WORD,
}
"""What the keys of a mapping may be, by record and field."""


# ------------------------------------------------------------------------------------------------------------- walk


def _walk(value: Any, hint: Any, record: str, field: str) -> Iterator[str]:
    """Faults of one value, which ``field`` of ``record`` holds and which should be of the type ``hint``."""
    from torch._export.serde.union import _Union as OneOf

    hint, optional = plain_hint(hint)
    if value is None and optional:
        return
    if isinstance(value, OneOf):
        kind = type(value)
        yield from _walk(value.value, _hints(kind)[str(value.type)], kind.__name__, str(value.type))
    elif dataclasses.is_dataclass(value):
        hints = _hints(type(value))
        for entry in dataclasses.fields(value):
            yield from _walk(getattr(value, entry.name), hints[entry.name], type(value).__name__, entry.name)
    elif isinstance(value, list) and typing.get_origin(hint) is list:
        for item in value:
            # a string that is given as an input becomes a guard, in quotes that it could leave
            if (record, field) == ("Graph", "inputs") and item.type == "as_string":
                yield from filter(None, [PATH(item.value)])
            yield from _walk(item, typing.get_args(hint)[0], record, field)
    elif isinstance(value, dict) and typing.get_origin(hint) is dict:
        yield from _mapping(value, typing.get_args(hint)[1], record, field)
    elif not _is_of(value, hint):
        yield f"{quoted(value)} where {record}.{field} is no such thing"
    elif isinstance(value, str):
        rule = RULES.get((record, field))
        found = f"{quoted(value)} in {record}.{field}, which is not known here" if rule is None else rule(value)
        if found:
            yield found


def _mapping(value: dict[Any, Any], hint: Any, record: str, field: str) -> Iterator[str]:
    rule = KEYS.get((record, field))
    for key, item in value.items():
        found = f"the key {quoted(key)}, which is not known here" if rule is None else rule(key)
        if found:
            yield found
        if (record, key) == ("Node", "source_fn_stack") and not _is_lookup(str(item)):
            yield f"the name {quoted(item)}, which reaches into Python"
        yield from _walk(item, hint, record, field)


def _hints(kind: Any) -> dict[str, Any]:
    return _all_hints()[kind.__name__]


@functools.cache
def _all_hints() -> dict[str, dict[str, Any]]:
    """The types of all fields, by record."""
    from torch._export.serde import schema

    kinds = [kind for kind in vars(schema).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    return {kind.__name__: typing.get_type_hints(kind, globalns=vars(schema)) for kind in kinds}


def plain_hint(hint: Any) -> tuple[Any, bool]:
    """The type behind annotations and ``| None``, and whether None will do."""
    while typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [part for part in typing.get_args(hint) if part is not type(None)]
        return plain_hint(inner[0])[0], len(inner) < len(typing.get_args(hint))
    return hint, False


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a leaf is of its type: torch would take a string for a number and evaluate it."""
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        hint = int
    if isinstance(hint, str) or not isinstance(hint, type):
        return False
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
