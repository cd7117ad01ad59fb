"""The operators that a program of unknown origin may call: those that compute tensors, sizes and control flow.

torch looks a target up by name from ``torch``, ``math`` or ``_operator`` on and calls whatever stands there. Here an
operator is let through if it is one of ATen's own (registered with torch's dispatcher, which leaves out TorchScript's
``aten::save`` and ``aten::warn``) and not on the list below, a ``prims`` one, arithmetic on sizes, or control flow.
"""

from __future__ import annotations

import functools
import math
import operator
import re

import torch

REFUSED = {
    "from_file": "opens files",
    "_print": "writes to the terminal",
    "record_stream": "reaches into the allocator",
    "pin_memory": "reaches into the allocator",
    "_pin_memory": "reaches into the allocator",
    "set_data": "swaps memory under a tensor",
    "_cufft_set_plan_cache_max_size": "changes the process",
    "_cufft_clear_plan_cache": "changes the process",
    "_foobar": "is a test of torch's own",
}
"""ATen operators that do more than compute, and what that is."""

REFUSED_PREFIXES = {
    "_test_": "is a test of torch's own",
    "fbgemm_": "takes packed objects",
    "quantized_": "takes packed objects",
    "_wrapped_": "takes packed objects",
}
REFUSED_TYPES = {
    "Storage": "swaps memory under a tensor",
    "Stream": "reaches into the allocator",
    "__torch__": "takes packed objects",
}
"""Types in a schema that no graph of tensors holds."""

UNCHECKED = re.compile(r"_sparse_\w+_unsafe")
"""Sparse tensors whose indices nobody checks."""

CONTROL = frozenset(
    """cond while_loop while_loop_stack_output map_impl scan associative_scan wrap wrap_with_set_grad_enabled
    wrap_with_autocast wrap_activation_checkpoint tag_activation_checkpoint autograd_function_apply strict_mode
    invoke_subgraph flex_attention""".split()
)
"""Higher-order operators that call nothing but the graphs that stand beside them in the file."""

MODULES = {"_operator": operator, "math": math, "torch": torch}


def refusal(target: str) -> str:
    """Why a program may not call ``target``, as the end of a sentence; empty where it may."""
    found = re.fullmatch(r"torch\.ops\.(\w+)\.(\w+)(?:\.(\w+))?", target, re.ASCII)
    if found is None:
        return "" if _on_sizes(target) else "is no operator of a model"
    space, name, overload = found.groups()
    if space == "higher_order":
        return "" if name in CONTROL and overload is None else "is no operator of a model"
    if space not in ("aten", "prims") or overload is None:
        return "is no operator of a model"
    if f"{space}::{name}" + (f".{overload}" if overload != "default" else "") not in _registered():
        return "is no operator of a model"
    return _harm(name, overload) if space == "aten" else ""


def _on_sizes(target: str) -> bool:
    """Whether ``target`` is arithmetic on sizes, such as ``_operator.add`` or ``torch.sym_max``."""
    from torch._export.serde.serialize import _SYM_OPS as on_sizes

    module, _, name = target.partition(".")
    return module in MODULES and name.isidentifier() and vars(MODULES[module]).get(name) in on_sizes


@functools.cache
def _registered() -> frozenset[str]:
    return frozenset(torch._C._dispatch_get_all_op_names())


def _harm(name: str, overload: str) -> str:
    for prefix, harm in REFUSED_PREFIXES.items():
        if name.startswith(prefix):
            return harm
    if name in REFUSED or UNCHECKED.fullmatch(name):
        return REFUSED.get(name, "makes sparse tensors that nobody checks")
    schema = str(torch._C._get_schema(f"aten::{name}", "" if overload == "default" else overload))
    return next((harm for kind, harm in REFUSED_TYPES.items() if re.search(rf"\b{kind}", schema)), "")
