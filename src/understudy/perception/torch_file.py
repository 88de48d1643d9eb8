"""Reads the tensors of a weight file that an early PyTorch saved, without unpickling anything.

The file is five pickles (a magic number, the protocol, the system, the dictionary, the storages' names) and then each storage:
its length as an 8-byte integer and its float32 values. The pickles are only taken apart by `pickletools`, which executes
nothing; the dictionary names each tensor and, after it, the storage that holds it.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Operation = tuple[Any, Any, Any]

_MAGIC = 0x1950A86A20F9469CFC6C


def read_torch_file(data: bytes) -> dict[str, NDArray[Any]]:
    """The tensors by name; raises ValueError when the file is of another kind."""
    file = io.BytesIO(data)
    try:
        pickles = [list(pickletools.genops(file)) for _ in range(5)]
    except ValueError as error:
        raise ValueError(f"expected a weight file of an early PyTorch, got something else ({error})") from error
    if _MAGIC not in [argument for _, argument, _ in pickles[0]]:
        raise ValueError("expected a weight file of an early PyTorch, found no magic number")
    values = {}
    for key in _words(pickles[4]):
        length = int(np.frombuffer(file.read(8), "<i8")[0])
        values[key] = np.frombuffer(file.read(4 * length), "<f4", length)
    return {
        name: np.lib.stride_tricks.as_strided(values[key], shape, [4 * stride for stride in strides]).copy()
        for name, key, shape, strides in _tensors(pickles[3], set(values))
    }


def _words(operations: list[Operation]) -> list[str]:
    return [argument for opcode, argument, _ in operations if opcode.name == "BINUNICODE"]


def _tensors(operations: list[Operation], storages: set[str]) -> Iterator[tuple[str, str, tuple[int, ...], tuple[int, ...]]]:
    """Name, storage, shape and strides of each tensor: the words around a storage's name, and the numbers behind it."""
    name, key = "", ""
    numbers: list[int] = []
    tuples: list[tuple[int, ...]] | None = None
    for opcode, argument, _ in operations:
        if opcode.name == "BINUNICODE" and argument in storages:
            key = argument
        elif opcode.name == "BINUNICODE" and argument not in ("storage", "cpu"):
            name = argument
        elif opcode.name == "BINPERSID":  # then come the offset, the shape as a tuple, and the strides as another
            numbers, tuples = [], []
        elif tuples is not None and opcode.name in ("BININT", "BININT1", "BININT2"):
            numbers.append(argument)
        elif tuples is not None and opcode.name.startswith("TUPLE"):
            tuples.append(tuple(numbers if tuples else numbers[1:]))
            numbers = []
            if len(tuples) == 2:
                yield name, key, tuples[0], tuples[1]
                tuples = None
