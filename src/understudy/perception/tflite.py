"""Reads a TensorFlow Lite file and runs its graph as a torch module.

Only the operations of the face networks that Understudy uses are known; any other is refused by name. Inside, pictures are
batch x channels x height x width (`B C H W`), while the file is written for one picture with channels last: the reader moves
the weights into torch's order, unpacks half-precision and sparse ones, and joins explicit padding to the convolution behind it.
The layout of the file is that of tensorflow/lite/schema/schema.fbs (Apache-2.0); this reader is our own.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[Any]


@dataclass(frozen=True)
class Operation:
    """One node: `inputs` and `output` number the values; `weights` names its tensors by role, `options` are plain numbers."""

    kind: str
    inputs: tuple[int, ...]
    output: int
    weights: Mapping[str, str]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """A network as data: the value that the picture goes in as, the operations in order, and the values that come out."""

    input: int
    outputs: tuple[int, ...]
    operations: tuple[Operation, ...]

    def as_json(self) -> dict[str, Any]:
        """A plain object that `from_json` reads back."""
        return {"input": self.input, "outputs": list(self.outputs), "operations": [vars(o) for o in self.operations]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Graph:
        """The inverse of `as_json`."""
        operations = tuple(Operation(**{**o, "inputs": tuple(o["inputs"])}) for o in data["operations"])
        return cls(data["input"], tuple(data["outputs"]), operations)


# ---- running --------------------------------------------------------------------------------------------------------------


class GraphNetwork(nn.Module):
    """Runs a `Graph`: `B C H W` float32 in, one tensor per output; differentiable, weights are buffers and stay fixed."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.graph = graph
        self.steps = nn.ModuleList(
            _STEPS[o.kind](o.options, {role: tensors[name] for role, name in o.weights.items()}) for o in graph.operations
        )
        self._dead_after = _values_to_free(graph)

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        values = {self.graph.input: picture}
        for operation, step, dead in zip(self.graph.operations, self.steps, self._dead_after, strict=True):
            values[operation.output] = step(*(values[i] for i in operation.inputs))
            for value in dead:
                del values[value]
        return tuple(values[i] for i in self.graph.outputs)


def _values_to_free(graph: Graph) -> list[list[int]]:
    """For each operation, the values that nothing reads after it."""
    last_use = {value: n for n, operation in enumerate(graph.operations) for value in operation.inputs}
    dead: list[list[int]] = [[] for _ in graph.operations]
    for value, n in last_use.items():
        if value not in graph.outputs:
            dead[n].append(value)
    return dead


class _Step(nn.Module):
    """One operation; its options and weights become attributes."""

    def __init__(self, options: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.options = dict(options)
        for role, tensor in weights.items():
            self.register_buffer(role, tensor)


class _Convolution(_Step):
    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        before, stride = self.options["pad"], self.options["stride"]
        if before[0] == before[1] and before[2] == before[3]:
            y = F.conv2d(x, self.weight, self.bias, stride, (before[2], before[0]), 1, self.options["groups"])
        else:
            y = F.conv2d(F.pad(x, before), self.weight, self.bias, stride, 0, 1, self.options["groups"])
        return F.relu(y) if self.options["relu"] else y


class _Add(_Step):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.relu(x + y) if self.options["relu"] else x + y


class _Relu(_Step):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class _PRelu(_Step):
    slope: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.slope)


class _MaxPool(_Step):
    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.options["size"], self.options["stride"])


class _Pad(_Step):
    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.options["pad"])


class _Resize(_Step):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=self.options["size"], mode="bilinear", align_corners=False)


class _DepthToSpace(_Step):
    def forward(self, x: Tensor) -> Tensor:
        block, (batch, channels, height, width) = self.options["block"], x.shape
        x = x.view(batch, block, block, channels // block**2, height, width)
        return x.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, height * block, width * block)


class _Rows(_Step):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.options["size"])  # B C H W -> B rows size


class _Concatenate(_Step):
    def forward(self, *xs: Tensor) -> Tensor:
        return torch.cat(xs, dim=1)


_STEPS: Mapping[str, type[_Step]] = {
    "convolution": _Convolution, "add": _Add, "relu": _Relu, "prelu": _PRelu, "max_pool": _MaxPool, "pad": _Pad,
    "resize": _Resize, "depth_to_space": _DepthToSpace, "rows": _Rows, "concatenate": _Concatenate,
}  # fmt: skip


# ---- reading --------------------------------------------------------------------------------------------------------------


def read_tflite(data: bytes) -> tuple[Graph, dict[str, Array]]:
    """The graph and the float32 weights of a .tflite file; raises ValueError naming what it does not know."""
    if data[4:8] != b"TFL3":
        raise ValueError(f"expected a TensorFlow Lite file (TFL3), got {data[4:8]!r}")
    return _join_padding(*_Reader(data).read())


class _Table:
    """A flatbuffer table: fields are found by number through its vtable."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.vtable = position - self._at("i", position)
        self.vtable_size = self._at("H", self.vtable)

    def _at(self, kind: str, position: int) -> int:
        return int(struct.unpack_from("<" + kind, self.data, position)[0])

    def _field(self, number: int) -> int:
        slot = 4 + 2 * number
        offset = self._at("H", self.vtable + slot) if slot < self.vtable_size else 0
        return self.position + offset if offset else 0

    def number(self, field: int, kind: str = "i", default: int = 0) -> int:
        at = self._field(field)
        return self._at(kind, at) if at else default

    def table(self, field: int) -> _Table | None:
        at = self._field(field)
        return _Table(self.data, at + self._at("I", at)) if at else None

    def tables(self, field: int) -> list[_Table]:
        at = self._field(field)
        start = at + self._at("I", at)
        slots = [start + 4 + 4 * i for i in range(self._at("I", start))]
        return [_Table(self.data, slot + self._at("I", slot)) for slot in slots]

    def array(self, field: int, dtype: str) -> Array:
        at = self._field(field)
        if not at:
            return np.zeros(0, dtype)
        start = at + self._at("I", at)
        return np.frombuffer(self.data, dtype, self._at("I", start), start + 4)


_TENSOR_TYPES = {0: "<f4", 1: "<f2", 2: "<i4"}
_INDEX_TYPES = {1: "<i4", 2: "<u2", 3: "<u1"}
_RELU_CODES = {0: False, 1: True}
_OPERATORS = {
    0: "add", 2: "concatenate", 3: "convolution", 4: "depthwise", 5: "depth_to_space", 6: "unpack", 17: "max_pool", 19: "relu",
    22: "rows", 23: "resize", 34: "pad", 54: "prelu", 124: "unpack",
}  # fmt: skip


class _Reader:
    """Turns the tables of one file into `Operation`s; field numbers are those of schema.fbs."""

    def __init__(self, data: bytes) -> None:
        model = _Table(data, struct.unpack_from("<I", data)[0])
        self.codes = [max(code.number(0, "b"), code.number(3)) for code in model.tables(1)]
        self.buffers = model.tables(4)
        (self.subgraph,) = model.tables(2)
        self.tensors = self.subgraph.tables(0)
        self.constants: dict[int, Array] = {}
        self.weights: dict[str, Array] = {}

    def read(self) -> tuple[Graph, dict[str, Array]]:
        for number, tensor in enumerate(self.tensors):
            values = self.buffers[tensor.number(2, "I")].array(0, "<u1")
            if values.size:
                self.constants[number] = _dense(tensor, values.view(_TENSOR_TYPES[tensor.number(1, "b")]))
        operations = [o for o in map(self._operation, self.subgraph.tables(3)) if o is not None]
        (picture,) = self.subgraph.array(1, "<i4").tolist()
        return Graph(picture, tuple(self.subgraph.array(2, "<i4").tolist()), tuple(operations)), self.weights

    def _operation(self, node: _Table) -> Operation | None:
        code = self.codes[node.number(0, "I")]
        if code not in _OPERATORS:
            raise ValueError(f"expected one of the operations {sorted(_OPERATORS)}, got built-in operation {code}")
        kind, inputs, (output,) = _OPERATORS[code], node.array(1, "<i4").tolist(), node.array(2, "<i4").tolist()
        if kind == "unpack":  # DEQUANTIZE of half floats, DENSIFY: done here, once
            self.constants[output] = self.constants[inputs[0]]
            return None
        weights: dict[str, str] = {}
        for role, array in self._weights(kind, [self.constants.get(i) for i in inputs]).items():
            weights[role] = f"{output}.{role}"
            self.weights[weights[role]] = np.ascontiguousarray(array, np.float32)
        values = tuple(i for i in inputs if i not in self.constants)
        read_options = getattr(self, f"_{kind}_options", None)
        options = read_options(node.table(4), inputs, output) if read_options else {}
        return Operation("convolution" if kind == "depthwise" else kind, values, output, weights, options)

    def _weights(self, kind: str, inputs: list[Array | None]) -> dict[str, Array]:
        if kind in ("convolution", "depthwise"):
            kernel, bias = cast(Array, inputs[1]), cast(Array, inputs[2])
            order = (0, 3, 1, 2) if kind == "convolution" else (3, 0, 1, 2)  # OHWI -> OIHW; 1HWC -> C1HW
            return {"weight": kernel.transpose(order), "bias": bias}
        return {"slope": cast(Array, inputs[1]).reshape(-1)} if kind == "prelu" else {}

    def _shape(self, value: int) -> list[int]:
        return [int(n) for n in self.tensors[value].array(0, "<i4")]

    def _convolution_options(self, table: _Table, inputs: list[int], output: int) -> dict[str, Any]:
        stride = (table.number(2), table.number(1))
        pad = self._same_padding(inputs, output, stride, self._shape(inputs[1])[1:3]) if table.number(0, "b") == 0 else [0] * 4
        return {"stride": stride, "pad": pad, "groups": 1, "relu": _RELU_CODES[table.number(3, "b")]}

    def _depthwise_options(self, table: _Table, inputs: list[int], output: int) -> dict[str, Any]:
        options = self._convolution_options(table, inputs, output)
        return options | {"groups": self._shape(inputs[0])[3], "relu": _RELU_CODES[table.number(4, "b")]}

    def _same_padding(self, inputs: list[int], output: int, stride: tuple[int, int], size: list[int]) -> list[int]:
        """[left, right, top, bottom] so that output = ceil(input / stride), the odd pixel at the end."""
        read, written = self._shape(inputs[0])[1:3], self._shape(output)[1:3]
        total = [max((written[i] - 1) * stride[i] + size[i] - read[i], 0) for i in (0, 1)]
        return [total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2]

    def _add_options(self, table: _Table, inputs: list[int], output: int) -> dict[str, Any]:
        return {"relu": _RELU_CODES[table.number(0, "b")]}

    def _max_pool_options(self, table: _Table, inputs: list[int], output: int) -> dict[str, Any]:
        size, stride = (table.number(4), table.number(3)), (table.number(2), table.number(1))
        if any(self._same_padding(inputs, output, stride, list(size))):
            raise ValueError("expected a pooling without padding")
        return {"size": size, "stride": stride}

    def _pad_options(self, table: _Table, inputs: list[int], output: int) -> dict[str, Any]:
        _, rows, columns, channels = self.constants[inputs[1]].tolist()
        return {"pad": [*columns, *rows, *channels]}

    def _resize_options(self, table: _Table, inputs: list[int], output: int) -> dict[str, Any]:
        if table.number(2, "b") or not table.number(3, "b"):
            raise ValueError("expected a resize with half-pixel centres and free corners")
        return {"size": self._shape(output)[1:3]}

    def _depth_to_space_options(self, table: _Table, inputs: list[int], output: int) -> dict[str, Any]:
        return {"block": table.number(0)}

    def _rows_options(self, table: _Table, inputs: list[int], output: int) -> dict[str, Any]:
        picture, rows = self._shape(inputs[0]), self._shape(output)
        if len(picture) != 4 or not (len(rows) == 3 or (len(rows) == 2 and picture[1:3] == [1, 1])):
            raise ValueError(f"expected a picture reshaped to rows, got {picture} to {rows}")
        return {"size": rows[-1]}


def _dense(tensor: _Table, values: Array) -> Array:
    """A stored tensor in its full shape; a sparse one has compressed rows along its last dimension."""
    shape = [int(n) for n in tensor.array(0, "<i4")]
    sparsity = tensor.table(6)
    if sparsity is None:
        return values.reshape(shape)
    *outer, last = sparsity.tables(2)
    if sparsity.array(1, "<i4").size or any(d.number(0, "b") for d in outer) or not last.number(0, "b"):
        raise ValueError("expected a tensor that is sparse in its last dimension only")
    starts, columns = (
        cast(_Table, last.table(field + 1)).array(0, _INDEX_TYPES[last.number(field, "B")]).astype(np.int64) for field in (2, 4)
    )
    dense = np.zeros((len(starts) - 1, shape[-1]), values.dtype)
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    dense[rows, columns] = values[: len(columns)]
    return dense.reshape(shape)


def _join_padding(graph: Graph, weights: dict[str, Array]) -> tuple[Graph, dict[str, Array]]:
    """Moves a spatial padding into the one convolution that reads it: the same numbers, one copy less."""
    num_readers = Counter(value for operation in graph.operations for value in operation.inputs)
    pads = {o.output: o for o in graph.operations if o.kind == "pad" and not any(o.options["pad"][4:])}
    joined = {
        o.inputs[0]
        for o in graph.operations
        if o.kind == "convolution" and not any(o.options["pad"]) and o.inputs[0] in pads and num_readers[o.inputs[0]] == 1
    }
    operations: list[Operation] = []
    for operation in graph.operations:
        if operation.inputs[0] in joined:
            pad = pads[operation.inputs[0]]
            options = {**operation.options, "pad": pad.options["pad"][:4]}
            operations.append(replace(operation, inputs=pad.inputs, options=options))
        elif operation.output not in joined:
            operations.append(operation)
    return Graph(graph.input, graph.outputs, tuple(operations)), weights
