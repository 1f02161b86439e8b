"""Recorded calls -> steps of a pipeline, from what is saved back to the input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bigbia import hyperstack
from bigbia.errors import ParameterError
from bigbia.graph import kinds
from bigbia.run.pipeline import INPUT, is_table, name_problem
from bigbia.run.pipeline_steps import NotPlain, as_plain


@dataclass
class Noted:
    """One call: the operator, what it was given, what it gave."""

    op: str
    function: Callable
    arguments: dict[str, Any]
    result: Any


class Writer:
    """Turns results into steps, from what is saved back to the input."""

    def __init__(self, image: Any, calls: Sequence[Noted]) -> None:
        from bigbia.graph.spoken import Speaker

        self.input = name_of(image)
        self.steps: dict[str, Any] = {}
        self.made: dict[Any, str] = {self.input: INPUT}  # Dask names, ids of tables -> steps
        self.wishes: dict[Any, str] = {}
        self.given: set[str] = set()
        self.calls: dict[Any, Noted] = {}
        self.parts: dict[Any, Noted] = {}
        for call in calls:
            for part in call.result if isinstance(call.result, (tuple, list)) else ():
                self.parts.setdefault(_key(part), call)
            if (key := _key(call.result)) is not None:
                self.calls.setdefault(key, call)
        self.known = Known(self)
        self.speaker = Speaker(self.known, self._shared)

    def call_it(self, value: Any, name: str) -> None:
        """The name that a step must have."""
        key = _key(value)
        if key is None or key == self.input:
            what = "the input, which is called that" if key is not None else "no lazy result"
            raise ParameterError(f"record: names: {name}: is {what}: leave it out")
        if key in self.wishes:
            raise ParameterError(f"record: names: {self.wishes[key]} and {name} are the same result: leave one out")
        self.wishes[key] = name
        self.given.add(name)

    def wish(self, value: Any, name: Any) -> None:
        """A name that a step may have, where no other was given."""
        if isinstance(name, str) and name not in self.given and not name_problem(name):
            self.wishes.setdefault(_key(value), name)

    def step_of(self, value: Any, where: str) -> str:
        """The step of a result; made where there is none yet."""
        key = _key(value)
        if key in self.made:
            return self.made[key]
        if key in self.calls:
            return self._call(key)
        if key in self.parts:
            raise ParameterError(
                f"record: {where}: is one of several results of {self.parts[key].op}: a step has one: call it so that "
                "it gives one"
            )
        if is_table(value):
            raise ParameterError(
                f"record: {where}: the table was changed or comes from elsewhere: save what an operator gave, or "
                "filter the labels with bigbia.segmentation.filter_labels"
            )
        if key is None:
            raise ParameterError(
                f"record: {where}: a {type(value).__name__} is no lazy result: give what was made of the recorded image"
            )
        text = self._spoken(value, where)
        return self.made[key] if key in self.made else self._shared(key, text)

    def _spoken(self, value: Any, where: str) -> str:
        from bigbia.graph.spoken import NotSpoken

        try:
            return self.speaker.text(data_of(value))
        except NotSpoken as reason:
            raise ParameterError(f"record: {where}: {reason}") from None

    def _shared(self, key: Any, text: str) -> str:
        name = self._named(key, "mask" if _is_comparison(text) else "value")
        self.made[key] = name
        self.steps[name] = text
        return name

    def _call(self, key: Any) -> str:
        call = self.calls[key]
        name = self._named(key, call.op.rpartition(".")[2])
        self.made[key] = name
        hints = kinds.hints(call.function)
        self.steps[name] = None  # its place, before the steps that are made for its arguments: they are sorted later
        value = {"op": call.op}
        for word, given in call.arguments.items():
            value[word] = self._argument(given, hints.get(word), f"{call.op}: {word}")
        self.steps[name] = value
        return name

    def _argument(self, given: Any, hint: Any, where: str) -> Any:
        if kinds.names_step(hint):
            if isinstance(given, (list, tuple)) and any(_is_result(v) for v in given):
                return [self.step_of(v, where) for v in given]
            if _is_result(given):
                return self.step_of(given, where)
        try:
            return as_plain(given)
        except NotPlain as kind:
            raise ParameterError(
                f"record: {where} is a {kind}, which a pipeline file cannot hold: give numbers, text, or lists of them"
            ) from None

    def _named(self, key: Any, otherwise: str) -> str:
        """The name of a step: the one it was given, else one that no other step has."""
        name = self.wishes.get(key, otherwise)
        if name in self.given and key in self.wishes:
            return name
        taken, number = {*self.steps, *self.given, INPUT}, 2
        out = name
        while out in taken:
            out, number = f"{name}_{number}", number + 1
        return out


class Known(Mapping):
    """Dask names that are steps, or become one when they are asked for."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def __getitem__(self, key: str) -> str:
        if key in self.writer.made:
            return self.writer.made[key]
        if key in self.writer.calls:
            return self.writer._call(key)
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key in self.writer.made or key in self.writer.calls

    def __iter__(self) -> Iterator[str]:
        return iter(self.writer.made)

    def __len__(self) -> int:
        return len(self.writer.made)


def _is_comparison(text: str) -> bool:
    return any(sign in text for sign in "<>=&|~")


# ---- results ---------------------------------------------------------------------------------------------------------
def data_of(value: Any) -> Any:
    return value.data if hyperstack.is_hyperstack(value) else value


def name_of(value: Any) -> str | None:
    """The name of the Dask array of a lazy image."""
    array = sys.modules.get("dask.array")
    data = data_of(value)
    return data.name if array is not None and isinstance(data, array.Array) else None


def _key(value: Any) -> Any:
    """What a result is known by."""
    if is_table(value):
        return ("table", id(value))
    return name_of(value)


def _is_result(value: Any) -> bool:
    return _key(value) is not None or (hasattr(value, "ndim") and hasattr(value, "shape") and value.ndim > 0)
