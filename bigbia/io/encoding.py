"""One file of a Zarr array that bigbia writes, voxels -> bytes: the counterpart of `io/chunks.py`.

A chunk's bytes are those that zarr-python writes; a shard holds its chunks in raster order, all of them that have
voxels in the image, zeros too. They are made here so that a file can be hashed as it is written, brought to the disk and
put in place by its task, and because zarr spends about a millisecond of the interpreter's time on a chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from bigbia.errors import ParameterError
from bigbia.io.chunks import ABSENT, Decoder, Shards, decoder_of

LEVEL = 1  # of zstd: the best trade of time for size on images and labels


class Encoder:
    """Encodes the files of one array, by its metadata document: chunks, or shards of chunks."""

    def __init__(self, meta: Mapping[str, Any]) -> None:
        found = decoder_of(meta)
        if found is None:
            raise ParameterError("an array in these codecs is not written by bigbia: make it with create_image")
        self.fill = meta.get("fill_value") or 0
        self.shards = found if isinstance(found, Shards) else None
        self.chunk: Decoder = found.inner if isinstance(found, Shards) else found
        self.shape = found.shape

    def encode(self, voxels: np.ndarray) -> bytes:
        """The file of some voxels: a whole chunk or shard, or the part of one that lies within the image."""
        inside = voxels.shape
        if inside != self.shape:
            padded = np.full(self.shape, self.fill, voxels.dtype)
            padded[tuple(slice(0, n) for n in voxels.shape)] = voxels
            voxels = padded
        return self._chunk(voxels) if self.shards is None else self._shard(self.shards, voxels, inside)

    def _chunk(self, voxels: np.ndarray) -> bytes:
        data: Any = np.ascontiguousarray(voxels, self.chunk.dtype)
        for step in reversed(self.chunk.steps):
            if step == "zstd":
                from numcodecs.zstd import Zstd

                data = Zstd(LEVEL).encode(data)
            elif step == "blosc":
                from numcodecs.blosc import Blosc

                data = Blosc("zstd", LEVEL, Blosc.SHUFFLE).encode(data)
            elif step == "crc32c":
                import google_crc32c

                data = bytes(data)
                data += google_crc32c.value(data).to_bytes(4, "little")
            else:
                raise ParameterError(f"codec {step!r} is not written by bigbia: make the array with create_image")
        return bytes(data)

    def _shard(self, shards: Shards, voxels: np.ndarray, inside: tuple[int, ...]) -> bytes:
        import google_crc32c

        chunks, at = [], 0 if shards.at_end else shards.index_bytes
        index = np.full((*shards.grid, 2), ABSENT, "<u8")
        for place in product(*(range(-(-n // c)) for n, c in zip(inside, shards.inner.shape))):
            inner = tuple(slice(i * n, (i + 1) * n) for i, n in zip(place, shards.inner.shape))
            data = self._chunk(voxels[inner])
            index[place] = at, len(data)
            chunks.append(data)
            at += len(data)
        table = index.tobytes()
        table += google_crc32c.value(table).to_bytes(4, "little")
        return b"".join([*chunks, table] if shards.at_end else [table, *chunks])
