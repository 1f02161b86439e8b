"""Synthetic volumes, any box at a time: every voxel is a function of the parameters and of its own coordinates.

    nuclei       one site per cell of a lattice; whether it is filled and how its nucleus looks are hashes of the site.
                 nuclei_image and nuclei_labels paint a box, nuclei_table measures what was painted, nuclei_count counts
    percolation  a hash of the coordinates, thresholded
    spiral       a corridor one voxel wide that winds through the whole volume
    shells, plateau, checkerboard

Boxes are (start, stop) per axis. The nuclei functions know three axes; a plane is a volume of thickness one.

Only +, -, *, / and sqrt are used on floats. They are correctly rounded everywhere, so a voxel has the same value in the
vectorised body and in the scalar tail of a loop: an exp() would not, and the tail moves with the cut.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

Box = tuple[tuple[int, int], ...]

# -------------------------------------------------------------------------------------------------------------- hashing

_STEP = np.uint64(0x9E3779B97F4A7C15)  # splitmix64 (Steele, Lea, Flood 2014): increment and finaliser
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


@njit(cache=True, nogil=True)
def _child(key, index):
    """The `index`-th key that follows from `key`: the only source of randomness here."""
    x = key + (np.uint64(index) + np.uint64(1)) * _STEP
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _uniform(key, index):
    """The `index`-th uniform number in [0, 1) that follows from `key`."""
    return np.float64(_child(key, index) >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def _normal(bits):
    """A standard normal number, nearly: four 16-bit uniforms added up. |value| < 3.5."""
    low = np.uint64(0xFFFF)
    total = (bits & low) + ((bits >> np.uint64(16)) & low) + ((bits >> np.uint64(32)) & low) + (bits >> np.uint64(48))
    return (np.float64(np.int64(total)) - 131070.0) * (1.0 / 37837.23)


@njit(cache=True, nogil=True)
def _children(keys, start, stop):
    out = np.empty((keys.size, stop - start), np.uint64)
    for row in range(keys.size):
        for index in range(start, stop):
            out[row, index - start] = _child(keys[row], index)
    return out.reshape(-1)


def _row_keys(seed: int, leading: Box) -> np.ndarray:
    """One key for each row along the last axis."""
    keys = np.array([seed], np.uint64)
    for start, stop in leading:
        keys = _children(keys, start, stop)
    return keys


# --------------------------------------------------------------------------------------------------------------- nuclei

SEAM = 0.25  # a nucleus is darker by this share where it meets another
SPOT = 0.25  # and by this share in its nucleolus
_DRAWS = 1 << 20  # keys of a site's own draws lie apart from those of the sites after it
_WALLS = 26  # neighbours that can press on a nucleus: farther ones are out of reach (see `_walls`)


class Lattice(NamedTuple):
    """The scene. Axes are z, y, x; a flat axis (half = 0) has one cell and nuclei run straight through it."""

    seed: int  # uint64
    shape: tuple[int, int, int]
    cells: tuple[int, int, int]
    pad: tuple[int, int, int]  # a nucleus reaches at most this many cells beyond its own
    pitch: tuple[float, float, float]  # size of a cell in voxels
    half: tuple[float, float, float]  # the unit in which semi-axes are drawn, in voxels
    wander: tuple[float, float, float]  # touching nuclei: how far a centre may be from the middle of its cell
    touch: bool
    fill: float
    small: float  # semi-axes are between small and large, in units of half
    large: float
    jitter: float
    edge: float  # half the width of the soft edge, in voxels


NUCLEUS = np.dtype(
    [
        ("label", np.uint64),
        ("centre", np.float64, 3),
        ("form", np.float64, 6),  # zz zy zx yy yx xx of the quadratic form that is 1 on the surface
        ("reach", np.float64, 3),  # half the bounding box
        ("brightness", np.float64),
        ("soft", np.float64),  # value of the form where the soft edge ends
        ("slope", np.float64),
        ("weight", np.float64),
        ("spot", np.float64, 3),
        ("spot_scale", np.float64, 3),
    ]
)

# A wall is the plane between two touching nuclei: normal . voxel <= offset on the side of the one with the lower label.
WALL = np.dtype(
    [("normal", np.float64, 3), ("offset", np.float64), ("per_length", np.float64), ("lower", np.bool_)],
)

MEASURED = np.dtype(
    [
        ("label", np.uint64),
        ("area", np.int64),
        ("first", np.int64, 3),
        ("last", np.int64, 3),
        ("sum", np.int64, 3),
        ("brightness", np.float64),
    ]
)


@njit(cache=True, nogil=True)
def _site_key(seed, k, j, i):
    return _child(_child(_child(_child(seed, 0), k), j), i)


@njit(cache=True, nogil=True)
def _filled(lattice, key):
    return _uniform(key, _DRAWS) < lattice.fill


@njit(cache=True, nogil=True)
def _place(lattice, k, j, i, nucleus):
    """Describe the nucleus of a site; False where the site is empty.

    It is an ellipsoid in a space where a cell is a cube, its axes turned by a mirror in a random plane: a mirror costs
    no sine and no cosine, and reaches every direction.
    """
    site = (k, j, i)
    key = _site_key(lattice.seed, k, j, i)
    if not _filled(lattice, key):
        return False

    semi = np.empty(3)
    across = np.empty(3)
    length = 0.0
    for a in range(3):
        semi[a] = lattice.small + (lattice.large - lattice.small) * _uniform(key, _DRAWS + 1 + a)
        across[a] = 2.0 * _uniform(key, _DRAWS + 4 + a) - 1.0 if lattice.half[a] > 0 else 0.0
        length += across[a] * across[a]
    mirror = np.eye(3)
    if length > 1e-6:
        for a in range(3):
            for b in range(3):
                mirror[a, b] -= 2.0 * across[a] * across[b] / length

    entry = 0
    thick = 0.0
    axes = 0
    nucleus.weight = 0.0
    for a in range(3):
        for b in range(a, 3):
            nucleus.form[entry] = 0.0
            if lattice.half[a] > 0 and lattice.half[b] > 0:
                total = 0.0
                for m in range(3):
                    total += mirror[a, m] * mirror[b, m] / (semi[m] * semi[m])
                nucleus.form[entry] = total / (lattice.half[a] * lattice.half[b])
            entry += 1
        if lattice.half[a] == 0:
            nucleus.centre[a] = nucleus.spot[a] = 0.5 * (lattice.shape[a] - 1)
            nucleus.reach[a] = lattice.shape[a]
            nucleus.spot_scale[a] = 0.0
            continue
        total = 0.0
        for m in range(3):
            total += mirror[a, m] * mirror[a, m] * semi[m] * semi[m]
        reach = lattice.half[a] * math.sqrt(total)
        # One voxel on each side of a cell stays free: two between neighbours, so they do not touch, corners included.
        loose = lattice.wander[a] if lattice.touch else 0.5 * lattice.pitch[a] - 1.0 - reach
        off = lattice.jitter * loose * (2.0 * _uniform(key, _DRAWS + 7 + a) - 1.0)
        nucleus.centre[a] = (site[a] + 0.5) * lattice.pitch[a] - 0.5 + off
        nucleus.reach[a] = reach
        nucleus.spot[a] = nucleus.centre[a] + 0.5 * reach * (2.0 * _uniform(key, _DRAWS + 10 + a) - 1.0)
        nucleus.spot_scale[a] = 1.0 / (0.4 * lattice.half[a]) ** 2
        nucleus.weight += semi[a] * semi[a]
        thick += reach
        axes += 1
    if axes > 0:
        nucleus.weight /= axes
        thick /= axes
    else:
        thick = 1.0

    cells = lattice.cells
    nucleus.label = np.uint64((np.int64(k) * cells[1] + j) * cells[2] + i + 1)
    nucleus.brightness = 0.8 + 0.4 * _uniform(key, _DRAWS + 13)
    # Near the surface, (form - 1) / 2 * thick is the distance from it in voxels: the edge needs no root and no exp.
    nucleus.soft = 1.0 + 2.0 * lattice.edge / thick
    nucleus.slope = 0.25 * thick / lattice.edge
    return True


@njit(cache=True, nogil=True)
def _walls(lattice, nucleus, out, scratch):
    """The planes that bound a nucleus against its neighbours; how many there are.

    The power diagram of the centres, in the space where a cell is a cube: what two overlapping spheres have in common
    is cut exactly through the circle in which they meet. Both sides work out the plane in the same order of operations,
    so that not one voxel belongs to both. A centre wanders by 0.15 cells at most, so the plane to a site two cells away
    is beyond the surface.
    """
    cells = lattice.cells
    site = np.int64(nucleus.label) - 1
    k, j, i = site // (cells[1] * cells[2]), site // cells[2] % cells[1], site % cells[2]
    walls = 0
    for kk in range(max(k - 1, 0), min(k + 2, cells[0])):
        for jj in range(max(j - 1, 0), min(j + 2, cells[1])):
            for ii in range(max(i - 1, 0), min(i + 2, cells[2])):
                if (kk == k and jj == j and ii == i) or not _place(lattice, kk, jj, ii, scratch):
                    continue
                lower = nucleus.label < scratch.label
                one, two = (nucleus, scratch) if lower else (scratch, nucleus)
                wall = out[walls]
                wall.lower = lower
                wall.offset = 0.5 * (one.weight - two.weight)
                squares = 0.0
                scaled = 0.0
                ahead = 0.0
                for a in range(3):
                    wall.normal[a] = 0.0
                    if lattice.half[a] > 0:
                        step = (two.centre[a] - one.centre[a]) / lattice.half[a]
                        wall.normal[a] = step / lattice.half[a]
                        wall.offset += wall.normal[a] * 0.5 * (one.centre[a] + two.centre[a])
                        squares += wall.normal[a] * wall.normal[a]
                        scaled += step * step
                    ahead += wall.normal[a] * nucleus.centre[a]
                wall.per_length = 1.0 / math.sqrt(squares)
                if abs(wall.offset - ahead) < lattice.large * math.sqrt(scaled * nucleus.soft):
                    walls += 1
    return walls


@njit(cache=True, nogil=True)
def _span(nucleus, walls, z, y, bound, length):
    """The voxels [start, stop) of a row of `length` where the form is at most `bound`, on this side of the walls."""
    dz = z - nucleus.centre[0]
    dy = y - nucleus.centre[1]
    rest = nucleus.form[0] * dz * dz + 2.0 * nucleus.form[1] * dz * dy + nucleus.form[3] * dy * dy - bound
    slant = nucleus.form[2] * dz + nucleus.form[4] * dy
    bend = nucleus.form[5]
    start, stop = 0, length
    if bend == 0.0:  # x is flat
        if rest > 0.0:
            return 0, 0
    else:
        inside = slant * slant - bend * rest
        if inside < 0.0:
            return 0, 0
        root = math.sqrt(inside)
        start = max(start, np.int64(math.ceil(nucleus.centre[2] - (slant + root) / bend)))  # type: ignore
        stop = min(stop, np.int64(math.floor(nucleus.centre[2] - (slant - root) / bend)) + 1)
    for wall in walls:
        left = wall.offset - wall.normal[0] * z - wall.normal[1] * y
        step = wall.normal[2]
        # The lower label takes the voxels on the plane itself; the other takes exactly the rest.
        if step > 0.0:
            last = np.int64(math.floor(left / step))
            if wall.lower:
                stop = min(stop, last + 1)
            else:
                start = max(start, last + 1)  # type: ignore
        elif step < 0.0:
            first = np.int64(math.ceil(left / step))
            if wall.lower:
                start = max(start, first)  # type: ignore
            else:
                stop = min(stop, first)
        elif wall.lower != (left >= 0.0):
            return 0, 0
    return start, max(start, stop)


@njit(cache=True, nogil=True)
def _extent(centre, reach, start, stop):
    """The integers of [start, stop) that are within `reach` of `centre`."""
    return max(start, np.int64(math.ceil(centre - reach))), min(stop, np.int64(math.floor(centre + reach)) + 1)


@njit(cache=True, nogil=True)
def _cell_range(lattice, box, a):
    start, stop = box[a]
    first = np.int64((start + 0.5) / lattice.pitch[a]) - lattice.pad[a]
    last = np.int64((stop - 0.5) / lattice.pitch[a]) + lattice.pad[a]
    return max(0, first), min(lattice.cells[a], last + 1)


@njit(cache=True, nogil=True)
def _meets(nucleus, box, grow):
    for a in range(3):
        start, stop = _extent(nucleus.centre[a], nucleus.reach[a] * grow, box[a][0], box[a][1])
        if start >= stop:
            return False
    return True


@njit(cache=True, nogil=True)
def _gather(lattice, box, soft):
    """The nuclei that reach into a box, in the order of their labels, and their walls."""
    k0, k1 = _cell_range(lattice, box, 0)
    j0, j1 = _cell_range(lattice, box, 1)
    i0, i1 = _cell_range(lattice, box, 2)
    nuclei = np.empty(max(0, k1 - k0) * max(0, j1 - j0) * max(0, i1 - i0), NUCLEUS)
    found = 0
    for k in range(k0, k1):
        for j in range(j0, j1):
            for i in range(i0, i1):
                if _place(lattice, k, j, i, nuclei[found]):
                    grow = math.sqrt(nuclei[found].soft) if soft else 1.0
                    if _meets(nuclei[found], box, grow):
                        found += 1
    nuclei = nuclei[:found]
    many = np.zeros(found, np.int64)
    walls = np.empty((found, _WALLS if lattice.touch else 0), WALL)
    if lattice.touch:
        scratch = np.empty(1, NUCLEUS)
        for m in range(found):
            many[m] = _walls(lattice, nuclei[m], walls[m], scratch[0])
    return nuclei, walls, many


@njit(cache=True, nogil=True)
def _light(plane, z, y0, x0, lattice, nucleus, walls):
    """Add the part of a nucleus that lies in a plane. The brighter of two wins, so their order does not matter."""
    ny, nx = plane.shape
    grow = math.sqrt(nucleus.soft)
    cz, cy, cx = nucleus.centre[0], nucleus.centre[1], nucleus.centre[2]
    bend, slope, brightness = nucleus.form[5], nucleus.slope, nucleus.brightness
    spot_x, spot_scale = nucleus.spot[2], nucleus.spot_scale[2]
    first, last = _extent(cy, nucleus.reach[1] * grow, y0, y0 + ny)
    for y in range(first, last):
        start, stop = _span(nucleus, walls, z, y, nucleus.soft, lattice.shape[2])
        start, stop = max(start, x0), min(stop, x0 + nx)
        dz, dy = z - cz, y - cy
        rest = nucleus.form[0] * dz * dz + 2.0 * nucleus.form[1] * dz * dy + nucleus.form[3] * dy * dy - 1.0
        slant = 2.0 * (nucleus.form[2] * dz + nucleus.form[4] * dy)
        sz, sy = z - nucleus.spot[0], y - nucleus.spot[1]
        aside = sz * sz * nucleus.spot_scale[0] + sy * sy * nucleus.spot_scale[1]
        row = plane[y - y0]
        for x in range(start, stop):
            dx = x - cx
            depth = min(max(0.5 - (rest + dx * (slant + bend * dx)) * slope, 0.0), 1.0)
            sx = x - spot_x
            spot = max(0.0, 1.0 - aside - sx * sx * spot_scale)
            value = brightness * depth * depth * (3.0 - 2.0 * depth) * (1.0 - SPOT * spot * spot)
            if walls.size > 0:
                value *= 1.0 - SEAM * _closeness(walls, z, y, x, lattice.edge)
            row[x - x0] = max(row[x - x0], np.float32(value))


@njit(cache=True, nogil=True)
def _closeness(walls, z, y, x, edge):
    """1 at the nearest wall, 0 from two edges away."""
    near = 2.0 * edge
    for wall in walls:
        ahead = wall.offset - wall.normal[0] * z - wall.normal[1] * y - wall.normal[2] * x
        near = min(near, abs(ahead) * wall.per_length)
    close = 1.0 - near / (2.0 * edge)
    return close * close


@njit(cache=True, nogil=True)
def _expose(plane, out, z, y0, x0, seed, background, signal, noise):
    """Light to counts. The noise has the variance of Poisson's, and nearly its shape above some tens of counts."""
    key = _child(_child(seed, 1), z)
    for y in range(plane.shape[0]):
        row = _child(key, y0 + y)
        for x in range(plane.shape[1]):
            value = background + signal * np.float64(plane[y, x])
            if noise:
                value += math.sqrt(value) * _normal(_child(row, x0 + x))
            out[y, x] = np.uint16(min(max(value + 0.5, 0.0), 65535.0))


@njit(cache=True, nogil=True)
def nuclei_image(lattice, box, background, signal, noise):
    """A box of the picture, uint16."""
    (z0, z1), (y0, y1), (x0, x1) = box
    out = np.empty((z1 - z0, y1 - y0, x1 - x0), np.uint16)
    if out.size == 0:
        return out
    nuclei, walls, many = _gather(lattice, box, True)
    plane = np.empty((y1 - y0, x1 - x0), np.float32)
    for z in range(z0, z1):
        plane[:] = 0.0
        for m in range(nuclei.size):
            nucleus = nuclei[m]
            if abs(z - nucleus.centre[0]) <= nucleus.reach[0] * math.sqrt(nucleus.soft):
                _light(plane, z, y0, x0, lattice, nucleus, walls[m, : many[m]])
        _expose(plane, out[z - z0], z, y0, x0, lattice.seed, background, signal, noise)
    return out


@njit(cache=True, nogil=True)
def nuclei_labels(lattice, box):
    """A box of the truth, uint64: the number of the site whose nucleus a voxel belongs to, 0 outside."""
    (z0, z1), (y0, y1), (x0, x1) = box
    out = np.zeros((z1 - z0, y1 - y0, x1 - x0), np.uint64)
    if out.size == 0:
        return out
    nuclei, walls, many = _gather(lattice, box, False)
    for m in range(nuclei.size):
        nucleus = nuclei[m]
        first_z, last_z = _extent(nucleus.centre[0], nucleus.reach[0], z0, z1)
        first_y, last_y = _extent(nucleus.centre[1], nucleus.reach[1], y0, y1)
        for z in range(first_z, last_z):
            for y in range(first_y, last_y):
                start, stop = _span(nucleus, walls[m, : many[m]], z, y, 1.0, lattice.shape[2])
                for x in range(max(start, x0), min(stop, x1)):
                    out[z - z0, y - y0, x - x0] = nucleus.label
    return out


@njit(cache=True, nogil=True)
def nuclei_count(lattice):
    """How many sites are filled."""
    count = 0
    root = _child(lattice.seed, 0)
    for k in range(lattice.cells[0]):
        plane = _child(root, k)
        for j in range(lattice.cells[1]):
            row = _child(plane, j)
            for i in range(lattice.cells[2]):
                count += _filled(lattice, _child(row, i))
    return count


@njit(cache=True, nogil=True)
def _measure(lattice, nucleus, walls, measured):
    """Voxels, bounding box and coordinate sums of a whole nucleus, from its spans: nothing is painted."""
    measured.label = nucleus.label
    measured.brightness = nucleus.brightness
    measured.area = 0
    for a in range(3):
        measured.first[a] = lattice.shape[a]
        measured.last[a] = 0
        measured.sum[a] = 0
    first_z, last_z = _extent(nucleus.centre[0], nucleus.reach[0], 0, lattice.shape[0])
    first_y, last_y = _extent(nucleus.centre[1], nucleus.reach[1], 0, lattice.shape[1])
    for z in range(first_z, last_z):
        for y in range(first_y, last_y):
            start, stop = _span(nucleus, walls, z, y, 1.0, lattice.shape[2])
            width = stop - start
            if width == 0:
                continue
            measured.area += width
            measured.sum[0] += z * width
            measured.sum[1] += y * width
            measured.sum[2] += (start + stop - 1) * width // 2
            measured.first[0] = min(measured.first[0], z)
            measured.first[1] = min(measured.first[1], y)
            measured.first[2] = min(measured.first[2], start)
            measured.last[0] = max(measured.last[0], z + 1)
            measured.last[1] = max(measured.last[1], y + 1)
            measured.last[2] = max(measured.last[2], stop)


@njit(cache=True, nogil=True)
def nuclei_table(lattice, box):
    """Measurements of every nucleus whose bounding box meets `box`, in the order of their labels."""
    nuclei, walls, many = _gather(lattice, box, False)
    table = np.empty(nuclei.size, MEASURED)
    kept = 0
    for m in range(nuclei.size):
        row = table[kept]
        _measure(lattice, nuclei[m], walls[m, : many[m]], row)
        meets = row.area > 0
        for a in range(3):
            meets = meets and row.first[a] < box[a][1] and row.last[a] > box[a][0]
        kept += meets
    return table[:kept]


# ---------------------------------------------------------------------------------------------------------- adversaries


@njit(cache=True, nogil=True)
def _below(keys, start, stop, threshold):
    out = np.empty((keys.size, stop - start), np.bool_)
    for row in range(keys.size):
        for x in range(start, stop):
            out[row, x - start] = (_child(keys[row], x) >> np.uint64(11)) < threshold
    return out


def percolation(seed: int, p: float, box: Box) -> np.ndarray:
    """Every voxel set with probability `p`, whatever its neighbours are."""
    keys = _row_keys(seed, box[:-1])
    return _below(keys, *box[-1], np.uint64(int(p * 2**53))).reshape(_extents(box))


def checkerboard(cell: int, box: Box) -> np.ndarray:
    """Cells of `cell` voxels, set where the sum of their indices is even."""
    out = np.ones(_extents(box), bool)
    for odd in _along_axes([np.arange(*pair) // cell % 2 == 1 for pair in box]):
        out ^= odd
    return out


def shells(shape: tuple[int, ...], gap: int, wall: int, channel: bool, box: Box) -> np.ndarray:
    """Boxes in boxes: `gap` voxels free, `wall` voxels set, from the border of the volume inwards."""
    # An axis of length 1 is all border: it does not count, so that a plane in a volume holds the shells of a plane.
    axes = [a for a, n in enumerate(shape) if n > 1]
    depth_along = [np.minimum(np.arange(*box[a]), shape[a] - 1 - np.arange(*box[a])) for a in axes]
    deepest = min(((shape[a] - 1) // 2 for a in axes), default=0)
    period = gap + wall
    is_wall = np.arange(deepest + 1) % period >= gap
    depth = np.full([stop - start if a in axes else 1 for a, (start, stop) in enumerate(box)], deepest, np.int32)
    for a, along in zip(axes, depth_along):
        np.minimum(depth, along.astype(np.int32).reshape(_column(a, len(shape))), out=depth)
    out = np.broadcast_to(is_wall[depth], _extents(box)).copy()
    if channel and len(axes) > 1 and deepest >= gap:
        # Through every wall but the last, in the middle of the other axes, from the low side of the first one.
        start_of_last = (deepest - gap) // period * period + gap
        start, stop = box[axes[0]]
        hole = [slice(None)] * len(shape)
        hole[axes[0]] = slice(0, max(0, min(stop, start_of_last) - start))
        for a in axes[1:]:
            at = shape[a] // 2 - box[a][0]
            hole[a] = slice(at, at + 1) if at >= 0 else slice(0, 0)
        out[tuple(hole)] = False
    return out


def plateau(shape: tuple[int, ...], level: int, step: int, rim: int, spike: bool, box: Box) -> np.ndarray:
    """One level nearly everywhere; a rim `step` lower, and one voxel `step` higher at the far end of the level."""
    rims = [rim if n > 2 * rim else 0 for n in shape]
    out = np.full(_extents(box), level - step, np.uint16)
    out[_inside([(r, n - r) for r, n in zip(rims, shape)], box)] = level
    if spike and all(shape):
        out[_inside([(n - r - 1, n - r) for r, n in zip(rims, shape)], box)] = level + step
    return out


def _extents(box: Box) -> tuple[int, ...]:
    return tuple(stop - start for start, stop in box)


def _inside(region: list[tuple[int, int]], box: Box) -> tuple[slice, ...]:
    """The part of `region` that is in `box`, in the box's own coordinates."""
    pairs = [(max(a, start) - start, min(b, stop) - start) for (a, b), (start, stop) in zip(region, box)]
    return tuple(slice(a, max(a, b)) for a, b in pairs)


def _column(axis: int, ndim: int) -> tuple[int, ...]:
    return tuple(-1 if a == axis else 1 for a in range(ndim))


def _along_axes(values: list[np.ndarray]) -> list[np.ndarray]:
    """One vector an axis, shaped to broadcast against the volume."""
    return [v.reshape(_column(a, len(values))) for a, v in enumerate(values)]


# --------------------------------------------------------------------------------------------------------------- spiral
#
# In a plane, the even rings around the border are the corridor and the odd ones its walls. Each ring is opened just
# below its first corner, where a bridge leads to the next:
#
#     > > > > > > >        start at the first voxel, clockwise, up the left side to the bridge, and in
#     . . . . . . v
#     > > > > > . v
#     ^ . . . v . v
#     ^ . < < < . v
#     ^ . . . . . v
#     ^ < < < < < <
#
# Above two axes, the even layers hold that path, run through alternately inwards and outwards, and an odd layer holds
# the one voxel that leads on.


@njit(cache=True, nogil=True)
def _in_corridor(y, x, ny, nx):
    ring = min(min(y, ny - 1 - y), min(x, nx - 1 - x))
    if ring % 2 == 1:
        # The bridge, where there is a ring for it to lead to.
        return x % 2 == 1 and y == x + 1 and min(ny, nx) >= 2 * x + 3
    high, wide = ny - 2 * ring, nx - 2 * ring
    if high == 1 or wide == 1:
        return True
    # Two voxels across, there and back would touch: only the way there is left.
    if high == 2:
        return y == ring
    if wide == 2:
        return y == ring or x == ring + 1
    return not (x == ring and y == ring + 1)


@njit(cache=True, nogil=True)
def _spiral_plane(ny, nx, y0, y1, x0, x1):
    out = np.empty((y1 - y0, x1 - x0), np.bool_)
    for y in range(y0, y1):
        for x in range(x0, x1):
            out[y - y0, x - x0] = _in_corridor(y, x, ny, nx)
    return out


def _inner_end(ny: int, nx: int) -> tuple[int, int]:
    """Where the corridor of a plane ends."""
    ring = (min(ny, nx) - 1) // 4 * 2
    high, wide = ny - 2 * ring, nx - 2 * ring
    if high == 1 or wide == 1:
        return ring + high - 1, ring + wide - 1
    if high == 2:
        return ring, ring + wide - 1
    if wide == 2:
        return ring + high - 1, ring + 1
    return ring + 2, ring


def _end(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Where the corridor of a volume ends; it starts at the first voxel."""
    if len(shape) == 2:
        return _inner_end(*shape)
    layers = (shape[0] + 1) // 2
    return (2 * (layers - 1), *(_end(shape[1:]) if layers % 2 else (0,) * (len(shape) - 1)))


def _wind(out: np.ndarray, shape: tuple[int, ...], box: Box, plane: np.ndarray) -> None:
    if len(shape) == 2:
        out[...] = plane
        return
    for index in range(*box[0]):
        layer = out[index - box[0][0]]
        if index % 2 == 0:
            _wind(layer, shape[1:], box[1:], plane)
        elif index + 1 < shape[0]:
            through = _end(shape[1:]) if index // 2 % 2 == 0 else (0,) * (len(shape) - 1)
            layer[_inside([(at, at + 1) for at in through], box[1:])] = True


def spiral(shape: tuple[int, ...], box: Box) -> np.ndarray:
    """The corridor."""
    out = np.zeros(_extents(box), bool)
    if out.size == 0:
        return out
    if len(shape) == 1:
        out[:] = True
        return out
    plane = _spiral_plane(*shape[-2:], *box[-2], *box[-1])  # type: ignore
    _wind(out, shape, box, plane)
    return out
