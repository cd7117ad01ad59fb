"""What of a model can be limited, as options: ``--target-…`` of ``fit`` and ``--max-…`` of ``check``.

Targets are those of every registered quantity; limits are what can be found in a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, make_dataclass
from typing import Annotated, Any, ClassVar

from shrinkspeech.budget import quantities
from shrinkspeech_cli.options import option


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


MEASURED_IN_FILES = {
    "flops": ("N", "FLOP per second of audio: 600k, 1.2M."),
    "params": ("N", "Parameters: 50k."),
    "size": ("BYTES", "Size of the file: 300kB, 1.2MB."),
    "latency": ("T", "Median time for the example, batch of one: 5ms, 0.005s."),
}
"""What ``check`` finds in an ONNX file: what the option takes, and its help."""

Targets = Annotated[
    Amounts,
    _group("Target (one of them)", "target_", {name: ("BUDGET", kind.help) for name, kind in quantities().items()}),
]
Limits = Annotated[Amounts, _group("Limits", "max_", MEASURED_IN_FILES)]
