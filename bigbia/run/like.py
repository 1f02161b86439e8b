"""Labels that lie over an image level by level: its pyramid, its scales and its units, taken from its own metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigbia.io.pyramid import Level, level_shapes
from bigbia.units import rounded


@dataclass(frozen=True)
class Like:
    """An image, as the first entry of its `multiscales` and its arrays describe it."""

    axes: tuple[str, ...]  # of the image, in its order
    shapes: tuple[tuple[int, ...], ...]  # of its levels
    multiscale: Mapping[str, Any]

    def described(self) -> dict[str, Any]:
        """For the fingerprint of a run."""
        kept = ("axes", "datasets", "coordinateTransformations")
        return {"levels": list(map(list, self.shapes)), **{k: v for k, v in self.multiscale.items() if k in kept}}

    def pyramid(self, axes: Sequence[str]) -> list[Level]:
        """Shape and factors of as many levels as the image has: of the same shapes, where blocks can be made so.

        An image whose levels are no whole fractions (a floor where we round up) gets labels with levels of our own.
        """
        shapes = [tuple(shape[self.axes.index(a)] for a in axes) for shape in self.shapes]
        scales = [self._scale(level) for level in range(len(shapes))]
        found: list[Level] = [(shapes[0], (1,) * len(axes))]
        for shape, scale in zip(shapes[1:], scales[1:]):
            factors = []
            for axis, n, m, before in zip(axes, shapes[0], shape, found[-1][1]):
                first, here = (s.get(axis) if s else None for s in (scales[0], scale))
                wanted = here / first if first and here else 0.0
                fitting = [f for f in range(before, n + 1, before) if -(-n // f) == m]
                if m == n:
                    factors.append(1)
                elif fitting:
                    factors.append(min(fitting, key=lambda f: abs(f - wanted)))
                else:
                    sizes = scales[0] and {a: s for a, s in scales[0].items() if a in "zyx"}
                    return level_shapes(shapes[0], axes, sizes or None, len(shapes))
            if any(f % g for f, g in zip(factors, found[-1][1])):
                return level_shapes(shapes[0], axes, None, len(shapes))
            found.append((shape, tuple(factors)))
        return found

    def _scale(self, level: int) -> dict[str, float] | None:
        scale, _ = self._transform(level)
        return None if scale is None else dict(zip(self.axes, scale))

    def _transform(self, level: int) -> tuple[list[float] | None, list[float]]:
        """Scale and translation of a level; no scale where the metadata say it in another way."""
        scale, shift = None, [0.0] * len(self.axes)
        for one in self.multiscale["datasets"][level].get("coordinateTransformations") or []:
            values = one.get(one.get("type"))
            if isinstance(values, list) and len(values) == len(self.axes):
                if one["type"] == "scale":
                    scale = [float(v) for v in values]
                elif one["type"] == "translation":
                    shift = [float(v) for v in values]
        return scale, shift

    def describe(self, place: Path, axes: Sequence[str], levels: Sequence[Level]) -> None:
        """Let the metadata of the labels at `place` say what the image's say of its axes and levels.

        axes, levels : of the labels; a level of another shape than the image's lies where its voxels are
        """
        import zarr

        group = zarr.open_group(place, mode="r+")
        attributes: dict[str, Any] = dict(group.attrs)
        holder = attributes.get("ome", attributes)
        mine = dict(holder["multiscales"][0])
        at = [self.axes.index(a) for a in axes]
        named = self.multiscale.get("axes") or []
        if named and all(isinstance(axis, Mapping) for axis in named):  # before 0.4 they are letters
            mine["axes"] = [{**named[i], "name": a} for i, a in zip(at, axes)]
        scale, shift = self._transform(0)
        datasets = []
        for level, (dataset, (shape, factors)) in enumerate(zip(mine["datasets"], levels)):
            theirs, away = self._transform(level) if level < len(self.shapes) else (None, [])
            if theirs is not None and tuple(shape) == tuple(self.shapes[level][i] for i in at):
                dataset = {**dataset, "coordinateTransformations": _told(theirs, away, at)}
            elif scale is not None:
                steps = [s * f for s, f in zip([scale[i] for i in at], factors)]
                shifts = [shift[i] + (f - 1) / 2 * scale[i] for i, f in zip(at, factors)]
                dataset = {**dataset, "coordinateTransformations": _told(steps, shifts, range(len(at)))}
            datasets.append(dataset)
        mine["datasets"] = datasets
        outer = [self._dropped(one, at) for one in self.multiscale.get("coordinateTransformations") or []]
        if outer and None not in outer:
            mine["coordinateTransformations"] = outer
        multiscales = {"multiscales": [mine, *holder["multiscales"][1:]]}
        group.attrs.update({"ome": {**holder, **multiscales}} if "ome" in attributes else multiscales)

    def _dropped(self, one: Mapping[str, Any], at: Sequence[int]) -> dict[str, Any] | None:
        """A transformation without the axes that the labels do not have."""
        kind = str(one.get("type"))
        values = one.get(kind)
        if not isinstance(values, list) or len(values) != len(self.axes):
            return None
        return {"type": kind, kind: [values[i] for i in at]}


def _told(scale: Sequence[float], shift: Sequence[float], at: Sequence[int]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"type": "scale", "scale": [rounded(scale[i]) for i in at]}]
    if any(shift[i] for i in at):
        found.append({"type": "translation", "translation": [rounded(shift[i]) for i in at]})
    return found
