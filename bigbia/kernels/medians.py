"""The voxel of any rank in a neighbourhood, exactly: by a network of comparisons, a row at a time.

    columns of the footprint, sorted once        S[x]
    two neighbouring ones merged, once           P[x] = S[x] + S[x+1]
    ... and those                                Q[x] = P[x] + P[x+2]
    the voxel of a rank of the last two lists    min over i of max(a[i], b[rank - 1 - i])

Lists are merged by Batcher's odd-even networks, and a comparison that no result needs is left out. Which comparisons
are made depends on the footprint alone; each is made for a whole row of voxels, which vectorises. In large footprints
ranks are read off a histogram instead (`kernels/ranks.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numba as nb
import numpy as np

from bigbia.kernels.ranks import key_of, keys, reach_of_mask, slid, together, values
from bigbia.kernels.rows import Rows, rows_of

_njit = nb.njit(nogil=True, cache=True, error_model="numpy")
_LOAD, _BOTH, _LOW, _HIGH, _FIRST, _NEXT = range(6)
_ROOM = 1 << 18  # bytes of rows at a time

Value = int
Values = list[Value]


def ranked(
    block: np.ndarray,
    *,
    core: Sequence[slice] | None = None,
    footprint: np.ndarray,
    rank: int,
    mode: str = "reflect",
    cval: float = 0.0,
) -> np.ndarray:
    """Of each neighbourhood the voxel that comes at a rank, 0 for the least; the centre of a footprint is n // 2."""
    image = keys(block)
    fill = key_of(cval, block.dtype) if mode == "constant" else 0
    if np.count_nonzero(footprint) > _most(image.itemsize):
        core = [slice(0, n) for n in block.shape] if core is None else core
        return values(slid(image, core, footprint, rank, mode, fill), block.dtype)
    rows = rows_of(image, core, reach_of_mask(footprint), mode, fill)
    out = rows.empty(image.dtype)
    run_network(rows, footprint, rank, out)
    return values(out.reshape(rows.shape), block.dtype)


def _most(itemsize: int) -> int:
    """Voxels of the footprint up to which a network is faster than a histogram."""
    return 250 if itemsize == 1 else 350


def price(footprint: np.ndarray, dtype: np.dtype) -> tuple[float, float]:
    """Nanoseconds and temporary bytes a voxel that `ranked` takes, about."""
    width = max(dtype.itemsize, 4 if dtype.kind == "f" else 1)
    count = int(np.count_nonzero(footprint))
    if count <= _most(width):
        return 1 + 0.03 * count * math.log2(count) * (1 + width), 3.0 * width
    runs = int(np.count_nonzero(np.diff(footprint.astype(np.int8), axis=-1, prepend=0) == 1))
    start, step = {1: (20, 3.0), 2: (80, 4.0)}.get(width, (100, 9.5))
    return start + step * runs, 2.0 * width + 4


def run_network(rows: Rows, footprint: np.ndarray, rank: int, out: np.ndarray) -> None:
    program, leaves, slots, result = network(footprint.tobytes(), footprint.shape, rank)
    offsets = (leaves - np.array([n // 2 for n in footprint.shape])) @ np.asarray(rows.strides, np.int64)
    most = int(program[:, 7].max())
    tile = min(512, max(96, _ROOM // (slots * out.itemsize)))
    buffer = np.empty((slots, tile + most + 8), out.dtype)
    _network(rows.flat, rows.starts, program, offsets.astype(np.int64), result, tile, buffer, out)


# ---- the network -----------------------------------------------------------------------------------------------------
@lru_cache(32)
def network(mask: bytes, shape: tuple[int, ...], rank: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """(program, places of the rows that it loads, how many rows it holds at a time, which is the result).

    A line of the program: operation, two rows of results, two rows of operands and by how much each is shifted, and how
    much longer than the result the rows are.
    """
    return _Network(np.frombuffer(mask, bool).reshape(shape), rank).compiled()


class _Network:
    """Comparisons as they are found to be needed; `compiled` drops the others and gives each value a row."""

    def __init__(self, footprint: np.ndarray, rank: int) -> None:
        self.operations: list[tuple] = []  # (operation, results, operands with shifts)
        self.count = 0
        self.leaves: list[tuple[int, ...]] = []
        self.made: dict = {}  # lists by what they are of
        columns = np.flatnonzero(footprint.any(tuple(range(footprint.ndim - 1))))
        first = int(columns[0])
        sets = {int(x): frozenset(map(tuple, np.argwhere(footprint[..., x]).tolist())) for x in columns}
        self.first = first
        parts = [(self.column(sets[x]), x - first) for x in sorted(sets)]
        while len(parts) > 2:
            parts = [
                self.joined(*parts[k : k + 2]) if k + 1 < len(parts) else parts[k] for k in range(0, len(parts), 2)
            ]
        self.result = self.chosen(parts, rank)

    def new(self, operation: int, operands: tuple) -> Value:
        self.operations.append(
            (operation, (self.count, self.count + 1) if operation == _BOTH else (self.count,), operands)
        )
        self.count += 2 if operation == _BOTH else 1
        return self.operations[-1][1][0]

    def compared(self, a: Value, b: Value, shift: int = 0) -> tuple[Value, Value]:
        low = self.new(_BOTH, ((a, 0), (b, shift)))
        return low, low + 1

    def column(self, places: frozenset) -> tuple:
        """The sorted voxels of a column, by way of the largest column within it that there is."""
        if places not in self.made:
            within = max(
                (p for p in self.made if isinstance(p, frozenset) and p < places), key=len, default=frozenset()
            )
            rest = self.sorted(sorted(places - within))
            self.made[places] = self.merged(self.made[within], rest) if within else rest
        return (places,)

    def sorted(self, places: list) -> Values:
        if len(places) == 1:
            self.leaves.append((*places[0], self.first))
            return [self.new(_LOAD, ((len(self.leaves) - 1, 0),))]
        half = len(places) // 2
        return self.merged(self.sorted(places[:half]), self.sorted(places[half:]))

    def merged(self, a: Values, b: Values, shift: int = 0) -> Values:
        """Batcher's odd-even merge; the second list is shifted where it is first looked at."""
        return self._merged([(v, 0) for v in a], [(v, shift) for v in b])

    def _merged(self, a: list, b: list) -> list:
        if not a or not b:
            return [v if s == 0 else self.new(_LOW, ((v, s), (v, s))) for v, s in a or b]
        if len(a) == len(b) == 1:
            low = self.new(_BOTH, (a[0], b[0]))
            return [low, low + 1]
        even, odd = self._merged(a[::2], b[::2]), self._merged(a[1::2], b[1::2])
        out = [even[0]]
        for k in range(max(len(odd), len(even) - 1)):
            if k >= len(odd):
                out.append(even[k + 1])
            elif k + 1 >= len(even):
                out.append(odd[k])
            else:
                out.extend(self.compared(odd[k], even[k + 1]))
        return out

    def joined(self, one: tuple, two: tuple) -> tuple:
        (key, at), (other, then) = one, two
        both = (key, other, then - at)
        if both not in self.made:
            self.made[both] = self.merged(self.voxels(key), self.voxels(other), then - at)
        return both, at

    def voxels(self, key: tuple) -> Values:
        return self.made[key[0] if len(key) == 1 else key]

    def chosen(self, parts: list, rank: int) -> Value:
        """The value of a rank in two sorted lists, or one."""
        lists = [[(v, at) for v in self.voxels(key)] for key, at in parts] + [[]] * (2 - len(parts))
        best = None
        for i in range(rank + 2):
            j = rank + 1 - i
            if i > len(lists[0]) or j > len(lists[1]):
                continue
            pair = ([lists[0][i - 1]] if i else []) + ([lists[1][j - 1]] if j else [])
            two = (pair[0], pair[-1])
            best = self.new(_FIRST, two) if best is None else self.new(_NEXT, (*two, (best, 0)))
        assert best is not None
        return best

    def compiled(self) -> tuple[np.ndarray, np.ndarray, int, int]:
        longer: dict[Value, int] = {self.result: 0}  # of the values that are needed: how much
        kept = []
        for operation, results, operands in reversed(self.operations):
            needed = [r for r in results if r in longer]
            if not needed:
                continue
            extra = max(longer[r] for r in needed)
            if operation == _BOTH and len(needed) == 1:
                operation, results = (_LOW if needed[0] == results[0] else _HIGH), (needed[0],)
            kept.append((operation, results, operands, extra))
            if operation != _LOAD:
                for value, shift in operands:
                    longer[value] = max(longer.get(value, 0), extra + shift)
        kept.reverse()
        last = {v: k for k, (op, _, operands, _) in enumerate(kept) if op != _LOAD for v, _ in operands}
        program = np.zeros((len(kept), 8), np.int64)
        row: dict[Value, int] = {}
        free: list[int] = []
        slots = 0
        for k, (operation, results, operands, extra) in enumerate(kept):
            ended = [] if operation == _LOAD else list(dict.fromkeys(v for v, _ in operands if last[v] == k))
            if operation == _NEXT:
                row[results[0]] = row[operands[2][0]]  # in its place
                ended = [v for v in ended if v != operands[2][0]]
            else:
                for r in results:
                    if not free:
                        free.append(slots)
                        slots += 1
                    row[r] = free.pop()
            program[k, 0], program[k, 1], program[k, 2], program[k, 7] = (
                operation,
                row[results[0]],
                row[results[-1]],
                extra,
            )
            (a, s), (b, t) = (operands * 2)[:2]
            program[k, 3:7] = (a, 0, 0, 0) if operation == _LOAD else (row[a], s, row[b], t)
            free.extend(row[v] for v in ended)
        return program, np.array(self.leaves), slots, row[self.result]


# ---- running it ------------------------------------------------------------------------------------------------------
@_njit
def _both(low, high, a, b):
    for i in range(low.size):
        x, y = a[i], b[i]
        low[i] = x if x < y else y
        high[i] = y if x < y else x


@_njit
def _low(out, a, b):
    for i in range(out.size):
        out[i] = a[i] if a[i] < b[i] else b[i]


@_njit
def _high(out, a, b):
    for i in range(out.size):
        out[i] = b[i] if a[i] < b[i] else a[i]


@_njit
def _next(out, a, b):
    for i in range(out.size):
        x = b[i] if a[i] < b[i] else a[i]
        out[i] = x if x < out[i] else out[i]


@_njit
def _copy(out, a):
    for i in range(out.size):
        out[i] = a[i]


@_njit
def _network(flat, starts, program, places, result, tile, buffer, out):
    length = out.shape[1]
    row = 0
    while row < starts.size:
        some = together(starts, row, length, tile)
        span = starts[row + some - 1] - starts[row] + length
        for x0 in range(0, span, tile):
            n = min(tile, span - x0)
            at = starts[row] + x0
            for k in range(program.shape[0]):
                operation = program[k, 0]
                m = n + program[k, 7]
                d, e = program[k, 1], program[k, 2]
                a, s, b, t = program[k, 3], program[k, 4], program[k, 5], program[k, 6]
                if operation == 1:
                    _both(buffer[d, :m], buffer[e, :m], buffer[a, s : s + m], buffer[b, t : t + m])
                elif operation == 5:
                    _next(buffer[d, :m], buffer[a, s : s + m], buffer[b, t : t + m])
                elif operation == 2:
                    _low(buffer[d, :m], buffer[a, s : s + m], buffer[b, t : t + m])
                elif operation == 0:
                    p = at + places[a]
                    _copy(buffer[d, :m], flat[p : p + m])
                else:
                    _high(buffer[d, :m], buffer[a, s : s + m], buffer[b, t : t + m])
            if some == 1:
                _copy(out[row, x0 : x0 + n], buffer[result, :n])
            else:
                for q in range(some):
                    p = starts[row + q] - starts[row]
                    _copy(out[row + q], buffer[result, p : p + length])
        row += some
