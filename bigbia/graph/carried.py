"""What travels with every object up the merge tree: rows of exact numbers that add up where objects meet.

A block's components get a row each; where two turn out to be one object, their rows are combined; where an object is
complete, its row is the measurement of the whole object, and conditions are asked of it (`graph/conditions.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.base import normalize_token

from bigbia.graph.boxes import Box
from bigbia.graph.conditions import columns_of
from bigbia.graph.regions import Node
from bigbia.kernels.runs import Runs, sizes, touching

Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Carried:
    """summarise(runs, blocks, box, values) -> one row a component;  combine(rows sorted by label, starts) -> rows.

    `blocks` are those of the labelled image and of `images`, `values` the 0-d `values`. While objects are being merged
    the "label" of a row is the object's name.
    """

    summarise: Callable[[Runs, Sequence[np.ndarray], Box, Sequence[np.ndarray]], Rows]
    combine: Callable[[Rows, np.ndarray], Rows]
    images: tuple[Node, ...] = ()
    values: tuple[Node, ...] = ()

    def __dask_tokenize__(self) -> Any:
        # Normalized, or functions would count as where they lie in this process.
        return normalize_token(
            (self.summarise, self.combine, [n.token for n in self.images], [n.token for n in self.values])
        )


def carried_for(
    conditions: Sequence[Any], shape: tuple[int, ...], buffer: int = 0, inside: Node | None = None
) -> Carried | None:
    """What conditions need to know.

    The border is the image's own, `buffer` voxels thicker than one; or all that lies outside the mask `inside`.
    """
    columns = columns_of(conditions)
    if not columns:
        return None
    summarise = functools.partial(_measured, columns=columns, shape=tuple(shape), buffer=buffer)
    return Carried(summarise, _combined, () if inside is None else (inside,))


def _measured(
    runs: Runs,
    blocks: Sequence[np.ndarray],
    box: Box,
    values: Sequence[np.ndarray],
    *,
    columns: Sequence[str],
    shape: tuple[int, ...],
    buffer: int,
) -> Rows:
    rows = {}
    if "n" in columns:
        rows["n"] = sizes(runs)
    if "border" in columns:
        rows["border"] = touching(runs, blocks[1] if len(blocks) > 1 else None, box, shape, buffer)
    return rows


def _combined(rows: Rows, starts: np.ndarray) -> Rows:
    join = {"n": np.add, "border": np.maximum}
    return {
        name: column[starts] if name == "label" else join[name].reduceat(column, starts)
        for name, column in rows.items()
    }


def together(asked: Carried, measured: Carried) -> Carried:
    """What conditions ask, and what is measured besides. Only what is measured reads other images."""
    assert not asked.images
    return Carried(
        functools.partial(_both_measured, asked=asked.summarise, measured=measured.summarise),
        functools.partial(_both_combined, measured=measured.combine),
        measured.images,
        measured.values,
    )


def _both_measured(*what: Any, asked: Callable[..., Rows], measured: Callable[..., Rows]) -> Rows:
    return {**asked(*what), **measured(*what)}  # n is the same in both


def _both_combined(rows: Rows, starts: np.ndarray, *, measured: Callable[..., Rows]) -> Rows:
    out = dict(measured({k: v for k, v in rows.items() if k != "border"}, starts))
    if "border" in rows:
        out["border"] = np.maximum.reduceat(rows["border"], starts)
    return out


def taken(rows: Rows, which: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column[which] for name, column in rows.items()}


def joined(parts: Sequence[Rows], old: np.ndarray, new: np.ndarray, carried: Carried) -> Rows:
    """The rows of several children under their new names, those of one object combined."""
    rows = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    rows["label"] = renamed(rows["label"], old, new)
    rows = taken(rows, np.argsort(rows["label"], kind="stable"))
    starts = np.flatnonzero(np.diff(rows["label"], prepend=-1))
    return carried.combine(rows, starts) if len(starts) else rows


def renamed(names: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Names after old -> new, `old` ascending."""
    if not len(old) or not len(names):
        return names.copy()
    at = np.minimum(np.searchsorted(old, names), len(old) - 1)
    return np.where(old[at] == names, new[at], names)
