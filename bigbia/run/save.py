"""Write images, labels and tables in one pass over the blocks.

    <path>/            OME-Zarr; an image at its root
      images/NAME      more images
      labels/NAME      label images
      tables/NAME.parquet
      pipeline.yaml    what made it, for `bigbia run`

Everything is written to `<path>.partial`, which is renamed when the last block is there (`run/contract.py`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dask.base import tokenize

from bigbia import hyperstack
from bigbia.errors import InputError, ParameterError
from bigbia.graph.journal import Written
from bigbia.graph.lazy import check_image
from bigbia.graph.stages import Stage
from bigbia.graph.table import table_graph
from bigbia.io.durable import file_digest
from bigbia.run import pipeline_file
from bigbia.run.contract import Run, put_in, running
from bigbia.run.execute import execute
from bigbia.run.fingerprint import has_live, inputs_of, versions
from bigbia.run.partial import check_target, publish
from bigbia.run.publishing import clear, seal, sign
from bigbia.run.work import Work
from bigbia.run.writing import Output, output_of


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
    restart: bool = False,
    allow_missing: bool = False,
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
    restart : bool
        Throw away what a run that was stopped has left at ``<path>.partial``. Without it the same run goes on where it
        was stopped, and another one is refused.
    allow_missing : bool
        Publish although some blocks could not be computed: zeros stand for them, the manifest lists them.

    Returns
    -------
    The folder.

    Raises
    ------
    RunError : the folder exists; another run is writing to it, or has been stopped there; blocks failed
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
    graphs = {name: graph for name, table in tables.items() if (graph := table_graph(table)) is not None}
    with tempfile.TemporaryDirectory(prefix="bigbia-") as folder:
        documents = Path(folder) / final.name
        for output in outputs:
            output.create(documents)
        work = Work(outputs, {name: graph.parts for name, graph in graphs.items()})
        parts = _parts(work, tables, table_format, pipeline)
        how: dict[str, bool] = {"overwrite": overwrite, "restart": restart, "allow_missing": allow_missing}
        with running(final, parts, resumable=not has_live(work.nodes), **how) as run:
            run.hold(documents)
            mine = work.moved(run)
            live = {
                **{k: v for o in outputs for k, v in o.image.live.items()},
                **{k: v for g in graphs.values() for k, v in g.live.items()},
            }
            run.look(mine.every_stage())
            execute(mine.stages, scheduler=scheduler, live=live, progress=progress, run=run)
            written = [
                _write_table(
                    run, f"tables/{name}.{table_format}", name, table, mine, graphs, (scheduler, live, progress)
                )
                for name, table in tables.items()
            ]
            if pipeline is not None:
                written.append(put_in(run.root, "pipeline.yaml", pipeline.encode()))
            manifest = seal(run, outputs, mine.writers, written)
            work.take_back(mine)
            sign(run.root, manifest)
            clear(run)
            publish(run.root, final, overwrite)
    return final


def _parts(work: Work, tables: Mapping[str, Any], table_format: str, pipeline: str | None) -> dict[str, Any]:
    """What this run is: `run/fingerprint.py`."""
    document = pipeline_file.loads(pipeline, "pipeline") if pipeline is not None else None
    return {
        "pipeline": document,
        "input": inputs_of(work.nodes),
        "output": {
            **{output.place or "image": output.described() for output in work.outputs},
            "tables": {name: tokenize(table) for name, table in tables.items()},
            "table_format": table_format,
            "blocks": [[list(map(max, stage.grid.chunks)), len(stage.grid)] for stage in work.writers],
        },
        "versions": versions(),
    }


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


def _write_table(
    run: Run, file: str, name: str, table: Any, work: Work, graphs: Mapping[str, Any], how: tuple[Any, Any, Any]
) -> Written:
    from bigbia.io.tables import write_table

    graph, path = graphs.get(name), run.root / file
    if graph is None:
        frames: Iterator[Any] = (
            iter([table]) if not hasattr(table, "partitions") else (p.compute() for p in table.partitions)
        )
        write_table(frames, path)
    else:
        parts, done = work.table(name)
        scheduler, live, progress = how
        stages: list[Stage] = [p.stage for p in parts]
        execute(stages, scheduler=scheduler, live=live, progress=progress, done_steps=done, run=run)
        write_table((p.partition(i) for p in parts for i in range(p.stage.partitions)), path, metadata=graph.attributes)
    return Written(file, path.stat().st_size, file_digest(run.root, file))
