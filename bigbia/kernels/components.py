"""Connected components of one block, as runs.

A run is a stretch of equal voxels along the last axis. Components are found on runs (union-find over the runs of
neighbouring lines; He, Chao & Suzuki 2008 describe run-based labelling), kept as runs (about 0.4 bytes a voxel for
nuclei), and painted from runs. Any number of axes, binary or multi-label, every connectivity. Components are numbered
from 1 in raster order of their first voxel.

Runs are found and compared as bits, 64 voxels to a word: noise has a run every few voxels, and a branch a run costs
more than a word of logic. The first voxel of a word is its top bit. `inside` has a bit for each voxel of an object,
`starts` for each first voxel of a run; both have one more line, empty, that stands for what lies beyond the block.
The run of a voxel is the number of starts up to it: `before` counts those of the words before, less one.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numba as nb
import numpy as np

from bigbia.kernels.runs import Runs, paint, step

__all__ = ["Runs", "components", "paint"]
_njit = nb.njit(nogil=True, cache=True)
_U = np.uint64
_ONE, _TOP = np.uint64(1), np.uint64(63)
FEW = 8  # voxels of a word that are quicker compared one by one
SHIELDS = 4  # at most, for a neighbouring line: more of them save less than they cost


def components(block: np.ndarray, connectivity: int, background: float = 0) -> Runs:
    """Label the voxels that differ from `background`.

    Neighbours share at most `connectivity` steps and have one value.
    """
    shape = block.shape
    length = shape[-1] if block.ndim else 0
    kind = np.uint16 if length < 65536 else np.uint32
    # An array of one repeated value (strides 0) stands for an empty part of a sparse image: nothing to look at.
    nothing = block.size and not any(block.strides) and block.flat[0] == background
    if block.size == 0 or block.ndim == 0 or nothing:
        lines = np.zeros(int(np.prod(shape[:-1], dtype=np.int64)) + 1 if block.ndim else 1, np.int64)
        none = np.empty(0, kind)
        return Runs(shape, lines, none, none, np.empty(0, np.int32), np.empty(0, np.int64))
    binary = block.dtype == bool
    if binary:
        block = block.view(np.uint8)
    data = np.ascontiguousarray(block, block.dtype.newbyteorder("=")).reshape(-1, length)
    data.flags.writeable = False
    value = np.array(background).astype(data.dtype)[()]
    words = -(-length // 64)
    inside = np.zeros((len(data) + 1, words), np.uint64)
    _pack(data, value, inside)
    binary = binary or _one_value(data, value, inside)
    if binary:
        starts = inside & ~(inside >> _ONE)
        starts[:, 1:] &= ~(inside[:, :-1] << _TOP)
    else:
        starts = np.zeros_like(inside)
        _changes(data, inside, starts)
    lines = np.empty(len(data) + 1, np.int64)
    before = np.empty(inside.size, np.int64)
    count = _count(starts, lines, before)
    start, stop = np.empty(count, kind), np.empty(count, kind)
    _find_runs(inside, starts, before, start, stop)
    parent = np.arange(count, dtype=np.int32 if count < 2**31 else np.int64)
    if count and len(shape) > 1:
        delta, beyond, reach, shields, first_shield = _earlier_lines(shape[:-1], connectivity)
        lead = np.array(shape[:-1], np.int64)
        bits = (inside, starts, before, lines, parent, lead, delta, beyond, reach)
        if binary:
            _unite(*bits, shields, first_shield)
        else:
            _unite_equal(data.reshape(-1), length, *bits)
    first = _number(lines, start, parent, length)
    return Runs(shape, lines, start, stop, parent, first)


@lru_cache(maxsize=64)  # blocks have few shapes
def _earlier_lines(lead: tuple[int, ...], connectivity: int) -> tuple[np.ndarray, ...]:
    """The neighbouring lines that come before a line.

    delta   how many lines away each is; the first len(reach) are compared with the line, the others only shield
    beyond  bits of the borders beyond which it lies (see _borders)
    reach   whether its runs touch diagonally along the last axis
    shields (n, 3): two lines, and whether they shield diagonal contacts too; of line k from first_shield[k]

    A contact of two voxels is shielded, and need not be looked at, where a voxel of a third line touches both of
    them, or, if neighbours share faces only, where the two others of a square are set. Lines count on those before
    them in the order of this list, and on contacts of earlier lines, so that no two contacts shield each other.
    """
    ndim = len(lead)
    found = [o for o in product((-1, 0, 1), repeat=ndim) if o < (0,) * ndim and _steps(o) <= connectivity]
    found.sort(key=lambda o: (_steps(o), o))
    near = list(found)
    shields: list[tuple[int, int, int]] = []
    first_shield = [0]
    for k, o in enumerate(found):
        mine = []
        for p, third in enumerate(found[:k]):
            far = [x - y for x, y in zip(o, third)]
            if max(map(abs, far)) <= 1 and _steps(far) <= connectivity:
                mine.append((p, p, int(max(_steps(third), _steps(far)) < connectivity)))
            elif connectivity == 1:
                mine.append((p, len(near), 0))
                near.append(tuple(x + y for x, y in zip(o, third)))
        shields += mine[:SHIELDS]
        first_shield.append(len(shields))
    strides = [int(np.prod(lead[a + 1 :], dtype=np.int64)) for a in range(ndim)]
    delta = [sum(x * s for x, s in zip(o, strides)) for o in near]
    beyond = [sum((1 if x < 0 else 2) << (2 * a) for a, x in enumerate(o) if x) for o in near]
    reach = [_steps(o) < connectivity for o in found]
    return (
        *(np.array(x, np.int64) for x in (delta, beyond, reach)),
        np.array(shields, np.int64).reshape(-1, 3),
        np.array(first_shield, np.int64),
    )


def _steps(offset) -> int:
    return sum(map(abs, offset))


# ---- bits
@_njit
def ones(x):
    """How many bits are set; the compiler knows this for one instruction."""
    x -= (x >> _ONE) & _U(0x5555555555555555)
    x = (x & _U(0x3333333333333333)) + ((x >> _U(2)) & _U(0x3333333333333333))
    x = (x + (x >> _U(4))) & _U(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * _U(0x0101010101010101)) >> _U(56))


@_njit
def lowest(x):
    """The lowest bit that is set: the last voxel of a word."""
    return x & (~x + _ONE)


@_njit
def _pack(data, background, inside):
    n, m = data.shape
    for i in range(n):
        for w in range(inside.shape[1]):
            j = 64 * w
            bits = _U(0)
            if j + 64 <= m:  # a loop of known length becomes vector instructions
                for t in range(64):
                    bits |= _U(data[i, j + t] != background) << _U(63 - t)
            else:
                for t in range(m - j):
                    bits |= _U(data[i, j + t] != background) << _U(63 - t)
            inside[i, w] = bits


@_njit
def _one_value(data, background, inside):
    """Whether all voxels of objects are equal."""
    n, m = data.shape
    value = background
    found = False
    for i in range(n):
        for w in range(inside.shape[1]):
            if inside[i, w] and not found:
                found = True
                j = 64 * w
                while data[i, j] == background:
                    j += 1
                value = data[i, j]
        if found:
            other = False
            for j in range(m):
                other |= (data[i, j] != background) & (data[i, j] != value)
            if other:
                return False
    return True


@_njit
def _changes(data, inside, starts):
    """Where runs start: at every change of value."""
    n, m = data.shape
    flat = data.reshape(-1)
    for i in range(n):
        for w in range(inside.shape[1]):
            at = i * m + 64 * w
            bits = inside[i, w]
            starts[i, w] = bits & ~_equal(flat, at, at - 1, m - 64 * w, bits if w else bits & ~(_ONE << _TOP))


@_njit
def _equal(data, a, b, size, wanted):
    """Where the word of voxels from `a`, `size` or 64 of them, equals that from `b`; only where wanted."""
    x, y = _U(a), _U(b)  # unsigned: Numba looks at every other index whether it counts from the end
    bits = _U(0)
    if size >= 64:
        for t in range(1, 64):
            bits |= _U(data[x + _U(t)] == data[y + _U(t)]) << _U(63 - t)
    else:
        for t in range(1, size):
            bits |= _U(data[x + _U(t)] == data[y + _U(t)]) << _U(63 - t)
    if wanted >> _TOP:  # the voxel before a line is looked at by none
        bits |= _U(data[x] == data[y]) << _TOP
    return bits & wanted


# ---- runs
@_njit
def _count(starts, lines, before):
    """Count the runs before each line and, less one, before each word."""
    n, words = starts.shape
    total = 0
    for i in range(n):
        lines[i] = total
        for w in range(words):
            before[i * words + w] = total - 1
            total += ones(starts[i, w])
    return total


@_njit
def _find_runs(inside, starts, before, start, stop):
    n, words = inside.shape
    for i in range(n - 1):
        for w in range(words):
            body = inside[i, w]
            if not body:
                continue
            rises = starts[i, w]
            past = 64 * w + 64
            at = before[i * words + w + 1]
            end = at
            goes_on = (body & ~rises) << _ONE
            if w + 1 < words:
                later = (inside[i, w + 1] & ~starts[i, w + 1]) >> _TOP
                goes_on |= later
                end -= np.int64(later)  # the last run of this word ends in another
            while rises:
                low = lowest(rises)
                start[at] = past - 1 - ones(low - _ONE)
                at -= 1
                rises ^= low
            falls = body & ~goes_on
            while falls:
                low = lowest(falls)
                stop[end] = past - ones(low - _ONE)
                end -= 1
                falls ^= low


@_njit
def _join(parent, a, b):
    """Unite two runs; a parent is never after its child (Rem's algorithm, Patwary, Blair & Manne 2010)."""
    p, q = parent[a], parent[b]
    while p != q:
        if p > q:
            parent[a] = q
            if a == p:
                break
            a = np.int64(p)
            p = parent[a]
        else:
            parent[b] = p
            if b == q:
                break
            b = np.int64(q)
            q = parent[b]


@_njit
def _borders(place, lead):
    """Two bits an axis: a line that lies at its begin, at its end."""
    bits = 0
    for a in range(lead.size):
        bits |= (place[a] == 0) << (2 * a) | (place[a] == lead[a] - 1) << (2 * a + 1)
    return bits


@_njit
def _unite(inside, starts, before, lines, parent, lead, delta, beyond, reach, shields, first_shield):
    """Unite touching runs, all of one value."""
    words = inside.shape[1]
    inside, starts = inside.reshape(-1), starts.reshape(-1)
    place = np.zeros(lead.size, np.int64)
    near = np.empty(delta.size, np.int64)
    n = lines.size - 1
    for i in range(n):
        if lines[i] < lines[i + 1]:
            borders = _borders(place, lead)
            for k in range(delta.size):
                near[k] = (n if borders & beyond[k] else i + delta[k]) * words
            for w in range(words):
                here = i * words + w
                mine, rise = inside[here], starts[here]
                last = inside[here - 1] << _TOP if w else _U(0)
                if not mine | last:
                    continue
                for k in range(reach.size):
                    there = near[k] + w
                    other, other_rise = inside[there], starts[there]
                    other_last = inside[there - 1] << _TOP if w else _U(0)
                    both = mine & other
                    straight = both & ~((both >> _ONE) | (last & other_last))  # where they begin to touch
                    diagonal = _U(0)
                    if reach[k]:  # one ends where the other starts
                        diagonal = (((other >> _ONE) | other_last) & ~other & rise) | (
                            ((mine >> _ONE) | last) & ~mine & other_rise
                        )
                    if not straight | diagonal:
                        continue
                    shield = wide = _U(0)
                    for s in range(first_shield[k], first_shield[k + 1]):
                        x, y = near[shields[s, 0]] + w, near[shields[s, 1]] + w
                        third = inside[x] & inside[y]
                        shield |= third
                        if shields[s, 2]:
                            wide |= third | (third >> _ONE) | (inside[x - 1] << _TOP if w else _U(0))
                    # A shield anywhere along a contact will do: a sum carries it to the bit above the contact.
                    carried = (both + (both & shield)) & ~both
                    events = (straight & ~(shield | (carried >> _ONE))) | (diagonal & ~wide)
                    while events:
                        low = lowest(events)
                        upto = ~(low - _ONE)
                        _join(parent, before[there] + ones(other_rise & upto), before[here] + ones(rise & upto))
                        events ^= low
        step(place, lead)


@_njit
def _unite_equal(data, length, inside, starts, before, lines, parent, lead, delta, beyond, reach):
    """Unite touching runs of equal value."""
    words = inside.shape[1]
    inside, starts = inside.reshape(-1), starts.reshape(-1)
    place = np.zeros(lead.size, np.int64)
    for i in range(lines.size - 1):
        borders = _borders(place, lead) if lines[i] < lines[i + 1] else -1
        for k in range(reach.size):
            o = i + delta[k]
            if borders & beyond[k] or lines[o] == lines[o + 1]:
                continue
            for w in range(words):
                here, there = i * words + w, o * words + w
                mine, rise = inside[here], starts[here]
                other, other_rise = inside[there], starts[there]
                last = inside[here - 1] << _TOP if w else _U(0)
                other_last = inside[there - 1] << _TOP if w else _U(0)
                if not mine | last or not other | other_last:
                    continue
                for kind in range(1 + 2 * reach[k]):
                    # side by side; my run starts where the other's ends; the other's starts where mine ends
                    if kind == 0:
                        both = mine & other
                        events = both & (rise | other_rise | ~((both >> _ONE) | (last & other_last)))
                    elif kind == 1:
                        events = rise & ((other >> _ONE) | other_last) & (other_rise | ~other)
                    else:
                        events = other_rise & ((mine >> _ONE) | last) & (rise | ~mine)
                    if not events:
                        continue
                    a, b = i * length + 64 * w - (kind == 2), o * length + 64 * w - (kind == 1)
                    if ones(events) >= FEW:
                        equal = _equal(data, a, b, length - 64 * w, events)
                    else:
                        equal = _U(0)
                        while events:
                            low = lowest(events)
                            t = 63 - ones(low - _ONE)
                            equal |= low * _U(data[a + t] == data[b + t])
                            events ^= low
                    while equal:
                        low = lowest(equal)
                        upto = ~(low - _ONE)
                        x = before[there] + ones(other_rise & (upto ^ low if kind == 1 else upto))
                        y = before[here] + ones(rise & (upto ^ low if kind == 2 else upto))
                        _join(parent, x, y)
                        equal ^= low
        step(place, lead)


@_njit
def _number(lines, start, parent, length):
    """Turn parents into numbers from 1, in place; the first voxel of each component."""
    count = 0
    for i in range(parent.size):
        count += parent[i] == i
    first = np.empty(count + 1, np.int64)
    at = 0
    for line in range(lines.size - 1):
        for i in range(lines[line], lines[line + 1]):
            first[at] = line * length + np.int64(start[i])  # kept if this run is a root
            root = parent[i] == i
            at += root
            number = parent[parent[i]]  # of an earlier run, numbered already
            parent[i] = at if root else number
    return first[:count].copy()
