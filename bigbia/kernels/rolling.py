"""The background under which a ball rolls: the least of image + depth of the ball, over all places of the ball.

    background[x] = min over d of image[x + d] + depth[d]        depth[0] = 0, outside the ball infinite

One row of the image after another, eight places of the ball at a time. Sums are made one by one in the type that
scikit-image has (float32 for float32, else float64), so the bits are the same. For an image of 8 or 16 bits without a
sign the sums are made of the whole parts of the depths, which float32 holds exactly, where that is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba as nb
import numpy as np

from bigbia.kernels.extremes import extreme
from bigbia.kernels.rows import rows_of

_TILE = 512
_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


def ball(radii: Sequence[float], height: float) -> np.ndarray:
    """How high the upper half of a ball (an ellipsoid) lies, infinite beside it; scikit-image's to the bit."""
    ends = [int(np.ceil(r)) for r in radii]
    squares = np.zeros([2 * n + 1 for n in ends])
    if len(set(radii)) == 1 and height == radii[0]:
        for axis, n in enumerate(ends):
            squares += _on_axis(np.arange(-n, n + 1.0) ** 2, axis, len(ends))
        out = np.sqrt(np.clip(height**2 - squares, 0, None))
        out[np.sqrt(squares) > height] = np.inf
        return out
    for axis, (n, r) in enumerate(zip(ends, radii)):
        squares += _on_axis((np.arange(-n, n + 1.0) / (r or 1.0)) ** 2, axis, len(ends))
    out = height * np.sqrt(np.clip(1 - squares, 0, None))
    out[squares > 1] = np.inf
    return out


def rolled(
    block: np.ndarray,
    *,
    core: Sequence[slice] | None = None,
    kernel: np.ndarray,
    nansafe: bool = False,
) -> np.ndarray:
    """The background of a block; outside the image it is infinite. `kernel`: the height of the ball, inf beside it."""
    core = [slice(0, n) for n in block.shape] if core is None else list(core)
    dtype = block.dtype.newbyteorder("=")
    kind = np.dtype(np.float32 if dtype in (np.float16, np.float32) else np.float64)
    height = kernel.astype(kind)
    depth = height[tuple(n // 2 for n in height.shape)] - height
    depth[height == np.inf] = np.inf
    inside = np.isfinite(depth)
    costs = depth[inside]
    if dtype in (np.uint8, np.uint16) and _whole(costs, dtype):
        kind, costs = np.dtype(np.float32), np.floor(costs).astype(np.float32)
    reach = [(n // 2, n - 1 - n // 2) for n in kernel.shape]
    rows = rows_of(block.astype(kind, copy=False), core, reach, "constant", np.inf)
    out = rows.empty(kind)
    eights, eight_costs, ones, one_costs = _groups(rows.places(inside), costs)
    _rolled(rows.flat, rows.starts, eights, eight_costs, ones, one_costs, out)
    out = out.reshape(rows.shape)
    if nansafe and dtype.kind == "f":
        # NaN wherever the kernel's box holds one: also beside the ball, inf + NaN is NaN
        lost = np.isnan(block)
        if lost.any():
            lost = extreme(lost, core=core, steps=[(np.ones(kernel.shape, bool), False)], mode="ignore")
            out[lost] = np.nan
    return out.astype(block.dtype, copy=False)


def _whole(costs: np.ndarray, dtype: np.dtype) -> bool:
    """Whether sums of an image of this type may be made of whole parts: none is rounded up to the next."""
    most = float(np.iinfo(dtype).max)
    return bool(
        costs.min() >= 0 and most + costs.max() < 1 << 24 and (np.floor(most + costs) == most + np.floor(costs)).all()
    )


def _groups(places: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Stretches of eight neighbours along the last axis: where each begins, and their costs; then what is left over.

    The last stretch of a run overlaps the one before.
    """
    eights: list[int] = []
    ones: list[int] = []
    ends = np.flatnonzero(np.diff(places) != 1) + 1
    for a, b in zip([0, *ends], [*ends, len(places)]):
        if b - a < 8:
            ones += range(a, b)
        else:
            eights += [min(k, b - 8) for k in range(a, b, 8)]
    stretches = np.array(eights, np.int64)
    return places[stretches], costs[stretches[:, None] + np.arange(8)], places[ones], costs[ones]


def _on_axis(x: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    return x.reshape([-1 if a == axis else 1 for a in range(ndim)])


@_njit
def _eight(acc, x, c0, c1, c2, c3, c4, c5, c6, c7):
    for i in range(acc.size):
        a, b = x[i] + c0, x[i + 1] + c1
        c, d = x[i + 2] + c2, x[i + 3] + c3
        e, f = x[i + 4] + c4, x[i + 5] + c5
        g, h = x[i + 6] + c6, x[i + 7] + c7
        # NaN is less than nothing: it is passed over, whichever comes first
        v = acc[i]
        v = a if a < v else v
        v = b if b < v else v
        v = c if c < v else v
        v = d if d < v else v
        v = e if e < v else v
        v = f if f < v else v
        v = g if g < v else v
        acc[i] = h if h < v else v


@_njit
def _one(acc, x, cost):
    for i in range(acc.size):
        v = x[i] + cost
        acc[i] = v if v < acc[i] else acc[i]


@_njit
def _rolled(flat, starts, eights, costs, ones, single, out):
    n = out.shape[1]
    for row in range(starts.size):
        for x0 in range(0, n, _TILE):
            t = min(_TILE, n - x0)
            acc = out[row, x0 : x0 + t]
            for i in range(t):
                acc[i] = np.inf
            at = starts[row] + x0
            for k in range(eights.size):
                p = at + eights[k]
                c = costs[k]
                _eight(acc, flat[p : p + t + 7], c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7])
            for k in range(ones.size):
                p = at + ones[k]
                _one(acc, flat[p : p + t], single[k])
