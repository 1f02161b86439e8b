"""Tables on disk: Parquet or CSV by the name's ending, written piece by piece and published whole.

Metadata (units, where it comes from) are kept in the Parquet file, and beside a CSV file (`io/csvw.py`); `read_table`
gives them back in `DataFrame.attrs`. The unit of a column also stands with the column: `unit` in the field's metadata.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bigbia.errors import InputError, ParameterError, StorageError
from bigbia.io.csvw import beside, read_csv_metadata, write_csv_metadata

SUFFIXES = (".parquet", ".csv")
GROUP = 1 << 16  # rows a row group has at least: thousands of tiny ones read slowly
_KEY = b"bigbia"


def write_table(
    frames: Iterable[Any],
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None = None,
    *,
    durable: bool = True,
) -> None:
    """Writes pandas DataFrames, one after the other, as one table.

    The first frame, which may be empty, settles columns and types; a later one with other columns, or with values that
    its types cannot hold, is refused. Nothing is at `path` before the last row is written, and nothing is left of a
    table that failed.

    frames : DataFrames; the index is not kept
    path : ends in .parquet or .csv; replaced if it exists
    metadata : plain values, for instance {"units": {"area": "um3"}}; for a CSV file they go to a file beside it

    Raises ParameterError for another ending, no frame at all, frames that do not fit; StorageError for what the disk
    says.

    >>> write_table([pandas.DataFrame({"label": [1], "area": [7.5]})], "nuclei.parquet")  # doctest: +SKIP
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ParameterError(f"{path}: a table is written as {' or '.join(SUFFIXES)}: give it one of these endings")
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            _write_parquet(_alike(frames, path), partial, path, metadata or {})
        else:
            first = _write_csv(_alike(frames, path), partial)
        if durable:
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
        if path.suffix == ".csv":
            write_csv_metadata(path, first, metadata) if metadata else beside(path).unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raised = StorageError(f"{path}: cannot be written: {error.strerror or error}")
        raised.errno = error.errno
        raise raised from None
    finally:
        with suppress(OSError):  # the first error is the one to tell
            partial.unlink(missing_ok=True)


def _alike(frames: Iterable[Any], path: Path) -> Iterator[Any]:
    """The frames, as long as they have the columns of the first one."""
    columns: list[str] | None = None
    for number, frame in enumerate(frames):
        found = [str(c) for c in frame.columns]
        if columns is None:
            columns = found
        if found != columns:
            raise ParameterError(f"{path}: part {number} of the table has columns {found}, the first had {columns}")
        if frame.attrs:  # of a part that was read back: the metadata of the table are given once, for all of it
            frame = frame.copy(deep=False)
            frame.attrs = {}
        yield frame
    if columns is None:
        raise ParameterError(f"{path}: there is no table to write: give at least one frame, which may be empty")


def _write_parquet(frames: Iterator[Any], partial: Path, path: Path, metadata: Mapping[str, Any]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    writer, schema, held, rows = None, None, [], 0
    try:
        for number, frame in enumerate(frames):
            try:
                part = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                reason = " ".join(str(error).split())
                raise ParameterError(
                    f"{path}: part {number} of the table does not fit the types of the first: {reason}"
                ) from None
            if writer is None:
                kept = {**(part.schema.metadata or {}), _KEY: json.dumps(dict(metadata)).encode()}
                schema = _with_units(part.schema, metadata.get("units") or {}).with_metadata(kept)
                writer = parquet.ParquetWriter(partial, schema)
            held.append(part.cast(schema))
            rows += len(frame)
            if rows >= GROUP:
                writer.write_table(pa.concat_tables(held), row_group_size=max(rows, 1))
                held, rows = [], 0
        if writer is not None and rows:
            writer.write_table(pa.concat_tables(held), row_group_size=rows)
    finally:
        if writer is not None:
            writer.close()


def _with_units(schema: Any, units: Mapping[str, str]) -> Any:
    """The columns with their units, for those who read the file without us."""
    for i, field in enumerate(schema):
        if field.name in units:
            kept = {**(field.metadata or {}), b"unit": str(units[field.name]).encode()}
            schema = schema.set(i, field.with_metadata(kept))
    return schema


def _write_csv(frames: Iterator[Any], partial: Path) -> Any:
    """Write the rows; the first frame, without them, is returned."""
    first = None
    with open(partial, "w", newline="", encoding="utf-8") as file:
        for frame in frames:
            frame.to_csv(file, index=False, header=first is None, lineterminator="\n")
            first = frame.iloc[:0] if first is None else first
    return first


def read_table(path: str | os.PathLike[str]) -> Any:
    """A table that `write_table` (or another program) wrote, as a pandas DataFrame; its metadata in `attrs`.

    Raises InputError for another ending, nothing there, a file that cannot be read.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: is not a table: {' or '.join(SUFFIXES)} was expected")
    if not path.is_file():
        raise InputError(f"{path}: there is no such table: check the path")
    try:
        if path.suffix == ".csv":
            import pandas

            # From pandas 3 on this is the default, and saying so is deprecated.
            exact: dict[str, Any] = (
                {} if int(pandas.__version__.split(".")[0]) >= 3 else {"float_precision": "round_trip"}
            )
            frame = pandas.read_csv(path, **exact)
            frame.attrs = read_csv_metadata(path)
            return frame
        from pyarrow import parquet

        table = parquet.read_table(path)
        frame = table.to_pandas()
        frame.attrs = json.loads((table.schema.metadata or {}).get(_KEY, b"{}"))
        return frame
    except InputError:
        raise
    except (ValueError, OSError) as error:  # pyarrow's and pandas's own errors are ValueErrors
        raise InputError(f"{path}: cannot be read as a table: {' '.join(str(error).split())[:200]}") from None
