"""Volumes that are formulas: any size, any box of them at once, and the truth known exactly.

    Nuclei        stained nuclei, apart or touching; `.labels` the truth, `.count()`, `.table()`
    Percolation   voxels set at random: components of every size, none of them tidy
    Spiral        one corridor, one voxel wide, through every block
    Shells        boxes in boxes, holes in objects in holes
    Plateau       one level nearly everywhere, and what decides about it at the far end
    Checkerboard  half of all voxels an object each, or all one object

Each is a Source: it has `shape`, `dtype`, `chunks` and a `token`, and `read(box)` gives its voxels. A voxel depends on
the parameters and on its own coordinates, never on the box it is read in. Nothing is computed before `read`.

    >>> nuclei = source("nuclei", (64, 64, 64), seed=1)
    >>> nuclei.count()
    7
    >>> nuclei.read(((0, 32), (0, 32), (0, 32))).shape
    (32, 32, 32)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from bigbia.errors import ParameterError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from bigbia.kernels.synth import Lattice

Box = tuple[tuple[int, int], ...]

# Part of every token. Raise it whenever a formula changes: no stored result of the old one may be taken for the new.
FORMULAS = 1

# What touching nuclei do with their cells, in units of a cell: they are larger than it, and their centres wander.
# The proof in kernels/synth.py that only the next cells can press on a nucleus holds for these two.
_CROWDED_HALF = 0.7
_CROWDED_WANDER = 0.15


@dataclass(frozen=True)
class Synthetic:
    """What all of them share. A subclass adds its parameters, its `dtype`, and `_voxels(box)`."""

    shape: tuple[int, ...]

    dtype: ClassVar[np.dtype] = np.dtype(bool)

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if not shape or min(shape) < 0:
            raise ParameterError(f"shape {self.shape}: one length of 0 or more is needed for each of one or more axes")
        object.__setattr__(self, "shape", shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """A unit that is cheap to read: about 2^18 voxels."""
        length = {1: 2**18, 2: 512}.get(len(self.shape), 64)
        return tuple(max(1, min(length, n)) for n in self.shape)

    @cached_property
    def token(self) -> str:
        values = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self))
        text = f"{FORMULAS}: {type(self).__name__}({values})"
        return f"synthetic-{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def read(self, box: Sequence[tuple[int, int]]) -> np.ndarray:
        """The voxels of `box`, one (start, stop) an axis."""
        box = tuple((int(start), int(stop)) for start, stop in box)
        if len(box) != len(self.shape) or any(not 0 <= a <= b <= n for (a, b), n in zip(box, self.shape)):
            raise ParameterError(f"box {box} is not inside {type(self).__name__} of shape {self.shape}")
        return self._voxels(box)

    def _voxels(self, box: Box) -> np.ndarray:
        raise NotImplementedError

    def _set(self, **values: Any) -> None:
        """Store a parameter in its one form: 24 and (24, 24, 24), 1 and 1.0 are the same volume and get one token."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _require(self, allowed: bool, name: str, what: str) -> None:
        if not allowed:
            raise ParameterError(f"{type(self).__name__}: {name}={getattr(self, name)!r}, but {what}")


# --------------------------------------------------------------------------------------------------------------- nuclei


@dataclass(frozen=True)
class Nuclei(Synthetic):
    """Nuclei in a plane or a volume: a uint16 picture with soft edges, nucleoli and noise, and its exact truth.

    The volume is cut into cells of about `pitch` voxels; each holds a nucleus or none. A nucleus is an ellipsoid at a
    random place in its cell, turned at random. All of it follows from hashes of `seed` and the cell's position.

    Parameters
    ----------
    shape : 2 or 3 ints
        An axis too short for a nucleus (of 1 voxel, say) is flat: the nuclei run straight through it.
    pitch : number, or one an axis
        Length of a cell in voxels. Cells are stretched to fill the axis; nuclei are not, unless they touch.
    fill : float
        Probability that a cell holds a nucleus.
    seed : int
    touch : bool
        False: a voxel or more is free around every nucleus, corners included, so the components of the truth are the
        nuclei, at any connectivity. True: nuclei are crowded into contact, cut by flat walls where they meet (darker in
        the picture) and by the border of the volume.
    radius : (float, float)
        Shortest and longest semi-axis, as a share of the room a cell offers.
    jitter : float
        0: every centre in the middle of its room; 1: anywhere it can be.
    edge : float
        Half the width of the soft edge, in voxels. The truth ends where the picture is half as bright as inside.
    background, signal : float
        Mean counts outside, and those that a nucleus of brightness 1 adds; brightness is 0.8 to 1.2.
    noise : bool
        Noise with the variance of Poisson's.

    Examples
    --------
    >>> nuclei = Nuclei((40, 100, 100), pitch=20, seed=3)
    >>> box = ((0, 40), (20, 60), (20, 60))
    >>> nuclei.read(box).dtype, nuclei.labels.read(box).dtype
    (dtype('uint16'), dtype('uint64'))
    >>> nuclei.count() == len(nuclei.table()) == len(np.unique(nuclei.labels.read(((0, 40), (0, 100), (0, 100))))) - 1
    True
    """

    pitch: float | tuple[float, ...] = 24.0  # kept as one an axis
    fill: float = 0.85
    seed: int = 0
    touch: bool = False
    radius: tuple[float, float] = (0.5, 0.9)
    jitter: float = 1.0
    edge: float = 1.2
    background: float = 100.0
    signal: float = 1200.0
    noise: bool = True

    dtype: ClassVar[np.dtype] = np.dtype(np.uint16)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(len(self.shape) in (2, 3), "shape", "nuclei are drawn in 2 or 3 axes")
        self._require(np.size(self.pitch) in (1, len(self.shape)), "pitch", f"there are {len(self.shape)} axes")
        self._require(len(self.radius) == 2, "radius", "it is (shortest, longest)")
        self._set(
            pitch=tuple(np.broadcast_to(np.asarray(self.pitch, float), len(self.shape)).tolist()),
            radius=tuple(float(r) for r in self.radius),
            seed=int(self.seed),
            touch=bool(self.touch),
            noise=bool(self.noise),
            **{name: float(getattr(self, name)) for name in ("fill", "jitter", "edge", "background", "signal")},
        )
        self._require(0 <= self.fill <= 1, "fill", "it is a probability")
        self._require(0 <= self.jitter <= 1, "jitter", "it is a share, 0 to 1")
        small, large = self.radius
        self._require(0 < small <= large <= 1, "radius", "it is (shortest, longest), each above 0 and at most 1")
        for name in ("edge", "background", "signal"):
            value = getattr(self, name)
            self._require(math.isfinite(value) and value >= 0, name, "it must be 0 or more")
        self._scene  # noqa: B018 - a pitch that cannot work is refused now, not in the first block

    @property
    def labels(self) -> NucleiLabels:
        """The truth: which nucleus each voxel belongs to."""
        return NucleiLabels(self.shape, self)

    def count(self) -> int:
        """How many nuclei there are, without painting any."""
        from bigbia.kernels import synth

        return int(synth.nuclei_count(self._lattice()))

    def table(self, box: Sequence[tuple[int, int]] | None = None) -> pd.DataFrame:
        """The nuclei, as `regionprops_table` would measure them in the truth: one row a nucleus, by label.

        Columns: label, area, bbox-0 ..., centroid-0 ..., brightness. With a `box`, only the nuclei whose bounding box
        meets it (measured whole all the same).
        """
        import pandas as pd

        from bigbia.kernels import synth

        box = self._box3(box or [(0, n) for n in self.shape])
        rows = synth.nuclei_table(self._lattice(), box)
        axes = range(3 - len(self.shape), 3)
        columns = {"label": rows["label"], "area": rows["area"]}
        for n, corner in enumerate([*(rows["first"][:, a] for a in axes), *(rows["last"][:, a] for a in axes)]):
            columns[f"bbox-{n}"] = corner
        for n, a in enumerate(axes):
            columns[f"centroid-{n}"] = rows["sum"][:, a] / rows["area"]
        return pd.DataFrame(columns | {"brightness": rows["brightness"]})

    def _voxels(self, box: Box) -> np.ndarray:
        from bigbia.kernels import synth

        voxels = synth.nuclei_image(self._lattice(), self._box3(box), self.background, self.signal, self.noise)
        return voxels.reshape(tuple(b - a for a, b in box))

    def _box3(self, box: Sequence[tuple[int, int]]) -> Box:
        return ((0, 1),) * (3 - len(self.shape)) + tuple((int(a), int(b)) for a, b in box)

    @cached_property
    def _scene(self) -> dict[str, Any]:
        """The geometry of the lattice, always over z, y, x."""
        missing = 3 - len(self.shape)
        shape = (1,) * missing + self.shape
        asked = (math.inf,) * missing + cast(tuple[float, ...], self.pitch)
        cells = tuple(max(1, int(n // p)) if n else 0 for n, p in zip(shape, asked))
        pitch = tuple(n / max(c, 1) for n, c in zip(shape, cells))
        # What a nucleus is drawn for: touching ones grow with their cells, or they would stand apart in small volumes.
        size = pitch if self.touch else [min(p, n) for p, n in zip(asked, shape)]
        half = [_CROWDED_HALF * s if self.touch else s / 2 - 1 for s in size]
        for axis in self._flat_axes(shape, asked, half):
            half[axis] = 0.0
        wander = tuple(_CROWDED_WANDER * s for s in size)
        return {
            "shape": shape,
            "cells": cells,
            "pitch": tuple(max(p, 1.0) for p in pitch),
            "half": tuple(half),
            "wander": wander,
            "pad": self._reach_in_cells(pitch, half, wander),
        }

    def _flat_axes(self, shape: Sequence[int], asked: Sequence[float], half: Sequence[float]) -> list[int]:
        """The axes too short to hold a nucleus. Raises if one that is long enough has too small a pitch."""
        axes = [a for a in range(3) if shape[a] > 1]
        flat = [a for a in range(3) if shape[a] <= 1]
        while axes and not self._solid([half[a] for a in axes]):
            short = [a for a in axes if shape[a] < asked[a]]
            if not short:
                raise ParameterError(
                    f"Nuclei: pitch={self.pitch} is too small for nuclei of radius={self.radius} to be of one piece"
                    f"{' and to keep their middles' if self.touch else ''}; use a larger pitch (10 is enough for the "
                    "default radius)"
                )
            flat.append(min(short, key=lambda a: half[a]))
            axes.remove(flat[-1])
        return flat

    def _solid(self, half: Sequence[float]) -> bool:
        """Whether each nucleus has voxels, and hangs together through their faces.

        An ellipsoid with semi-axes from `small` to `large` is a union of balls of radius small^2 / large, the sharpest
        bend of its surface. If such a ball holds the voxel nearest to its middle wherever that is, then every voxel of
        the ball is linked to that one by steps that only come nearer, and the balls are linked as their middles move.
        """
        if min(half) <= 0:
            return False
        small, large = self.radius
        ball = small**2 / large
        off_middle = math.sqrt(sum((0.5 / h) ** 2 for h in half))
        if not self.touch:
            return off_middle <= ball
        # The nearest wall there can be, seen from the centre: the next centre as near as it comes, and as large.
        apart = (1 - 2 * _CROWDED_WANDER * self.jitter) / _CROWDED_HALF
        nearest_wall = (apart**2 + small**2 - large**2) / (2 * apart)
        return off_middle < min(ball, nearest_wall)

    def _reach_in_cells(self, pitch: Sequence[float], half: Sequence[float], wander: Sequence[float]) -> tuple:
        """How many cells beyond its own a nucleus can reach, soft edge included."""
        small, large = self.radius
        thinnest = small * min((h for h in half if h > 0), default=1.0)
        grown = large * math.sqrt(1 + 2 * self._edge / thinnest)
        pad = []
        for p, h, w in zip(pitch, half, wander):
            off = w if self.touch else p / 2 - 1 - small * h
            pad.append(max(0, math.ceil((off + grown * h) / p - 0.5)) if h > 0 else 0)
        return tuple(pad)

    @property
    def _edge(self) -> float:
        return max(self.edge, 0.01)  # the formula divides by it; this is hard to the eye

    def _lattice(self) -> Lattice:
        from bigbia.kernels.synth import Lattice

        small, large = self.radius
        return Lattice(
            seed=cast(int, np.uint64(self.seed & (2**64 - 1))),
            **self._scene,
            touch=self.touch,
            fill=self.fill,
            small=small,
            large=large,
            jitter=self.jitter,
            edge=self._edge,
        )


@dataclass(frozen=True)
class NucleiLabels(Synthetic):
    """The truth of `Nuclei`, uint64: 0 outside, else the number of the nucleus' cell.

    Cells are numbered from 1 in raster order, empty ones too, so the labels are unique and ascending, with gaps.
    """

    nuclei: Nuclei

    dtype: ClassVar[np.dtype] = np.dtype(np.uint64)

    def count(self) -> int:
        return self.nuclei.count()

    def table(self, box: Sequence[tuple[int, int]] | None = None) -> pd.DataFrame:
        return self.nuclei.table(box)

    def _voxels(self, box: Box) -> np.ndarray:
        from bigbia.kernels import synth

        voxels = synth.nuclei_labels(self.nuclei._lattice(), self.nuclei._box3(box))
        return voxels.reshape(tuple(b - a for a, b in box))


# ---------------------------------------------------------------------------------------------------------- adversaries


@dataclass(frozen=True)
class Percolation(Synthetic):
    """Voxels set with probability `p`, each for itself. Near the threshold the components are of every size.

    Site percolation thresholds: in a plane 0.593 (faces) and 0.407 (corners too), in a volume 0.312 (faces), 0.137
    (faces and edges) and 0.098 (all 26). A larger shape with the same seed contains the smaller.

    >>> Percolation((100, 100), p=0.3).read(((0, 100), (0, 100))).mean().round(2)
    np.float64(0.3)
    """

    p: float = 0.312
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(p=float(self.p), seed=int(self.seed))
        self._require(0 <= self.p <= 1, "p", "it is a probability")

    def _voxels(self, box: Box) -> np.ndarray:
        from bigbia.kernels import synth

        return synth.percolation(self.seed & (2**64 - 1), self.p, box)


@dataclass(frozen=True)
class Spiral(Synthetic):
    """One corridor, one voxel wide, that winds through everything: one component however the volume is cut.

    In a plane it runs inwards along the even rings; in more axes such planes lie two apart, run through inwards and
    outwards by turns. Each voxel of it has two face neighbours in it, its two ends one. Every box of 3 x 3 voxels in
    the last two axes, and 2 in each axis before them, meets it.

    >>> for row in np.where(Spiral((7, 9)).read(((0, 7), (0, 9))), "#", "."):
    ...     print("".join(row))
    #########
    ........#
    #######.#
    #.....#.#
    #.#####.#
    #.......#
    #########
    """

    def count(self) -> int:
        """Components, at any connectivity."""
        return int(all(self.shape))

    def _voxels(self, box: Box) -> np.ndarray:
        from bigbia.kernels import synth

        return synth.spiral(self.shape, box)


@dataclass(frozen=True)
class Shells(Synthetic):
    """Boxes in boxes: `gap` voxels free, then a wall of `wall` voxels, from the border of the volume inwards.

    All but the outermost gap are holes, each around another object. With a `channel`, one voxel wide, through every
    wall but the innermost, none of them is: they are all joined to the border, blocks away. Axes of length 1 do not
    count as border.

    >>> Shells((9, 9)).count()
    2
    """

    gap: int = 1
    wall: int = 1
    channel: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(gap=int(self.gap), wall=int(self.wall), channel=bool(self.channel))
        self._require(self.gap >= 1, "gap", "shells are a voxel apart at least")
        self._require(self.wall >= 1, "wall", "a wall is a voxel thick at least")

    def count(self) -> int:
        """Components, at any connectivity: one a shell; along a line its two sides, but for a middle that is set."""
        lengths = [n for n in self.shape if n > 1]
        if not lengths or not all(self.shape):
            return 0
        deepest, period = (min(lengths) - 1) // 2, self.gap + self.wall
        shells = (deepest - self.gap) // period + 1 if deepest >= self.gap else 0
        if len(lengths) > 1:
            return shells
        return 2 * shells - (deepest % period >= self.gap)

    def _voxels(self, box: Box) -> np.ndarray:
        from bigbia.kernels import synth

        return synth.shells(self.shape, self.gap, self.wall, self.channel, box)


@dataclass(frozen=True)
class Plateau(Synthetic):
    """A picture (uint16) of one `level` nearly everywhere, and what decides about it as far away as can be.

    A rim of `rim` voxels at the border is `step` lower; with `spike`, the last voxel of the plateau in raster order is
    `step` higher. Then the plateau is no local maximum, which its first block cannot know. An axis too short for two
    rims has none.

    >>> Plateau((4, 6)).read(((0, 4), (0, 6)))
    array([[ 999,  999,  999,  999,  999,  999],
           [ 999, 1000, 1000, 1000, 1000,  999],
           [ 999, 1000, 1000, 1000, 1001,  999],
           [ 999,  999,  999,  999,  999,  999]], dtype=uint16)
    """

    level: int = 1000
    step: int = 1
    rim: int = 1
    spike: bool = True

    dtype: ClassVar[np.dtype] = np.dtype(np.uint16)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(level=int(self.level), step=int(self.step), rim=int(self.rim), spike=bool(self.spike))
        self._require(self.rim >= 0, "rim", "it must be 0 or more")
        self._require(
            0 <= self.step <= self.level <= 65535 - self.step,
            "level",
            f"level - step and level + step (step={self.step}) must fit in uint16",
        )

    def _voxels(self, box: Box) -> np.ndarray:
        from bigbia.kernels import synth

        return synth.plateau(self.shape, self.level, self.step, self.rim, self.spike, box)


@dataclass(frozen=True)
class Checkerboard(Synthetic):
    """Cells of `cell` voxels, every other one set, the first one too: as many components as there can be, or one.

    >>> Checkerboard((3, 4)).count(), Checkerboard((3, 4)).count(connectivity=2)
    (6, 1)
    """

    cell: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(cell=int(self.cell))
        self._require(self.cell >= 1, "cell", "a cell is a voxel long at least")

    def count(self, connectivity: int = 1) -> int:
        """Components: each set cell through faces (1), all in one as soon as edges count (2), if there are two axes."""
        cells = [-(-n // self.cell) for n in self.shape]
        if connectivity > 1 and sum(n > 1 for n in cells) > 1:
            return int(all(cells))
        return (math.prod(cells) + 1) // 2

    def _voxels(self, box: Box) -> np.ndarray:
        from bigbia.kernels import synth

        return synth.checkerboard(self.cell, box)


# -------------------------------------------------------------------------------------------------------------- by name


def _touching(shape: Sequence[int], **params: Any) -> Nuclei:
    return Nuclei(tuple(shape), **{"touch": True} | params)


def _labels(shape: Sequence[int], **params: Any) -> NucleiLabels:
    return Nuclei(tuple(shape), **params).labels


KINDS: dict[str, Callable[..., Synthetic]] = {
    "nuclei": Nuclei,
    "touching": _touching,
    "nuclei-labels": _labels,
    "percolation": Percolation,
    "spiral": Spiral,
    "shells": Shells,
    "plateau": Plateau,
    "checkerboard": Checkerboard,
}


def source(kind: str, shape: Sequence[int], **params: Any) -> Synthetic:
    """The synthetic volume of that name.

    >>> source("shells", (20, 20, 20), gap=2).count()
    3
    >>> source("shels", (20, 20, 20))
    Traceback (most recent call last):
    bigbia.errors.ParameterError: no synthetic volume 'shels', did you mean 'shells'?
    """
    if kind not in KINDS:
        raise ParameterError(f"no synthetic volume {kind!r}, {nearest(kind, KINDS)}")
    make = KINDS[kind]
    known = [f.name for f in fields(make if isinstance(make, type) else Nuclei) if f.name != "shape"]
    for name in params:
        if name not in known:
            raise ParameterError(f"synthetic volume {kind!r} has no parameter {name!r}, {nearest(name, known)}")
    return make(tuple(shape), **params)
