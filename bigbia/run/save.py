"""Write images, labels and tables in one pass over the blocks.

    <path>/            OME-Zarr; an image at its root
      images/NAME      more images
      labels/NAME      label images
      tables/NAME.parquet
      pipeline.yaml    what made it, for `bigbia run`

Everything is written to `<path>.partial`, which is renamed when the last block is there (`run/contract.py`).
"""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize

from bigbia import config, hyperstack
from bigbia.errors import BigbiaWarning, InputError, ParameterError, RunError
from bigbia.graph.journal import Written
from bigbia.graph.lazy import check_image
from bigbia.graph.table import Part, table_graph
from bigbia.io.durable import file_digest
from bigbia.run import pipeline_file
from bigbia.run.admission import Admission, admit
from bigbia.run.contract import Run, put_in, running
from bigbia.run.execute import execute, memory_of
from bigbia.run.fingerprint import differences, has_live, inputs_of, missing_chunks, told, versions
from bigbia.run.partial import check_target, publish
from bigbia.run.publishing import clear, seal, sealed, sign
from bigbia.run.reuse import Earlier, adopt, keep, keep_on, take_over
from bigbia.run.times import Times, identities, take_times
from bigbia.run.work import Work
from bigbia.run.writing import Output, output_of

DEFAULT_LAYOUT = {
    "version": "0.5",
    "chunks": None,
    "shards": None,
    "levels": None,
    "label_downsampling": "nearest",
    "table_format": "parquet",
}
LAYOUT = ("version", "chunks", "shards", "levels")
RERUN = ".rerun"  # ends the name of an output that is made again to be compared


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
    reuse: str | os.PathLike | None = None,
    origin: Mapping[str, Any] | None = None,
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
    reuse : path, optional
        An earlier output from which to take what is the same; by default the one that is replaced.
    origin : mapping of plain values, optional
        Where the input was opened and how, for `bigbia rerun` and `bigbia repair`.
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
    try:
        final = Path(path)
    except TypeError:
        raise ParameterError(f"save: path={path!r}: give the place of a folder, as text or a Path") from None
    layout = {"version": version, "chunks": chunks, "shards": shards, "levels": levels}
    layout |= {"label_downsampling": label_downsampling, "table_format": table_format}
    what = {"image": image, "images": images, "labels": labels, "tables": tables, "source": source}
    job = job_of(what, layout, pipeline=pipeline, origin=origin, scheduler=scheduler, progress=progress)
    return run_job(job, final, overwrite=overwrite, restart=restart, allow_missing=allow_missing, reuse=reuse)


def job_of(
    what: Mapping[str, Any],
    layout: Mapping[str, Any],
    *,
    pipeline: str | None = None,
    origin: Mapping[str, Any] | None = None,
    scheduler: str | None = None,
    progress: Any = None,
) -> Job:
    """The job of writing images, labels and tables, checked; and the settings, which are asked for when it runs."""
    config.integrity(), config.keep(), config.cache_share(), config.truth("insecure"), config.threads(), config.memory()
    for section in ("images", "labels", "tables"):
        if what.get(section) is not None and not isinstance(what[section], Mapping):
            raise ParameterError(
                f"save: {section}={_short(what[section])}: give a mapping of names: {{'nuclei': nuclei}}"
            )
    levels = layout["levels"]
    if levels is not None and (isinstance(levels, bool) or not isinstance(levels, (int, np.integer)) or levels < 1):
        raise ParameterError(f"save: levels={levels!r}: a whole number of levels, 1 or more")
    outputs = _outputs(what, layout)
    tables = _checked_tables(what.get("tables") or {}, layout["table_format"])
    if not outputs and not tables:
        raise ParameterError("save: nothing to save: give image, images, labels or tables")
    return Job(outputs, tables, dict(layout), pipeline, dict(origin or {}), scheduler, progress)


def run_job(
    job: Job,
    final: Path,
    *,
    overwrite: bool = False,
    restart: bool = False,
    allow_missing: bool = False,
    reuse: Any = None,
    expected: Mapping[str, Any] | None = None,
) -> Path:
    """Run a job and publish what it makes; only if it is the one of which these are the parts, where they are given."""
    check_target(final, overwrite)
    with job.described(final) as documents:
        parts = job.fingerprint()
        if expected is not None and (differing := differences(expected, parts)):
            raise RunError(f"{final}: would not be the same again ({told(differing)}): run the pipeline anew")
        prediction = job.admit(final).record
        how: dict[str, bool] = {"overwrite": overwrite, "restart": restart, "allow_missing": allow_missing}
        with running(final, parts, resumable=not has_live(job.work.nodes), **how) as run:
            if not sealed(run):
                run.hold(documents)
                run.prediction = prediction
                earlier = None if restart else Earlier.at(final if reuse is None else Path(reuse), parts)
                carry_out(run, job, earlier)
            publish(run.root, final, overwrite)
    return final


@dataclass
class Job:
    """What is to be written, and how."""

    outputs: list[Output]
    tables: dict[str, Any]
    layout: dict[str, Any]  # the arguments of `save` that say how it is written
    pipeline: str | None
    origin: dict[str, Any]  # how the input was opened
    scheduler: str | None
    progress: Any

    @cached_property
    def graphs(self) -> dict[str, Any]:
        """The tables that bigbia computes."""
        return {name: graph for name, table in self.tables.items() if (graph := table_graph(table)) is not None}

    @cached_property
    def work(self) -> Work:
        return Work(self.outputs, {name: graph.parts for name, graph in self.graphs.items()})

    @cached_property
    def live(self) -> dict[str, da.Array]:
        several = [*(o.image.live for o in self.outputs), *(g.live for g in self.graphs.values())]
        return {name: array for some in several for name, array in some.items()}

    @contextmanager
    def described(self, final: Path) -> Iterator[Path]:
        """The metadata of the output in a folder of their own, while the context lasts: what is planned needs them."""
        with tempfile.TemporaryDirectory(prefix="bigbia-") as folder:
            documents = Path(folder) / final.name.removesuffix(RERUN)
            for output in self.outputs:
                output.create(documents)
            yield documents

    def fingerprint(self) -> dict[str, Any]:
        """The parts of `run/fingerprint.py`. Asked within `described`."""
        document = pipeline_file.loads(self.pipeline, "pipeline") if self.pipeline is not None else None
        return {
            "pipeline": document,
            "input": inputs_of(self.work.nodes),
            "output": {
                **{output.place or "image": output.described() for output in self.outputs},
                "tables": {name: tokenize(table) for name, table in self.tables.items()},
                "table_format": self.layout["table_format"],
                "blocks": [[list(map(max, stage.grid.chunks)), len(stage.grid)] for stage in self.work.writers],
            },
            "versions": versions(),
            "missing_chunks": missing_chunks(self.work.nodes),
        }

    def admit(self, final: Path) -> Admission:
        """Refuse what cannot be done with the memory and the disk there are."""
        shapes = [(array.shape, array.dtype) for output in self.outputs for array in output.arrays]
        raw = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in shapes)
        threads, limit = memory_of(self.scheduler)
        beside = final.parent if config.get("scratch") == "auto" else config.scratch_folder()
        return admit(
            self.work.every_stage(),
            threads=threads,
            limit=limit,
            destination=final,
            bytes_written=raw,
            scratch=beside,
        )


def carry_out(run: Run, job: Job, earlier: Earlier | None) -> None:
    """Compute what is not there yet, and make the folder ready to be published."""
    for output in job.outputs:
        output.placed(run.root, run.full)
    todo = job.work if earlier is None else take_over(run, job.work, earlier)
    work = todo.moved(run)
    if earlier is not None:
        adopt(run, work, earlier)
    now = identities(job.work, run.parts, job.origin)
    times = Times() if earlier is None else take_times(run, work, earlier, now)
    run.record |= {"origin": job.origin, "layout": job.layout, "times": now}
    todo_stages = [s for s in work.every_stage() if times.needed is None or s.token in times.needed]
    run.plan(todo_stages)
    run.look(todo_stages)
    how = {"scheduler": job.scheduler, "live": job.live, "progress": job.progress, "run": run, "only": times.needed}
    execute(work.stages, **how)
    taken = {} if earlier is None else earlier.tables
    written = [taken[name] if name in taken else _write_table(run, job, work, name, times, how) for name in job.tables]
    if job.pipeline is not None:
        written.append(put_in(run.root, "pipeline.yaml", job.pipeline.encode()))
    report = _reported(run)  # before the ledgers go of stages that wrote no voxels
    manifest = seal(run, job.outputs, work.writers, written)
    sign(
        run.root, manifest, [run.ended(), *_about(run, manifest, report)]
    )  # before anything is taken that a run needs to go on
    keep(run, work, manifest["bytes"])
    if earlier is not None:
        keep_on(run, job.work, earlier)
    todo.take_back(work)
    clear(run, manifest)


def _reported(run: Run) -> dict[str, Any] | None:
    """The report of a run that ended. A report that cannot be drawn does not spoil the run."""
    from bigbia.run.report import report_of

    try:
        return report_of(run, None, state="published", prediction=run.prediction)
    except Exception as error:
        _no_report(run, error)
        return None


def _about(run: Run, manifest: dict[str, Any], report: dict[str, Any] | None) -> list[Written]:
    """Write what is to be known about the run: where the output comes from, and the report."""
    from bigbia.run.provenance import provenance, write_provenance
    from bigbia.run.report import with_manifest, write_report

    found = write_provenance(run.root, provenance(run, manifest, prediction=run.prediction))
    if report is not None:
        try:
            found += write_report(run.root, with_manifest(report, manifest))
        except Exception as error:
            _no_report(run, error)
    return found


def _no_report(run: Run, error: Exception) -> None:
    warnings.warn(f"{run.final}: no report: {type(error).__name__}: {error}", BigbiaWarning, stacklevel=3)


def _write_table(run: Run, job: Job, work: Work, name: str, times: Times, how: Mapping[str, Any]) -> Written:
    from bigbia.io.tables import write_table

    table, graph, file = job.tables[name], job.graphs.get(name), f"tables/{name}.{job.layout['table_format']}"
    path = run.root / file
    if graph is None:
        frames: Iterator[Any] = (
            iter([table]) if not hasattr(table, "partitions") else (p.compute() for p in table.partitions)
        )
        write_table(frames, path)
    else:
        parts, done = work.table(name)
        left = [part.stage for part in parts if not times.is_done(part)]
        execute(left, done_steps=done, **how)
        write_table(_frames(name, parts, times), path, metadata=graph.attributes)
    return Written(file, path.stat().st_size, file_digest(run.root, file))


def _frames(name: str, parts: Sequence[Part], times: Times) -> Iterator[Any]:
    """The rows of a table, piece by piece."""
    for part in parts:
        if times.is_done(part):
            yield times.rows(name, part)
        else:
            yield from (part.partition(i) for i in range(part.stage.partitions))


# ---- what is saved -------------------------------------------------------------------------------------------------
def _outputs(what: Mapping[str, Any], layout: Mapping[str, Any]) -> list[Output]:
    how = layout["label_downsampling"]
    if how not in ("nearest", "mode"):
        raise ParameterError(f'save: label_downsampling={how!r}: "nearest" or "mode"')
    image, images, labels, source = (what.get(k) for k in ("image", "images", "labels", "source"))
    named: list[tuple[str, Any, bool, int]] = []
    if image is not None:
        named.append(("", image, False, 0))
    elif source is not None:
        named.append(("", source, False, 1))
    named += [(f"images/{_name(n)}", a, False, 0) for n, a in (images or {}).items()]
    named += [(f"labels/{_name(n)}", a, True, 0) for n, a in (labels or {}).items()]
    out = []
    for place, array, is_label, first in named:
        where = f"save: {place or 'image'}"
        check_image(array, where)
        if is_label and array.dtype.kind not in "iu":
            raise InputError(f"{where}: {array.dtype} voxels are no labels: use measure.label, or save it under images")
        if not hyperstack.is_hyperstack(array):
            if array.ndim not in (2, 3):
                raise InputError(
                    f"{where}: a plain array of {array.ndim} axes {tuple(array.shape)}: name them with bigbia.hyperstack.hyperstack(array, axes)"
                )
            array = hyperstack.hyperstack(array, "zyx"[3 - array.ndim :])
        array = array.transpose(*[d for d in "tczyx" if d in array.dims])
        downsampling = how if is_label else "mean"
        cut = {k: layout[k] for k in LAYOUT}
        out.append(output_of(place, array, is_label, first, **cut, how=downsampling))
    return out


def _short(value: Any) -> str:
    text = f"<{type(value).__name__}>" if hasattr(value, "shape") else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


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
