"""Reading a source through a cache of decoded chunks; and having the memory of finished tasks given back.

Blocks overlap by their halos, and a Zarr chunk costs about a millisecond to reach whatever its size. One cache a
process, bounded in bytes, least recently used goes first; a chunk that two threads want at once is decoded once.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import time
from collections import OrderedDict
from itertools import product
from typing import Any

import numpy as np

from bigbia import config
from bigbia.graph.boxes import Box, shape_of, slices, volume

LIMIT = 256 << 20  # more than this saves nothing: blocks come in Morton order

# Bytes of Python and its libraries with kernels of every kind loaded, 342 MiB measured (tests/test_memory.py). The share
# of the memory setting that the cache may have is of what is left.
RESERVED = 352 << 20


def capacity(memory: int | None = None) -> int:
    """Bytes that decoded chunks may take, of a memory setting."""
    memory = config.memory() if memory is None else memory
    return max(0, min(LIMIT, int(config.cache_share() * (memory - RESERVED))))


class ChunkCache:
    """Decoded chunks by (source token, chunk index)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple, np.ndarray] = OrderedDict()
        self._coming: dict[tuple, threading.Event] = {}
        self.bytes = 0

    @property
    def capacity(self) -> int:
        return capacity()

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


# ---- what the allocator keeps ----------------------------------------------------------------------------------------
FULL = 0.7  # of the memory setting: from then on what is free is given back; the rest is for tasks that are under way
TIGHT = 0.8  # of the memory setting: from then on large arrays go back to the system at once
LARGE = 1 << 20  # bytes of a large array
OFTEN = 0.1  # seconds from one time to the next
_M_MMAP_THRESHOLD = -3
_last = 0.0


def relieve() -> None:
    """Called after a block task: have free memory given back to the system where the process nears its setting.

    The allocator keeps what threads have freed, up to some dozens of MiB each, for what they ask for next. To give
    everything back at once, always, costs a filter half its time: it is done from the moment that memory is tight.
    """
    global _last
    now = time.monotonic()
    if now - _last <= OFTEN:
        return
    _last = now
    share = resident() / config.memory()
    allocator = _allocator()
    if share > FULL and allocator is not None:
        if share > TIGHT:
            allocator.mallopt(_M_MMAP_THRESHOLD, LARGE)
        allocator.malloc_trim(0)


def resident() -> int:
    """Bytes of memory that this process has; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


@functools.cache
def _allocator() -> Any:
    """The GNU C library; None where there is another one."""
    try:
        library = ctypes.CDLL(None)
        return library if library.malloc_trim and library.mallopt else None
    except (OSError, AttributeError, TypeError):
        return None


def _inside(source: Any, box: Box) -> Box:
    """The chunks that a box touches, from and to along each axis."""
    return tuple((a // c, -(-b // c)) for (a, b), c in zip(box, source.chunks))


def whole_chunks(source: Any, box: Box) -> bool:
    """Whether a box is whole chunks, or a sliver of huge ones: nothing to share."""
    chunks = zip(_inside(source, box), source.chunks, source.shape)
    covered = tuple((i * c, min(j * c, n)) for (i, j), c, n in chunks)
    return covered == box or volume(covered) > 64 * volume(box)


def read(source: Any, box: Box) -> np.ndarray:
    """The voxels of a box of a source."""
    shape, chunks = source.shape, source.chunks
    if not box or whole_chunks(source, box):
        return source.read(box)
    inside = _inside(source, box)
    out = np.empty(shape_of(box), source.dtype)
    for index in product(*(range(i, j) for i, j in inside)):
        origin = tuple((i * c, min((i + 1) * c, n)) for i, c, n in zip(index, chunks, shape))
        part = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(box, origin))
        chunk = CACHE.get((source.token, index), lambda origin=origin: source.read(origin))
        out[slices(part, box)] = chunk[slices(part, origin)]
    return out
