"""Arrays made smaller for scratch, in pieces along their first axis, so that some rows are read without the others.

Blosc with LZ4 and a byte shuffle: a few nanoseconds a voxel. A piece that hardly gets smaller is left as it is.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

PIECE = 1 << 20  # bytes of the array in a piece
LEAST = 1 << 12  # smaller arrays are not worth it
WORTH = 0.7  # of its size; a piece that stays larger is left as it is
PROBE = 1 << 14  # voxels from its middle that are tried first


class Pieces(NamedTuple):
    """The pieces of an array: rows in each but the last, their bytes, and sums that tell damage."""

    rows: int
    data: list[Any]
    sums: list[int]


def packed(array: np.ndarray) -> Pieces | None:
    """The pieces of a contiguous array; None where none of them gets smaller."""
    if array.nbytes < LEAST:
        return None
    rows = max(1, PIECE // (array.nbytes // len(array)))
    codec = _codec()
    data: list[Any] = []
    for first in range(0, len(array), rows):
        piece = array[first : first + rows].reshape(-1)
        middle = piece[(len(piece) - PROBE) // 2 :][:PROBE] if len(piece) > 4 * PROBE else piece
        small = codec.encode(middle)
        worth = len(small) <= WORTH * middle.nbytes
        if worth and middle is not piece:
            small = codec.encode(piece)
            worth = len(small) <= WORTH * piece.nbytes
        data.append(small if worth else piece.view(np.uint8).data)
    if sum(map(len, data)) == array.nbytes:
        return None
    return Pieces(rows, data, list(map(checksum, data)))


def checksum(data: Any) -> int:
    """A sum that tells damage, at the speed of memory."""
    import google_crc32c

    return google_crc32c.value(np.frombuffer(data, np.uint8)) if len(data) else 0  # it takes no memoryview


def unpack(data: Any, total: int, size: int, out: np.ndarray, first: int) -> None:
    """Fill `out`, bytes, from byte `first` on of a piece that has `size`. ValueError where it is damaged."""
    if checksum(data) != total:
        raise ValueError
    if len(data) < size and len(out) == size:
        _codec().decode(data, out=out)
    else:
        whole = np.frombuffer(data if len(data) == size else _codec().decode(data), np.uint8)
        out[:] = whole[first : first + len(out)]


@functools.cache
def _codec() -> Any:
    from numcodecs.blosc import Blosc

    return Blosc("lz4", clevel=5, shuffle=Blosc.SHUFFLE)
