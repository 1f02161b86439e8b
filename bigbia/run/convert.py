"""An image (or a table) in one format -> the same in another, in bounded memory.

To OME-Zarr it is an ordinary run with one step that changes nothing, so that it goes on where it was stopped and can be
verified, repaired and run again. What is chosen here is how it is cut: into blocks that read every voxel of the input
once and fill whole files of the output.
"""

from __future__ import annotations

import inspect
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigbia import config, hyperstack
from bigbia.errors import BigbiaWarning, InputError, ParameterError, RunError, nearest
from bigbia.graph.cache import RESERVED
from bigbia.graph.dask import node_of
from bigbia.graph.reading import consumers_first
from bigbia.graph.regions import Store
from bigbia.io.tables import SUFFIXES, read_table, write_table
from bigbia.io.tiff_write import is_tiff_name
from bigbia.run.inputs import absolute, open_input, sizes
from bigbia.run.pipeline_run import block_of_stopped

ENDINGS = "OME-Zarr .zarr; TIFF .tif, .tiff, .ome.tif; tables .csv, .parquet"
SLAB = 32 << 20  # bytes of a block at most, where its unit is not larger
SHARD = 8 << 20  # bytes of a shard that is chosen
CHUNK = {1: [1 << 17], 2: [512, 512], 3: [32, 64, 64]}  # voxels of a chunk in such a shard
TAKES = 7  # times its bytes is what a block takes of memory while it is written
THIN = 1 << 21  # voxels of a chunk where the input is whole planes


@dataclass(frozen=True)
class Layout:
    """How the OME-Zarr is written: the words of the command line, None where nothing was asked for."""

    version: str = "0.5"
    chunks: str | None = None
    shards: str | None = None
    levels: int | None = None
    labels: bool = False

    def asked(self) -> list[str]:
        """The options that were given."""
        given = {"chunks": self.chunks, "shards": self.shards, "levels": self.levels, "labels": self.labels or None}
        return [f"--{name}" for name, value in given.items() if value is not None] + ["--version"] * (
            self.version != "0.5"
        )


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    opening: Mapping[str, Any] | None = None,
    layout: Layout | None = None,
    overwrite: bool = False,
    restart: bool = False,
    scheduler: str | None = None,
    progress: Any = None,
) -> Path:
    """Write what is at `source` to `target`, in the format that its ending says.

    Axes, voxel size, units, channel names and colours, dtype and voxels stay what they are; a TIFF has them in its own
    order. Tables keep their units.

    Parameters
    ----------
    source : anything that `bigbia.open` opens, or a table
    target : ends in .zarr, .tif, .tiff, .ome.tif, .csv or .parquet
    opening : how the input is opened, in the words of the command line: axes, voxel_size, level, channels, region, ...
    layout : of an OME-Zarr; the chunks and shards that are not given follow the input
    overwrite, restart, scheduler, progress : as in `bigbia.save`

    Returns
    -------
    The place written

    Raises
    ------
    ParameterError : another ending, the input itself, options that the format has not
    and what `bigbia.open`, `bigbia.save` and `bigbia.write_tiff` raise

    Examples
    --------
    >>> convert("stack.tif", "stack.zarr", layout=Layout(shards="auto"))  # doctest: +SKIP
    """
    source, words, layout = os.fspath(source), dict(opening or {}), layout or Layout()
    path = Path(target)
    kind = _kind(path)
    _check_apart(source, path)
    if kind == "table" or Path(source).suffix in SUFFIXES:
        return _table(source, path, kind, overwrite, [*_given(words), *layout.asked()])
    if kind == "TIFF":
        if asked := layout.asked():
            raise ParameterError(f"{', '.join(asked)}: a TIFF has none of these: leave them out, or write to .zarr")
        from bigbia.run.tiff_output import write_tiff

        image = _opened(source, words)
        return write_tiff(path, image, overwrite=overwrite, scheduler=scheduler, progress=progress)
    return _zarr(source, path, words, layout, {"overwrite": overwrite, "restart": restart}, (scheduler, progress))


def _kind(path: Path) -> str:
    if is_tiff_name(path):
        return "TIFF"
    if path.suffix in SUFFIXES:
        return "table"
    if path.suffix == ".zarr":
        return "OME-Zarr"
    said = f"ends in {path.suffix!r}" if path.suffix else "has no ending"
    raise ParameterError(f"{path}: {said}, and the ending says what is written: {ENDINGS}")


def _check_apart(source: str, target: Path) -> None:
    """Refuse to write over what is read, or into it."""
    if "://" in source:
        return
    here, there = Path(source).resolve(), target.resolve()
    if here == there:
        raise ParameterError(f"{target}: is the input itself: choose another place")
    if there in here.parents:
        raise ParameterError(f"{target}: holds the input {source}: choose another place")
    if here in there.parents:
        raise ParameterError(f"{target}: lies in the input {source}: choose another place")


def _given(words: Mapping[str, Any]) -> list[str]:
    """The options that say how an image is opened, as far as they were given."""
    nothing = {"level": 0, "block": "auto"}
    return [f"--{k.replace('_', '-')}" for k, v in words.items() if v is not None and v != nothing.get(k)]


def _opened(source: str, words: Mapping[str, Any]) -> Any:
    known = inspect.signature(open_input).parameters
    given = {k: v for k, v in words.items() if v is not None}
    for word in given:
        if word not in known:
            raise ParameterError(f"{word}={given[word]!r}: is no way to open an image: {nearest(word, known)}")
    return open_input(source, **given)


# ---- tables ----------------------------------------------------------------------------------------------------------
def _table(source: str, target: Path, kind: str, overwrite: bool, asked: Sequence[str]) -> Path:
    if kind != "table":
        raise ParameterError(f"{source}: is a table, and {target} would be an image: write it as .csv or .parquet")
    if Path(source).suffix not in SUFFIXES:
        raise ParameterError(f"{target}: is a table, and {source} is an image: write it as .zarr or .tif")
    if asked:
        raise ParameterError(f"{', '.join(asked)}: a table has none of these: leave them out")
    if target.exists() and not overwrite:
        raise RunError(f"{target}: exists; choose another place, or pass overwrite=True (--overwrite) to replace it")
    if target.is_dir():
        raise RunError(f"{target}: is a folder; it is not replaced: choose another place")
    table = read_table(source)
    write_table([table], target, metadata=table.attrs)
    return target


# ---- OME-Zarr --------------------------------------------------------------------------------------------------------
def _zarr(
    source: str,
    target: Path,
    words: dict[str, Any],
    layout: Layout,
    how: dict[str, bool],
    running: tuple[str | None, Any],
) -> Path:
    from bigbia.run.pipeline import Pipeline
    from bigbia.run.save import save

    image = _opened(source, words)
    if layout.labels and image.dtype.kind not in "iu":
        raise InputError(f"{source}: {image.dtype} voxels are no labels: leave out --labels")
    cut = _cut(image, layout)
    if words.get("block", "auto") == "auto":
        stopped = block_of_stopped(str(target), {"block": "auto", **how})
        words["block"] = ",".join(map(str, cut.block)) if stopped == "auto" else stopped
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BigbiaWarning)  # what is to be said about the input has been said
            image = _opened(source, words)
    name = _label_name(source)
    saved: dict[str, Any] = {"labels": {name: "image"}} if layout.labels else {"image": "image"}
    plan = Pipeline.of({"bigbia": 1, "steps": {"image": "input"}, "save": saved}, "convert")
    return save(
        target,
        None if layout.labels else image,
        labels={name: image} if layout.labels else None,
        overwrite=how["overwrite"],
        restart=how["restart"],
        version=layout.version,
        chunks=cut.chunks,
        shards=cut.shards,
        levels=layout.levels,
        scheduler=running[0],
        progress=running[1],
        pipeline=plan.text,
        origin={"input": absolute(source), "options": {k: v for k, v in words.items() if v is not None}},
    )


def _label_name(source: str) -> str:
    """A name for label images: that of the file, without what ends it."""
    name = source.rstrip("/").split("/")[-1]
    for ending in (".tif", ".tiff", ".zarr", ".h5", ".hdf5", ".n5", ".czi", ".nd2", ".lif", ".ome"):
        name = name.removesuffix(ending)
    return name.lstrip(".") or "labels"


@dataclass(frozen=True)
class Cut:
    """How a conversion is cut: chunks and shards along the axes of space, a block along all axes."""

    chunks: tuple[int, ...] | None
    shards: tuple[int, ...] | None
    block: tuple[int, ...]


def _cut(image: Any, layout: Layout) -> Cut:
    """Chunks, shards and the block of a conversion.

    The block is whole pieces of the input and whole files of the output, doubled while it is small, so that the next level
    comes out of it too. Pages that are decoded whole make flat chunks where none are asked for: a cube of chunks would
    have every page decoded again for each of them.
    """
    from bigbia.run.output import CHUNK as USUAL

    space = hyperstack.spatial_axes(image)
    shape = [image.shape[a] for a in space]
    piece = _pieces(image, space)
    chunks = _lengths(layout.chunks, "--chunks", len(space))
    auto = layout.shards == "auto"
    if chunks is None:
        chunks = CHUNK[len(space)] if auto else [USUAL[len(space)]] * len(space)
        if len(space) == 3 and _bytes(_rounded(piece, chunks, shape), image) > SLAB:
            chunks = _flat(piece, shape, image)
    chunks = [min(c, n) for c, n in zip(chunks, shape)]
    shards = _row(chunks, shape, image) if auto else _lengths(layout.shards, "--shards", len(space))
    unit = _rounded(piece, shards or chunks, shape)
    room = min(4 * SLAB, max(0, config.memory() - RESERVED) // (TAKES * config.threads()))
    if _bytes(unit, image) > room and any(p > u for p, u in zip(piece, shards or chunks)):
        # Pieces of the input and files of the output that do not go together: the input is read more than once.
        unit = [min(u, n) for u, n in zip(shards or chunks, shape)]
    larger = [min(2 * u, n) for u, n in zip(unit, shape)]
    if _bytes(larger, image) <= min(SLAB, room):
        unit = larger
    block = [1] * image.ndim
    for axis, n in zip(space, unit):
        block[axis] = n
    return Cut(tuple(chunks), None if shards is None else tuple(shards), tuple(block))


def _pieces(image: Any, space: Sequence[int]) -> list[int]:
    """What the input is read in along the axes of space: chunks, shards, pages; 1 where that cannot be told."""
    sources = [n.source for n in consumers_first(node_of(image.data)[0]) if isinstance(n, Store)]
    if len(sources) != 1 or len(sources[0].chunks) != image.ndim:
        return [1] * len(space)
    return [min(int(sources[0].chunks[a]), image.shape[a]) for a in space]


def _lengths(text: str | None, option: str, count: int) -> list[int] | None:
    if text is None:
        return None
    given = sizes(text, option, "128 or 32,256,256")
    lengths = [given] * count if isinstance(given, int) else list(given)
    if len(lengths) != count:
        raise ParameterError(f"{option} {text}: {len(lengths)} sizes for {count} axes of space: give 1 or {count}")
    return lengths


def _rounded(piece: Sequence[int], unit: Sequence[int], shape: Sequence[int]) -> list[int]:
    """At least a piece of the input, in whole files of the output."""
    return [min(-(-max(p, u) // u) * u, n) for p, u, n in zip(piece, unit, shape)]


def _bytes(block: Sequence[int], image: Any) -> int:
    return math.prod(block) * image.dtype.itemsize


def _flat(piece: Sequence[int], shape: Sequence[int], image: Any) -> list[int]:
    """A chunk of few planes, so that whole pieces of the input fill whole chunks within a slab."""
    deep = 128
    while True:
        side = min(1024, max(64, 1 << (math.isqrt(THIN // deep).bit_length() - 1)))
        chunks = [min(deep, shape[0]), side, side]
        if deep == 1 or _bytes(_rounded(piece, chunks, shape), image) <= SLAB:
            return chunks
        deep //= 2


def _row(chunks: Sequence[int], shape: Sequence[int], image: Any) -> list[int]:
    """A shard that is long in x, as files are read: doubled along x, then y, then z."""
    shard = list(chunks)
    for axis in reversed(range(len(shard))):
        while shard[axis] < shape[axis]:
            larger = [
                min(2 * s, -(-n // c) * c) if a == axis else s for a, (s, n, c) in enumerate(zip(shard, shape, chunks))
            ]
            if _bytes(larger, image) > SHARD:
                break
            shard = larger
    return shard
