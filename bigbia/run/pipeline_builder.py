"""`bigbia.pipeline`: a pipeline built in Python, step by step; the same file that `bigbia run` takes.

p = bigbia.pipeline()
smooth = p.step("smooth", "filters.gaussian", image=p.input, sigma="0.5 um")
cut = p.step("cut", "filters.threshold_otsu", image=smooth)
mask = p.step("mask", smooth > cut)
nuclei = p.step("nuclei", "measure.label", label_image=mask)
p.save(labels={"nuclei": nuclei})
p.write("nuclei.yaml")
p.run("cells.zarr", "result.zarr")
"""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bigbia.errors import ParameterError, RunError, StorageError, nearest
from bigbia.run import operators
from bigbia.run.pipeline import INPUT, VERSION, Pipeline
from bigbia.run.pipeline_steps import NotPlain, Step, as_plain


class PipelineBuilder:
    """A pipeline that is being built, or one that was read from a file.

    Parameters
    ----------
    name : str
        Stands in front of its errors.

    Examples
    --------
    >>> p = PipelineBuilder()
    >>> mask = p.step("mask", p.input > 100)
    >>> nuclei = p.step("nuclei", "measure.label", label_image=mask)
    >>> p.save(labels={"nuclei": nuclei})
    >>> print(p.text, end="")
    bigbia: 1
    steps:
      mask: input > 100
      nuclei: {op: measure.label, label_image: mask}
    save:
      labels: {nuclei: nuclei}
    """

    def __init__(self, name: str = "pipeline") -> None:
        self.name = name
        self._steps: dict[str, Any] = {}
        self._save: dict[str, Any] = {}

    @classmethod
    def load(cls, path: str | os.PathLike) -> PipelineBuilder:
        """Read a pipeline file."""
        return cls.of(Pipeline.load(os.fspath(path)))

    @classmethod
    def parse(cls, text: str, name: str = "pipeline") -> PipelineBuilder:
        """Read a pipeline from YAML text."""
        return cls.of(Pipeline.parse(text, name))

    @classmethod
    def of(cls, pipeline: Pipeline) -> PipelineBuilder:
        """Go on with a pipeline that was checked."""
        out = cls(pipeline.name)
        document = copy.deepcopy(pipeline.document)
        out._steps, out._save = document["steps"], document["save"]
        return out

    # ---- building ----------------------------------------------------------------------------------------------------
    @property
    def input(self) -> Step:
        """The image that comes in."""
        return Step(self, INPUT, True)

    def __getitem__(self, name: str) -> Step:
        """A step that is there, by its name."""
        if name != INPUT and name not in self._steps:
            raise ParameterError(f"{self.name}: there is no step {name!r}: {nearest(str(name), [INPUT, *self._steps])}")
        return Step(self, name, True)

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the steps."""
        return tuple(self._steps)

    def step(self, name: str, what: str | Step | Callable | float, /, **arguments: Any) -> Step:
        """Add a step, checked at once.

        Parameters
        ----------
        name : str
            By which later steps and the file call it.
        what : str, function, or an expression of steps
            An operator, ``"filters.gaussian"`` or ``bigbia.filters.gaussian``, or what is between steps,
            ``smooth > cut``.
        arguments
            Of the operator, by its own keywords; images are steps.

        Returns
        -------
        Step : for later steps, and for arithmetic and comparisons with other steps and numbers.

        Raises
        ------
        ParameterError : a name that is taken; an unknown operator or keyword; an argument that it does not take
        """
        if name in self._steps:
            raise ParameterError(f"{self.name}: step {name!r} is there already: choose another name")
        value = self._written(name, what, arguments)
        steps = {**self._steps, name: value}
        # What is saved is not known yet: the step alone stands for it.
        Pipeline.of({"bigbia": VERSION, "steps": steps, "save": {"image": name}}, self.name)
        self._steps = steps
        return Step(self, name, True)

    def _written(self, name: str, what: Any, arguments: Mapping[str, Any]) -> Any:
        """A step as it stands in the file."""
        if isinstance(what, Step):
            if what._owner is not self:
                raise ParameterError(f"{self.name}: step {name!r}: {what.text!r} is a step of another pipeline")
        elif callable(what):
            what = self._operator_of(name, what)
        words = not isinstance(what, str) or not (arguments or _is_operator(what))
        if words:
            if arguments:
                raise ParameterError(
                    f"{self.name}: step {name!r}: an expression takes no arguments: {', '.join(arguments)}"
                )
            return what.text if isinstance(what, Step) else what
        return {"op": what, **{word: self._argument(name, word, value) for word, value in arguments.items()}}

    def _operator_of(self, name: str, function: Callable) -> str:
        for full, known in operators.operators().items():
            if known is inspect.unwrap(function):
                return full
        shown = getattr(function, "__name__", type(function).__name__)
        raise ParameterError(f"{self.name}: step {name!r}: {shown} is no operator of bigbia: `bigbia ops` lists them")

    def _argument(self, name: str, word: str, value: Any) -> Any:
        if isinstance(value, Step):
            if value._owner is not self:
                raise ParameterError(
                    f"{self.name}: step {name!r}: {word}: {value.text!r} is a step of another pipeline"
                )
            if not value._named:
                raise ParameterError(
                    f"{self.name}: step {name!r}: {word}: {value.text!r} is an expression: make it a step of its own, "
                    f'p.step("mask", {value.text}), then give that'
                )
            return value.text
        if isinstance(value, (list, tuple)):
            return [self._argument(name, word, v) for v in value]
        try:
            return as_plain(value)
        except NotPlain as kind:
            raise ParameterError(
                f"{self.name}: step {name!r}: {word} is a {kind}, which a pipeline file cannot hold: give a step, "
                "numbers, text, or lists of them"
            ) from None

    def save(
        self,
        image: Step | str | None = None,
        *,
        images: Mapping[str, Step | str] | None = None,
        labels: Mapping[str, Step | str] | None = None,
        tables: Mapping[str, Step | str] | None = None,
    ) -> None:
        """Say what a run writes, as `bigbia.save` does: an image at the root, further images, labels, tables by name."""
        save = copy.deepcopy(self._save)
        if image is not None:
            save["image"] = self._saved(image, "image")
        for section, named in (("images", images), ("labels", labels), ("tables", tables)):
            if named is not None and not isinstance(named, Mapping):
                raise ParameterError(
                    f'{self.name}: save: {section}: must be a mapping of names to steps, {{"nuclei": nuclei}}'
                )
            for word, step in (named or {}).items():
                save.setdefault(section, {})[word] = self._saved(step, f"{section}: {word}")
        if not save:
            raise ParameterError(f'{self.name}: save: says nothing: give for instance labels={{"nuclei": nuclei}}')
        Pipeline.of({"bigbia": VERSION, "steps": self._steps, "save": save}, self.name)
        self._save = save

    def _saved(self, step: Any, where: str) -> str:
        if isinstance(step, Step) and (step._owner is not self or not step._named):
            what = "is a step of another pipeline" if step._owner is not self else "is an expression"
            raise ParameterError(f"{self.name}: save: {where}: {step.text!r} {what}: make it a step of its own")
        return step.text if isinstance(step, Step) else step

    # ---- what it is --------------------------------------------------------------------------------------------------
    @property
    def pipeline(self) -> Pipeline:
        """The checked pipeline."""
        return Pipeline.of({"bigbia": VERSION, "steps": self._steps, "save": self._save}, self.name)

    @property
    def text(self) -> str:
        """The pipeline as YAML, as the file has it."""
        return self.pipeline.text

    def __repr__(self) -> str:
        return f"<pipeline {self.name!r}: {', '.join(self._steps) or 'no steps yet'}>"

    def changed(self, *settings: str) -> PipelineBuilder:
        """Another pipeline with some parameters changed: `p.changed("smooth.sigma=0.8um", "mask=smooth > 500")`."""
        return PipelineBuilder.of(self.pipeline.override(settings))

    def write(self, path: str | os.PathLike, overwrite: bool = False) -> Path:
        """Write the file that `bigbia run` takes; it replaces another only with `overwrite`."""
        text, place = self.text, Path(path)
        if place.exists() and not overwrite:
            raise RunError(f"{place} exists: choose another place, or replace it with overwrite=True")
        try:
            place.write_text(text, encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{place}: cannot be written: {error.strerror}; choose another place") from None
        return place

    # ---- what it does ------------------------------------------------------------------------------------------------
    def build(self, image: Any) -> dict[str, Any]:
        """Every step's lazy result on an image, by its name; computes nothing."""
        return self.pipeline.build(image)

    def explain(self, path: str | os.PathLike, **options: Any) -> Any:
        """What a run on the image at a path would take, as `bigbia explain` says it; options as for `run`."""
        from bigbia.run.pipeline_run import explained

        return explained(self.pipeline, path, **options)

    def run(
        self, path: str | os.PathLike | Sequence[str | os.PathLike], output: str | os.PathLike | None, **options: Any
    ) -> Any:
        """Run it on the image at a path, or on many, as `bigbia run` does; the same files to the byte.

        Parameters
        ----------
        path : of the image; a list, a plate, a folder of images or a pattern stand for many
        output : the folder to write, or that holds the outputs; None: labels and tables go into the image's own OME-Zarr
        options
            The command's by their names: settings=["smooth.sigma=0.8um"], axes, voxel_size, level, channels, region,
            block, on_missing, scene, well, field, memory, threads, scheduler, overwrite, restart, allow_missing,
            integrity, keep, insecure; and progress, as for `bigbia.save`.

        Returns
        -------
        The folder. Of many images what became of each, a `Batch`: `images`, `failed`, `tables`.

        Raises
        ------
        BigbiaError : what the command would end with; of many images, those that fail are told in the batch

        Examples
        --------
        >>> batch = p.run("plate.zarr", "results")  # doctest: +SKIP
        >>> batch.failed  # doctest: +SKIP
        []
        """
        from bigbia.run.batch_inputs import is_many
        from bigbia.run.pipeline_run import place_of, run
        from bigbia.run.recipe import run_many

        several = isinstance(path, list | tuple)
        words = [place_of(one, "input") for one in (path if several else [path])]  # type: ignore[union-attr]
        if several or is_many(words, options):
            return run_many(self.pipeline, words, output, **options)
        return run(self.pipeline, words[0], output, **options)

    def try_values(self, parameter: str, values: Sequence[Any], path: str | os.PathLike, **options: Any) -> Any:
        """Run it once for each value of one parameter, and count: which sigma?

        Parameters
        ----------
        parameter : str
            ``"smooth.sigma"``, or the name of a step that is an expression.
        values : list
        path
            The image.
        options
            Those of `run` that say how the image is opened; `output`, a folder for the picture and the table.

        Returns
        -------
        Tried : its `rows`, one a value; `str()` is the table

        Raises
        ------
        ParameterError : no such parameter; a pipeline that saves no labels
        """
        from bigbia.run.trying import try_values

        return try_values(self.pipeline, parameter, values, path, **options)


def _is_operator(text: str) -> bool:
    plain = text.removeprefix("bigbia.").removeprefix("arrange.")
    return plain in operators.operators() or ("." in plain and plain.replace(".", "").isidentifier())
