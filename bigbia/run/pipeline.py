"""A pipeline file: the steps from an image to labels and tables, as data.

    bigbia: 1
    steps:
      smooth: {op: filters.gaussian, image: input, sigma: 0.5 um}
      cut:    {op: filters.threshold_otsu, image: smooth}
      mask:   smooth > cut
      nuclei: {op: segmentation.split_touching, mask: mask, min_distance: 5 um}
      table:  {op: measure.regionprops_table, label_image: nuclei, intensity_image: input}
    save:
      labels: {nuclei: nuclei}
      tables: {nuclei: table}

A step is a call of an operator with its own keywords, or an expression (`run/expression.py`). Building a pipeline makes
those calls and nothing more, so a pipeline and the same lines of Python give the same lazy result. What can be told
without an image is refused when the file is read; the rest when it is built; nothing is computed by either.
"""

from __future__ import annotations

import copy
import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigbia.errors import BigbiaError, BigbiaWarning, ParameterError, nearest
from bigbia.graph import kinds
from bigbia.run import expression, operators, pipeline_file

VERSION = 1
INPUT = "input"
SECTIONS = ("images", "labels", "tables")

_STEP_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SAVED_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_. -]*[A-Za-z0-9_-])?")
_WORDS = {"and", "or", "not", "in", "is", "if", "else", "for", "lambda", "None", "True", "False", "await"}


@dataclass(frozen=True)
class Call:
    """A step that calls an operator. `images` and `tables` are the arguments that name steps."""

    op: str
    function: Callable
    arguments: dict[str, Any]
    images: frozenset[str]
    tables: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """The steps it reads."""
        return self.named(self.images | self.tables)

    def named(self, words: frozenset[str]) -> tuple[str, ...]:
        """The steps that some of its arguments name."""
        values = [v for k, v in self.arguments.items() if k in words]
        flat = [w for v in values for w in (v if isinstance(v, list) else [v])]
        return tuple(w for w in flat if isinstance(w, str))

    def evaluate(self, steps: Mapping[str, Any]) -> Any:
        def resolve(value: Any) -> Any:
            if isinstance(value, list):
                return [resolve(v) for v in value]
            return steps[value] if isinstance(value, str) else value

        arguments = {
            k: resolve(v) if k in self.images | self.tables else copy.copy(v) for k, v in self.arguments.items()
        }
        return self.function(**arguments)


Step = Call | expression.Expression


@dataclass(frozen=True)
class Pipeline:
    """A checked pipeline. `steps` stand in the order in which they are built.

    `save` is what the file says: `{"image": step, "images": {name: step}, "labels": ..., "tables": ...}`.
    """

    name: str
    document: dict[str, Any]
    steps: dict[str, Step]
    save: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> Pipeline:
        """Read a pipeline file."""
        return cls.parse(pipeline_file.read_text(path), name=str(path))

    @classmethod
    def parse(cls, text: str, name: str = "pipeline") -> Pipeline:
        """Read a pipeline from YAML text; `name` stands in front of the errors."""
        return cls.of(pipeline_file.loads(text, name), name)

    @classmethod
    def of(cls, document: Any, name: str = "pipeline") -> Pipeline:
        """Check a pipeline given as plain values."""
        return _check(copy.deepcopy(document), name)

    def override(self, settings: Iterable[str]) -> Pipeline:
        """The pipeline with some parameters changed: `["smooth.sigma=0.8um", "mask=smooth > 500"]`."""
        document = copy.deepcopy(self.document)
        for setting in settings:
            _set(document["steps"], setting)
        return Pipeline.of(document, self.name)

    @property
    def text(self) -> str:
        """The pipeline as YAML: overrides applied, steps in order. Reading it back gives the same pipeline."""
        return pipeline_file.dumps(self.document)

    @property
    def unused(self) -> list[str]:
        """Steps that nothing saved depends on."""
        needed = set(_saved_steps(self.save))
        for name in reversed(self.steps):
            if name in needed:
                needed.update(self.steps[name].names)
        return [name for name in self.steps if name not in needed]

    def build(self, image: Any) -> dict[str, Any]:
        """Apply the steps to an image. Every step's lazy result by its name, and the image itself as `input`."""
        for name in self.unused:
            warnings.warn(
                f"{self.name}: step {name!r} is not saved and nothing saved needs it", BigbiaWarning, stacklevel=2
            )
        results: dict[str, Any] = {INPUT: image}
        for name, step in self.steps.items():
            results[name] = self._evaluate(name, step, results)
        return results

    def _evaluate(self, name: str, step: Step, results: dict[str, Any]) -> Any:
        for other in step.named(step.tables) if isinstance(step, Call) else ():
            if not is_table(results[other]):
                raise ParameterError(f"{self.name}: step {name!r}: {other!r} is no table, a table is needed")
        for other in step.named(step.images) if isinstance(step, Call) else step.names:
            if problem := _no_image(results[other]):
                raise ParameterError(f"{self.name}: step {name!r}: {other!r} {problem}, an image is needed")
        try:
            return step.evaluate(results)
        except BigbiaError as error:
            raise type(error)(f"{self.name}: step {name!r}: {error}") from error
        except (TypeError, ValueError, OverflowError) as error:
            what = step.text if isinstance(step, expression.Expression) else step.op
            reason = " ".join(str(error).split())
            raise ParameterError(f"{self.name}: step {name!r}: {what}: {reason}") from error

    def outputs(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments for `bigbia.save`: what to write, by section and name; and `source`, the input."""
        outputs: dict[str, Any] = {"image": None}
        if "image" in self.save:
            outputs["image"] = self._checked_output("image", results, self.save["image"])
        for section in SECTIONS:
            named = self.save.get(section, {}).items()
            outputs[section] = {
                name: self._checked_output(f"{section}: {name}", results, step, section) for name, step in named
            }
        return {**outputs, "source": results[INPUT]}

    def _checked_output(self, where: str, results: Mapping[str, Any], step: str, section: str = "images") -> Any:
        value, where = results[step], f"{self.name}: save: {where}: step {step!r}"
        if section == "tables":
            if not is_table(value):
                raise ParameterError(f"{where} is no table; save it under images or labels")
            return value
        if is_table(value):
            raise ParameterError(f"{where} is a table; save it under tables")
        if isinstance(value, (tuple, list)):
            raise ParameterError(f"{where} gives {len(value)} results; only one image can be saved")
        if getattr(value, "ndim", 0) == 0:
            raise ParameterError(f"{where} is a single number, not an image; give one that depends on the place")
        if section == "labels" and value.dtype.kind not in "ui":
            raise ParameterError(
                f"{where} is {value.dtype}, labels are whole numbers; save it under images, or run measure.label"
            )
        return value


def is_table(value: Any) -> bool:
    """Whether a step's result is a table (pandas or dask.dataframe), told without importing either."""
    return hasattr(value, "columns") and hasattr(value, "dtypes")


def _no_image(value: Any) -> str | None:
    """Why a step's result cannot be the image of another step."""
    if is_table(value):
        return "is a table"
    return f"gives {len(value)} results" if isinstance(value, tuple) else None


# ---- checking ----------------------------------------------------------------------------------------------------


def _check(document: Any, name: str) -> Pipeline:
    if not isinstance(document, dict) or "bigbia" not in document:
        raise ParameterError(f"{name}: is not a pipeline file: it begins with the line `bigbia: {VERSION}`")
    version = document["bigbia"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ParameterError(f"{name}: `bigbia: {version}` is not a version: write `bigbia: {VERSION}`")
    if version > VERSION:
        raise ParameterError(
            f"{name}: is written for version {version}, this bigbia reads {VERSION}: pip install --upgrade bigbia"
        )
    for key in document:
        if key not in ("bigbia", "steps", "save"):
            raise ParameterError(f"{name}: unknown section {key!r}: {nearest(key, ['bigbia', 'steps', 'save'])}")
    if not isinstance(document.get("steps"), dict) or not document["steps"]:
        raise ParameterError(f"{name}: has no steps: add for instance `steps: {{mask: input > 100}}`")
    steps = {}
    for step, value in document["steps"].items():
        _check_step_name(step, name)
        try:
            steps[step] = _call(value) if isinstance(value, dict) else expression.parse(value)
        except ParameterError as error:
            raise ParameterError(f"{name}: step {step!r}: {error}") from None
    for step, checked in steps.items():
        for word in checked.names:
            if word not in steps and word != INPUT:
                raise ParameterError(f"{name}: step {step!r}: {word!r} is no step: {nearest(word, [INPUT, *steps])}")
    save = _check_save(document.get("save"), steps, name)
    order = _in_order(steps, name)
    canonical = {"bigbia": version, "steps": {step: document["steps"][step] for step in order}, "save": save}
    return Pipeline(name, canonical, {step: steps[step] for step in order}, save)


def _check_step_name(step: str, name: str) -> None:
    if problem := name_problem(step):
        raise ParameterError(f"{name}: step {step!r}: {problem}")


def name_problem(step: Any) -> str | None:
    """Why a step cannot be called that; None where it can."""
    if step == INPUT:
        return "this is the name of the image that comes in: choose another"
    if not isinstance(step, str) or not _STEP_NAME.fullmatch(step) or step in _WORDS:
        return "a name is made of letters, digits and _, and is no word like 'and'"
    return None


def _call(value: dict[str, Any]) -> Call:
    """A step `{op: ..., ...}`, checked against the operator's signature."""
    if not isinstance(value.get("op"), str):
        raise ParameterError("has no operator: write {op: filters.gaussian, image: input, ...}")
    op, function = operators.find(value["op"])
    parameters = inspect.signature(function).parameters
    hints = kinds.hints(function)
    arguments = {k: v for k, v in value.items() if k != "op"}
    named = [k for k, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for word in arguments:
        if word not in named and not takes_any:
            raise ParameterError(f"{op} has no parameter {word!r}: {nearest(word, named)}")
    for word in named:
        if parameters[word].default is inspect.Parameter.empty and word not in arguments:
            example = INPUT if kinds.takes_image(hints[word]) else kinds.spell(hints[word])
            raise ParameterError(f"{op} needs {word!r}: add {word}: {example}")
    for word, given in arguments.items():
        if word in parameters:
            _check_value(op, word, given, hints[word], parameters[word].default)
    images = frozenset(word for word in arguments if word in hints and kinds.takes_image(hints[word]))
    tables = frozenset(word for word in arguments if word in hints and kinds.takes_table(hints[word]))
    return Call(op, function, arguments, images, tables)


def _check_value(op: str, word: str, given: Any, hint: Any, default: Any) -> None:
    if given is None and default is None:
        return
    if kinds.names_step(hint):
        if isinstance(given, str):
            if _STEP_NAME.fullmatch(given):
                return
            raise ParameterError(
                f"{op}: {word} names a step, {given!r} does not: make it a step of its own, then name that"
            )
        if isinstance(given, list) and given and all(isinstance(v, str) for v in given):
            return
    if kinds.fits(given, hint):
        return
    wanted = kinds.spell(hint)
    hot = "; write true or false" if hint is bool and isinstance(given, str) else ""
    raise ParameterError(f"{op}: {word} is {_spelled(given)}, but must be {wanted}{hot}")


def _spelled(value: Any) -> str:
    """A value as it stands in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    return "empty" if value is None else repr(value)


def _check_save(save: Any, steps: dict[str, Step], name: str) -> dict[str, Any]:
    if save is not None and not isinstance(save, dict):
        raise ParameterError(f"{name}: save: must be a mapping, for instance `save: {{labels: {{nuclei: nuclei}}}}`")
    checked: dict[str, Any] = {}
    for section, value in (save or {}).items():
        if section == "image":
            checked[section] = _check_saved(value, "image", steps, name)
        elif section in SECTIONS:
            if not isinstance(value, dict):
                raise ParameterError(
                    f"{name}: save: {section}: must be a mapping of names to steps, {{nuclei: {value}}}"
                )
            seen: dict[str, str] = {}
            for word, step in value.items():
                _check_saved_name(word, f"{name}: save: {section}")
                if other := seen.get(word.casefold()):
                    raise ParameterError(f"{name}: save: {section}: {other!r} and {word!r} are one file on some disks")
                seen[word.casefold()] = word
                _check_saved(step, f"{section}: {word}", steps, name)
            if value:
                checked[section] = dict(value)
        else:
            raise ParameterError(f"{name}: save: unknown section {section!r}: {nearest(section, ['image', *SECTIONS])}")
    if not checked:
        last = next(reversed(steps))
        raise ParameterError(f"{name}: nothing is saved: add for instance `save: {{labels: {{{last}: {last}}}}}`")
    return checked


def _check_saved_name(word: str, where: str) -> None:
    """Names become files and folders in the output, on any system: no way out of it, nothing hidden."""
    if not _SAVED_NAME.fullmatch(word) or ".." in word or len(word) > 200:
        raise ParameterError(f"{where}: {word!r} cannot be a file name here: use letters, digits, _ - and single dots")


def _check_saved(step: Any, where: str, steps: dict[str, Step], name: str) -> str:
    if not isinstance(step, str) or (step not in steps and step != INPUT):
        raise ParameterError(
            f"{name}: save: {where}: {_spelled(step)} is no step: {nearest(str(step), [INPUT, *steps])}"
        )
    return step


def _saved_steps(save: Mapping[str, Any]) -> list[str]:
    return [step for value in save.values() for step in ([value] if isinstance(value, str) else value.values())]


def _in_order(steps: dict[str, Step], name: str) -> list[str]:
    """Steps sorted so that each stands behind what it reads, otherwise as in the file; a circle is named."""
    order: dict[str, None] = {}
    for start in steps:
        # Depth first without recursion: a file may have ten thousand steps in a row.
        path: dict[str, Any] = {start: iter(steps[start].names)}
        while path:
            here = next(reversed(path))
            for word in path[here]:
                if word in path:
                    circle = [*path][[*path].index(word) :]
                    raise ParameterError(
                        f"{name}: steps wait for each other in a circle: {' -> '.join([*circle, word])}"
                    )
                if word not in order and word != INPUT:
                    path[word] = iter(steps[word].names)
                    break
            else:
                del path[here]
                order[here] = None
    return list(order)


def _set(steps: dict[str, Any], setting: str) -> None:
    """Apply one `step.parameter=value` (or `step=expression`) to the steps of a document."""
    where = f"--set {setting}"
    target, equals, text = setting.partition("=")
    step, dot, parameter = target.strip().partition(".")
    if not equals or not text.strip():
        raise ParameterError(f"{where}: write STEP.PARAMETER=VALUE, for instance --set smooth.sigma=0.8um")
    if step not in steps:
        raise ParameterError(f"{where}: there is no step {step!r}: {nearest(step, steps)}")
    if isinstance(steps[step], dict):
        if not dot:
            raise ParameterError(f"{where}: {step!r} calls {steps[step].get('op')}: write {step}.PARAMETER=VALUE")
        value = pipeline_file.loads(text, where)
        _, function = operators.find(str(steps[step]["op"]))
        known = [*inspect.signature(function).parameters, "op"]
        if parameter not in known:
            raise ParameterError(
                f"{where}: {steps[step]['op']} has no parameter {parameter!r}: {nearest(parameter, known)}"
            )
        steps[step][parameter] = value
    elif dot:
        raise ParameterError(
            f"{where}: {step!r} is an expression, without parameters: write --set {step!s}='smooth > 500'"
        )
    else:
        steps[step] = text.strip()
