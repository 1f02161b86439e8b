"""Least and greatest voxels of neighbourhoods, exactly, a row at a time.

A box is done one axis after the other, a window of n by way of windows of 4, 16, 64, ... rows, four of which
overlap at last. Of any other footprint each row is a few runs along the last axis: the extremes of the runs of each
length are worked out once, and a voxel then takes one for each run (a ball of radius 5: 81, not 515). All of it is
one row of memory against another, which vectorises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numba as nb
import numpy as np

from bigbia.kernels.ranks import key_of, keys, least_and_most, together, values
from bigbia.kernels.rows import continued, rows_of

_TILE, _BATCH = 512, 16  # voxels of a row, and rows, that are worked on together: they stay in the cache
_SHORT = 64  # rows up to which several are worked on as one
_FEW = 16  # voxels of a footprint up to which runs are not worth while
_ROOM = 1 << 24  # bytes of runs at a time
_njit = nb.njit(nogil=True, cache=True, error_model="numpy")

Steps = Sequence[tuple[np.ndarray, bool]]  # footprints, and whether their least voxel is taken or their greatest


def extreme(
    block: np.ndarray,
    *,
    core: Sequence[slice] | None = None,
    steps: Steps,
    mode: str = "reflect",
    cval: float = 0.0,
    finish: str = "",
) -> np.ndarray:
    """One least or greatest voxel after another: erosion, opening, or those of a footprint in parts.

    Each step works out what the next needs, and continues its image by `mode`: one of SciPy's, "max" or "min" of the
    dtype, or "ignore", which counts for nothing. `finish`: "above" the result, "below" it, or "between" it
    and the same with the greatest for the least.
    """
    core = [slice(0, n) for n in block.shape] if core is None else list(core)
    kind = block.dtype.newbyteorder("=")
    image = keys(block)
    out = values(_stepped(image, core, steps, kind, mode, cval), kind)
    if finish == "between":
        most = _stepped(image, core, [(f, not low) for f, low in steps], kind, mode, cval)
        out = difference(values(most, kind), out)
    elif finish:
        here = block[tuple(core)].astype(kind, copy=False)
        out = difference(here, out) if finish == "above" else difference(out, here)
    return out.astype(block.dtype, copy=False)


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b, never wrapping round: integers stop at the end of their type."""
    if a.dtype == bool:
        return a ^ b
    if a.dtype.kind == "u":
        return a - np.minimum(a, b)
    out = a - b
    if a.dtype.kind == "i":
        low, high = least_and_most(a.dtype)
        wrapped = ((a ^ b) & (a ^ out)) < 0
        if wrapped.any():
            out = np.where(wrapped, np.where(a < 0, low, high), out).astype(a.dtype)
    return out


def price(steps: Steps, dtype: np.dtype) -> tuple[float, float]:
    """Nanoseconds and temporary bytes a voxel that `extreme` takes, about."""
    width = max(dtype.itemsize, 4 if dtype.kind == "f" else 1)
    time, room = 0.2, 3.0 if len(steps) == 1 else 4.0
    for mask, _ in steps:
        runs = 0 if mask.all() else int(np.count_nonzero(np.diff(mask.astype(np.int8), axis=-1, prepend=0) == 1))
        time += 0.25 * mask.ndim + 0.05 * runs
        room = max(room, 3.0 + mask.shape[-1] / 2 if np.count_nonzero(mask) > _FEW and runs else 0)
    return time * width, room * width


def _stepped(image: np.ndarray, core: Sequence[slice], steps: Steps, dtype: np.dtype, mode: str, cval: float):
    far = [[max(0, -lo, hi) for lo, hi in _span(f)] for f, _ in steps]
    at = [0] * image.ndim  # where the image begins in the block
    for k, (footprint, low) in enumerate(steps):
        more = [sum(reach) for reach in zip([0] * image.ndim, *far[k + 1 :])]
        part = [
            slice(max(0, c.start - a - m), min(n, c.stop - a + m)) for c, a, m, n in zip(core, at, more, image.shape)
        ]
        image = _pass(image, part, footprint, low, *_border(mode, cval, low, dtype))
        at = [a + p.start for a, p in zip(at, part)]
        image.flags.writeable = k == len(steps) - 1
    return image


def _border(mode: str, cval: float, low: bool, dtype: np.dtype) -> tuple[str, int]:
    """SciPy's mode, and the key of the constant."""
    if mode == "ignore":
        mode = "max" if low else "min"
    if mode in ("max", "min"):
        if dtype.kind == "f":
            cval = np.inf if mode == "max" else -np.inf
        else:
            cval = least_and_most(dtype.newbyteorder("="))[mode == "max"]
        mode = "constant"
    return mode, key_of(cval, dtype) if mode == "constant" else 0


def _span(footprint: np.ndarray) -> list[tuple[int, int]]:
    """The first and the last place of a footprint along each axis, from its centre."""
    return [(int(at.min()) - n // 2, int(at.max()) - n // 2) for at, n in zip(np.nonzero(footprint), footprint.shape)]


def _pass(image: np.ndarray, core: Sequence[slice], footprint: np.ndarray, low: bool, mode: str, fill: int):
    span = _span(footprint)
    mask = footprint[tuple(slice(lo + n // 2, hi + n // 2 + 1) for (lo, hi), n in zip(span, footprint.shape))]
    if mask.all():
        return _box(image, core, span, low, mode, fill)
    reach = [(max(0, -lo), max(0, hi)) for lo, hi in span]
    origin = [-lo for lo, _ in span]
    out = np.empty([c.stop - c.start for c in core], image.dtype)
    if np.count_nonzero(mask) <= _FEW:
        rows = rows_of(image, core, reach, mode, fill)
        _taps(rows.flat, rows.starts, rows.places(mask, origin), low, out.reshape(-1, out.shape[-1]))
        return out
    runs = list(_runs(mask, origin))
    lengths = sorted({length for _, length in runs})
    for first, last in _slabs(core, span, image.shape, len(lengths) * image.itemsize):
        slab = [slice(core[0].start + first, core[0].start + last), *core[1:]]
        rows = rows_of(image, slab, reach, mode, fill)
        # the voxels from the first to the last that any row reads
        places = np.array([np.dot(place, rows.strides) for place, _ in runs])
        begin = int(rows.starts[0] + places.min())
        end = int(rows.starts[-1]) + max(int(p) + length - 1 for p, (_, length) in zip(places, runs)) + rows.length
        table = np.empty(len(lengths) * (end - begin), image.dtype)
        _extremes_of_runs(rows.flat[begin:end], np.array(lengths), low, table)
        table.flags.writeable = False
        which = np.array([lengths.index(length) for _, length in runs])
        part = out[first:last]
        _taps(table, rows.starts - begin, places + which * (end - begin), low, part.reshape(-1, out.shape[-1]))
    return out


def _runs(mask: np.ndarray, origin: Sequence[int]) -> Iterator[tuple[np.ndarray, int]]:
    """(place, length) of the runs of a mask along its last axis."""
    for index in np.ndindex(mask.shape[:-1]):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask[index].astype(np.int8), [0]])))
        for a, b in zip(edges[::2], edges[1::2]):
            yield np.array([*index, int(a)]) - np.asarray(origin), int(b - a)


def _slabs(core: Sequence[slice], span: Sequence, shape: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """The core in slabs along the first axis, so that the runs of one take little room; one of a line."""
    n, depth = core[0].stop - core[0].start, span[0][1] - span[0][0]
    thick = max(1, depth, _ROOM // max(1, size * int(np.prod(shape[1:]))) - depth) if len(core) > 1 else n
    for first in range(0, n, thick):
        yield first, min(n, first + thick)


def _box(image: np.ndarray, core: Sequence[slice], span: Sequence[tuple[int, int]], low: bool, mode: str, fill: int):
    wide = [(c.start + lo, c.stop + hi) for c, (lo, hi) in zip(core, span)]
    each = np.prod([b - a for a, b in wide], dtype=float) > 2 * image.size  # far more than there is: axis by axis
    if each:
        data = image
    elif all(a >= 0 and b <= n for (a, b), n in zip(wide, image.shape)):
        data = np.ascontiguousarray(image[tuple(slice(a, b) for a, b in wide)])
    else:
        data = continued(image, wide, mode, fill)
    for axis, (lo, hi) in enumerate(span):
        if each:
            data = continued(data, [wide[k] if k == axis else (0, n) for k, n in enumerate(data.shape)], mode, fill)
        if hi > lo:
            data = data.view()
            data.flags.writeable = False
            data = _along(data, axis, hi - lo + 1, low)
    return data if data.flags.writeable and data.base is None else data.copy()


def _along(x: np.ndarray, axis: int, size: int, low: bool) -> np.ndarray:
    n = x.shape[axis]
    m = n - size + 1
    shape = (*x.shape[:axis], m, *x.shape[axis + 1 :])
    outer, inner = (int(np.prod(part, dtype=np.int64)) for part in (x.shape[:axis], x.shape[axis + 1 :]))
    if inner == 1 and outer > 1 and m < _SHORT:
        # one long line, of which the windows across two rows are dropped
        line = np.empty(x.size, x.dtype)
        _along_axis(x.reshape(-1), 1, x.size - size + 1, 1, size, low, line)
        return line.reshape(outer, n)[:, :m].reshape(shape)
    out = np.empty(shape, x.dtype)
    _along_axis(x.reshape(-1), outer, m, inner, size, low, out.reshape(-1))
    return out


# ---- rows ------------------------------------------------------------------------------------------------------------
@_njit
def _least(a, b):
    return a if a < b else b


@_njit
def _most(a, b):
    return a if a > b else b


@_njit
def _four(out, a, b, c, d, low):
    if low:
        for i in range(out.size):
            out[i] = _least(_least(a[i], b[i]), _least(c[i], d[i]))
    else:
        for i in range(out.size):
            out[i] = _most(_most(a[i], b[i]), _most(c[i], d[i]))


@_njit
def _four_into(out, a, b, c, d, low):
    if low:
        for i in range(out.size):
            out[i] = _least(out[i], _least(_least(a[i], b[i]), _least(c[i], d[i])))
    else:
        for i in range(out.size):
            out[i] = _most(out[i], _most(_most(a[i], b[i]), _most(c[i], d[i])))


@_njit
def _taps(flat, starts, places, low, out):
    """Each row of the result: the extreme of the stretches at these places."""
    length = out.shape[1]
    last = places.size - 1
    buffer = np.empty(_TILE, flat.dtype)
    row = 0
    while row < starts.size:
        some = together(starts, row, length, _TILE)
        span = starts[row + some - 1] - starts[row] + length
        for x0 in range(0, span, _TILE):
            t = min(_TILE, span - x0)
            at = starts[row] + x0
            acc = out[row, x0 : x0 + t] if some == 1 else buffer[:t]
            for k in range(0, places.size, 4):
                p = at + places[k]
                q = at + places[min(k + 1, last)]
                r = at + places[min(k + 2, last)]
                s = at + places[min(k + 3, last)]
                if k == 0:
                    _four(acc, flat[p : p + t], flat[q : q + t], flat[r : r + t], flat[s : s + t], low)
                else:
                    _four_into(acc, flat[p : p + t], flat[q : q + t], flat[r : r + t], flat[s : s + t], low)
        if some > 1:
            for q in range(some):
                p = starts[row + q] - starts[row]
                for i in range(length):
                    out[row + q, i] = buffer[p + i]
        row += some


@_njit
def _rows(x, begin, pitch, b, c, d, out, at, step, count, n, low):
    """Rows of n, one every `step`: extremes of those of x, one every `pitch`, and of what is b, c and d further on."""
    for i in range(count):
        o, p = at + i * step, begin + i * pitch
        _four(out[o : o + n], x[p : p + n], x[p + b : p + b + n], x[p + c : p + c + n], x[p + d : p + d + n], low)


@_njit
def _windows(x, begin, pitch, size, down, out, at, step, rows, n, one, two, low):
    """Rows of n: extremes of `size` rows from each on (`down`), or of as many voxels along it. `one`, `two`: room."""
    row = n if down else n + size
    stride, apart = (pitch, row) if down else (1, 1)
    width = 1
    while width < size or size == 1:
        # windows four times as wide, as far as the result looks; the last ones overlap
        wide = min(4 * width, size)
        more, end = size - wide, wide - width
        b, c = min(width, end), min(2 * width, end)
        to, by, count, length, target = 0, row, rows, n, two
        if more == 0:
            to, by, target = at, step, out
        elif down:
            count += more
        else:
            length += more
        if width == 1:
            _rows(x, begin, pitch, b * stride, c * stride, end * stride, target, to, by, count, length, low)
        else:
            _rows(one, 0, row, b * apart, c * apart, end * apart, target, to, by, count, length, low)
        if more == 0:
            return
        one, two = two, one
        width = wide


@_njit
def _along_axis(x, outer, m, inner, size, low, out):
    """Extremes of windows along the middle axis of (outer, m + size - 1, inner), all flat; the last where inner is 1."""
    n = m + size - 1
    down = inner > 1
    tile = max(64, 2048 // x.itemsize)
    lines = 1 if down else min(8, outer)
    across = min(inner, tile)
    batch = min(m, max(_BATCH, size) if down else tile)
    room = (batch + size) * max(lines, across)
    one = np.empty(room, x.dtype)
    two = np.empty(room, x.dtype)
    for o in range(0, outer, lines):
        for b in range(0, inner, across):
            for i in range(0, m, batch):
                rows, t = min(batch, m - i), min(across, inner - b)
                pitch, step = inner, inner
                if not down:
                    rows, t = min(lines, outer - o), rows
                    pitch, step = n, m
                begin, at = (o * n + i) * inner + b, (o * m + i) * inner + b
                _windows(x, begin, pitch, size, down, out, at, step, rows, t, one, two, low)


@_njit
def _extremes_of_runs(flat, lengths, low, table):
    """table[k, i]: the extreme of lengths[k] voxels from i; the end of a row, where there are fewer, is read by none."""
    n = flat.size
    tile = 4 * _TILE
    one = np.empty(tile + lengths[-1], flat.dtype)
    two = np.empty(tile + lengths[-1], flat.dtype)
    for i in range(0, n, tile):
        for k in range(lengths.size):
            t = min(tile, n - lengths[k] + 1 - i)
            if t > 0:
                _windows(flat, i, n, lengths[k], False, table, k * n + i, n, 1, t, one, two, low)
