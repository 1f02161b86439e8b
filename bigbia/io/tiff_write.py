"""A new TIFF file of any size, written in blocks by any number of threads and processes.

The file is laid out first: header, pages, and one contiguous run of voxels, without the voxels. Then a block is a few
writes into that run, each at a place of its own, so that no two blocks wait for each other. It is written as
`<name>.partial` and gets its name when it is whole.

    plan_tiff   what will be written, checked; nothing is touched
    laid_out    the file under its other name, while a context lasts; published at its end
    write_box   one block

Which TIFF: `x.tif` is an ImageJ hyperstack where ImageJ has such voxels (uint8, uint16, float32), else OME-TIFF;
`x.ome.tif` is OME-TIFF. Above 4 GiB both are BigTIFF. Voxels are not compressed.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigbia.errors import InputError, ParameterError, RunError, StorageError
from bigbia.graph.boxes import Box, describe, shape_of
from bigbia.io.durable import storage_errors, sync_folder
from bigbia.io.tiff import MAGIC
from bigbia.io.tiff_write_words import About, imagej_words, ome_words
from bigbia.units import LENGTHS

ENDINGS = (".tif", ".tiff")
CLASSIC = (1 << 32) - (
    1 << 25
)  # bytes of voxels and pages that a classic TIFF holds, with room for what describes them
PAGE_BYTES = 512  # of a page's description, at most
_ORDER = {"ImageJ TIFF": "tzcyx", "OME-TIFF": "tczyx"}
_IMAGEJ = ("uint8", "uint16", "float32")
_OME = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")
_INSTEAD = {"int64": "int32", "uint64": "uint32", "float16": "float32"}


@dataclass(frozen=True)
class TiffPlan:
    """What a TIFF file will be: its kind, and how its voxels lie in it."""

    path: Path
    kind: str  # "ImageJ TIFF" or "OME-TIFF"
    big: bool
    axes: tuple[str, ...]  # in the order of the file; y and x always
    shape: tuple[int, ...]
    dtype: np.dtype  # as stored
    about: About
    notes: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Of the voxels."""
        return math.prod(self.shape) * self.dtype.itemsize


def is_tiff_name(path: Any) -> bool:
    """Whether a name ends as that of a TIFF file does."""
    return str(path).lower().endswith(ENDINGS)


def plan_tiff(path: str | os.PathLike[str], image: Any) -> TiffPlan:
    """What will be written for an image.

    Parameters
    ----------
    path : ends in .tif, .tiff, .ome.tif or .ome.tiff
    image : xarray.DataArray, dims among t c z y x in any order

    Returns
    -------
    TiffPlan; its notes say what was chosen and why, and what a TIFF cannot keep

    Raises
    ------
    ParameterError : another ending
    InputError : voxels of a kind that TIFF readers have not (64-bit integers, float16), with the way out

    >>> plan_tiff("cells.tif", bigbia.open("cells.zarr")).kind  # doctest: +SKIP
    'ImageJ TIFF'
    """
    path = Path(path)
    if not is_tiff_name(path):
        raise ParameterError(f"{path}: a TIFF is written as .tif, .tiff, .ome.tif or .ome.tiff: give it such an ending")
    about = About.of(image)
    name = "uint8" if about.dtype == bool else str(about.dtype.newbyteorder("="))
    if name not in _OME:
        way = f': convert it, image.astype("{_INSTEAD[name]}")' if name in _INSTEAD else ": convert it"
        raise InputError(f"{path}: {name} voxels: TIFF is written as {', '.join(_OME)}{way}")
    notes = [f"{path}: a mask is written as uint8, 0 and 1"] if about.dtype == bool else []
    ome = path.name.lower().endswith(tuple(f".ome{ending}" for ending in ENDINGS))
    kind = "OME-TIFF" if ome else "ImageJ TIFF"
    if not ome and (why := _no_imagej(about, name)):
        kind = "OME-TIFF"
        notes.append(f"{path}: written as OME-TIFF: {why}")
    wanted = {*about.axes, "y", "x"}
    axes = tuple(a for a in _ORDER[kind] if a in wanted)
    shape = tuple(about.length(a) for a in axes)
    pages = math.prod(shape[:-2])
    size = math.prod(shape) * np.dtype(name).itemsize + pages * PAGE_BYTES
    if size > CLASSIC and kind == "ImageJ TIFF":
        notes.append(f"{path}: written as BigTIFF, as it is above 4 GiB: Fiji opens it by File > Import > Bio-Formats")
    return TiffPlan(path, kind, size > CLASSIC, axes, shape, np.dtype(name), about, tuple(notes))


def _no_imagej(about: About, dtype: str) -> str:
    """Why ImageJ cannot hold an image; empty if it can."""
    if dtype not in _IMAGEJ:
        return f"ImageJ TIFF holds {', '.join(_IMAGEJ)}, the voxels are {dtype}"
    if about.length("x") == 1:
        return "an image one voxel wide is no hyperstack that readers of ImageJ TIFF understand"
    if about.sizes and about.unit in ("inch", *(u for u in LENGTHS if not u.endswith("meter"))):
        return f"voxel sizes in {about.unit} are no microscope's to ImageJ"
    return ""


@contextmanager
def laid_out(plan: TiffPlan, *, overwrite: bool = False) -> Iterator[tuple[Path, int]]:
    """The file under its other name, with everything but the voxels, and where the voxels begin; published at the end.

    Nothing is at the target before, and nothing is left of one that failed. RunError where the target exists, or another
    process writes there; StorageError for what the disk says.
    """
    check_place(plan, overwrite)
    partial = plan.path.with_name(plan.path.name + ".partial")
    with storage_errors(partial):
        # Opened before it is known to be ours: it may be another process's, which must not be cut short.
        handle = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _own(handle, partial)
        try:
            with storage_errors(partial):
                offset = _lay_out(plan, partial)
            yield partial, offset
            with storage_errors(plan.path):
                os.fsync(handle)
                if plan.path.exists() and not overwrite:
                    raise RunError(f"{plan.path}: was made by another program meanwhile: nothing was replaced")
                os.replace(partial, plan.path)
                sync_folder(plan.path.parent)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    finally:
        os.close(handle)


def check_place(plan: TiffPlan, overwrite: bool) -> None:
    """Refuse a place where the file cannot come to be, before anything is computed."""
    path = plan.path
    if path.exists():
        if not overwrite:
            raise RunError(f"{path}: exists; choose another place, or pass overwrite=True (--overwrite) to replace it")
        if not path.is_file() or not _may_be_replaced(path):
            raise RunError(f"{path}: exists and is no TIFF file; it is not replaced: choose another place")
    if not path.parent.is_dir():
        raise StorageError(f"{path}: the folder {path.parent} does not exist: make it first")
    if not os.access(path.parent, os.W_OK):
        raise StorageError(f"{path}: the folder {path.parent} cannot be written to")
    with storage_errors(path.parent):
        free = shutil.disk_usage(path.parent).free
    if plan.nbytes > free:
        raise StorageError(
            f"{path}: takes {plan.nbytes / 2**30:.3g} GiB, {free / 2**30:.3g} GiB are free: free space there, or write "
            "elsewhere"
        )


def _may_be_replaced(path: Path) -> bool:
    with storage_errors(path), open(path, "rb") as file:
        return file.read(4) in (*MAGIC, b"")


def _own(handle: int, partial: Path) -> None:
    """Lock the file that is being written; one that a killed process left is taken over."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise RunError(f"{partial}: another run is writing here; wait for it, or choose another place") from None


def _lay_out(plan: TiffPlan, partial: Path) -> int:
    """Write the pages of the file, with a hole where the voxels go, and say where that begins."""
    import tifffile

    imagej = plan.kind == "ImageJ TIFF"
    how: dict[str, Any] = {"bigtiff": plan.big, "byteorder": "<", "imagej": imagej, "ome": not imagej}
    resolution: Any = None
    if imagej:
        metadata, resolution = imagej_words(plan.about, "".join(plan.axes))
    else:
        metadata = ome_words(plan.about, "".join(plan.axes))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*nonconformant BigTIFF ImageJ")  # said in our own words
        with tifffile.TiffWriter(partial, **how) as file:
            placed = file.write(
                None,
                shape=plan.shape,
                dtype=plan.dtype.newbyteorder("<"),
                photometric="minisblack",
                resolution=resolution,
                metadata=metadata,
                software="bigbia",
                returnoffset=True,
            )
    if placed is None or (not plan.big and os.path.getsize(partial) > 2**32):
        raise InputError(f"{plan.path}: is too large for a TIFF of its kind: write it as OME-Zarr")
    with open(partial, "r+b") as file:
        # A hole that ends the file is not there yet.
        file.truncate(max(os.path.getsize(partial), placed[0] + plan.nbytes))
    return int(placed[0])


def write_box(plan: TiffPlan, partial: Path, offset: int, box: Box, voxels: np.ndarray) -> None:
    """Write one block and bring it to the disk. Blocks that do not overlap may be written at the same time.

    box : where, by the axes of the plan; voxels : of the box's shape, of the plan's dtype or bool

    Raises StorageError for what the disk says, ParameterError for voxels that do not fit.
    """
    if voxels.shape != shape_of(box):
        raise ParameterError(f"{describe(box, plan.axes)}: holds {voxels.shape} voxels, the box is {shape_of(box)}")
    stored = voxels.view(np.uint8) if voxels.dtype == bool else voxels
    if stored.dtype.newbyteorder("=") != plan.dtype:
        raise ParameterError(f"{describe(box, plan.axes)}: is {stored.dtype}, the file is {plan.dtype}: convert it")
    stored = np.ascontiguousarray(stored, plan.dtype.newbyteorder("<"))
    lead = _split(box, plan.shape)
    strides = [math.prod(plan.shape[a + 1 :]) for a in range(len(box))]
    first = sum(start * stride for (start, _), stride in zip(box, strides))
    with storage_errors(partial):
        handle = os.open(partial, os.O_WRONLY)
        try:
            for index in np.ndindex(*stored.shape[:lead]):
                at = first + sum(i * stride for i, stride in zip(index, strides))
                run = stored[index].reshape(-1).view(np.uint8)
                _write(handle, memoryview(run.data), offset + at * plan.dtype.itemsize)
            os.fsync(handle)
        finally:
            os.close(handle)


def _split(box: Box, shape: tuple[int, ...]) -> int:
    """How many axes count runs of the file: those before the last one that a box does not cover whole."""
    whole = len(box)
    while whole and shape_of(box)[whole - 1] == shape[whole - 1]:
        whole -= 1
    return max(0, whole - 1)


def _write(handle: int, data: memoryview, at: int) -> None:
    while len(data):
        done = os.pwrite(handle, data, at)
        data, at = data[done:], at + done
