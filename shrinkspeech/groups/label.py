"""Labelling: one walk over a captured graph that asks each node's rule to tie axes together. Names no operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

from torch import Tensor, fx
from torch.utils import _pytree as pytree

from shrinkspeech import rules  # noqa: F401  (registers the rules)
from shrinkspeech.axes.algebra import Axes, Fixed, Label, labels_of
from shrinkspeech.axes.unifier import Unifier
from shrinkspeech.errors import RuleError
from shrinkspeech.graph.captured import Captured, attribute
from shrinkspeech.graph.states import batch_dims, state_nodes
from shrinkspeech.groups.groups import Carrier, Group, Groups
from shrinkspeech.groups.rule_check import check_nothing_lost, check_sizes
from shrinkspeech.groups.transforms import transform_of
from shrinkspeech.groups.work import work_of
from shrinkspeech.rules.registry import Effect, Literal, NoRule, Rule, Site, Term, rule_for


def label(captured: Captured) -> Groups:
    """Find every group of a captured graph.

    Model inputs and outputs are frozen, but for states: what goes out is what comes in with the next chunk, so that their
    axes are the same. An operator without a rule freezes each group that it touches, and costs what torch
    says that it costs (``work.py``).
    """
    return _Labeller(captured).run()


def no_rule(operator: str, where: str) -> str:
    """Why a group is frozen that an operator without a rule touches."""
    return f"{operator} has no rule ({where})"


class _Labeller:
    def __init__(self, captured: Captured) -> None:
        self.captured = captured
        self.graph = captured.graph_module.graph
        self.unifier = Unifier()
        self.axes: dict[fx.Node, tuple[Axes, ...]] = {}
        self.effects: dict[fx.Node, Effect] = {}
        self.parameters: dict[str, Axes] = {}
        self.unknown: dict[fx.Node, str] = {}
        self.uncounted: dict[str, str] = {}
        self.constants: set[fx.Node] = set()
        self.states = {nodes[0]: (state, nodes[1]) for state, nodes in state_nodes(captured)}
        self._shared: dict[int, Axes] = {}

    def run(self) -> Groups:
        for node in self.graph.nodes:
            if node.op == "get_attr":
                self._parameter(node)
            elif node in self.states:
                self._state(node)
            elif node.op == "placeholder":
                self.axes[node] = self._fixed(node, f"model input '{node.target}'")
            elif node.op == "output":
                self._output(node)
            else:
                self._call(node)
        self._count_unknown()
        self._count_transforms()
        return self._collect()

    def _parameter(self, node: fx.Node) -> None:
        target = str(node.target)
        value = attribute(self.captured.graph_module, target)
        self.constants.add(node)
        if not isinstance(value, Tensor):
            self.axes[node] = ((),)
            return
        key = id(value)
        if key not in self._shared:
            self._shared[key] = tuple(self.unifier.fresh(size) for size in value.shape)
        self.parameters[target] = self._shared[key]
        self.axes[node] = (self._shared[key],)

    def _state(self, node: fx.Node) -> None:
        """A state may be as narrow as what computes it. Its sizes are literals where it starts from zeros (``start.py``)."""
        state, _ = self.states[node]
        batch = batch_dims(self.captured, state, node)
        whole = batch | {state.grows}
        shape = self._shapes(node)[0]
        axes = tuple(
            Fixed(n, f"state '{state.source}'") if i in whole else self.unifier.fresh(n) for i, n in enumerate(shape)
        )
        self.axes[node] = (axes,)
        sizes = tuple(Literal((1, dim), axis) for dim, axis in enumerate(axes) if dim not in batch)
        self.effects[node] = Effect(outputs=(axes,), literals=sizes)

    def _output(self, node: fx.Node) -> None:
        """Both sides of a state are one; whatever else goes out is frozen."""
        given_back = {state.output for state, _ in self.states.values()}
        for index, leaf in enumerate(pytree.tree_leaves(node.args[0])):
            if isinstance(leaf, fx.Node) and index not in given_back:
                self._freeze(leaf, "model output")
        for source, (state, result) in self.states.items():
            pairs = zip(self.axes[source][0], self.axes[result][0], strict=True)
            for dim, (a, b) in enumerate(pairs):
                if dim == state.grows:
                    self._freeze_axes((a, b), f"state '{state.source}' grows in it")
                else:
                    self.unifier.unify(a, b, f"state '{state.source}' comes back as '{state.result}'")
        self._freeze_memory()

    def _freeze_memory(self) -> None:
        """An axis of a state that no weight has is no width of the model: a cache's time, layers, heads that are addressed."""
        held = {
            found.id
            for axes in self.parameters.values()
            for axis in axes
            for found in labels_of(self.unifier.resolve(axis))
        }
        for source, (state, _) in self.states.items():
            for axis in self._resolve_axes(self.axes[source][0]):
                for found in labels_of(axis):
                    if found.id not in held:
                        self.unifier.freeze(found, f"an axis of the state '{state.source}' that no weight has")

    def _call(self, node: fx.Node) -> None:
        if all(source in self.constants for source in node.all_input_nodes):
            self.constants.add(node)
        found = rule_for(node.target) if node.op == "call_function" else None
        try:
            effect = self._ask(found, node) if found is not None else self._refuse(node, str(node.target))
        except NoRule as form:
            effect = self._refuse(node, str(form))
        self.effects[node] = effect
        self.axes[node] = effect.outputs

    def _ask(self, found: Rule, node: fx.Node) -> Effect:
        """The rule's effect, if it is one: what is wrong here would slice wrongly later."""
        where, entering = self.captured.where(node), {source: self.axes[source] for source in node.all_input_nodes}
        site = Site(
            node,
            self.unifier,
            self.axes.__getitem__,
            self._shapes,
            self.constants.__contains__,
            self._value,
            self.captured.where,
        )
        try:
            effect = found(site)
        except NoRule:
            raise
        except Exception as error:
            raise RuleError(f"the rule of {node.target} fails at {node.name} ({where}): {error!r}") from error
        check_sizes(node, effect, self._shapes(node), where)
        check_nothing_lost(node, effect, entering, self.unifier, where)
        return effect

    def _refuse(self, node: fx.Node, name: str) -> Effect:
        """No rule: everything that the node touches stays as it is."""
        self.unknown[node] = name
        why = no_rule(name, self.captured.where(node))
        self._freeze_inputs(node, why)
        return Effect(outputs=self._fixed(node, why))

    def _freeze_inputs(self, node: fx.Node, why: str) -> None:
        for source in node.all_input_nodes:
            self._freeze(source, why)

    def _freeze(self, node: fx.Node, why: str) -> None:
        for axes in self.axes[node]:
            self._freeze_axes(axes, why)

    def _freeze_axes(self, axes: Axes, why: str) -> None:
        for axis in axes:
            self.unifier.freeze(axis, why)

    def _fixed(self, node: fx.Node, why: str) -> tuple[Axes, ...]:
        return tuple(tuple(Fixed(size, why) for size in shape) for shape in self._shapes(node)) or ((),)

    def _shapes(self, node: fx.Node) -> tuple[tuple[int, ...], ...]:
        return self.captured.shapes[node.name]

    def _value(self, node: fx.Node) -> Any:
        return self.captured.numbers.get(node.name)

    def _count_unknown(self) -> None:
        """What has no rule costs what torch says; nothing that it touches can shrink, so that this is a number."""
        for node, work in work_of(self.captured, self.unknown).items():
            if work.flops:
                self.effects[node] = replace(self.effects[node], terms=(Term(work.flops, ()),))
            if work.uncounted:
                self.uncounted[node.name] = f"{', '.join(work.uncounted)} ({self.captured.where(node)})"

    def _count_transforms(self) -> None:
        """Products with the matrix of a Fourier transform stand outside of the budget, as the transforms do."""
        for node, effect in self.effects.items():
            work = sum(term.factor * prod(axis.size for axis in term.axes) for term in effect.terms)
            cost = transform_of(self.captured, node, self.constants.__contains__, work) if work else None
            if cost is not None:
                self.effects[node] = replace(effect, terms=(), extra=(*effect.extra, Term(cost, ())))

    def _collect(self) -> Groups:
        resolve = self._resolve_axes
        parameters = {name: resolve(axes) for name, axes in self.parameters.items()}
        effects = {node.name: effect.mapped(self.unifier.resolve) for node, effect in self.effects.items()}
        axes = {node.name: tuple(resolve(part) for part in parts) for node, parts in self.axes.items()}
        groups = self._groups(parameters, axes)
        return Groups(
            by_name={group.name: group for group in groups},
            axes=axes,
            effects=effects,
            parameters=parameters,
            unknown={node.name: name for node, name in self.unknown.items()},
            uncounted=self.uncounted,
        )

    def _resolve_axes(self, axes: Axes) -> Axes:
        return tuple(self.unifier.resolve(axis) for axis in axes)

    def _groups(self, parameters: dict[str, Axes], axes: dict[str, tuple[Axes, ...]]) -> list[Group]:
        """One group for each label, in the order of the graph, named by the module that writes it."""
        carriers: dict[Label, list[Carrier]] = {}
        for name, dims in parameters.items():
            for dim, axis in enumerate(dims):
                for found in dict.fromkeys(labels_of(axis)):
                    carriers.setdefault(found, []).append(Carrier(name, dim))
        where: dict[Label, str] = {}
        computed = [node for node in self.graph.nodes if node.op == "call_function" and node not in self.states]
        for node in (*computed, *self.states):
            for found in (found for part in axes[node.name] for axis in part for found in labels_of(axis)):
                where.setdefault(found, self.captured.module_of(node))
        for found, held in carriers.items():
            where.setdefault(found, held[0].parameter.rpartition(".")[0])
        names = _unique_names(where, lambda found: self.unifier.frozen(found) is None)
        return [
            Group(
                names[found],
                found,
                self.unifier.frozen(found) or "",
                where[found],
                tuple(carriers.get(found, ())),
                self.unifier.lowest(found),
            )
            for found in names
        ]


def _unique_names(wanted: dict[Label, str], free: Callable[[Label], bool]) -> dict[Label, str]:
    """Module names, numbered where one module has several groups; the only one that may shrink has the plain name."""
    names, used = {}, Counter[str]()
    shrinks = {module for found, module in wanted.items() if free(found)}
    plain = Counter(module for found, module in wanted.items() if free(found) or module not in shrinks)
    for found, module in sorted(wanted.items(), key=lambda item: not free(item[0])):
        base = module or "model"
        names[found] = base if plain[module] == 1 and not used[base] else f"{base}#{used[base]}"
        used[base] += 1
    return {found: names[found] for found in wanted}
