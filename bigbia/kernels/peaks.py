"""Which voxels are the highest of their neighbourhood, and the order of values as whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numba as nb
import numpy as np

from bigbia.kernels.extrema import ascending
from bigbia.kernels.values import readonly

_njit = nb.njit(nogil=True, cache=True, error_model="numpy")

_WIDE = 2048  # bytes of each line that are worked on together: a buffer of a few dozen of them stays in the cache


# ---- values in order -------------------------------------------------------------------------------------------------
def keys(values: np.ndarray) -> np.ndarray:
    """uint64 numbers in the order of the values (bool, integers or floats without NaN); -0.0 is 0.0."""
    if values.dtype.kind == "f":
        bits = (values.astype(np.float64) + 0.0).view(np.uint64)
        return np.where(bits >> np.uint64(63), ~bits, bits | np.uint64(1 << 63))
    if values.dtype.kind == "i":
        return values.astype(np.int64).view(np.uint64) ^ np.uint64(1 << 63)
    return values.astype(np.uint64)


def values_of(keys: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The values again."""
    if dtype.kind == "f":
        top = np.uint64(1 << 63)
        return np.where(keys & top, keys ^ top, ~keys).view(np.float64).astype(dtype)
    if dtype.kind == "i":
        return (keys ^ np.uint64(1 << 63)).view(np.int64).astype(dtype)
    return keys.astype(dtype)


# ---- the highest of a box --------------------------------------------------------------------------------------------
def highest_in_box(
    block: np.ndarray, before: Sequence[int], after: Sequence[int], core: Sequence[slice] | None = None
) -> np.ndarray:
    """Of each voxel whether none in the box around it is higher; bool.

    The box reaches so many voxels `before` and `after` it along each axis, and ends where the block does. Of bool,
    integers and floats without NaN.
    """
    core = [slice(0, n) for n in block.shape] if core is None else list(core)
    start = data = ascending(block)
    for axis, (b, a) in enumerate(zip(before, after)):
        if b or a:
            data = _running(data, axis, b, a, core[axis].start, core[axis].stop)
        else:
            data = data[(slice(None),) * axis + (core[axis],)]
    return start[tuple(core)] >= data


def _running(data: np.ndarray, axis: int, before: int, after: int, first: int, last: int) -> np.ndarray:
    """The highest of before + 1 + after voxels along an axis, at the places first to last of it."""
    outer, n = int(np.prod(data.shape[:axis])), data.shape[axis]
    before, after = min(before, n), min(after, n)
    lines = readonly(data.reshape(outer, n, -1))
    inner = lines.shape[2]
    out = np.empty((outer, last - first, inner), data.dtype)
    length = last - first + before + after
    lowest = data.dtype.type(-np.inf if data.dtype.kind == "f" else 0)
    if inner == 1:
        _along(lines[:, :, 0], before, after, first, lowest, np.empty((2, length), data.dtype), out[:, :, 0])
    else:
        width = min(inner, max(1, _WIDE // data.dtype.itemsize))
        _across(lines, before, after, first, lowest, np.empty((length, width), data.dtype), out)
    return out.reshape(*data.shape[:axis], last - first, *data.shape[axis + 1 :])


@_njit
def _along(lines, before, after, first, lowest, rows, out):
    """Along the voxels of each line: the highest of 2, then of 4, 8, ...; two of those overlapping are the window."""
    n = lines.shape[1]
    length, wide = rows.shape[1], before + after + 1
    for o in range(lines.shape[0]):
        line, a, b = lines[o], rows[0], rows[1]
        for j in range(length):
            p = first - before + j
            a[j] = line[p] if 0 <= p < n else lowest
        k, m = 1, length
        while 2 * k <= wide:
            m -= k
            low, high = a[:m], a[k : k + m]
            for j in range(m):
                b[j] = low[j] if low[j] > high[j] else high[j]
            a, b = b, a
            k *= 2
        to = out[o]
        low, high = a[: to.size], a[wide - k : wide - k + to.size]
        for j in range(to.size):
            to[j] = low[j] if low[j] > high[j] else high[j]


@_njit
def _across(lines, before, after, first, lowest, rows, out):
    """The same over whole rows of voxels."""
    n, inner = lines.shape[1], lines.shape[2]
    length, width = rows.shape
    wide = before + after + 1
    for o in range(lines.shape[0]):
        for c in range(0, inner, width):
            w = min(width, inner - c)
            for i in range(length):
                p = first - before + i
                to = rows[i]
                if 0 <= p < n:
                    line = lines[o, p, c : c + w]
                    for j in range(w):
                        to[j] = line[j]
                else:
                    for j in range(w):
                        to[j] = lowest
            k, m = 1, length
            while 2 * k <= wide:
                m -= k
                for i in range(m):
                    to, high = rows[i], rows[i + k]
                    for j in range(w):
                        to[j] = to[j] if to[j] > high[j] else high[j]
                k *= 2
            for i in range(out.shape[1]):
                to, low, high = out[o, i, c : c + w], rows[i], rows[i + wide - k]
                for j in range(w):
                    to[j] = low[j] if low[j] > high[j] else high[j]


def mark_ties(
    block: np.ndarray,
    groups: np.ndarray | None,
    before: Sequence[int],
    after: Sequence[int],
    core: Sequence[slice],
    state: np.ndarray,
    wanted: int,
    mark: int,
) -> None:
    """Mark the voxels of the core with the bit `wanted` that have another in the box around them, equal and of their group.

    `state`, uint8 and of the core, gets the bit `mark`.
    """
    data = ascending(block)
    names = data if groups is None else _names(groups)  # equal voxels of one group, or simply equal
    ends = np.array([(c.start, b, a) for c, b, a in zip(core, before, after)], np.int64).reshape(-1, 3)
    shapes = np.array([state.shape, data.shape], np.int64)
    _mark_ties(data.reshape(-1), names.reshape(-1), ends, shapes, state.reshape(-1), wanted, mark)


def _names(labels: np.ndarray) -> np.ndarray:
    """Labels as one of the two dtypes that kernels are made for."""
    return np.ascontiguousarray(labels, np.uint32 if labels.dtype.itemsize <= 4 else np.uint64)


@_njit
def _mark_ties(data, names, ends, shapes, state, wanted, mark):
    ndim = ends.shape[0]
    last = ndim - 1
    low, high, place = np.empty(ndim, np.int64), np.empty(ndim, np.int64), np.empty(ndim, np.int64)
    for i in range(state.size):
        if not state[i] & wanted:
            continue
        rest, p, stride = i, 0, 1
        for a in range(last, -1, -1):
            at = rest % shapes[0, a] + ends[a, 0]
            rest //= shapes[0, a]
            low[a], high[a] = max(at - ends[a, 1], 0), min(at + ends[a, 2] + 1, shapes[1, a])
            p += at * stride
            stride *= shapes[1, a]
        v, name = data[p], names[p]
        # on a plateau the voxel beside it says so at once
        if high[last] > p % shapes[1, last] + 1 and data[p + 1] == v and names[p + 1] == name:
            state[i] |= mark
            continue
        for a in range(ndim):
            place[a] = low[a]
        while True:
            q = 0
            for a in range(ndim):
                q = q * shapes[1, a] + place[a]
            found = False
            for k in range(q, q + high[last] - low[last]):
                if data[k] == v and k != p and names[k] == name:
                    found = True
                    break
            if found:
                state[i] |= mark
                break
            a = last - 1
            while a >= 0:
                place[a] += 1
                if place[a] < high[a]:
                    break
                place[a] = low[a]
                a -= 1
            if a < 0:
                break


# ---- the highest of an object's own voxels ---------------------------------------------------------------------------
def highest_of_label(
    block: np.ndarray,
    labels: np.ndarray,
    footprint: np.ndarray,
    surely: np.ndarray,
    core: Sequence[slice],
) -> np.ndarray:
    """Of each labelled voxel whether none of its label in the footprint around it is higher; bool, of the core.

    `surely`, of the core: voxels of which this is known.
    """
    margins = [(n // 2, n - n // 2 - 1) for n in footprint.shape]
    data = np.pad(ascending(block), margins)
    names = np.pad(_names(labels), margins)
    steps = np.argwhere(footprint) - [b for b, _ in margins]
    steps = steps[np.argsort((steps**2).sum(axis=1), kind="stable")]  # what is higher is mostly near
    strides = np.array([int(np.prod(data.shape[a + 1 :])) for a in range(data.ndim)], np.int64)
    at = np.zeros(1, np.int64)
    for (b, _), part, stride in zip(margins[:-1], core[:-1], strides[:-1]):
        at = (at[:, None] + stride * (b + np.arange(part.start, part.stop))).reshape(-1)
    at += margins[-1][0] + core[-1].start
    out = np.zeros((len(at), core[-1].stop - core[-1].start), bool)
    _highest_of_label(
        data.reshape(-1), names.reshape(-1), steps @ strides, at, np.ascontiguousarray(surely).reshape(out.shape), out
    )
    return out.reshape(surely.shape)


@_njit
def _highest_of_label(data, names, steps, lines, surely, out):
    for i in range(lines.size):
        for j in range(out.shape[1]):
            p = lines[i] + j
            if names[p] == 0:
                continue
            highest = True
            if not surely[i, j]:
                v, name = data[p], names[p]
                for s in steps:
                    if data[p + s] > v and names[p + s] == name:
                        highest = False
                        break
            out[i, j] = highest


def isolated(labels: np.ndarray) -> np.ndarray:
    """Labelled voxels in no cross of voxels of their label: what opening each object by faces takes away; bool.

    A cross is a voxel and all that share a face with it. Of a voxel it says what is right for the whole image where the
    block reaches 2 voxels beyond it.
    """
    full = labels != 0
    for axis in range(labels.ndim):
        low, high = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        same = labels[low] == labels[high]
        full[low] &= same
        full[high] &= same
        full[(slice(None),) * axis + (slice(0, 1),)] = False  # the image ends, or the halo does
        full[(slice(None),) * axis + (slice(-1, None),)] = False
    covered = full.copy()
    for axis in range(labels.ndim):
        low, high = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        covered[low] |= full[high]
        covered[high] |= full[low]
    return (labels != 0) & ~covered
