"""Rules of rewriting that are asked where they may match write what they write when they are asked everywhere."""

from __future__ import annotations

from typing import Any

import onnx_ir
import pytest
from onnxscript import rewriter
from torch import Tensor, nn

from shrinkspeech.export import onnx_graph
from shrinkspeech.export.onnx_graph import onnx_model
from shrinkspeech.export.rewriting import by_operator
from shrinkspeech.graph.capture import capture
from tests.export_cases import Apply, noise


def much_to_rewrite(m: Any, x: Tensor) -> Tensor:
    y = m.norm(m.conv(nn.functional.pad(x, (2, 2)))) * 1.0 + 0.0
    low, high = y[:, :4], y[:, 4:]
    return (low.relu().relu().clamp(0, 4).transpose(1, 2).transpose(1, 2) + high).reshape(2, 4, -1).reshape(2, -1)


def test_the_file_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Apply(much_to_rewrite, conv=nn.Conv1d(3, 8, 5), norm=nn.BatchNorm1d(8))
    captured = capture(model.eval(), (noise(2, 3, 40),))
    asked = [0, 0]
    files = []
    for i, chosen in enumerate((by_operator, tuple)):
        kind = type(rewriter._DEFAULT_REWRITE_RULES[0])
        own = kind.try_rewrite

        def counted(self: Any, *args: Any, i: int = i, own: Any = own, **options: Any) -> Any:
            asked[i] += 1
            return own(self, *args, **options)

        with monkeypatch.context() as patched:
            patched.setattr(onnx_graph, "by_operator", chosen)
            patched.setattr(kind, "try_rewrite", counted)
            files.append(onnx_ir.to_proto(onnx_model(captured)).SerializeToString(deterministic=True))
    assert files[0] == files[1]
    assert 0 < asked[0] < asked[1] / 4


def test_every_rule_is_kept() -> None:
    rules = rewriter._DEFAULT_REWRITE_RULES
    assert len(by_operator(rules)) == len(rules)
    anywhere = [rule for rule in rules if rule._target_pattern.output_nodes[0].op_identifier() is None]
    assert [rule for rule in by_operator(rules) if rule in anywhere] == anywhere
