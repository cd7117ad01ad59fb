"""Programs with code hidden in them: nothing of it runs, whatever entry it stands in; what torch itself writes still loads."""

from __future__ import annotations

import dataclasses
import io
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._export.serde import schema

from shrinkspeech.errors import LoadError
from shrinkspeech.loading.archive import code_in, program_in
from shrinkspeech.loading.entries import KEYS, RULES, plain_hint
from shrinkspeech.loading.expressions import is_size
from shrinkspeech.loading.load import load
from shrinkspeech.loading.operators import refusal
from tests.command import refused
from tests.hostile import CANARY, RUN, SPELT, Net, edited, entry, places, program_of, put, watched, with_json
from tests.zoo import ENTRIES, everything

QUOTES = f'a"+str({RUN})+"'


@pytest.fixture(scope="module")
def program() -> bytes:
    return program_of(Net(), torch.randn(2, 800))


def _refused(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The message of a refused load, which ran nothing."""
    monkeypatch.chdir(folder)
    with watched() as seen, pytest.raises(LoadError) as caught:
        load(path)
    assert seen == []
    assert not (folder / CANARY).exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -------------------------------------------------------------------------------------------- known ways to run code


def _graph(content: Any) -> Any:
    return content["graph_module"]["graph"]


def _size(text: str) -> Callable[[Any], None]:
    def edit(content: Any) -> None:
        expression = _graph(content)["tensor_values"]["x"]["sizes"][1]["as_expr"]
        expression["expr_str"] = text.replace("SIZE", expression["expr_str"])

    return edit


def _hint(content: Any) -> None:
    _graph(content)["tensor_values"]["x"]["sizes"][1]["as_expr"]["hint"] = {"as_int": f"2+0*hash({RUN})"}


def _range(content: Any) -> None:
    next(iter(content["range_constraints"].values()))["min_val"] = f"2+0*hash({RUN})"


def _range_of(content: Any) -> None:
    content["range_constraints"][f"2+0*hash({RUN})"] = content["range_constraints"].popitem()[1]


def _node_name(content: Any) -> None:
    node = _graph(content)["nodes"][0]
    old, new = node["outputs"][0]["as_tensor"]["name"], f"y = {RUN}; z"
    _rename(content, old, new)


def _rename(nest: Any, old: str, new: str) -> None:
    for place in list(places(nest)):
        if entry(nest, place) == old:
            put(nest, place, new)
    values = nest["graph_module"]["graph"]["tensor_values"]
    if old in values:
        values[new] = values.pop(old)


def _argument_name(content: Any) -> None:
    content["graph_module"]["module_call_graph"][0]["signature"]["forward_arg_names"] = [f"x=({RUN})"]


def _guard(content: Any) -> None:
    content["guards_code"] = [f"{RUN} is None"]


def _structure(content: Any) -> None:
    signature = content["graph_module"]["module_call_graph"][0]["signature"]
    hidden = f'{{\\"__enum__\\": true, \\"fqn\\": \\"{CANARY}:X\\", \\"name\\": \\"x\\"}}'
    signature["out_spec"] = (
        signature["out_spec"]
        .replace('"context": null', f'"context": "{hidden}"')
        .replace('"type": null', '"type": "builtins.dict"')
    )


def _factory(content: Any) -> None:
    signature = content["graph_module"]["module_call_graph"][0]["signature"]
    signature["out_spec"] = (
        '[1, {"type": "collections.defaultdict", "context": {"default_factory_module": "'
        + CANARY
        + '", "default_factory_name": "x", "dict_context": []}, "children_spec": []}]'
    )


def _parameter(content: Any) -> None:
    _rename(content, "inside.weight", f"inside.{QUOTES}")


def _target(text: str) -> Callable[[Any], None]:
    def edit(content: Any) -> None:
        _graph(content)["nodes"][2]["target"] = text

    return edit


def _from_file(content: Any) -> None:
    node = _graph(content)["nodes"][0]
    node["target"] = "torch.ops.aten.from_file.default"
    node["inputs"] = [
        {"name": "filename", "arg": {"as_string": CANARY}, "kind": 1},
        {"name": "shared", "arg": {"as_bool": True}, "kind": 1},
        {"name": "size", "arg": {"as_int": 8}, "kind": 1},
    ]


def _save(content: Any) -> None:
    node = _graph(content)["nodes"][0]
    node["target"] = "torch.ops.aten.save.default"
    node["inputs"] = [*node["inputs"][:1], {"name": "filename", "arg": {"as_string": CANARY}, "kind": 1}]


HIDDEN = {
    "expression": (_size(f"SIZE+0*hash({SPELT})"), "the expression"),
    "expression that has a range": (_range_of, "the expression"),
    "expression behind a newline": (_size(f"SIZE+0*hash(\n{RUN})"), "the expression"),
    "expression in a look-up": (_size("Max(1, ().__class__.__base__)"), "the expression"),
    "expression in an argument": (_size(f"Symbol('s0', integer={RUN})"), "the expression"),
    "hint": (_hint, "SymExprHint.as_int"),
    "range": (_range, "RangeConstraint.min_val"),
    "name of a node": (_node_name, "the name"),
    "name of an argument": (_argument_name, "the name"),
    "guard": (_guard, "the guard"),
    "structure": (_structure, "the structure"),
    "factory of a structure": (_factory, "the structure"),
    "name of a parameter": (_parameter, "the name"),
    "function of torch": (_target("torch.os.system"), "a call of torch.os.system, which is no operator"),
    "library": (_target("torch.ops.load_library"), "a call of torch.ops.load_library, which is no operator"),
    "function of Python": (_target("_operator.call"), "a call of _operator.call, which is no operator"),
    "other spelling": (_target("torch_.ops.aten.relu.default"), "a call of torch_.ops.aten.relu.default"),
    "operator that opens files": (_from_file, "a call of torch.ops.aten.from_file.default, which opens files"),
    "operator of TorchScript": (_save, "a call of torch.ops.aten.save.default, which is no operator"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_code_is_refused(name: str, program: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit, expected = HIDDEN[name]
    message = _refused(with_json(program, tmp_path / "m.pt2", edit), tmp_path, monkeypatch)
    assert expected in message
    assert message.endswith(": give --trust-pickle if you trust where it comes from")


def test_keys_of_the_example(program: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    torch.save((({f"a'+str({RUN})+'": torch.randn(2, 800)},), {}), buffer)
    path = edited(program, tmp_path / "m.pt2", lambda n, d: buffer.getvalue() if "sample_inputs" in n else d)
    assert "the example inputs hold the key" in _refused(path, tmp_path, monkeypatch)


def test_code_from_the_command_line(program: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = with_json(program, tmp_path / "m.pt2", _from_file)
    assert "which opens files: give --trust-pickle" in refused(["inspect", path], capsys)


# ---------------------------------------------------------------------------------------------------- what still loads


class Recurrent(nn.Module):
    """``[B, T, 8]`` → ``[B, T, 2]``, with a size that is computed and a region without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(8, 6, batch_first=True, bidirectional=True), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            mean = x[:, : x.shape[1] // 2 + 1].mean(1, keepdim=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = x * 2
        return torch.nn.functional.pad(
            self.out(self.rnn(x.float() - mean)[0]), (0, 0, 0, x.shape[1] % 4), mode="constant"
        )


class Branch(nn.Module):
    """``[B, T]`` → ``[B, T]``, by what the input holds."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), [x])


@pytest.mark.parametrize(
    ("model", "shape"),
    [(Net(), (2, 800)), (Recurrent(), (2, 12, 8)), (Branch(), (2, 5))],
    ids=lambda v: type(v).__name__,
)
def test_programs_of_torch_load(model: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    file = io.BytesIO(program_of(model, x))
    assert code_in(file) == ""
    file.seek(0)
    torch.testing.assert_close(program_in(file).module()(x), model(x))


class Tied(nn.Module):
    """``[B, 4]`` and ``[3 · B, 4]``: a size that has a range of its own is an expression."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x.repeat(3, 1) + y


def test_programs_with_ranges_of_expressions_load() -> None:
    file = io.BytesIO(program_of(Tied(), torch.ones(2, 4), torch.ones(6, 4)))
    assert code_in(file) == ""


@pytest.mark.parametrize("name", ["ds_cnn", "streaming_gru"])
def test_programs_of_the_zoo_load(name: str) -> None:
    assert everything
    inputs = ENTRIES[name].inputs()
    file = io.BytesIO(program_of(ENTRIES[name].make(), *inputs))
    assert code_in(file) == ""


def test_every_entry_that_torch_knows_has_a_rule() -> None:
    """A field that a new version of torch brings must be thought about: until then it would be refused."""
    kinds = [kind for kind in vars(schema).values() if dataclasses.is_dataclass(kind) and isinstance(kind, type)]
    unknown = []
    for kind in kinds:
        if kind.__name__.startswith(("AOT", "Extern")):
            continue
        for field, hint in typing.get_type_hints(kind, globalns=vars(schema)).items():
            inner, _ = plain_hint(hint)
            arguments = [plain_hint(part)[0] for part in typing.get_args(inner)]
            if (inner is str or str in arguments[-1:]) and (kind.__name__, field) not in RULES:
                unknown.append(f"{kind.__name__}.{field}")
            if typing.get_origin(inner) is dict and (kind.__name__, field) not in KEYS:
                unknown.append(f"the keys of {kind.__name__}.{field}")
    assert unknown == []


@pytest.mark.parametrize(
    "text", ["2**99999", "Pow(9, Pow(9, 9))", "LShift(1, 99999)", "Float('1e99999')", "1e99999", "9" * 30]
)
def test_numbers_that_never_end(text: str) -> None:
    assert not is_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "Add(Mul(Integer(16), Symbol('s53', positive=True, integer=True)), Integer(32))",
        "s0 + 2*s1 - 1",
        "Max(1, (s0 - 3)//4 + 1)",
        "Pow(Symbol('s0', integer=True), Integer(-1))",
        "TruncToInt(IntTrueDiv(Symbol('s0', integer=True), Integer(2)))",
        "Float('0.5', precision=53)",
        "Piecewise((Integer(1), Symbol('s0') > 2), (0, true))",
        "OpaqueUnaryFn_sqrt(ToFloat(Symbol('s0', integer=True)))",
    ],
)
def test_sizes_of_torch(text: str) -> None:
    assert is_size(text)


def test_operators_by_schema() -> None:
    """No operator of ATen that takes the name of a file is let through, whatever it is called."""
    named = []
    for full in torch._C._dispatch_get_all_op_names():
        name, _, overload = full.removeprefix("aten::").partition(".")
        arguments = torch._C._get_schema(f"aten::{name}", overload).arguments if full.startswith("aten::") else []
        if any(argument.name in ("filename", "path", "file") and str(argument.type) == "str" for argument in arguments):
            named.append(f"torch.ops.aten.{name}.{overload or 'default'}")
    assert named
    assert all(refusal(name) for name in named)
    assert refusal("torch.ops.aten.relu.default") == ""
    assert refusal("torch.ops.higher_order.call_torchbind") != ""
