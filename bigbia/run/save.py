"""Write images, labels and tables in one pass over the blocks.

    <path>/            OME-Zarr; an image at its root
      images/NAME      more images
      labels/NAME      label images
      tables/NAME.parquet
      pipeline.yaml    what made it, for `bigbia run`

Everything is written to `<path>.partial`, which is renamed when the last block is there.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da

from bigbia import hyperstack
from bigbia.errors import InputError, ParameterError, RunError, StorageError
from bigbia.graph.group import Group
from bigbia.graph.lazy import check_image
from bigbia.graph.stages import Stage
from bigbia.run.execute import execute
from bigbia.run.writing import Output, Rider, output_of, written_together


def save(
    path: str | os.PathLike,
    image: Any = None,
    *,
    images: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    tables: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    version: str = "0.5",
    chunks: int | Sequence[int] | None = None,
    shards: int | Sequence[int] | None = None,
    levels: int | None = None,
    label_downsampling: str = "nearest",
    table_format: str = "parquet",
    source: Any = None,
    scheduler: str | None = None,
    progress: Any = None,
    pipeline: str | None = None,
) -> Path:
    """Write lazy results to one OME-Zarr folder, computing each voxel once.

    Parameters
    ----------
    path : folder to make
    image : array, optional
        The image at the root of the folder.
    images, labels, tables : {name: array or table}, optional
        Further images, label images (integers) and tables. Arrays are DataArrays, or NumPy and Dask arrays with axes
        (z, y, x) or (y, x).
    overwrite : bool
        Replace what is there; it stays until the new one is whole.
    version : {"0.5", "0.4"}
        Of OME-Zarr: Zarr 3 or Zarr 2.
    chunks, shards : int or one an axis, optional
        Voxels of a chunk; of a shard (0.5 only), which holds whole chunks in one file. No shards by default.
    levels : int, optional
        Of the pyramid; by default until the longest axis of space has at most 256 voxels. Means for images.
    label_downsampling : {"nearest", "mode"}
        How the pyramid of labels is made.
    table_format : {"parquet", "csv"}
    source : array, optional
        What the results were made from. Without `image`, its coarser pyramid levels are the image at the root.
    scheduler : {None, "threads", "processes"} or an address
        Where to run; None: the current distributed client, else threads.
    progress : object with ``begin(stage, total, voxels)``, ``advance(n)``, ``end()``, optional
    pipeline : str, optional
        Kept as ``pipeline.yaml``.

    Returns
    -------
    The folder.

    Raises
    ------
    RunError : the folder exists, or another run is writing to it
    StorageError : it cannot be written
    ParameterError, InputError : what is to be saved cannot be; nothing is written

    Examples
    --------
    >>> bigbia.save("nuclei.zarr", labels={"nuclei": nuclei}, tables={"nuclei": table})  # doctest: +SKIP
    """
    final = Path(path)
    outputs = _outputs(image, images, labels, source, version, chunks, shards, levels, label_downsampling)
    tables = _checked_tables(tables or {}, table_format)
    if not outputs and not tables:
        raise ParameterError("save: nothing to save: give image, images, labels or tables")
    check_target(final, overwrite)
    with partial_folder(final) as partial:
        live: dict[str, da.Array] = {}
        for output in outputs:
            live |= output.image.live
            output.create(partial)
        riders = _riders(tables)
        for _, _, graph in riders:
            live |= graph.live
        stages, riding = written_together(
            outputs, [(name, k, p) for name, parts, _ in riders for k, p in enumerate(parts)]
        )
        execute(stages, scheduler=scheduler, live=live, progress=progress)
        for name, table in tables.items():
            _write_table(partial / "tables" / f"{name}.{table_format}", name, table, riding, scheduler, live, progress)
        if pipeline is not None:
            (partial / "pipeline.yaml").write_text(pipeline)
        publish(partial, final, overwrite)
    return final


# ---- what is saved -------------------------------------------------------------------------------------------------
def _outputs(
    image: Any, images: Any, labels: Any, source: Any, version: str, chunks: Any, shards: Any, levels: Any, how: str
) -> list[Output]:
    if how not in ("nearest", "mode"):
        raise ParameterError(f'save: label_downsampling={how!r}: "nearest" or "mode"')
    named: list[tuple[str, Any, bool, int]] = []
    if image is not None:
        named.append(("", image, False, 0))
    elif source is not None:
        named.append(("", source, False, 1))
    named += [(f"images/{_name(n)}", a, False, 0) for n, a in (images or {}).items()]
    named += [(f"labels/{_name(n)}", a, True, 0) for n, a in (labels or {}).items()]
    out = []
    for place, array, is_label, first in named:
        what = f"save: {place or 'image'}"
        check_image(array, what)
        if is_label and array.dtype.kind not in "iu":
            raise InputError(f"{what}: {array.dtype} voxels are no labels: use measure.label, or save it under images")
        if not hyperstack.is_hyperstack(array):
            if array.ndim not in (2, 3):
                raise InputError(
                    f"{what}: a plain array of {array.ndim} axes {tuple(array.shape)}: name them with bigbia.hyperstack.hyperstack(array, axes)"
                )
            array = hyperstack.hyperstack(array, "zyx"[3 - array.ndim :])
        array = array.transpose(*[d for d in "tczyx" if d in array.dims])
        out.append(
            output_of(place, array, is_label, first, version, chunks, shards, levels, how if is_label else "mean")
        )
    return out


def _name(name: str) -> str:
    if not name or name in (".", "..") or "/" in name or "\\" in name or name.startswith("."):
        raise ParameterError(f"save: {name!r} is no name for a folder: use letters, digits, - and _")
    return name


def _checked_tables(tables: Mapping[str, Any], table_format: str) -> dict[str, Any]:
    if table_format not in ("parquet", "csv"):
        raise ParameterError(f'save: table_format={table_format!r}: "parquet" or "csv"')
    for name, table in tables.items():
        _name(name)
        if not hasattr(table, "columns"):
            raise ParameterError(f"save: tables: {name!r} is a {type(table).__name__}, not a table")
    return dict(tables)


def _riders(tables: Mapping[str, Any]) -> list[tuple[str, Sequence[Any], Any]]:
    """The tables that a grouping makes: they are summarised in the pass that writes the labels."""
    from bigbia.graph.table import table_graph

    found: list[tuple[str, Sequence[Any], Any]] = []
    for name, table in tables.items():
        graph = table_graph(table)
        if graph is not None:
            found.append((name, graph.parts, graph))
    return found


def _write_table(
    path: Path, name: str, table: Any, riding: Mapping[tuple[str, int], Rider], scheduler: Any, live: Any, progress: Any
) -> None:
    from bigbia.graph.table import Part, table_graph
    from bigbia.io.tables import write_table

    path.parent.mkdir(exist_ok=True)
    graph = table_graph(table)
    if graph is None:
        frames: Iterator[Any] = (
            iter([table]) if not hasattr(table, "partitions") else (p.compute() for p in table.partitions)
        )
        write_table(frames, path)
        return
    parts, done = [], {}
    for k, part in enumerate(graph.parts):
        rider = riding.get((name, k))
        stage: Group = part.stage if rider is None else rider.stage
        if rider is not None:
            done[stage.token] = ["part"]
        parts.append(Part(stage, part.frame, part.columns, part.where))
    stages: list[Stage] = [p.stage for p in parts]
    execute(stages, scheduler=scheduler, live=live, progress=progress, done_steps=done)
    write_table((p.partition(i) for p in parts for i in range(p.stage.partitions)), path, metadata=graph.attributes)


# ---- where it is saved ---------------------------------------------------------------------------------------------
def check_target(final: Path, overwrite: bool) -> None:
    if final.exists() and not overwrite:
        raise RunError(f"{final}: exists; choose another place, or pass overwrite=True (--overwrite) to replace it")
    if final.exists() and not (
        (final / "zarr.json").exists() or (final / ".zgroup").exists() or not any(final.iterdir())
    ):
        raise RunError(f"{final}: exists and is no Zarr folder; it is not replaced: choose another place")
    if not final.parent.is_dir():
        raise StorageError(f"{final}: the folder {final.parent} does not exist: make it first")
    if not os.access(final.parent, os.W_OK):
        raise StorageError(f"{final}: the folder {final.parent} cannot be written to")


@contextmanager
def partial_folder(final: Path) -> Iterator[Path]:
    """`<final>.partial`, made anew and held by a lock; gone if anything fails."""
    partial = final.with_name(final.name + ".partial")
    try:
        partial.mkdir(exist_ok=True)
        lock = open(partial / ".lock", "w")  # noqa: SIM115  held until the end
    except OSError as error:
        raise StorageError(f"{partial}: cannot be made: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"{partial}: another run is writing here; wait for it, or choose another place") from None
        try:
            _empty(partial)
            yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    finally:
        lock.close()


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name != ".lock":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def publish(partial: Path, final: Path, overwrite: bool) -> None:
    """Give the folder its name. What it replaces is moved aside first and removed last."""
    (partial / ".lock").unlink(missing_ok=True)
    old = None
    if final.exists():
        if not overwrite:
            raise RunError(f"{final}: was made by another run meanwhile; nothing was replaced")
        old = final.with_name(final.name + ".replaced")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
    os.rename(partial, final)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
