"""From the names of a checkpoint to those of a model: prefixes on either side, what wrappers put between, old weight norms.

Nothing is guessed: a mapping fits if it gives every tensor of the model, of its shape, and leaves none over inside of a
module that the model has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of a name that torch's wrappers put into it, and nobody else."""

PARALLEL = "module"
"""What DataParallel puts into it, but others may, too."""

EXTRA = "_extra_state"
"""How torch ends the name of what a module keeps beside its tensors."""

SAMPLES = 4

NORMS = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
"""A weight norm of the newer kind, and of the older."""


@dataclass(frozen=True)
class Target:
    """The tensors of a model, as a checkpoint may name them.

    Attributes:
        tensors: by the model's own names.
        children: names of the modules at its top.
    """

    tensors: Mapping[str, Tensor]
    children: frozenset[str]

    @staticmethod
    def of(model: nn.Module) -> Target:
        tensors = {name: x for name, x in model.state_dict().items() if isinstance(x, Tensor) and not is_extra(name)}
        return Target(tensors, frozenset(name for name, _ in model.named_children()))

    @cached_property
    def forms(self) -> list[tuple[str, dict[str, str]]]:
        """What a checkpoint may leave out at the front of every name, and the model's names by those without it."""
        names = {stripped(name, WRAPPERS): name for name in self.tensors}
        found = [("", names)]
        while (shared := _shared(names)) and all(len(rest) > len(shared) for rest in names):
            names = {rest.removeprefix(shared): name for rest, name in names.items()}
            found.append((found[-1][0] + shared, names))
        return found


def _shared(names: Mapping[str, str]) -> str:
    """The first part of all names, with its dot; empty where they differ."""
    firsts = {name.partition(".")[0] for name in names}
    return f"{firsts.pop()}." if len(firsts) == 1 else ""


def is_extra(name: str) -> bool:
    """Whether a name is that of something a module keeps beside its tensors."""
    return name.rpartition(".")[2] == EXTRA


def stripped(name: str, parts: tuple[str, ...]) -> str:
    """The name without these parts."""
    return ".".join(part for part in name.split(".") if part not in parts)


@dataclass(frozen=True)
class Mapped:
    """What a checkpoint holds for a model.

    Attributes:
        prefix: at the front of the checkpoint's names.
        left_out: at the front of the model's names, and not in the checkpoint.
        weights: the checkpoint's tensors by the model's names.
        unexpected: the checkpoint's names that the model has nothing for, though it has the module that they belong to.
        beside: the checkpoint's names that belong to something else.
    """

    prefix: str
    left_out: str
    weights: Mapping[str, Tensor]
    unexpected: tuple[str, ...]
    beside: tuple[str, ...]


def mappings(target: Target, tensors: Mapping[str, Tensor]) -> Iterator[Mapped]:
    """Every way from the names of a checkpoint to the model's that has one of the longest names."""
    for parts in (WRAPPERS, (*WRAPPERS, PARALLEL)):
        plain = {stripped(name, parts): name for name in tensors}
        whole = len(plain) == len(tensors)
        for left_out, own in target.forms if whole else ():
            for prefix in _prefixes(own, plain):
                yield _mapped(target, tensors, plain, own, prefix, left_out)


def _prefixes(own: Mapping[str, str], names: Mapping[str, str]) -> list[str]:
    """What stands in front of the model's longest names; some of them may be missing, as counters and tied tensors are."""
    samples = sorted(own, key=len, reverse=True)[:SAMPLES]
    wanted = dict.fromkeys(form for name in samples for form in (name, _other_norm(name)))
    ends = [name.removesuffix(end) for end in wanted for name in names if name.endswith(end)]
    return [prefix for prefix in dict.fromkeys(ends) if prefix.endswith(".") or not prefix]


def _mapped(
    target: Target,
    tensors: Mapping[str, Tensor],
    plain: Mapping[str, str],
    own: Mapping[str, str],
    prefix: str,
    left_out: str,
) -> Mapped:
    weights: dict[str, Tensor] = {}
    unexpected, beside = [], []
    for short, name in plain.items():
        inside = short.removeprefix(prefix)
        found = own.get(inside) or own.get(_other_norm(inside))
        if not short.startswith(prefix) or (found is None and _of_another(inside, target, own)):
            beside.append(name)
        elif found is None:
            unexpected.append(inside)
        else:
            weights[found] = tensors[name]
    return Mapped(_written(prefix, plain), left_out, weights, tuple(unexpected), tuple(beside))


def _written(prefix: str, plain: Mapping[str, str]) -> str:
    """A prefix as the checkpoint has it, with what wrappers put into it."""
    behind = [(short.removeprefix(prefix), name) for short, name in plain.items() if short.startswith(prefix)]
    return min((name.removesuffix(rest) for rest, name in behind if name.endswith(rest)), key=len, default=prefix)


def _of_another(name: str, target: Target, own: Mapping[str, str]) -> bool:
    """Whether a tensor belongs to a module that the model does not have: such as a loss, a teacher, a head for training.

    A number is a layer of a list, of which the model has others: that is another form of it.
    """
    first, dot, _ = name.partition(".")
    ours = {known.partition(".")[0] for known in own} | target.children
    return bool(dot) and first not in ours and not first.isdigit()


def _other_norm(name: str) -> str:
    """The same part of a weight norm in the other of torch's two forms; the name itself where there is none."""
    for new, old in NORMS.items():
        for one, other in ((new, old), (old, new)):
            if name == one or name.endswith(f".{one}"):
                return name.removesuffix(one) + other
    return name
