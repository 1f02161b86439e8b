"""A pipeline on an input: opened as asked, cut to fit the memory, run or explained. The same for the command and Python."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bigbia.errors import BigbiaError, ParameterError, nearest
from bigbia.run.inputs import OPENING, absolute, open_input
from bigbia.run.pipeline import Pipeline

SETTINGS = ("memory", "threads", "integrity", "keep", "insecure")
"""The options that are settings of bigbia while it works."""
HOW = ("overwrite", "restart", "allow_missing")
"""The options that `bigbia.save` takes by these names."""
INTO = ".into"
"""Ends the name under which a run into an image goes (`run/into.py`)."""


def run(plan: Pipeline, path: str | os.PathLike, output: str | os.PathLike | None, **given: Any) -> Path:
    """Run a pipeline on the image at a path, as `bigbia run` does.

    Parameters
    ----------
    plan : the pipeline
    path : of the image
    output : the folder to write; None: labels and tables go into the image's own OME-Zarr
    given : the command's options by their names: settings (a list of "STEP.PARAMETER=VALUE"), axes, voxel_size, level,
        channels, region, block, on_missing, scene, well, field, memory, threads, integrity, keep, insecure, overwrite,
        restart, allow_missing, scheduler, progress

    Returns
    -------
    The folder.

    Raises
    ------
    BigbiaError : what the command ends with

    >>> run(Pipeline.load("nuclei.yaml"), "cells.zarr", "result.zarr", region="z=0:64")  # doctest: +SKIP
    """
    return carried_out(plan, path, output, **given)[0]


def carried_out(
    plan: Pipeline, path: str | os.PathLike, output: str | os.PathLike | None, **given: Any
) -> tuple[Path, dict[str, Any]]:
    """The same; the folder, and the lazy images and tables that were written."""
    from bigbia.run.save import save

    options = checked(given, [*HOW, "scheduler", "progress"])
    source = place_of(path, "input")
    target = None if output is None else place_of(output, "output")
    with settings(options):
        if target is not None:
            keep_input(source, target)
        options["block"] = block_of_stopped(f"{source.rstrip('/')}{INTO}" if target is None else target, options)
        plan = plan.override(options["settings"])
        results = built(plan, source, options)
        outputs = plan.outputs(results)
        how: dict[str, Any] = {word: bool(options.get(word)) for word in HOW}
        where = save(
            target,
            **outputs,
            **how,
            into=source if target is None else None,
            scheduler=options.get("scheduler") or "threads",
            progress=options.get("progress"),
            pipeline=plan.text,
            origin=origin(source, results["input"], options),
        )
    return where, outputs


def explained(plan: Pipeline, path: str | os.PathLike, **given: Any) -> Any:
    """What a run would take, as `bigbia explain` says it."""
    from bigbia.run.explain import explain

    options = checked(given, ["scheduler"])
    with settings(options):
        plan = plan.override(options["settings"])
        outputs = plan.outputs(built(plan, place_of(path, "input"), options))
        images = {**({"image": outputs["image"]} if outputs["image"] is not None else {}), **outputs["images"]}
        return explain({"images": images, "labels": outputs["labels"], "tables": outputs["tables"]})


def checked(given: Mapping[str, Any], more: Sequence[str] = ()) -> dict[str, Any]:
    """Options given in Python, all of them, as the command line has them; ParameterError for one that there is not."""
    known = ["settings", *OPENING, *SETTINGS, *more]
    for word in given:
        if word not in known:
            raise ParameterError(f"pipeline: there is no option {word!r}: {nearest(word, known)}")
    defaults = {k: p.default for k, p in inspect.signature(open_input).parameters.items() if k in OPENING}
    options = {**defaults, "settings": (), "restart": False, **given}
    if isinstance(options["settings"], str):
        options["settings"] = [options["settings"]]
    elif isinstance(options["settings"], Mapping):
        options["settings"] = [f"{k}={v}" for k, v in options["settings"].items()]
    for word in ("channels", "block"):
        value = options.get(word)
        if isinstance(value, (list, tuple)):
            options[word] = ",".join(map(str, value))
        elif isinstance(value, int) and not isinstance(value, bool):
            options[word] = str(value)
    return options


def place_of(path: Any, what: str) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise ParameterError(f"pipeline: {what}={type(path).__name__}: give the place as text or a Path")
    return os.fspath(path)


def built(plan: Pipeline, path: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The lazy steps of a pipeline on the image at a path, in blocks that fit the memory."""
    opening = {k: options[k] for k in OPENING}
    results = plan.build(open_input(path, **opening))
    if options["block"] != "auto" or plan.unused:
        return results
    from bigbia.run.execute import memory_of
    from bigbia.run.fitting import fitted

    again = fitted(
        plan,
        results,
        lambda block: open_input(path, **{**opening, "block": block}),
        memory_of(options.get("scheduler") or "threads"),
    )
    return results if again is None else again


def origin(path: str, image: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Where the input is and how it was opened: the block too, which is chosen by the memory of this moment."""
    return {"input": absolute(path), "options": {**{k: options[k] for k in OPENING}, "block": image.encoding["block"]}}


def block_of_stopped(output: str, options: Mapping[str, Any]) -> str:
    """The block of the run that was stopped at the output, where none is asked for: another would be another run."""
    from bigbia.run.ledger import FOLDER, read_json
    from bigbia.run.partial import partial_of

    if options["block"] != "auto" or options.get("restart") or "://" in output:
        return options["block"]
    try:
        record = read_json(partial_of(Path(output)) / FOLDER / "run.json") or {}
    except BigbiaError:
        return options["block"]
    return ((record.get("origin") or {}).get("options") or {}).get("block", options["block"])


@contextmanager
def settings(options: Mapping[str, Any]) -> Iterator[None]:
    """Memory, threads and their like as settings of bigbia, while it works."""
    import dask

    given = {f"bigbia.{key}": options[key] for key in SETTINGS if options.get(key)}
    with dask.config.set(given):
        if "bigbia.memory" in given:
            from bigbia import config

            config.memory()  # a size that cannot be read is refused here, before a file is opened
        yield


def keep_input(path: str, output: str) -> None:
    """Overwriting must never remove what is being read."""
    if "://" in path or "://" in output:
        inside = output.rstrip("/") == path.rstrip("/")
    else:
        there, here = Path(output).resolve(), Path(path).resolve()
        inside = there == here or there in here.parents
        if here in there.parents and here.is_dir():
            raise ParameterError(f"-o {output}: lies in the input {path}: choose another place")
    if inside:
        raise ParameterError(f"-o {output}: is the input or holds it: choose another place")
