"""Reading a source through a cache of decoded chunks.

Blocks overlap by their halos, and a Zarr chunk costs about a millisecond to reach whatever its size. One cache a
process, bounded in bytes, least recently used goes first; a chunk that two threads want at once is decoded once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from itertools import product
from typing import Any

import numpy as np

from bigbia import config
from bigbia.graph.boxes import Box, shape_of, slices, volume

LIMIT = 256 << 20  # more than this saves nothing: blocks come in Morton order


class ChunkCache:
    """Decoded chunks by (source token, chunk index)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple, np.ndarray] = OrderedDict()
        self._coming: dict[tuple, threading.Event] = {}
        self.bytes = 0

    @property
    def capacity(self) -> int:
        return min(LIMIT, int(float(config.get("cache")) * config.memory()))

    def get(self, key: tuple, load: Any) -> np.ndarray:
        while True:
            with self._lock:
                if key in self._held:
                    self._held.move_to_end(key)
                    return self._held[key]
                event = self._coming.get(key)
                if event is None:
                    event = self._coming[key] = threading.Event()
                    break
            event.wait()
        try:
            chunk = load()
            chunk.flags.writeable = False
            capacity = self.capacity
            with self._lock:
                if chunk.nbytes <= capacity // 4:
                    self._held[key] = chunk
                    self.bytes += chunk.nbytes
                    while self.bytes > capacity:
                        _, old = self._held.popitem(last=False)
                        self.bytes -= old.nbytes
        finally:
            with self._lock:
                del self._coming[key]
            event.set()
        return chunk

    def clear(self) -> None:
        with self._lock:
            self._held.clear()
            self.bytes = 0


CACHE = ChunkCache()


def read(source: Any, box: Box) -> np.ndarray:
    """The voxels of a box of a source."""
    shape, chunks = source.shape, source.chunks
    inside = tuple((a // c, -(-b // c)) for (a, b), c in zip(box, chunks))
    covered = tuple((i * c, min(j * c, n)) for (i, j), c, n in zip(inside, chunks, shape))
    if covered == box or volume(covered) > 64 * volume(box) or not box:
        return source.read(box)  # whole chunks, or a sliver of huge ones: nothing to share
    out = np.empty(shape_of(box), source.dtype)
    for index in product(*(range(i, j) for i, j in inside)):
        origin = tuple((i * c, min((i + 1) * c, n)) for i, c, n in zip(index, chunks, shape))
        part = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(box, origin))
        chunk = CACHE.get((source.token, index), lambda origin=origin: source.read(origin))
        out[slices(part, box)] = chunk[slices(part, origin)]
    return out
