"""What of a model can be limited, as options: ``--target-…`` of ``fit``, ``--max-…`` of ``check`` and ``--of`` of ``sweep``.

All of them are made from one table, so that a quantity that is added to it is in every command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, make_dataclass
from typing import Annotated, Any, ClassVar

from shrinkspeech_cli.options import option


@dataclass(frozen=True)
class Texts:
    """How a quantity is asked for: as the target of a fit, and as a limit of a check."""

    target: str
    limit: str
    metavar: str = "N"


QUANTITIES: Mapping[str, Texts] = {
    "flops": Texts(
        target="FLOP per second of audio: 25%, 0.25x, 600k or 1.2M.", limit="FLOP per second of audio: 600k, 1.2M."
    ),
    "params": Texts(target="Parameters: 25%, 0.25x or 50k.", limit="Parameters: 50k."),
    "size": Texts(
        target="Bytes of float32 weights in the ONNX file: 25% or 300kB.",
        limit="Size of the file: 300kB, 1.2MB.",
        metavar="BYTES",
    ),
    "latency": Texts(
        target="Time in onnxruntime for a batch of one of the example's length, on one thread of this machine: 50% or 2ms.",
        limit="Median time for the example, batch of one: 5ms, 0.005s.",
        metavar="T",
    ),
}
"""Texts of every quantity, by the name that the library has for it."""


@dataclass(frozen=True)
class Amounts:
    """What the user wrote for each quantity; None where nothing."""

    prefix: ClassVar[str] = ""

    def given(self) -> dict[str, str]:
        """What was written, by the name of the quantity."""
        written = {field.name.removeprefix(self.prefix): getattr(self, field.name) for field in fields(self)}
        return {name: text for name, text in written.items() if text is not None}


def _group(panel: str, prefix: str, texts: Mapping[str, tuple[str, str]]) -> Any:
    """A group with one option for each quantity.

    Args:
        texts: what an option takes and its help, by the name of the quantity.
    """
    return make_dataclass(
        "Amounts",
        [
            (f"{prefix}{name}", Annotated[str | None, option(help, metavar=metavar)], None)
            for name, (metavar, help) in texts.items()
        ],
        bases=(Amounts,),
        namespace={"panel": panel, "prefix": prefix},
        frozen=True,
    )


Targets = Annotated[
    Amounts,
    _group("Target (one of them)", "target_", {name: ("BUDGET", texts.target) for name, texts in QUANTITIES.items()}),
]
Limits = Annotated[
    Amounts, _group("Limits", "max_", {name: (texts.metavar, texts.limit) for name, texts in QUANTITIES.items()})
]
