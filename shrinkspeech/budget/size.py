"""Size: bytes of the weights in the ONNX file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shrinkspeech.budget.amounts import BYTES, bytes_text
from shrinkspeech.budget.params import tensor_elements
from shrinkspeech.budget.registry import Quantity, quantity

if TYPE_CHECKING:
    from shrinkspeech.graph.captured import Captured
    from shrinkspeech.groups.cost import Polynomial


@quantity
class Size(Quantity):
    """Bytes of the weights, as float32, in the ONNX file; measured in the file that the export would write.

    The polynomial counts the tensors of the graph; what the export adds or folds away stays what it is in the original.
    """

    name, unit, units = "size", "bytes", BYTES
    per_item = False
    example = "300kB, 1.2MB"
    help = "Bytes of float32 weights in the ONNX file: 25% or 300kB."

    def cost(self) -> Polynomial:
        from shrinkspeech.groups.cost import Polynomial

        read = {str(node.target) for node in self.captured.graph_module.graph.nodes if node.op == "get_attr"}
        tensors = {
            name: tensor
            for name, tensor in self.captured.parameters().items()
            if name in read and tensor.is_floating_point()
        }
        elements = tensor_elements(self.captured, self.groups, tensors).scale(4.0)
        return elements + Polynomial({(): self.original - elements.at(self.full)})

    def measure(self, small: Captured) -> float:
        return onnx_bytes(small)

    @classmethod
    def text(cls, amount: float) -> str:
        return bytes_text(amount)


def onnx_bytes(captured: Captured) -> float:
    """Bytes of the weights, as float32, in the ONNX file of a model.

    Raises:
        ExportError: the model cannot be written as ONNX.
    """
    import onnx_ir

    from shrinkspeech.export.constants import weight_elements
    from shrinkspeech.export.onnx_graph import onnx_model

    return 4.0 * weight_elements(onnx_ir.to_proto(onnx_model(captured)))
