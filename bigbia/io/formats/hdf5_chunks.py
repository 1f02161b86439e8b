"""One stored chunk of an HDF5 data set, bytes -> voxels, for the common filters.

HDF5 decodes a chunk to whatever size it unpacks to, and one at a time; here it is decoded within its declared size, in
the thread that asked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bigbia.io.chunks import MAX_FRAME, Decoder, largest_frame
from bigbia.io.formats.base import reason

_DEFLATE, _SHUFFLE, _FLETCHER = 1, 2, 3
PACKERS = {_DEFLATE: "gzip", 32015: "zstd", 32001: "blosc"}


def fetched(data: Any, start: tuple[int, ...]) -> tuple[int, bytes]:
    """Which filters were left out of a chunk, and its bytes as they are stored.

    HDF5 is not made for threads: h5py takes its lock for every call, but older releases forgot it for this one.
    """
    from h5py._objects import phil

    with phil:
        return data.id.read_direct_chunk(start)


def unpacker(data: Any) -> Unpacker | None:
    """How a chunk is decoded here, None where HDF5 must do it."""
    plan = data.id.get_create_plist()
    steps = tuple(plan.get_filter(i)[0] for i in range(plan.get_nfilters()))
    packers = [s for s in steps if s in PACKERS]
    if not set(steps) <= {_SHUFFLE, _FLETCHER, *PACKERS} or len(packers) > 1:
        return None
    return Unpacker(tuple(data.chunks), data.dtype, steps)


class Unpacker:
    """The bytes of a stored chunk -> its voxels. ValueError where they are not such a chunk."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, steps: tuple[int, ...]) -> None:
        self.shape, self.dtype, self.steps = shape, np.dtype(bool) if dtype.kind == "b" else np.dtype(dtype.str), steps
        self.nbytes = math.prod(shape) * self.dtype.itemsize

    def decode(self, skipped: int, data: bytes) -> np.ndarray:
        """`skipped` has a bit for each filter that was left out for this chunk."""
        applied = [step for i, step in enumerate(self.steps) if not skipped >> i & 1]
        if len(data) > max(MAX_FRAME, largest_frame(self.nbytes)):
            raise ValueError(f"holds {len(data)} bytes, which decode to more than the {self.nbytes} that are declared")
        view: Any = data
        while applied:
            step = applied.pop()
            # A checksum beneath makes what is unpacked longer.
            size = self.nbytes + 4 * applied.count(_FLETCHER)
            if step == _FLETCHER:
                view = _checked(view)
            elif step == _SHUFFLE:
                view = _unshuffled(view, self.dtype.itemsize)
            else:
                view = Decoder((size,), np.dtype("u1"), (PACKERS[step],)).decode(view)
        if memoryview(view).nbytes != self.nbytes:
            raise ValueError(f"holds {memoryview(view).nbytes} bytes, {self.nbytes} are declared")
        return np.frombuffer(view, self.dtype).reshape(self.shape)


def _checked(data: Any) -> bytes:
    """The bytes before their Fletcher-32 checksum, once it fits."""
    import numcodecs

    try:
        return bytes(numcodecs.Fletcher32().decode(bytes(data)))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"checksum mismatch ({reason(error)})") from None


def _unshuffled(data: Any, itemsize: int) -> Any:
    """Bytes that stand by their place in a value, back in values."""
    from numcodecs import Shuffle

    if memoryview(data).nbytes % itemsize:
        raise ValueError(f"holds {memoryview(data).nbytes} bytes, which are no values of {itemsize}")
    return Shuffle(itemsize).decode(data) if itemsize > 1 else data
