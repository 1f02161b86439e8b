"""Write a lazy image to one TIFF file: a stage whose blocks are full rows, and full planes where they fit."""

from __future__ import annotations

import math
import os
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bigbia import config, hyperstack
from bigbia.errors import BigbiaWarning, InputError, ParameterError
from bigbia.graph.boxes import Grid, Index, volume
from bigbia.graph.lazy import Lazy, check_image, lazy
from bigbia.graph.reading import read_together
from bigbia.graph.regions import Blocks
from bigbia.graph.stages import Stage, stages_of
from bigbia.io.tiff_write import TiffPlan, check_place, laid_out, plan_tiff, write_box
from bigbia.run.admission import admit
from bigbia.run.execute import execute, memory_of
from bigbia.run.memory import predicted

BLOCK_BYTES = 32 << 20  # of a block at most, where that is not the image's own


def write_tiff(
    path: str | os.PathLike[str],
    image: Any,
    *,
    overwrite: bool = False,
    scheduler: str | None = None,
    progress: Any = None,
) -> Path:
    """Write one image, or one label image, as a TIFF file that ImageJ, Fiji and tifffile open.

    `x.tif` is an ImageJ hyperstack (axes, voxel size, time step, channel names, contrast and colours) where ImageJ has
    such voxels: uint8, uint16, float32, and masks as uint8. `x.ome.tif`, and what ImageJ cannot hold, is OME-TIFF.
    Above 4 GiB it is BigTIFF. The voxels are not compressed. Axes come in the order of the format, t z c y x or
    t c z y x. What the formats have no word for is kept in a line of its own, which `bigbia.open` reads; other programs
    do not see the place of the first voxel (OME-TIFF), sizes without a unit, and which axes of length 1 there are.

    Parameters
    ----------
    path : the file; ends in .tif, .tiff, .ome.tif or .ome.tiff
    image : DataArray, or NumPy or Dask array with axes (z, y, x) or (y, x)
    overwrite : replace the TIFF that is there; it stays until the new one is whole
    scheduler : as in `save`; workers elsewhere must see the same disk
    progress : object with ``begin(stage, total, voxels)``, ``advance(n)``, ``end()``, optional

    Returns
    -------
    The file. A warning (BigbiaWarning) says where another format was taken than the name suggests.

    Raises
    ------
    ParameterError : another ending; the memory does not suffice
    InputError : no image; 64-bit integers and float16, which TIFF readers have not
    RunError : the file exists; another run writes it; blocks failed
    StorageError : it cannot be written; nothing is left there

    Examples
    --------
    >>> bigbia.write_tiff("labels.tif", labels)  # doctest: +SKIP
    """
    config.check()
    try:
        path = Path(path)
    except TypeError:
        raise ParameterError(f"write_tiff: path={path!r}: give the place of a file, as text or a Path") from None
    array = _checked(image)
    plan = plan_tiff(path, array)
    check_place(plan, overwrite)
    source = lazy(in_file_order(array, plan), "write_tiff")
    threads, limit = memory_of(scheduler)
    stage = _fitting(plan, source, threads, limit)
    admit(
        _all(stage),
        threads=threads,
        limit=limit,
        destination=path.parent,
        bytes_written=plan.nbytes,
    )
    for note in plan.notes:
        warnings.warn(note, BigbiaWarning, stacklevel=2)
    with laid_out(plan, overwrite=overwrite) as (partial, offset):
        stage.partial, stage.offset = partial.absolute(), offset
        execute([stage], scheduler=scheduler, live=source.live, progress=progress)
    return path


def _checked(image: Any) -> Any:
    """The image as a DataArray."""
    check_image(image, "write_tiff")
    if hyperstack.is_hyperstack(image):
        return image
    if image.ndim not in (2, 3):
        raise InputError(
            f"write_tiff: a plain array of {image.ndim} axes {tuple(image.shape)}: name them with "
            "bigbia.hyperstack.hyperstack(array, axes)"
        )
    return hyperstack.hyperstack(image, "zyx"[3 - image.ndim :])


def in_file_order(array: Any, plan: TiffPlan) -> Any:
    """The image with the axes of the file, in its order; y and x of length 1 where it has none."""
    missing = [a for a in plan.axes if a not in array.dims]
    return (array.expand_dims(missing) if missing else array).transpose(*plan.axes)


class WriteTiff(Stage):
    """The pass over the blocks of an image that writes them into a TIFF."""

    kind = "write"
    steps = ("write", "done")
    block_steps = frozenset({"write"})

    def __init__(self, plan: TiffPlan, image: Lazy, grid: Grid) -> None:
        self.plan = plan
        self.partial, self.offset = Path(), 0  # set once the file is laid out
        # Written anew each time: no other file makes this one superfluous.
        super().__init__(f"tiff-{uuid.uuid4().hex}", [image.node], grid)

    def indices(self, step: str) -> Iterable[Index]:
        return self.grid.indices() if step == "write" else [()]

    def needs(self, step: str, index: Index) -> Iterable[tuple[str, Index]]:
        return [] if step == "write" else [("write", i) for i in self.grid.indices()]

    def run(self, step: str, index: Index, blocks: Blocks | None = None) -> None:
        if step == "done":
            self.folder.finish()
            return
        (voxels,) = read_together(*self.reads(step, index), blocks)
        write_box(self.plan, self.partial, self.offset, self.grid.box(index), voxels)

    def task_bytes(self, step: str, index: Index) -> int:
        # Voxels that are no block of their own are put in order before they are written.
        return volume(self.grid.box(index)) * self.plan.dtype.itemsize if step == "write" else 0

    def title(self, step: str) -> str:
        return f"write {self.plan.path.name}"


def _all(stage: Stage) -> list[Stage]:
    return [*stages_of(stage.inputs), stage]


def _fitting(plan: TiffPlan, image: Lazy, threads: int, limit: int) -> WriteTiff:
    """The stage over the largest of the good blocks with which the memory suffices; else over the image's own."""
    stage = None
    for block in blocks(image, plan.dtype.itemsize):
        stage = WriteTiff(plan, image, Grid.regular(plan.shape, block))
        if predicted(_all(stage), threads, limit).bytes <= limit:
            break
    assert stage is not None  # there is always the image's own block
    return stage


def blocks(image: Lazy, itemsize: int, most: int | None = None) -> Iterator[tuple[int, ...]]:
    """Blocks to write, the best first: the image's own, grown to full rows, then to full planes, then along z.

    A block of full rows is one write a plane, a block of full planes one in all. A row is cut only where not even the
    rows of one of the image's own blocks fit.
    """
    own = [max(c, default=1) if a in image.space else 1 for a, c in enumerate(image.chunks)]
    yield from reversed(list(grown(own, image.shape, list(reversed(image.space)), itemsize, most)))


def grown(
    block: Sequence[int], shape: Sequence[int], along: Sequence[int], itemsize: int, most: int | None = None
) -> Iterator[tuple[int, ...]]:
    """A block, then larger ones: doubled along one axis after the other until it is whole, up to a number of bytes."""
    most = BLOCK_BYTES if most is None else most
    now = list(block)
    yield tuple(now)
    for axis in along:
        while now[axis] < shape[axis]:
            now[axis] = min(shape[axis], now[axis] * 2)
            if math.prod(now) * itemsize > most:
                return
            yield tuple(now)
