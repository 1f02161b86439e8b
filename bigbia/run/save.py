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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bigbia.errors import ParameterError, RunError
from bigbia.graph.journal import Written
from bigbia.graph.table import Part
from bigbia.io.durable import put, written
from bigbia.run.contract import Run
from bigbia.run.execute import execute
from bigbia.run.fingerprint import differences, has_live, told
from bigbia.run.job import Job, job_of
from bigbia.run.partial import check_target, publish
from bigbia.run.publishing import clear, seal, sealed, sign
from bigbia.run.reuse import Earlier, adopt, keep, keep_on, take_over
from bigbia.run.sessions import running
from bigbia.run.times import Times, identities, take_times
from bigbia.run.work import Work


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
    others = [taken[name] if name in taken else _write_table(run, job, work, name, times, how) for name in job.tables]
    if job.pipeline is not None:
        others.append(put(run.root, "pipeline.yaml", job.pipeline.encode()))
    report = _reported(run)  # before the ledgers go of stages that wrote no voxels
    manifest = seal(run, job.outputs, work.writers, others)
    # Before anything is taken that a run needs to go on.
    sign(run.root, manifest, [run.ended(), *_about(run, manifest, report)])
    keep(run, work, manifest["bytes"])
    if earlier is not None:
        keep_on(run, job.work, earlier)
    todo.take_back(work)
    clear(run, manifest)


def _reported(run: Run) -> dict[str, Any] | None:
    """The report of a run that ended. A report that cannot be drawn does not spoil the run."""
    from bigbia.run.report import harmless, report_of

    with harmless(run):
        return report_of(run, None, state="published", prediction=run.prediction)
    return None


def _about(run: Run, manifest: dict[str, Any], report: dict[str, Any] | None) -> list[Written]:
    """Write what is to be known about the run: where the output comes from, and the report."""
    from bigbia.run.provenance import provenance, write_provenance
    from bigbia.run.report import harmless, with_manifest, write_report

    found = write_provenance(run.root, provenance(run, manifest, prediction=run.prediction))
    if report is not None:
        with harmless(run):
            found += write_report(run.root, with_manifest(report, manifest))
    return found


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
    return written(run.root, file)


def _frames(name: str, parts: Sequence[Part], times: Times) -> Iterator[Any]:
    """The rows of a table, piece by piece."""
    for part in parts:
        if times.is_done(part):
            yield times.rows(name, part)
        else:
            yield from (part.partition(i) for i in range(part.stage.partitions))
