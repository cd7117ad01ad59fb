"""An ONNX file, read once: what it holds, what it says of itself, and the sessions that run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnx import external_data_helper

from shrinkspeech.errors import InputError
from shrinkspeech.export.constants import locations

Shape = tuple[int, ...]


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX model and, where it was read from a file, the place and the size of that.

    Attributes:
        proto: the model; tensors that lie in files beside it are read too.
        source: where it was read from; for a model in memory its serialised form.
        size: bytes of the file and of those beside it.
    """

    proto: onnx.ModelProto
    source: Path | bytes
    size: int
    sessions: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)
    """Sessions that are open, by their number of threads."""

    @classmethod
    def read(cls, path: str | Path) -> OnnxFile:
        """Read and check a file.

        Raises:
            InputError: it does not exist, or is not a valid ONNX model.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"there is no file {path}")
        try:
            proto = onnx.load(str(path), load_external_data=False)
            beside = {path.parent / location for location in locations(proto)}
            external_data_helper.load_external_data_for_model(proto, str(path.parent))
            onnx.checker.check_model(str(path) if beside else proto)
            size = sum(file.stat().st_size for file in {path, *beside})
        except Exception as error:  # protobuf, the checker and external data each raise their own
            raise InputError(f"{path} is not a valid ONNX model: {first_line(error)}") from error
        return cls(proto, path, size)

    @classmethod
    def of(cls, source: OnnxFile | onnx.ModelProto | bytes | str | Path) -> OnnxFile:
        """The record of a path, of a model in memory, or of what is one already.

        Raises:
            InputError: the file does not exist, or is not a valid ONNX model.
        """
        if isinstance(source, OnnxFile):
            return source
        if isinstance(source, str | Path):
            return cls.read(source)
        data = source if isinstance(source, bytes) else source.SerializeToString()
        return cls(onnx.load_from_string(data) if isinstance(source, bytes) else source, data, len(data))

    def __str__(self) -> str:
        return str(self.source) if isinstance(self.source, Path) else "the model"

    @property
    def data(self) -> bytes:
        """The serialised model; tensors in files beside it are not in there."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself."""
        return {entry.key: entry.value for entry in self.proto.metadata_props}

    @cached_property
    def inputs(self) -> Sequence[Any]:
        """Inputs that a caller must give: initialisers may be listed among a graph's inputs too."""
        return [value for value in self.proto.graph.input if value.name not in self.initialisers]

    @cached_property
    def initialisers(self) -> Mapping[str, onnx.TensorProto]:
        """Named constants of the main graph."""
        return {tensor.name: tensor for tensor in self.proto.graph.initializer}

    @cached_property
    def fixed_sizes(self) -> Sequence[Mapping[int, int]]:
        """For each input the dimensions that the graph fixes, with their sizes."""
        return [
            {at: int(dim.dim_value) for at, dim in enumerate(dims_of(value)) if dim.HasField("dim_value")}
            for value in self.inputs
        ]

    def session(self, threads: int = 1) -> Any:
        """An onnxruntime session on the CPU.

        Raises:
            InputError: onnxruntime cannot load the model.
        """
        if threads not in self.sessions:
            self.sessions[threads] = open_session(self.source, threads)
        return self.sessions[threads]


def dims_of(value: Any) -> Sequence[Any]:
    """Dimensions of an input, each with ``dim_value`` or ``dim_param``."""
    dims: Sequence[Any] = value.type.tensor_type.shape.dim
    return dims


def open_session(model: onnx.ModelProto | bytes | str | Path, threads: int = 1, optimise: bool = True) -> Any:
    """An onnxruntime session on the CPU, silent but for errors.

    Raises:
        InputError: onnxruntime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    source = source if isinstance(source, bytes) else str(source)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception class for each status code
        raise InputError(f"onnxruntime cannot load the model: {first_line(error)}") from error


def run(session: Any, arrays: Mapping[str, Any], names: Sequence[str] | None = None) -> list[Any]:
    """What a session makes of arrays by the names of its inputs: the outputs of these names, or all.

    Raises:
        InputError: onnxruntime cannot run the model on them.
    """
    try:
        found: list[Any] = session.run(names, arrays)
    except Exception as error:  # onnxruntime has an exception class for each status code
        text = "; ".join("×".join(map(str, array.shape)) or "()" for array in arrays.values())
        raise InputError(f"onnxruntime cannot run the model on inputs of {text}: {first_line(error)}") from error
    return found


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its class."""
    lines = str(error).strip().splitlines()
    return (lines[0].rstrip(".") if lines else type(error).__name__)[:400]
