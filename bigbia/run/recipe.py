"""What a batch does to each of its images: opened as asked, the pipeline on it, small or large."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigbia.run.inputs import OPENING, open_input
from bigbia.run.job import DEFAULT_LAYOUT, Job, job_of
from bigbia.run.pipeline import Pipeline
from bigbia.run.pipeline_run import HOW, block_of_stopped, built, checked, keep_input, origin, place_of, settings


@dataclass(frozen=True)
class Recipe:
    """What is done to each image.

    opened : path -> the lazy image
    job : (image, path) -> what is to be done to it, as one block where it is small
    alone : (path, output) -> what is to be done to a large one, in blocks that fit the memory
    threads : whether images may be worked on in threads of this process
    """

    opened: Callable[[str], Any]
    job: Callable[[Any, str], Job]
    alone: Callable[[str, Path], Job]
    threads: bool = True


def recipe_of(plan: Pipeline, options: Mapping[str, Any]) -> Recipe:
    """A pipeline for many images, with the options of `pipeline_run.run`."""
    scheduler = options.get("scheduler") or "threads"
    common: dict[str, Any] = {"pipeline": plan.text, "scheduler": scheduler}

    def opened(path: str) -> Any:
        return open_input(path, **{k: options[k] for k in OPENING})

    def job(image: Any, path: str) -> Job:
        return job_of(plan.outputs(plan.build(image)), DEFAULT_LAYOUT, origin=origin(path, image, options), **common)

    def alone(path: str, place: Path) -> Job:
        mine = {**options, "block": block_of_stopped(str(place), options)}
        results = built(plan, path, mine)
        told = origin(path, results["input"], mine)
        return job_of(plan.outputs(results), DEFAULT_LAYOUT, origin=told, progress=options.get("progress"), **common)

    return Recipe(opened, job, alone, threads=scheduler == "threads")


def run_many(plan: Pipeline, words: Sequence[str], output: Any, **given: Any) -> Any:
    """Run a pipeline on many images: plates, folders, patterns, as `bigbia run` does.

    Parameters
    ----------
    plan : the pipeline
    words : what stands for the images (`batch_inputs.inputs_of`)
    output : the folder that holds the outputs; None: into the images themselves
    given : the options of `pipeline_run.run`

    Returns
    -------
    Batch : what became of each image

    Raises
    ------
    BigbiaError : what the command ends with
    """
    from bigbia.run.batch import run_batch
    from bigbia.run.batch_inputs import inputs_of
    from bigbia.run.batch_into import run_batch_into

    options = checked(given, [*HOW, "scheduler", "progress"])
    inputs = inputs_of([place_of(word, "input") for word in words])
    with settings(options):
        plan = plan.override(options["settings"])
        how = {word: bool(options.get(word)) for word in HOW}
        if output is None:
            return run_batch_into(plan, inputs, {**options, "settings": ()})
        target = place_of(output, "output")
        for one in inputs:
            keep_input(one.path, f"{target}/{one.name}.zarr")
        return run_batch(target, inputs, recipe_of(plan, options), how, options.get("progress"))
