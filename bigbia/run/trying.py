"""One parameter of a pipeline, several values: which sigma? A count of the objects for each, and a picture.

All variants are built on one image before the first is computed, so that what they share is found once: a stage is known
by what it does, and what it left lies in scratch for the next.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bigbia import config, hyperstack
from bigbia.errors import BigbiaError, MissingExtraError, ParameterError, RunError, StorageError, nearest
from bigbia.run import pipeline_file
from bigbia.run.pipeline import INPUT, Pipeline
from bigbia.run.pipeline_run import built, checked, place_of, settings

FILES = ("tried.csv", "tried.png")
MOST = 64


@dataclass
class Row:
    """What one value gave, for one label image. `median` is in voxels, or in `unit` where the voxels have a size."""

    value: str
    labels: str
    objects: int = 0
    median: float = float("nan")
    foreground: float = 0.0
    seconds: float = 0.0
    error: str = ""
    panel: Any = field(default=None, repr=False)  # (labels, image or None) of the middle slice


@dataclass(repr=False)
class Tried:
    """The values that were tried. `str()` is the table; `rows` hold the figures."""

    parameter: str
    rows: list[Row]
    unit: str
    aspect: float = 1.0
    written: tuple[Path, ...] = ()

    HEAD = ("value", "labels", "objects", "median", "foreground", "seconds")

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.error]

    def __str__(self) -> str:
        several = len({row.labels for row in self.rows}) > 1
        head = [self.parameter, "labels", "objects", f"median {self.unit}", "foreground", "seconds"]
        lines = [head]
        for r in self.rows:
            if r.error:
                lines.append([r.value, r.labels, "-", "-", "-", f"{r.seconds:.1f}"])
            else:
                share = f"{r.foreground:.1%}"
                lines.append([r.value, r.labels, str(r.objects), f"{r.median:.4g}", share, f"{r.seconds:.1f}"])
        if not several:
            lines = [[line[0], *line[2:]] for line in lines]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        first = 2 if several else 1
        text = [
            "  ".join(c.ljust(w) if i < first else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip()
            for line in lines
        ]
        text += [f"{row.value}: {row.error}" for row in self.failed]
        return "\n".join(text)

    __repr__ = __str__


def try_values(
    plan: Pipeline,
    parameter: str,
    values: Sequence[Any],
    path: str | os.PathLike,
    *,
    output: str | os.PathLike | None = None,
    overwrite: bool = False,
    **given: Any,
) -> Tried:
    """Run a pipeline on an image for each value of one parameter, and count its labels.

    Parameters
    ----------
    plan : saves at least one label image
    parameter : "smooth.sigma", or the name of a step that is an expression
    values : as in the file, each of them as text or as it is
    path : the image
    output : a folder for tried.csv and tried.png, the middle slice for each value; None: nothing is written
    overwrite : replace these two
    given : settings, and how the image is opened, as for `bigbia run`

    Returns
    -------
    Tried : a row a value and label image; a value that fails is a row with its error

    Raises
    ------
    ParameterError : no such step or parameter; nothing saved depends on it; no labels; a value twice
    RunError : the files are there already
    MissingExtraError : a picture is asked for and Matplotlib is not there
    """
    texts = [_text(value) for value in _listed(values)]
    plan = plan.override(checked(given)["settings"])
    _check(plan, parameter, texts)
    folder = None if output is None else _folder(output, overwrite)
    options = checked(given)
    with settings(options):
        image = _opened(plan, parameter, texts, place_of(path, "input"), options)
        found = tried_on(plan, parameter, texts, image)
    if folder is not None:
        found.written = _write(found, folder)
    return found


def tried_on(plan: Pipeline, parameter: str, texts: Sequence[str], image: Any) -> Tried:
    """The same on a lazy image."""
    names = list(plan.save["labels"])
    variants = [_built(plan, parameter, text, image) for text in texts]
    rows = []
    for text, variant in zip(texts, variants):
        for name in names:
            row = Row(text, name)
            start = time.perf_counter()
            if isinstance(variant, BigbiaError):
                row.error = str(variant)
            else:
                try:
                    _measure(row, variant["labels"][name], variant["results"])
                except Exception as error:  # whatever a value does, the others go on
                    reason = " ".join(str(error).split())
                    row.error = reason if isinstance(error, BigbiaError) else f"{type(error).__name__}: {reason}"
            row.seconds = time.perf_counter() - start
            rows.append(row)
    return Tried(parameter, rows, _unit(image), _aspect(image))


# ---- checking --------------------------------------------------------------------------------------------------------
def _listed(values: Any) -> list[Any]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, (Sequence, np.ndarray)):
        raise ParameterError(f"try: values={values!r}: must be a list, one value a run: ['0.5 um', '1 um']")
    if not len(values):
        raise ParameterError("try: there are no values: give one or more")
    if len(values) > MOST:
        raise ParameterError(f"try: {len(values)} values are more than a picture holds: give {MOST} at most")
    return list(values)


def _text(value: Any) -> str:
    """A value as it stands in the file."""
    from bigbia.run.pipeline_steps import NotPlain, as_plain

    if isinstance(value, str):
        return " ".join(value.split())
    try:
        text = pipeline_file.dumps({"it": as_plain(value)}).strip()
    except NotPlain as kind:
        raise ParameterError(
            f"try: a {kind} is no value that a pipeline file can hold: give numbers, text, or lists of them"
        ) from None
    return " ".join((text[5:-1] if text.startswith("{") else text[4:]).split())


def _check(plan: Pipeline, parameter: str, texts: Sequence[str]) -> None:
    step, _, word = parameter.strip().partition(".")
    if step not in plan.steps:
        raise ParameterError(f"try: {parameter}: there is no step {step!r}: {nearest(step, plan.steps)}")
    if isinstance(plan.document["steps"][step], Mapping) and not word:
        raise ParameterError(f"try: {parameter}: say which parameter of it, for instance {step}.sigma")
    if "labels" not in plan.save:
        raise ParameterError(
            f"{plan.name}: saves no labels, so there are no objects to count: add `save: {{labels: {{nuclei: nuclei}}}}`"
        )
    if step in _unneeded(plan):
        raise ParameterError(f"try: {parameter}: no saved labels depend on {step!r}: vary another step")
    for text in texts:
        if list(texts).count(text) > 1:
            raise ParameterError(f"try: the value {text} is there twice: leave one out")


def _unneeded(plan: Pipeline) -> list[str]:
    """Steps on which no saved labels depend."""
    labels = {"labels": plan.save["labels"]}
    return Pipeline(plan.name, plan.document, plan.steps, labels).unused


def _labels_only(plan: Pipeline) -> Pipeline:
    """The pipeline without what the labels do not need: tables and other images are not asked for here."""
    steps = {k: v for k, v in plan.document["steps"].items() if k not in _unneeded(plan)}
    return Pipeline.of({**plan.document, "steps": steps, "save": {"labels": plan.save["labels"]}}, plan.name)


def _varied(plan: Pipeline, parameter: str, text: str) -> Pipeline:
    return _labels_only(plan.override([f"{parameter}={text}"]))


def _opened(plan: Pipeline, parameter: str, texts: Sequence[str], path: str, options: Mapping[str, Any]) -> Any:
    """The image, in blocks that fit the first variant that can be built; where none can, what is wrong with the first."""
    problem: BigbiaError | None = None
    for text in texts:
        try:
            return built(_varied(plan, parameter, text), path, options)[INPUT]
        except BigbiaError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _built(plan: Pipeline, parameter: str, text: str, image: Any) -> dict[str, Any] | BigbiaError:
    try:
        variant = _varied(plan, parameter, text)
        results = variant.build(image)
        return {"results": results, "labels": variant.outputs(results)["labels"]}
    except BigbiaError as error:
        return error


# ---- counting --------------------------------------------------------------------------------------------------------
def _measure(row: Row, labels: Any, results: Mapping[str, Any]) -> None:
    import dask

    middle = _slice(labels)
    under = _under(labels, results)
    parts = _block_counts(labels)
    *counts, panel, grey = dask.compute(
        *parts,
        _array(labels.isel(middle)) if hyperstack.is_hyperstack(labels) else labels,
        None if under is None else _array(under),
        scheduler="threads",
        num_workers=config.threads(),
    )
    sizes = _sizes(counts)
    row.objects, row.foreground = len(sizes), float(sizes.sum()) / max(1, int(np.prod(labels.shape)))
    if len(sizes):
        size = hyperstack.voxel_size(labels)
        row.median = float(np.median(sizes)) * (float(np.prod(list(size.values()))) if size else 1.0)
    row.panel = (_plane(np.asarray(panel)), None if grey is None else _plane(np.asarray(grey)))


def _array(image: Any) -> Any:
    return image.data if hyperstack.is_hyperstack(image) else image


def _block_counts(labels: Any) -> list[Any]:
    """For each block, lazily: time and channel, labels there, voxels of each."""
    import dask
    from dask.array.core import slices_from_chunks

    data = _array(labels)
    over = [a for a in range(data.ndim) if a not in hyperstack.spatial_axes(labels)]
    starts = [tuple(s.start for s in part) for part in slices_from_chunks(data.chunks)]
    counted = dask.delayed(_counted, pure=False)
    return [counted(block, start, over) for block, start in zip(data.to_delayed().ravel(), starts)]


def _counted(block: np.ndarray, start: Sequence[int], over: Sequence[int]) -> list[tuple[Any, np.ndarray, np.ndarray]]:
    out = []
    for index in np.ndindex(*(block.shape[a] for a in over)):
        part: list[Any] = [slice(None)] * block.ndim
        for a, i in zip(over, index):
            part[a] = i
        labels, sizes = np.unique(block[tuple(part)], return_counts=True)
        where = tuple(start[a] + i for a, i in zip(over, index))
        out.append((where, labels[labels != 0], sizes[labels != 0]))
    return out


def _sizes(counts: Sequence[Any]) -> np.ndarray:
    """Voxels of each object: labels count from 1 in each time and channel."""
    apart: dict[Any, list[tuple[np.ndarray, np.ndarray]]] = {}
    for block in counts:
        for where, labels, sizes in block:
            apart.setdefault(where, []).append((labels, sizes))
    out = [np.zeros(0, np.int64)]
    for several in apart.values():
        names, index = np.unique(np.concatenate([n for n, _ in several]), return_inverse=True)
        total = np.zeros(len(names), np.int64)
        np.add.at(total, index, np.concatenate([s for _, s in several]))
        out.append(total)
    return np.concatenate(out)


# ---- what is drawn ---------------------------------------------------------------------------------------------------
def _slice(image: Any) -> dict[str, int]:
    """The first time and channel, the middle along z."""
    return {str(d): image.sizes[d] // 2 if d == "z" else 0 for d in image.dims if d not in "yx"}


def _under(labels: Any, results: Mapping[str, Any]) -> Any:
    """The image that the labels lie on: the first step with voxels at the same places that is no mask.

    One with the same times and channels comes first: of several channels the one that was segmented.
    """
    if not hyperstack.is_hyperstack(labels):
        return None
    space = [d for d in "zyx" if d in labels.dims]
    fitting = [
        image
        for image in results.values()
        if hyperstack.is_hyperstack(image)
        and image.dtype != bool
        and {"y", "x"} <= {d for d in "zyx" if d in image.dims} == set(space)
        and all(image.sizes[d] == labels.sizes[d] for d in space)
    ]
    fitting.sort(key=lambda image: set(image.dims) != set(labels.dims))
    return fitting[0].isel(_slice(fitting[0])) if fitting else None


def _plane(array: np.ndarray) -> np.ndarray:
    """At most about a thousand pixels a side."""
    if array.ndim < 2:
        array = array.reshape(1, -1)
    while array.ndim > 2:
        array = array[array.shape[0] // 2]
    step = max(1, -(-max(array.shape) // 1024))
    return array[::step, ::step]


def _unit(image: Any) -> str:
    size, unit = hyperstack.voxel_size(image), hyperstack.unit(image)
    if not size:
        return "voxels"
    power = {1: "", 2: "²", 3: "³"}[len(size)]
    short = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", None: ""}.get(unit, unit) or ""
    return f"{short}{power}" if short else "voxels by size"


def _aspect(image: Any) -> float:
    """The height of a pixel by its width."""
    size = hyperstack.voxel_size(image) or {}
    return size["y"] / size["x"] if {"y", "x"} <= set(size) else 1.0


# ---- files -----------------------------------------------------------------------------------------------------------
def _folder(output: Any, overwrite: bool) -> Path:
    folder = Path(place_of(output, "output"))
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError.of("matplotlib", "the picture of bigbia try", "demo")
    there = [folder / name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise RunError(f"{there[0]} exists: choose another folder, or replace it with --overwrite")
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file: choose a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made: {error.strerror}; choose another folder") from None
    return folder


def _write(found: Tried, folder: Path) -> tuple[Path, ...]:
    from bigbia.run.tried_picture import draw

    table, picture = (folder / name for name in FILES)
    try:
        with open(table, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*found.HEAD[:3], f"median ({found.unit})", *found.HEAD[4:], "error"])
            for r in found.rows:
                figures = ["", "", ""] if r.error else [r.objects, r.median, r.foreground]
                writer.writerow([r.value, r.labels, *figures, round(r.seconds, 3), r.error])
        draw(found, picture)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror}; choose another folder") from None
    return table, picture
