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
from bigbia.run.about_tables import table_metadata
from bigbia.run.contract import Run
from bigbia.run.execute import execute
from bigbia.run.fingerprint import differences, has_live, told
from bigbia.run.job import DEFAULT_LAYOUT, Job, job_of
from bigbia.run.partial import check_target, publish
from bigbia.run.publishing import clear, seal, sealed, sign
from bigbia.run.reuse import Earlier, adopt, keep, keep_on, take_over
from bigbia.run.sessions import running
from bigbia.run.showing import show
from bigbia.run.times import Times, identities, take_times
from bigbia.run.work import Work


def save(
    path: str | os.PathLike | None,
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
    into: str | os.PathLike | None = None,
) -> Path:
    """Write lazy results to one OME-Zarr folder, computing each voxel once.

    Parameters
    ----------
    path : folder to make; a path that ends in .tif or .tiff makes a TIFF file of one image or label image. None with
        `into`.
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
    into : path, optional
        An OME-Zarr image: labels and tables go to its own ``labels/`` and ``tables/``, laid out as it is, when all of
        them are there. Nothing else of it is touched. Its version is the image's; with `overwrite`, labels of the same
        name are replaced.
    allow_missing : bool
        Publish although some blocks could not be computed: zeros stand for them, the manifest lists them.

    Returns
    -------
    The folder, or the file; with `into`, the image.

    Raises
    ------
    RunError : the folder exists; another run is writing to it, or has been stopped there; blocks failed
    StorageError : it cannot be written
    ParameterError, InputError : what is to be saved cannot be; nothing is written

    Examples
    --------
    >>> bigbia.save("nuclei.zarr", labels={"nuclei": nuclei}, tables={"nuclei": table})  # doctest: +SKIP
    >>> bigbia.save(None, into="cells.zarr", labels={"nuclei": nuclei})  # doctest: +SKIP
    """
    if (path is None) == (into is None):
        raise ParameterError(
            f"save: path={path!r}, into={into!r}: give one of them: where it goes, or into which image"
        )
    place, argument = (path, "path") if into is None else (into, "into")
    try:
        final = Path(place)  # type: ignore[arg-type]
    except TypeError:
        raise ParameterError(f"save: {argument}={place!r}: give the place of a folder, as text or a Path") from None
    layout = {"version": version, "chunks": chunks, "shards": shards, "levels": levels}
    layout |= {"label_downsampling": label_downsampling, "table_format": table_format}
    if into is None and final.suffix.lower() in (".tif", ".tiff"):
        for name, value in {**layout, "allow_missing": allow_missing, "reuse": reuse}.items():
            if value != DEFAULT_LAYOUT.get(name) and value not in (None, False):
                raise ParameterError(f"{final}: {name}={value!r}: a TIFF file has no such thing: leave it out")
        several = {"images": images, "labels": labels, "tables": tables}
        return _tiff(final, image, several, overwrite=overwrite, scheduler=scheduler, progress=progress)
    words = {"pipeline": pipeline, "origin": origin, "scheduler": scheduler, "progress": progress}
    what = {"image": image, "images": images, "labels": labels, "tables": tables, "source": source}
    if into is not None:
        return _into(place, what, layout, reuse, overwrite, restart, allow_missing, words)
    job = job_of(what, layout, **words)
    return run_job(job, final, overwrite=overwrite, restart=restart, allow_missing=allow_missing, reuse=reuse)


def _into(
    into: Any,
    what: dict[str, Any],
    layout: dict[str, Any],
    reuse: Any,
    overwrite: bool,
    restart: bool,
    allow_missing: bool,
    words: Mapping[str, Any],
) -> Path:
    """Labels and tables into an image."""
    from bigbia.run.into import run_into, target_of

    if reuse is not None:
        raise ParameterError(
            f"save: reuse={reuse!r}: is for outputs with a place of their own: leave it out with `into`"
        )
    target = target_of(into)
    # The image is there; of what it was made is known from the voxels.
    job = job_of({**what, "source": None}, {**layout, "version": target.version}, **words)
    how = {"overwrite": overwrite, "restart": restart, "allow_missing": allow_missing}
    return run_into(job, target, **how)


def _tiff(final: Path, image: Any, several: Mapping[str, Any], **how: Any) -> Path:
    """One image or label image as a TIFF file."""
    from bigbia.run.tiff_output import write_tiff

    if several["tables"]:
        raise ParameterError(
            f"{final}: a TIFF file holds no tables ({', '.join(several['tables'])}): save them elsewhere"
        )
    given = {"image": image} if image is not None else {}
    for section in ("images", "labels"):
        given |= {f"{section}/{name}": array for name, array in (several[section] or {}).items()}
    if len(given) != 1:
        raise ParameterError(
            f"{final}: a TIFF file holds one image, {len(given)} are given ({', '.join(given) or 'none'}): save each to a "
            "file of its own, or all to a folder that ends in .zarr"
        )
    (one,) = given.values()
    write_tiff(final, one, **how)
    return final


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
    others: list[Written] = []
    for name in job.tables:
        if name in taken:
            others += _table_taken(run, job, name, taken[name])
        else:
            others += _write_table(run, job, work, name, times, how)
    if job.pipeline is not None:
        others.append(put(run.root, "pipeline.yaml", job.pipeline.encode()))
    for output in job.outputs:
        show(run, output)
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


def _write_table(run: Run, job: Job, work: Work, name: str, times: Times, how: Mapping[str, Any]) -> list[Written]:
    from bigbia.io.tables import write_table

    table, graph, files = job.tables[name], job.graphs.get(name), job.table_files(name)
    path, about = run.root / files[0], table_metadata(job, name, run.parts)
    if graph is None:
        frames: Iterator[Any] = (
            iter([table]) if not hasattr(table, "partitions") else (p.compute() for p in table.partitions)
        )
        write_table(frames, path, metadata=about)
    else:
        parts, done = work.table(name)
        left = [part.stage for part in parts if not times.is_done(part)]
        execute(left, done_steps=done, **how)
        write_table(_frames(name, parts, times), path, metadata=about)
    return [written(run.root, file) for file in files]


def _table_taken(run: Run, job: Job, name: str, taken: Written) -> list[Written]:
    """The files of a table that was taken over; what stands beside it is written again, it takes no rows."""
    files = job.table_files(name)
    if len(files) > 1:
        from bigbia.io.csvw import write_csv_metadata

        table = job.tables[name]
        empty = table._meta if hasattr(table, "_meta") else table.iloc[:0]
        write_csv_metadata(run.root / files[0], empty, table_metadata(job, name, run.parts))
    return [taken, *(written(run.root, file) for file in files[1:])]


def _frames(name: str, parts: Sequence[Part], times: Times) -> Iterator[Any]:
    """The rows of a table, piece by piece."""
    for part in parts:
        if times.is_done(part):
            yield times.rows(name, part)
        else:
            yield from (part.partition(i) for i in range(part.stage.partitions))
