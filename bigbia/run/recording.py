"""`bigbia.record`: calls in Python, written down as a pipeline.

    with bigbia.record(image) as recorded:
        smooth = bigbia.filters.gaussian(image, "0.5 um")
        nuclei = bigbia.measure.label(smooth > bigbia.filters.threshold_otsu(smooth))
    recorded.pipeline(labels={"nuclei": nuclei}).write("nuclei.yaml")

While it lasts the public operators note what they are called with. A result is known by its Dask array; arithmetic
between results is read from Dask's layers. The pipeline is then built on the same image, and must give the very same
nodes, which are fingerprints of the voxels: what cannot be written down is refused, never left out.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from bigbia import hyperstack
from bigbia.errors import InputError, ParameterError
from bigbia.run import operators
from bigbia.run.pipeline import SECTIONS, VERSION, Pipeline, is_table, name_problem
from bigbia.run.recorded_steps import Noted, Writer, data_of, name_of

_ACTIVE: ContextVar[Recording | None] = ContextVar("bigbia_recording", default=None)
_PATCHING = threading.Lock()
_patched: list[tuple[Any, str, Any]] = []
_recordings = 0


@contextmanager
def record(image: Any) -> Iterator[Recording]:
    """Write down the calls of bigbia's operators on an image, to make a pipeline of them.

    Parameters
    ----------
    image : lazy image, as `bigbia.open` gives it
        The input of the pipeline.

    Returns
    -------
    Recording : its `pipeline(labels={"nuclei": nuclei})` gives the pipeline

    Raises
    ------
    InputError : an image that is not lazy
    ParameterError : within another recording

    Notes
    -----
    Operators are called by their full names, ``bigbia.filters.gaussian(...)``; between them stand ``+ - * / // % **``,
    comparisons and ``& | ~``. Anything else that a result depends on is refused by `pipeline`, by name. Calls that no
    saved result depends on are not part of it.

    Examples
    --------
    >>> import dask.array as da
    >>> image = bigbia.hyperstack.hyperstack(da.ones((8, 8), chunks=4), "yx")
    >>> with record(image) as recorded:
    ...     smooth = bigbia.filters.gaussian(image, 2)
    ...     nuclei = bigbia.measure.label(smooth > 0.5)
    >>> print(recorded.pipeline(labels={"nuclei": nuclei}, names={"mask": smooth > 0.5}).text, end="")
    bigbia: 1
    steps:
      gaussian: {op: filters.gaussian, image: input, sigma: 2}
      mask: gaussian > 0.5
      nuclei: {op: measure.label, label_image: mask}
    save:
      labels: {nuclei: nuclei}
    """
    if _ACTIVE.get() is not None:
        raise ParameterError("record: a recording goes on already: end it first")
    found = Recording(image)
    _patch()
    token = _ACTIVE.set(found)
    try:
        yield found
    finally:
        _ACTIVE.reset(token)
        _unpatch()


@dataclass
class Recording:
    """The calls that were made while a recording lasted."""

    image: Any
    calls: list[Noted] = field(default_factory=list)

    def __post_init__(self) -> None:
        if name_of(self.image) is None:
            raise InputError(
                f"record: needs a lazy image, got {type(self.image).__name__}: open it with bigbia.open, or make a "
                "Dask array of it"
            )

    def __repr__(self) -> str:
        return f"<recording of {len(self.calls)} calls>"

    def pipeline(
        self,
        image: Any = None,
        *,
        images: Mapping[str, Any] | None = None,
        labels: Mapping[str, Any] | None = None,
        tables: Mapping[str, Any] | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> Any:
        """The pipeline that makes these results, and what a run of it saves.

        Parameters
        ----------
        image, images, labels, tables
            Results, as for `bigbia.save`.
        names : {name: result}, optional
            What the steps of other results are to be called; otherwise they are called as their operators are, or as
            what is saved.

        Returns
        -------
        The pipeline, as `bigbia.pipeline` builds one: `text`, `write`, `run`.

        Raises
        ------
        ParameterError : a result depends on something that has no step; by name, with the way out
        """
        from bigbia.run.pipeline_builder import PipelineBuilder

        sections = {"images": images, "labels": labels, "tables": tables}
        for section, given in sections.items():
            if given is not None and not isinstance(given, Mapping):
                raise ParameterError(f'record: {section}: must be a mapping of names to results, {{"nuclei": nuclei}}')
        saved = {(s, word): value for s in SECTIONS for word, value in (sections[s] or {}).items()}
        if image is not None:
            saved["image", "image"] = image
        if not saved:
            raise ParameterError('record: says not what to save: give for instance labels={"nuclei": nuclei}')
        writer = Writer(self.image, self.calls)
        for name, value in _checked(names).items():
            writer.call_it(value, name)
        for (_, word), value in saved.items():
            writer.wish(value, word)
        save: dict[str, Any] = {}
        for (section, word), value in saved.items():
            try:
                step = writer.step_of(value, "save: image" if section == "image" else f"save: {section}: {word}")
            except RecursionError:
                raise ParameterError(
                    f"record: {section}: {word}: hundreds of calls in a row are too many to follow: record them in parts"
                ) from None
            if section == "image":
                save["image"] = step
            else:
                save.setdefault(section, {})[word] = step
        pipeline = Pipeline.of({"bigbia": VERSION, "steps": writer.steps, "save": save}, "recorded")
        self._verify(pipeline, saved)
        return PipelineBuilder.of(pipeline)

    def _verify(self, pipeline: Pipeline, saved: Mapping[tuple[str, str], Any]) -> None:
        """Built on the same image it must be the same: nothing was guessed."""
        outputs = pipeline.outputs(pipeline.build(self.image))
        for (section, word), value in saved.items():
            made = outputs["image"] if section == "image" else outputs[section][word]
            if problem := _differs(made, value):
                raise ParameterError(
                    f"record: {section}: {word}: the steps that were written down give another result ({problem}): "
                    "something was changed between the calls that has no step, such as an axis or a coordinate"
                )


def _checked(names: Any) -> Mapping[str, Any]:
    if names is not None and not isinstance(names, Mapping):
        raise ParameterError('record: names: must be a mapping of names to results, {"smooth": smooth}')
    for name in names or {}:
        if problem := name_problem(name):
            raise ParameterError(f"record: names: {name!r}: {problem}")
    return names or {}


# ---- the same result ------------------------------------------------------------------------------------------------
def _differs(made: Any, value: Any) -> str | None:
    """How what a pipeline makes differs from a result; None where it has the same voxels at the same places."""
    from bigbia.graph.dask import node_of
    from bigbia.graph.table import table_graph

    if is_table(value):
        graphs = [table_graph(t) for t in (made, value)]
        said = [
            None if g is None else ([part.stage.token for part in g.parts], g.attributes, list(t.columns))
            for g, t in zip(graphs, (made, value))
        ]
        return None if said[0] is not None and said[0] == said[1] else "another table"
    if hyperstack.is_hyperstack(made) != hyperstack.is_hyperstack(value):
        return "an image without its axes"
    if hyperstack.is_hyperstack(value):
        if made.dims != value.dims:
            return f"axes {', '.join(map(str, made.dims))} for {', '.join(map(str, value.dims))}"
        for axis in {*made.coords} ^ {*value.coords}:
            return f"the coordinate {axis}"
        for axis in value.coords:
            if not made.coords[axis].variable.identical(value.coords[axis].variable):
                return f"the coordinate {axis}"
    first, second = (node_of(data_of(v))[0] for v in (made, value))
    return None if first.token == second.token else "other voxels"


# ---- the operators while a recording lasts ---------------------------------------------------------------------------
def _patch() -> None:
    """Put what notes its calls in the place of every public operator."""
    global _recordings
    with _PATCHING:
        _recordings += 1
        if _recordings > 1:
            return
        for full, function in operators.operators().items():
            package, _, name = full.rpartition(".")
            noting = _noting(full, function)
            homes = [f"bigbia.{package}"] if package else ["bigbia", *(f"bigbia.{p}" for p in operators.BARE)]
            for home in homes:
                module = sys.modules[home]  # `operators` has imported them all
                _patched.append((module, name, module.__dict__.get(name)))
                setattr(module, name, noting)


def _unpatch() -> None:
    global _recordings
    with _PATCHING:
        _recordings -= 1
        if _recordings:
            return
        for module, name, before in reversed(_patched):
            if before is None:
                delattr(module, name)  # it is looked up when it is asked for
            else:
                setattr(module, name, before)
        _patched.clear()


def _noting(op: str, function: Callable) -> Callable:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        recording = _ACTIVE.get()
        if recording is None:
            return function(*args, **kwargs)
        token = _ACTIVE.set(None)  # operators call operators
        try:
            result = function(*args, **kwargs)
        finally:
            _ACTIVE.reset(token)
        given = inspect.signature(function).bind(*args, **kwargs).arguments
        recording.calls.append(Noted(op, function, dict(given), result))
        return result

    return call
