"""Objects kept by what a table says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bigbia.errors import InputError, ParameterError, nearest
from bigbia.graph.boxes import whole
from bigbia.graph.group import Group
from bigbia.graph.kinds import Image, Table
from bigbia.graph.lazy import Lazy, check_image, is_lazy, lazy
from bigbia.graph.regions import Node
from bigbia.graph.values import Chosen, Numbers, Values, chosen, counted
from bigbia.measure.properties import channel_name
from bigbia.segmentation.condition import Condition, parse

_WHAT = "segmentation.filter_labels"


def filter_labels(label_image: Image, table: Table, condition: str | None = None) -> Any:
    """Keep the objects whose row in a table meets a condition.

    Parameters
    ----------
    label_image : integer array, any number of axes; 0 is background
    table : table with a column ``label``
        What `measure.regionprops_table` returned, lazy ones untouched, or a pandas DataFrame. A DataArray with t or c
        needs the columns ``t``, ``c`` too: places along t from 0 on, names of channels (without names, places).
    condition : str, default all rows
        For instance ``"area > 50 and extent > 0.3"``: columns, numbers, ``+ - * / **``, comparisons (also chained, ``50
        < area < 900``), ``and or not``, parentheses. Columns with other characters go in backquotes:
        ``"`intensity_mean-DAPI` > 100"``. Arithmetic is done in float64; a comparison with NaN is false.

    Returns
    -------
    Array of the same kind, shape and dtype: the labels that are kept, unchanged, and 0 elsewhere. A label without a row
    is not kept. Lazy for a lazy table, then a Dask array for a NumPy image.

    Raises
    ------
    ParameterError : a condition that cannot be read, a column that the table lacks, a table that does not belong to the
    image, a lazy table to which something was done
    InputError : voxels or labels in the table that are not integers, an empty axis
    BlockError : negative labels; when it is computed

    Notes
    -----
    Exact for every chunking. With a lazy table nothing is computed before the result is, rows are judged in ranges of
    labels, and where the table was measured on this label image the labels are looked up in what that left behind. A
    pandas table costs nothing but one look at each voxel.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.array([[1, 1, 0], [0, 1, 2]])
    >>> table = bigbia.measure.regionprops_table(labels)
    >>> bigbia.segmentation.filter_labels(labels, table, "area >= 2")
    array([[1, 1, 0],
           [0, 1, 0]])
    """
    import pandas as pd

    check_image(label_image, _WHAT, "iu")
    asked = None
    if condition is not None:
        try:
            asked = parse(condition)
        except ParameterError as error:
            raise ParameterError(f"{_WHAT}: {error}") from None
    if isinstance(table, pd.DataFrame):
        _check(table, asked)
        return _by_rows(label_image, table, asked)
    from bigbia.graph.table import table_graph

    graph = table_graph(table)
    if graph is not None:
        _check(graph.parts[0].frame(None).assign(**graph.parts[0].columns), asked)
        return _by_parts(label_image, graph, asked)
    if hasattr(table, "columns") and hasattr(table, "compute"):
        raise ParameterError(
            f"{_WHAT}: the lazy table was changed after it was measured, its rows cannot be read here in ranges of "
            "labels: pass it as regionprops_table returned it, or call its .compute() first"
        )
    raise ParameterError(
        f"{_WHAT}: table is a {type(table).__name__}, not a table: pass what measure.regionprops_table returned"
    )


def _check(frame: Any, condition: Condition | None) -> None:
    """That a table has the columns it needs, of kinds that can be compared."""
    names = list(map(str, frame.columns))
    if "label" not in names:
        raise ParameterError(f'{_WHAT}: the table has no column "label": {nearest("label", names)}')
    for name in {"label", *(condition.columns if condition else ())}:
        if names.count(name) > 1:
            raise ParameterError(f"{_WHAT}: the table has {names.count(name)} columns {name!r}: rename them")
    if frame["label"].dtype.kind not in "iu":
        raise InputError(
            f'{_WHAT}: labels in the table are {frame["label"].dtype}: convert them, table.astype({{"label": "int64"}})'
        )
    if frame["label"].isna().any():
        raise InputError(
            f"{_WHAT}: {int(frame['label'].isna().sum())} rows of the table have no label: drop them first"
        )
    if condition is not None:
        try:
            condition.check(names)
            _meeting(frame.iloc[:0], condition)
        except ParameterError as error:
            raise ParameterError(f"{_WHAT}: {error}") from None


def _meeting(frame: Any, condition: Condition | None) -> np.ndarray:
    """Which rows of a frame meet the condition."""
    if condition is None:
        return np.ones(len(frame), bool)
    return condition.evaluate({name: _column(frame[name]) for name in condition.columns}, len(frame))


def _column(series: Any) -> np.ndarray:
    """A column as an array; the whole numbers of pandas's own dtypes as floats, of which missing ones are NaN."""
    if isinstance(series.dtype, np.dtype) or series.dtype.kind not in "iuf":
        return series.to_numpy()
    return series.to_numpy(dtype=np.float64, na_value=np.nan)


def _over(source: Lazy, columns: Sequence[Any]) -> list[str]:
    """The axes t and c of the labels, which the table must tell apart."""
    over = [str(source.template.dims[a]) for a in source.over]
    lacking = [k for k in over if k not in columns]
    if lacking:
        raise ParameterError(
            f"{_WHAT}: the labels have {' and '.join(over)}, the table has no column {lacking[0]!r}: measure it on these "
            f"labels, or select one image, label_image.isel({lacking[0]}=0)"
        )
    return over


def _said(source: Lazy, where: Mapping[str, int]) -> dict[str, Any]:
    """What a table says of an image of one time and channel."""
    return {k: channel_name(source.template, i) if k == "c" else i for k, i in where.items()}


# ---- a table at hand ------------------------------------------------------------------------------------------------
def _by_rows(label_image: Any, table: Any, condition: Condition | None) -> Any:
    if not is_lazy(label_image):
        labels = _labels(table, condition, np.dtype(label_image.dtype), {})
        return chosen(label_image, labels, whole(label_image.shape))
    source = lazy(label_image, _WHAT)
    over = _over(source, list(table.columns))
    places = [_said(source, where) for where, _ in source.each()]
    for k in over:
        there, here = set(table[k].unique()), {p[k] for p in places}
        if there and not there & here:
            raise ParameterError(
                f"{_WHAT}: the table's {k} is {_listed(there)}, the labels' is {_listed(here)}: it is of another image"
            )
    nodes: list[Node] = []
    for (_, part), place in zip(source.each(), places):
        rows = table
        for k, value in place.items():
            rows = rows[rows[k] == value]
        nodes.append(Chosen(part.node, _labels(rows, condition, part.node.dtype, place)))
    return source.like(source.joined(nodes), source.joined_chunks())


def _listed(values: set) -> str:
    shown = sorted(map(str, values))
    return ", ".join(shown[:5]) + (", ..." if len(shown) > 5 else "")


def _labels(rows: Any, condition: Condition | None, dtype: np.dtype, place: Mapping[str, Any]) -> np.ndarray:
    """The labels that meet the condition, ascending, as far as the image can have them."""
    label = rows["label"].to_numpy(dtype=np.uint64 if rows["label"].dtype.kind == "u" else np.int64)
    values, times = np.unique(label, return_counts=True)
    if len(values) < len(label):
        several = values[times > 1][0]
        at = "".join(f" at {k}={v}" for k, v in place.items())
        raise ParameterError(
            f"{_WHAT}: the table has {times.max()} rows for label {several}{at}: select those of this image first"
        )
    labels = np.sort(label[_meeting(rows, condition)])
    return labels[(labels > 0) & (labels <= np.iinfo(dtype).max)].astype(dtype)


# ---- a lazy table ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Row:
    """Rows of a grouping -> which meet a condition on the frame that is made of them."""

    frame: Any  # rows -> DataFrame
    columns: tuple[tuple[str, Any], ...]
    condition: Condition | None

    def __call__(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        if self.condition is None:
            return np.ones(len(rows["label"]), bool)
        return _meeting(self.frame(rows).assign(**dict(self.columns)), self.condition)


def _by_parts(label_image: Any, graph: Any, condition: Condition | None) -> Any:
    source = lazy(label_image, _WHAT)
    source = replace(source, live={**source.live, **graph.live})
    over = _over(source, list(graph.parts[0].columns))
    if len(graph.parts) > 1 and not over:
        raise ParameterError(
            f"{_WHAT}: the table is of {len(graph.parts)} images ({' and '.join(graph.parts[0].columns)}), the labels are "
            "one: measure it on these labels"
        )
    nodes: list[Node] = []
    for where, part in source.each():
        said = _said(source, where)
        mine = [p for p in graph.parts if all(p.columns[k] == v for k, v in said.items())]
        if len(mine) != 1:
            place = ", ".join(f"{k}={v}" for k, v in said.items())
            raise ParameterError(
                f"{_WHAT}: the table has {len(mine) or 'no'} images of {place}, the labels one: measure it on these labels"
            )
        asked = mine[0].stage
        # a grouping of this very image knows which labels its blocks have
        same = isinstance(asked, Group) and asked.inputs[0].token == part.node.token
        seen = asked if same else counted([part.node], part.grid)
        verdict = Row(mine[0].frame, tuple(mine[0].columns.items()), condition)
        nodes.append(Values(seen, asked, verdict, Numbers(part.node.dtype)).renumbered(part.node))
    return source.like(source.joined(nodes), source.joined_chunks())
