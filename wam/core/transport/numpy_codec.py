# SPDX-License-Identifier: Apache-2.0
"""A codec for payloads of numpy arrays: what the fakes, the tests and the benches hand over."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from wam.core.context import TensorSpec
from wam.core.transport.layout import DTYPE_BYTES, pack, tensor_bytes

_NAMES = {np.dtype(name): name for name in DTYPE_BYTES if name != "bfloat16"}
"""Types of native byte order; asking a dtype for its name takes ten times as long."""

Arrays = Mapping[str, npt.NDArray[np.generic]]


class NumpyCodec:
    """Turns a mapping from names to arrays into bytes and back.

    Args:
        bfloat16: names of the arrays that hold bfloat16. Numpy has no such type: they are uint16 arrays on
            both sides, two bytes an element, and travel under their true name.
    """

    def __init__(self, *, bfloat16: frozenset[str] = frozenset()) -> None:
        self._bfloat16 = bfloat16

    def specs(self, payload: Arrays) -> tuple[TensorSpec, ...]:
        """Return the table of the arrays in the order of the mapping.

        Raises:
            ValueError: an array's dtype cannot travel, or a bfloat16 array is not uint16.
        """
        return pack([(name, self._dtype(name, array), array.shape) for name, array in payload.items()])

    def write(self, payload: Arrays, into: memoryview) -> None:
        """Copy every array to its offset; arrays that are not contiguous are copied row by row."""
        for spec in self.specs(payload):
            np.copyto(_view(spec, into), payload[spec.name], casting="no")

    def read(self, specs: tuple[TensorSpec, ...], data: memoryview) -> dict[str, npt.NDArray[np.generic]]:
        """Return views of `data`, read-only where `data` is; bfloat16 appears as uint16."""
        return {spec.name: _view(spec, data) for spec in specs}

    def _dtype(self, name: str, array: npt.NDArray[np.generic]) -> str:
        dtype = _NAMES.get(array.dtype)
        if name in self._bfloat16:
            if dtype != "uint16":
                raise ValueError(
                    f"array {name!r} is bfloat16 by name and {array.dtype} by type; allowed: uint16"
                )
            return "bfloat16"
        if dtype is None:
            raise ValueError(f"array {name!r} has dtype {array.dtype}; allowed: {', '.join(DTYPE_BYTES)}")
        return dtype


def _view(spec: TensorSpec, data: memoryview) -> npt.NDArray[np.generic]:
    dtype = np.dtype("uint16" if spec.dtype == "bfloat16" else spec.dtype)
    room = data[spec.byte_offset : spec.byte_offset + tensor_bytes(spec)]
    return np.ndarray(spec.shape, dtype=dtype, buffer=room)
