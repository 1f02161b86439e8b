"""Squared distances to the nearest voxel of another label, axis by axis, in the whole numbers of `distance.py`.

Every axis is a pass as for a mask, and one thing more: how far along the axis itself the next voxel of another label
is. A pass need not know whose distances it mixes. Seen from a voxel, what lies beyond the end of its run of equal
labels is farther than that end, which counts already; what lies before the end has the same label. So labels are only
compared with their neighbours, once, and never read again: a byte a voxel says what there is to know.

    bit a   the voxel before this one along axis a has another label
    bit 7   the voxel is no background
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt, prod

import numba as nb
import numpy as np

from bigbia.kernels.distance import fixed, lower

FOREGROUND = 1 << 7
LINES = 256  # side by side
_njit = nb.njit(nogil=True, cache=True, error_model="numpy")

Around = tuple[np.ndarray, np.ndarray]  # before, after: as in `distance.along_runs`


def changes(labels: np.ndarray, axes: int) -> np.ndarray:
    """The byte of each voxel, by the last so many axes; uint8. Nothing changes at an image's or a block's own face."""
    plain = np.ascontiguousarray(labels).view(f"u{labels.dtype.itemsize}")  # one compiled version a size
    out = np.empty(labels.shape, np.uint8)
    _foreground(fixed(plain.reshape(-1)), out.reshape(-1))
    for a in range(axes):
        sizes = _folded(labels.shape, labels.ndim - axes + a)
        _changes(fixed(plain.reshape(-1)), np.array(sizes), 1 << a, out.reshape(-1))
    return out


def ends(code: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """How far the first and the last run of each line along an axis reach, as seen from outside; int64.

    From the voxel before the line to the first that is not of the first run, from the one after it back to the last
    that is not of the last run; 0 where the line is one run. All axes are compared.
    """
    shape = code.shape[:axis] + code.shape[axis + 1 :]
    outer, n, inner = _folded(code.shape, axis)
    first, last = np.zeros((outer, inner), np.int64), np.zeros((outer, inner), np.int64)
    _ends(fixed(code.reshape(outer, n, inner)), 1 << axis, first, last)
    return first.reshape(shape), last.reshape(shape)


def along_runs(
    code: np.ndarray, bit: int, weight: int, dtype: np.dtype, far: int, around: Around | None = None
) -> np.ndarray:
    """Squared distances along the last axis to the next voxel of another label, `far` where they are not below it.

    `bit`: which one of the bytes is that axis's.
    """
    lines = np.ascontiguousarray(code).reshape(-1, code.shape[-1])
    out = np.empty(lines.shape, dtype)
    before, after = _flat(around, len(lines))
    _runs(fixed(lines), before, after, np.array([1 << bit, weight, isqrt((far - 1) // weight), far]), out)
    return out.reshape(code.shape)


def lower_to_ends(
    out: np.ndarray,
    start: int,
    code: np.ndarray,
    axis: int,
    bit: int,
    weight: int,
    far: int,
    around: Around | None = None,
) -> None:
    """Where the next voxel of another label along an axis is nearer than `out`: the squared distance to that.

    `out` begins at voxel `start` of `code` along that axis; their other axes are the same.
    """
    reach = isqrt((far - 1) // weight)
    if not reach:  # the very next voxel is too far; and a greater weight may not fit the numbers
        return
    outer, n, inner = _folded(code.shape, axis)
    before, after = _flat(around, outer * inner)
    _lower_to_ends(
        fixed(np.ascontiguousarray(code).reshape(outer, n, inner)),
        before.reshape(outer, inner),
        after.reshape(outer, inner),
        np.array([start, 1 << bit, weight, reach]),
        out.reshape(outer, out.shape[axis], inner),
    )


def squared(
    labels: np.ndarray, weights: Sequence[int], dtype: np.dtype, far: int, core: Sequence[slice] | None = None
) -> np.ndarray:
    """Squared distances, along the last axes of an array, to the nearest voxel of another label; of a part, with
    `core`.

    0 at the background, which is label 0. One weight for each of these axes; `far` where they are not below it.
    """
    first, axes = labels.ndim - len(weights), len(weights)
    core = [slice(0, n) for n in labels.shape] if core is None else list(core)
    code = changes(labels[tuple(core[:first])], axes)
    now = along_runs(code, axes - 1, weights[-1], dtype, far)[..., core[-1]]
    for axis in range(labels.ndim - 2, first - 1, -1):
        code, now = code[(slice(None),) * (axis + 1) + (core[axis + 1],)], np.ascontiguousarray(now)
        part, weight = core[axis], weights[axis - first]
        out = now[(slice(None),) * axis + (part,)].copy()
        lower_to_ends(out, part.start, code, axis, axis - first, weight, far)
        lower(out, part.start, now, 0, axis, weight, far)
        now = out
    return np.ascontiguousarray(now)


def _folded(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])


def _flat(around: Around | None, lines: int) -> tuple[np.ndarray, np.ndarray]:
    if around is None:
        around = (np.zeros(lines, np.int64),) * 2
    before, after = (fixed(np.ascontiguousarray(a, np.int64).reshape(-1)) for a in around)
    return before, after


@_njit
def _foreground(labels, out):
    for i in range(labels.size):
        out[i] = 128 if labels[i] != 0 else 0


@_njit
def _changes(labels, sizes, bit, out):
    outer, n, inner = sizes
    mark = np.uint8(bit)
    for o in range(outer):
        for i in range((o * n + 1) * inner, (o + 1) * n * inner):
            out[i] |= mark if labels[i] != labels[i - inner] else np.uint8(0)


@_njit
def _ends(code, bit, first, last):
    outer, n, inner = code.shape
    mark = np.uint8(bit)
    for o in range(outer):
        if inner == 1:
            for r in range(1, n):
                if code[o, r, 0] & mark:
                    first[o, 0] = r + 1
                    break
            if first[o, 0]:
                r = n - 1
                while not code[o, r, 0] & mark:
                    r -= 1
                last[o, 0] = n - r + 1
            continue
        for r in range(1, n):
            for t in range(inner):
                if code[o, r, t] & mark:
                    last[o, t] = n - r + 1
                    first[o, t] = r + 1 if first[o, t] == 0 else first[o, t]


@_njit
def _runs(code, before, after, sizes, out):
    """`sizes`: the axis's bit, weight, reach, far."""
    mark, weight, reach, far = sizes
    lines, n = code.shape
    never = np.int64(1) << 40
    kind = out.dtype.type
    step = np.empty(n, np.int64)
    for line in range(lines):
        k = before[line] - 1 if before[line] else never
        for x in range(n):
            k = 1 if code[line, x] & mark else k + 1
            step[x] = k if code[line, x] & 128 else 0
        k = after[line] - 1 if after[line] else never
        for x in range(n - 1, -1, -1):
            k += 1
            d = min(k, step[x])
            out[line, x] = kind(weight * d * d) if d <= reach else kind(far)
            if code[line, x] & mark:
                k = np.int64(0)


@_njit
def _lower_to_ends(code, before, after, sizes, out):
    """`sizes`: where out begins, the axis's bit, weight, reach."""
    start, bit, wide, reach = sizes
    outer, n, inner = code.shape
    m = out.shape[1]
    kind = out.dtype.type
    weight, never, one = kind(wide), kind(reach + 1), kind(1)
    mark = np.uint8(bit)
    step = np.empty(LINES, out.dtype)
    for o in range(outer):
        for left in range(0, inner, LINES):
            width = min(LINES, inner - left)
            for t in range(width):
                k = before[o, left + t]
                step[t] = kind(min(k, reach + 1) - 1) if k else kind(reach)
            for r in range(start + m):
                _onward(step, code[o, r, left : left + width], mark, one, never)
                if r >= start:
                    _lowered(step, weight, never, out[o, r - start, left : left + width])
            for t in range(width):
                k = after[o, left + t]
                step[t] = kind(min(k, reach + 1)) if k else never
            for r in range(n - 1, start - 1, -1):
                if r < start + m:
                    _lowered(step, weight, never, out[o, r - start, left : left + width])
                _onward(step, code[o, r, left : left + width], mark, one, never)


@_njit
def _onward(step, code, mark, one, never):
    for t in range(code.size):
        k = min(step[t], never - one) + one
        step[t] = one if code[t] & mark else step.dtype.type(k)


@_njit
def _lowered(step, weight, never, out):
    kind = out.dtype.type
    for t in range(out.size):
        k = step[t]
        square = kind(weight * k * k)
        out[t] = square if (k < never) & (square < out[t]) else out[t]
