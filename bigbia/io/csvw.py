"""What a CSV file cannot say of itself: units, types and metadata, beside it in the shape of "CSV on the Web" (W3C).

`nuclei.csv` has `nuclei.csv-metadata.json`, the name that the recommendation gives it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bigbia.errors import InputError
from bigbia.io.durable import replace

SUFFIX = "-metadata.json"  # after the name of the table
UNIT = "schema:unitText"  # of the vocabularies whose names CSV on the Web knows
DATATYPES = {
    "b": "boolean", "f4": "float", "f8": "double", "i1": "byte", "i2": "short", "i4": "int", "i8": "long",
    "u1": "unsignedByte", "u2": "unsignedShort", "u4": "unsignedInt", "u8": "unsignedLong", "M": "dateTime",
}  # fmt: skip
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")  # that a column may have; any text may be its title


def beside(path: Path) -> Path:
    """Where the metadata of a CSV file are."""
    return path.with_name(path.name + SUFFIX)


def write_csv_metadata(path: Path, frame: Any, metadata: Mapping[str, Any]) -> None:
    """Write the metadata of a CSV file beside it.

    frame : the table or its first rows; columns and types are taken from it
    metadata : as `write_table` takes it; `units` by column
    """
    units = metadata.get("units") or {}
    columns = []
    for name, dtype in zip(map(str, frame.columns), frame.dtypes):
        column = {"titles": name, "datatype": _datatype(dtype)}
        if NAME.fullmatch(name):
            column["name"] = name
        if name in units:
            column[UNIT] = str(units[name])
        columns.append(column)
    document = {
        "@context": "http://www.w3.org/ns/csvw",
        "url": path.name,
        "dialect": {"header": True, "delimiter": ",", "encoding": "utf-8"},
        "tableSchema": {"columns": columns},
        "notes": [{"bigbia": dict(metadata)}],
    }
    replace(beside(path), json.dumps(document, indent=1, ensure_ascii=False, default=str).encode() + b"\n")


def _datatype(dtype: Any) -> str:
    kind = getattr(dtype, "kind", "O")
    return DATATYPES.get(kind) or DATATYPES.get(f"{kind}{getattr(dtype, 'itemsize', 0)}") or "string"


def read_csv_metadata(path: Path) -> dict[str, Any]:
    """What stands beside a CSV file; nothing where there is no such file. InputError where it is damaged."""
    try:
        document = json.loads(beside(path).read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(
            f"{beside(path)}: cannot be read ({' '.join(str(error).split())[:100]}): restore it, or remove it to read the "
            "table without its units"
        ) from None
    if not isinstance(document, Mapping):
        raise InputError(f"{beside(path)}: describes no table: restore it, or remove it to read the table without it")
    for note in document.get("notes") or []:
        if isinstance(note, Mapping) and isinstance(note.get("bigbia"), Mapping):
            return dict(note["bigbia"])
    schema = document.get("tableSchema")
    columns = schema.get("columns") if isinstance(schema, Mapping) else None
    units = {
        str(c.get("titles") or c.get("name")): c[UNIT] for c in columns or [] if isinstance(c, Mapping) and UNIT in c
    }
    return {"units": units} if units else {}
