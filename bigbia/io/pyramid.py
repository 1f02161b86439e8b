"""The levels of a pyramid: their shapes, and a block made smaller.

Every level is a factor of 2 smaller than the one before, and a smaller block depends on its own voxels alone: a pyramid
can be built block by block, in any order, to the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from bigbia.errors import ParameterError

SMALL = 256  # voxels: a level whose longest spatial axis is not longer is the last
PIECE = 1 << 19  # bytes that are made smaller at once: they and what becomes of them stay in a core's cache

Level = tuple[tuple[int, ...], tuple[int, ...]]  # shape, and factors to the full resolution


def level_shapes(
    shape: Sequence[int], axes: Sequence[str], voxel_size: Mapping[str, float] | None = None, levels: int | None = None
) -> list[Level]:
    """Shape of every level and its factors to the first.

    y and x are halved from level to level, z where that leaves the voxels closer to cubes (without a voxel size they
    are taken as cubes). Until the longest spatial axis has at most 256 voxels, or `levels` of them. Odd lengths are
    rounded up.

    >>> level_shapes((60, 1024, 1024), "zyx", {"z": 1.0, "y": 0.25, "x": 0.25})
    [((60, 1024, 1024), (1, 1, 1)), ((60, 512, 512), (1, 2, 2)), ((60, 256, 256), (1, 4, 4))]
    """
    if levels is not None and levels < 1:
        raise ParameterError(f"levels={levels}: a pyramid has at least 1 level")
    sizes = dict.fromkeys("zyx", 1.0) | dict(voxel_size or {})
    found: list[Level] = [(tuple(shape), (1,) * len(shape))]
    while len(found) < levels if levels is not None else _longest(found[-1][0], axes) > SMALL:
        last, factors = found[-1]
        halved = [a for a, n in zip(axes, last) if a in "yx" and n > 1]
        if "z" in axes and last[list(axes).index("z")] > 1:
            now = {a: sizes[a] * f for a, f in zip(axes, factors) if a in "zyx"}
            without = {a: size * (2 if a in halved else 1) for a, size in now.items()}
            if not halved or _anisotropy(without | {"z": 2 * now["z"]}) < _anisotropy(without):
                halved.append("z")
        if not halved:
            break
        steps = [2 if a in halved else 1 for a in axes]
        found.append((tuple(-(-n // s) for n, s in zip(last, steps)), tuple(f * s for f, s in zip(factors, steps))))
    return found


def _longest(shape: Sequence[int], axes: Sequence[str]) -> int:
    return max((n for a, n in zip(axes, shape) if a in "zyx"), default=0)


def _anisotropy(sizes: Mapping[str, float]) -> float:
    return max(sizes.values()) / min(sizes.values())


def downsample(block: np.ndarray, factors: Sequence[int], how: str = "mean") -> np.ndarray:
    """A block, `factors` times smaller along each axis: every window of voxels becomes one.

    The block must begin on a multiple of the factors; a window cut off by the end of the image counts what is there.

    how : "mean": integers and bool exactly, halves rounded to even; floats summed as float64 in raster order
          "nearest": the first voxel of the window
          "mode": the most frequent value, the smaller one of several; background counts

    Returns an array of shape ceil(n / factor) and the dtype of the block.

    >>> downsample(np.array([[1, 2, 5], [2, 2, 6]], "u1"), (2, 2))
    array([[2, 6]], dtype=uint8)
    """
    if len(factors) != block.ndim or any(f < 1 for f in factors):
        raise ParameterError(f"factors={tuple(factors)}: one whole number for each of {block.ndim} axes, 1 or more")
    if how == "nearest" or all(f == 1 for f in factors):
        return np.ascontiguousarray(block[tuple(slice(None, None, f) for f in factors)])
    if how == "mean":
        return _mean(block, factors)
    if how == "mode":
        return _mode(block, factors)
    raise ParameterError(f"how={how!r}: is none of mean, nearest, mode")


def _windows(block: np.ndarray, factors: Sequence[int]) -> list[np.ndarray]:
    """One view for each place within a window, in raster order; shorter at the end where windows are cut off."""
    offsets = product(*(range(f) for f in factors))
    return [block[tuple(slice(o, None, f) for o, f in zip(offset, factors))] for offset in offsets]


def _inside(shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in shape)


def _counts(block: np.ndarray, factors: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """How many voxels each window holds."""
    counts = np.ones((1,) * block.ndim, np.int64)
    for axis, (n, f, m) in enumerate(zip(block.shape, factors, shape)):
        count = np.full(m, f, np.int64)
        count[-1:] = n - f * (m - 1)
        counts = counts * count.reshape([-1 if i == axis else 1 for i in range(block.ndim)])
    return counts


def _mean(block: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    shape = tuple(-(-n // f) for n, f in zip(block.shape, factors))
    if block.dtype.kind != "f" and block.dtype.itemsize <= 4 and max(factors) == 2:
        return _mean_of_pairs(block, factors)
    counts = _counts(block, factors, shape)
    if block.dtype.kind == "f":
        return (_sum(block, factors, np.zeros(shape, np.float64)) / counts).astype(block.dtype)
    signed, most = block.dtype.kind == "i", math.prod(factors)
    if block.dtype.itemsize == 8:
        return _mean_of_64_bit(block, factors, counts.astype(np.int64 if signed else np.uint64))
    small = block.dtype.itemsize <= 2 and most < 2**15  # the sum fits 32 bits, which are summed twice as fast
    wide = np.dtype(f"{'i' if signed else 'u'}{4 if small else 8}")
    total, counts = _sum(block, factors, np.zeros(shape, wide)), counts.astype(wide)
    return _to_even(*np.divmod(total, counts), counts).astype(block.dtype)


def _mean_of_pairs(block: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Of integers, where axes are halved or stay: sums of neighbours, axis by axis, in pieces that fit the cache."""
    for axis, (n, f) in enumerate(zip(block.shape, factors)):
        if n % f:  # the last window holds one voxel along this axis: it stays as it is
            last = [slice(None)] * block.ndim
            last[axis] = slice(n - 1, n)
            alone = downsample(block[tuple(last)], [1 if a == axis else g for a, g in enumerate(factors)])
            if n == 1:
                return alone
            last[axis] = slice(0, n - 1)
            return np.concatenate([_mean_of_pairs(block[tuple(last)], factors), alone], axis)
    out = np.empty([n // f for n, f in zip(block.shape, factors)], block.dtype)
    plain = block.view(np.uint8) if block.dtype == bool else block
    made = out.view(np.uint8) if out.dtype == bool else out
    # Axes of length 1 (a time, a channel) are no axes here, so that the first one is worth cutting.
    several = [a for a, n in enumerate(block.shape) if n > 1]
    plain, made = plain.reshape([block.shape[a] for a in several]), made.reshape([out.shape[a] for a in several])
    steps = [factors[a] for a in several]
    row = math.prod(plain.shape[1:]) * plain.dtype.itemsize
    many = max(1, PIECE // max(1, row)) * steps[0]
    for start in range(0, plain.shape[0], many):
        part = _rounded_pairs(np.ascontiguousarray(plain[start : start + many]), steps)
        made[start // steps[0] : start // steps[0] + len(part)] = part
    return out


def _rounded_pairs(part: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """The means of whole windows of 1 or 2 voxels an axis, halves to even; twice as wide as they need to be."""
    bits, letter = 8 * part.dtype.itemsize, part.dtype.kind
    wide = np.dtype(f"{letter}{2 * part.dtype.itemsize}")
    if steps[-1] == 2:
        # Two voxels in one number: its halves are added without going through memory voxel by voxel.
        pairs = part.view(wide)
        total = pairs >> bits
        total += pairs << bits >> bits if letter == "i" else pairs & wide.type((1 << bits) - 1)
    else:
        total = part.astype(wide)
    for axis in reversed(range(part.ndim - 1)):
        if steps[axis] == 2:
            even = (slice(None),) * axis
            total = total[(*even, slice(0, None, 2))] + total[(*even, slice(1, None, 2))]
    shift = int(math.prod(steps)).bit_length() - 1
    odd = total >> shift
    odd &= 1
    total += odd
    total += (1 << shift >> 1) - 1
    total >>= shift
    return total


def _sum(block: np.ndarray, factors: Sequence[int], total: np.ndarray) -> np.ndarray:
    for part in _windows(block, factors):
        total[_inside(part.shape)] += part
    return total


def _to_even(quotient: np.ndarray, rest: np.ndarray, counts: np.ndarray) -> np.ndarray:
    twice = rest + rest
    return quotient + ((twice > counts) | ((twice == counts) & (quotient % 2 == 1)))


def _mean_of_64_bit(block: np.ndarray, factors: Sequence[int], counts: np.ndarray) -> np.ndarray:
    """Quotients and remainders are summed apart, so that nothing overflows."""
    shape = tuple(-(-n // f) for n, f in zip(block.shape, factors))
    counts = np.broadcast_to(counts, shape)
    quotient, rest = np.zeros(shape, counts.dtype), np.zeros(shape, counts.dtype)
    for part in _windows(block, factors):
        where = _inside(part.shape)
        q, r = np.divmod(part, counts[where])
        quotient[where] += q
        rest[where] += r
    more, rest = np.divmod(rest, counts)
    return _to_even(quotient + more, rest, counts).astype(block.dtype)


def _mode(block: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    parts = _windows(block, factors)
    best = parts[0].copy()
    mixed = np.zeros(best.shape, bool)
    for part in parts[1:]:
        where = _inside(part.shape)
        mixed[where] |= part != best[where]
    # Within objects and background all voxels of a window agree; only the others are counted.
    at = np.nonzero(mixed)
    there = np.array([np.all([i < n for i, n in zip(at, part.shape)], axis=0) for part in parts])
    values = np.zeros(there.shape, block.dtype)
    for i, part in enumerate(parts):
        values[i, there[i]] = part[tuple(axis[there[i]] for axis in at)]
    chosen, most = values[0].copy(), np.zeros(there.shape[1], np.int64)
    for value, inside in zip(values, there):
        votes = ((values == value) & there).sum(axis=0)
        better = inside & ((votes > most) | ((votes == most) & (value < chosen)))
        chosen[better], most[better] = value[better], votes[better]
    best[at] = chosen
    return best
