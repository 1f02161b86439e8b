"""YAML text -> plain values, strictly.

A pipeline file may come from anywhere, so the reader takes less than YAML offers: no tags, no anchors or aliases (ten
of them can stand for a billion values), no key twice, at most 1 MiB and 50 levels. And it reads words as people mean
them: only `true` and `false` are true and false (YAML 1.1 reads `no` as false, `12:30` as 750 and `1e3` as text).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from bigbia.errors import InputError, ParameterError
from bigbia.io.places import open_file, shown

LIMIT = 1 << 20
DEPTH = 50
DIGITS = 200

_BOOL = ("tag:yaml.org,2002:bool", re.compile(r"true|True|TRUE|false|False|FALSE"), "tTfF")
_NULL = ("tag:yaml.org,2002:null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""])
_INT = ("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+"), "-+0123456789")
_FLOAT = (
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
    "-+.0123456789",
)
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")


class _Refused(Exception):
    """What the reader does not take, and where."""

    def __init__(self, problem: str, mark: yaml.Mark | None) -> None:
        super().__init__(problem)
        self.mark = mark


class _Loader(yaml.SafeLoader):
    """Plain values only, by the core rules of YAML 1.2."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  a new table: PyYAML's own is shared by all its loaders

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refused("anchors and aliases (& and *) are not allowed: write the value out", event.start_mark)
        if getattr(event, "tag", None):
            raise _Refused(f"tags are not allowed: remove {event.tag!r}", event.start_mark)
        self.depth += 1
        if self.depth > DEPTH:
            raise _Refused(f"more than {DEPTH} levels deep", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        seen: dict = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                # A step called 1 or `true`; and a list or mapping as a key, which has no hash.
                if isinstance(key, int | float | type(None)):
                    key = key_node.value
                else:
                    raise _Refused("a key must be a word", key_node.start_mark)
            if key in seen:
                raise _Refused(f"{key!r} stands here twice: remove or rename one", key_node.start_mark)
            seen[key] = self.construct_object(value_node, deep=True)
        return seen

    def integer(self, node: Any) -> int:
        if len(node.value) > DIGITS:  # Python refuses to write out what has some thousands of them
            raise _Refused(
                f"the number {node.value[:20]}... has {len(node.value)} digits: write at most {DIGITS}", node.start_mark
            )
        return int(node.value, 0)

    def number(self, node: Any) -> float:
        if _LEADING_ZERO.fullmatch(node.value):
            plain = node.value.lstrip("+-0") or "0"
            raise _Refused(f"{node.value} is read as octal by some readers: write {plain} or quote it", node.start_mark)
        return float(re.sub(r"\.(inf|nan)", r"\1", node.value.lower()))

    def mapping(self, node: Any) -> dict:
        return self.construct_mapping(node, deep=True)


for _tag, _pattern, _first in (_BOOL, _NULL, _INT, _FLOAT):
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern.pattern})$"), list(_first))
_Loader.add_constructor(_INT[0], _Loader.integer)
_Loader.add_constructor(_FLOAT[0], _Loader.number)
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that this reader or a YAML 1.1 reader would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def text(self, data: str) -> Any:
        ours = _Loader.yaml_implicit_resolvers.get(data[:1], [])
        # Unusual line breaks too: only the double-quoted style writes them as what they are.
        doubtful = any(pattern.match(data) for _, pattern in ours) or not data.isprintable()
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if doubtful else None)


_Dumper.add_representer(str, _Dumper.text)


def read_text(path: str | Path) -> str:
    """The text of a pipeline file."""
    path = Path(path)
    where = shown(str(path))
    if "\0" in str(path):
        raise ParameterError(f"{where}: a path cannot hold the character NUL: check what it was made of")
    if path.is_dir():
        raise ParameterError(f"{where} is a folder, not a pipeline file: the order is PIPELINE.yaml, then the image")
    try:
        with os.fdopen(open_file(str(path), None), "rb") as file:
            data = file.read(LIMIT + 1)
    except FileNotFoundError:
        raise InputError(f"{where}: there is no such pipeline file") from None
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror}") from None
    if len(data) > LIMIT:
        raise ParameterError(f"{where}: is larger than 1 MiB, so it is no pipeline file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ParameterError(f"{where}: is not text (UTF-8): the order is PIPELINE.yaml, then the image") from None


def loads(text: str, name: str) -> Any:
    """The values of YAML text; `name` stands in front of the errors."""
    if len(text.encode("utf-8", "surrogatepass")) > LIMIT:
        raise ParameterError(f"{name}: is larger than 1 MiB, so it is no pipeline file")
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except (_Refused, yaml.MarkedYAMLError) as error:
        problem = str(error) if isinstance(error, _Refused) else ": ".join(filter(None, [error.context, error.problem]))
        mark = error.mark if isinstance(error, _Refused) else error.problem_mark
        where = f" line {mark.line + 1}" if mark else ""
        raise ParameterError(f"{name}{where}: {problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ParameterError(f"{name}: is not YAML: {reason}") from None
    finally:
        if loader is not None:
            loader.dispose()


def dumps(document: Any) -> str:
    """Values as YAML text that `loads` reads back; one step a line."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
