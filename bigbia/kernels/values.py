"""Blocks of labels: how many voxels each label has, each label replaced by another, where labels meet.

Label images are long runs of one value, most of them below a run of the same value: a run is looked up once, and not at
all where the voxel one line before it has its label.
"""

from __future__ import annotations

from itertools import product

import numba as nb
import numpy as np

_njit = nb.njit(nogil=True, cache=True, error_model="numpy")


def counts(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels of a block other than 0, ascending, and how many voxels each has."""
    flat = _unsigned(labels)
    size = 1 << 12
    found, number = np.empty(size // 2, flat.dtype), np.zeros(size // 2, np.int64)
    slots = np.full(size, -1, np.int64)
    at = count = 0
    while True:
        at, count = _count(flat, at, count, slots, found, number)
        if at == flat.size:
            break
        size *= 4
        found = np.concatenate([found, np.empty(size // 2 - len(found), found.dtype)])
        number = np.concatenate([number, np.zeros(size // 2 - len(number), np.int64)])
        slots = np.full(size, -1, np.int64)
        _rehash(slots, found, count)
    names = found[:count].view(_native(labels))
    order = np.argsort(names)
    return names[order], number[:count][order]


def replaced(
    labels: np.ndarray, old: np.ndarray, new: np.ndarray, strict: bool = True
) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """The block with every label `old[i]` (ascending, of its dtype) as `new[i]`, and 0 as 0.

    Other labels become 0, unless `strict`. The second result is the place of the first voxel that may not be there: a
    negative label, or with `strict` one that `old` lacks; the block is unfinished then.
    """
    flat = _unsigned(labels)
    out = np.empty(flat.size, new.dtype)
    width = labels.shape[-1] if labels.ndim else 1
    most = flat.dtype.type(np.iinfo(labels.dtype).max)
    names = np.ascontiguousarray(old, _native(labels)).view(flat.dtype)
    pair = (readonly(names), readonly(new.view(f"u{new.dtype.itemsize}")))  # bits are copied, whatever they mean
    at = _replace(flat, width, *pair, most, strict, out.view(pair[1].dtype))
    place = None if at < 0 else tuple(int(i) for i in np.unravel_index(at, labels.shape))
    return out.reshape(labels.shape), place


def boundaries(labels: np.ndarray, connectivity: int, mode: str, background: int) -> np.ndarray:
    """Where voxels of one value meet others, as `skimage.segmentation.find_boundaries`, over all axes; bool."""
    data = np.ascontiguousarray(labels.view(np.uint8) if labels.dtype == bool else labels, _native(labels))
    lines = readonly(data.reshape(-1, data.shape[-1]))
    lead = np.array(data.shape[:-1], np.int64)
    out = np.zeros(lines.shape, np.uint8)
    near = np.array([o for o in _offsets(labels.ndim) if 0 < np.abs(o).sum() <= connectivity], np.int64)
    later = near[len(near) // 2 :]  # in lexicographic order: of each pair of opposite ones, one
    _differ(lines, lead, later, out)
    kind = lines.dtype.type
    if mode == "inner":
        out &= lines != kind(background)
    elif mode == "outer":
        # An object's voxel stays only where it meets another object, background left out of the minimum alone.
        _apart(lines, lead, np.array(_offsets(labels.ndim)), kind(background), kind(np.iinfo(lines.dtype).max), out)
    return out.reshape(labels.shape).view(bool)


def beside_smaller(labels: np.ndarray, connectivity: int) -> np.ndarray:
    """Which labelled voxels have a neighbour with a smaller label, background left out; bool."""
    out = np.zeros(labels.shape, bool)
    for offset in _offsets(labels.ndim):
        if not 0 < sum(map(abs, offset)) <= connectivity:
            continue
        here = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, labels.shape))
        there = tuple(slice(max(0, o), n - max(0, -o)) for o, n in zip(offset, labels.shape))
        out[here] |= (labels[there] != 0) & (labels[there] < labels[here])
    return out


def _offsets(ndim: int) -> list[tuple[int, ...]]:
    return list(product((-1, 0, 1), repeat=ndim))


def _native(labels: np.ndarray) -> np.dtype:
    return np.dtype(np.uint8) if labels.dtype == bool else labels.dtype.newbyteorder("=")


def _unsigned(labels: np.ndarray) -> np.ndarray:
    """The voxels in a row as unsigned numbers, of which kernels know no others."""
    flat = np.ascontiguousarray(labels, _native(labels)).reshape(-1)
    return readonly(flat.view(f"u{flat.dtype.itemsize}"))


def readonly(array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array).view()
    array.flags.writeable = False
    return array


@_njit
def _place(key, mask):
    """Where the search for a key begins in a table of a power of two places."""
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask


@_njit
def _rehash(slots, found, count):
    mask = slots.size - 1
    for q in range(count):
        i = _place(found[q], mask)
        while slots[i] >= 0:
            i = (i + 1) & mask
        slots[i] = q


@_njit
def _count(labels, at, count, slots, found, number):
    """From voxel `at` on; comes back early where the table is full."""
    mask = slots.size - 1
    size = labels.size
    while at < size:
        v = labels[at]
        end = at + 1
        while end < size and labels[end] == v:
            end += 1
        if v != 0:
            i = _place(v, mask)
            while True:
                s = slots[i]
                if s < 0:
                    if count == found.size:
                        return at, count
                    slots[i] = count
                    found[count] = v
                    number[count] = end - at
                    count += 1
                    break
                if found[s] == v:
                    number[s] += end - at
                    break
                i = (i + 1) & mask
        at = end
    return at, count


@_njit
def _replace(labels, width, old, new, most, strict, out):
    size = labels.size
    zero = out.dtype.type(0)
    at = 0
    while at < size:
        v = labels[at]
        w = zero
        if v != 0:
            if at >= width and labels[at - width] == v:
                w = out[at - width]
            else:
                low, high = 0, old.size
                while low < high:
                    middle = (low + high) // 2
                    if old[middle] < v:
                        low = middle + 1
                    else:
                        high = middle
                if low < old.size and old[low] == v:
                    w = new[low]
                elif strict or v > most:
                    return at
        while at < size and labels[at] == v:
            out[at] = w
            at += 1
    return -1


@_njit
def neighbour(i, place, lead, offset):
    """The line beside line i, -1 beyond the image."""
    k = 0
    for a in range(lead.size):
        p = place[a] + offset[a]
        if p < 0 or p >= lead[a]:
            return -1
        k = k * lead[a] + p
    return k


@_njit
def unravel(i, lead, place):
    rest = i
    for a in range(lead.size - 1, -1, -1):
        place[a] = rest % lead[a]
        rest //= lead[a]


@_njit
def _differ(labels, lead, later, out):
    n, m = labels.shape
    place = np.empty(lead.size, np.int64)
    for i in range(n):
        unravel(i, lead, place)
        for q in range(later.shape[0]):
            k = neighbour(i, place, lead, later[q])
            if k < 0:
                continue
            dx = later[q, lead.size]
            first, last = max(0, -dx), m - max(0, dx)
            a, b = labels[i, first:last], labels[k, first + dx : last + dx]
            # one line a loop: two stores that may alias are not vectorised
            here, there = out[i, first:last], out[k, first + dx : last + dx]
            for j in range(a.size):
                here[j] |= a[j] != b[j]
            for j in range(a.size):
                there[j] |= a[j] != b[j]


@_njit
def _apart(labels, lead, around, background, top, out):
    n, m = labels.shape
    place = np.empty(lead.size, np.int64)
    beside = np.empty(around.shape[0], np.int64)
    for i in range(n):
        unravel(i, lead, place)
        for q in range(around.shape[0]):
            beside[q] = neighbour(i, place, lead, around[q])
        for j in range(m):
            v = labels[i, j]
            if not out[i, j] or v == background:
                continue
            least, most = v, v
            for q in range(around.shape[0]):
                x = j + around[q, lead.size]
                if beside[q] >= 0 and 0 <= x < m:
                    w = labels[beside[q], x]
                    most = max(most, w)
                    least = min(least, top if w == background else w)
            out[i, j] = least != most
