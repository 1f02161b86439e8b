"""An image to be written: its place, its arrays and their metadata, and its blocks put into them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bigbia import hyperstack
from bigbia.errors import ParameterError, StorageError
from bigbia.graph.boxes import Box
from bigbia.graph.lazy import Lazy, lazy
from bigbia.graph.stages import stages_of
from bigbia.io.places import Place
from bigbia.io.zarr_source import Layout, find_node
from bigbia.run.like import Like
from bigbia.run.showing import Shown

CHUNK = {1: 1 << 18, 2: 512, 3: 128}  # voxels an axis of space, by how many there are


@dataclass
class Output:
    """An image to be written: where, and as what."""

    place: str
    array: Any  # DataArray, axes in OME order
    image: Lazy
    is_label: bool
    first_level: int
    version: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    levels: int | None
    how: str
    shown: Shown | None = None  # None for labels
    like: Like | None = None  # the image into whose labels it goes
    root: Path = Path()  # of the run
    read_back: bool = False
    arrays: list[Any] = field(default_factory=list)
    factors: list[tuple[int, ...]] = field(default_factory=list)  # of each array to the full resolution

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8) if self.image.node.dtype == bool else self.image.node.dtype

    def create(self, folder: Path) -> None:
        """Make the arrays and their metadata; no voxels."""
        from bigbia.io.ome_zarr import create_group, create_image, level_shapes, register_label

        axes = tuple(map(str, self.array.dims))
        sizes = hyperstack.voxel_size(self.array)
        step = hyperstack.time_step(self.array)
        create_group(folder, self.version)
        if self.place.startswith("images/"):  # a folder between two groups is one itself: Zarr 3 knows no others
            create_group(folder / "images", self.version)
        place = folder / self.place if self.place else folder
        known = None if self.like is None else self.like.pyramid(axes)
        definitions = sorted({s.definition for s in stages_of([self.image.node]) if s.definition})
        if definitions:
            create_group(place, self.version).attrs["bigbia"] = {"definitions": definitions}
        self.arrays = create_image(
            place,
            shape=self.array.shape,
            dtype=self.dtype,
            axes=axes,
            voxel_size=sizes,
            unit=hyperstack.unit(self.array),
            channels=None if self.shown is None else self.shown.names,
            colors=None if self.shown is None else self.shown.colors,
            windows=None if self.shown is None else self.shown.windows,
            limits=None if self.shown is None else self.shown.limits,
            name=self.place.split("/")[-1] or folder.name.removesuffix(".partial"),
            chunks=self.chunks,
            shards=self.shards,
            version=self.version,
            levels=self.levels,
            labels=self.is_label,
            first_level=self.first_level,
            origin=hyperstack.origin(self.array),
            time_step=step[0] if step else None,
            time_unit=step[1] if step else None,
            pyramid=known,
        )
        if self.like is not None and known is not None:
            self.like.describe(place, axes, known)
        if known is None:
            known = level_shapes(self.array.shape, axes, sizes, self.first_level + len(self.arrays))
        self.factors = [f for _, f in known[-len(self.arrays) :]]
        if self.is_label:
            register_label(folder, self.place.split("/")[-1])

    def placed(self, root: Path, read_back: bool) -> None:
        """Have the arrays in the folder of a run, where their metadata are by now."""
        import zarr

        self.root, self.read_back = root, read_back
        self.arrays = [zarr.open_array(root / name, mode="r+") for name in self.names()]

    def names(self) -> list[str]:
        """The folders of its arrays, in the output."""
        return [f"{self.place}/{i}".lstrip("/") for i in range(len(self.arrays))]

    def write_level(self, level: int, box: Box, data: np.ndarray) -> None:
        from bigbia.io.ome_zarr import write_block

        write_block(self.arrays[level], box, data, root=self.root, read_back=self.read_back)

    @property
    def identity(self) -> tuple:
        """What is written, for the names of stages: two runs of one identity write the same bytes."""
        return (
            *(self.place, self.image.node.token, self.is_label, self.first_level, self.version),
            *(self.chunks, self.shards, self.levels, self.how),
            None if self.like is None else self.like.described(),
        )

    def described(self) -> dict[str, Any]:
        """What is written, for people and for the fingerprint of a run."""
        return {
            "shape": list(self.array.shape),
            "axes": "".join(map(str, self.array.dims)),
            "dtype": str(self.dtype),
            "voxel_size": hyperstack.voxel_size(self.array),
            "unit": hyperstack.unit(self.array),
            "channels": hyperstack.channels(self.array),
            "labels": self.is_label,
            "first_level": self.first_level,
            "version": self.version,
            "chunks": list(self.chunks),
            "shards": None if self.shards is None else list(self.shards),
            "levels": self.levels,
            "downsampling": self.how,
            "voxels": self.image.node.token,
            **({} if self.shown is None else {"display": self.shown.described()}),
            **({} if self.like is None else {"like": self.like.described()}),
        }

    def unit(self) -> tuple[int, ...]:
        """The least block that fills whole files of the finest array, in voxels of the image."""
        return tuple(u * f for u, f in zip(write_unit(self.arrays[0]), self.factors[0]))

    def made_at_once(self, block: Sequence[int]) -> int:
        """How many of its levels come out of a block in whole files."""
        count = 0
        for array, factors in zip(self.arrays, self.factors):
            fits = all(
                b >= n or b % (f * u) == 0 for b, n, f, u in zip(block, self.array.shape, factors, write_unit(array))
            )
            if not fits:
                break
            count += 1
        return count

    def write(self, box: Box, voxels: np.ndarray, count: int) -> None:
        """Write a block and what becomes of it in the first levels."""
        for level, (factors, data) in enumerate(zip(self.factors[:count], self.made_levels(voxels))):
            self.write_level(level, tuple((a // f, -(-b // f)) for (a, b), f in zip(box, factors)), data)

    def made_levels(self, voxels: np.ndarray) -> Iterator[np.ndarray]:
        """What a block becomes, level after level."""
        from bigbia.io.ome_zarr import downsample

        data = voxels.view(np.uint8) if voxels.dtype == bool else np.ascontiguousarray(voxels)
        before = (1,) * voxels.ndim
        for factors in self.factors:
            step = tuple(f // g for f, g in zip(factors, before))
            if any(s > 1 for s in step):
                data = downsample(data, step, self.how)
            yield data
            before = factors


def layout_at(folder: Path) -> Layout:
    """How the array in a folder is cut into files."""
    node = find_node(Place(folder))
    if node is None:
        raise StorageError(f"{folder}: its metadata is gone: run again")
    return Layout.of(node)


def write_unit(array: Any) -> tuple[int, ...]:
    return tuple(array.shards or array.chunks)


def output_of(
    place: str,
    array: Any,
    is_label: bool,
    first_level: int,
    version: str,
    chunks: Any,
    shards: Any,
    levels: int | None,
    how: str,
) -> Output:
    space = hyperstack.spatial_axes(array)
    image = lazy(array, f"save: {place or 'image'}")

    def voxels(given: Any, name: str) -> tuple[int, ...]:
        lengths = [given] * len(space) if np.ndim(given) == 0 else list(given)
        if len(lengths) != len(space) or not all(isinstance(n, (int, np.integer)) and n > 0 for n in lengths):
            raise ParameterError(f"save: {name}={given!r}: give 1 or {len(space)} whole numbers of voxels")
        out = [1] * array.ndim
        for axis, n in zip(space, lengths):
            out[axis] = min(int(n), array.shape[axis])
        return tuple(out)

    size = voxels(CHUNK[len(space)] if chunks is None else chunks, "chunks")
    shard = None if shards is None else voxels(shards, "shards")
    if shard is not None:
        shard = tuple(-(-s // c) * c if s == n else s for s, c, n in zip(shard, size, array.shape))
        for axis, s, c in zip(array.dims, shard, size):
            if s % c:
                raise ParameterError(
                    f"save: axis {axis}: a shard of {s} voxels is not a whole number of chunks of {c}; use {-(-s // c) * c}"
                )
    return Output(place, array, image, is_label, first_level, version, size, shard, levels, how)
