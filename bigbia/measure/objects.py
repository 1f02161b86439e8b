"""Label and measure in one pass."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from bigbia.errors import ParameterError
from bigbia.graph.boxes import Box, whole
from bigbia.graph.carried import Carried
from bigbia.graph.footprints import text, truth
from bigbia.graph.kinds import Image
from bigbia.graph.lazy import Lazy, check_image, is_lazy, lazy
from bigbia.graph.merge import at_once
from bigbia.graph.objects import Objects, check_connectivity, components_of, space_of
from bigbia.graph.rank import Ranks, check_count
from bigbia.kernels.components import Runs, paint
from bigbia.kernels.runs import geometry
from bigbia.measure.columns import INTENSITY, Columns
from bigbia.measure.components import checked_dtype
from bigbia.measure.properties import (
    channel_name,
    checked_properties,
    different,
    intensities,
    unit_stage,
    voxel_sizes,
)
from bigbia.measure.rows import combine, intensity_columns, magnitude, summed_as_float, unit_of


def objects(
    image: Image,
    intensity_image: Image | None = None,
    properties: Sequence[str] | None = None,
    *,
    connectivity: int | None = None,
    spacing: float | str | Sequence[float] | None = None,
    separator: str = "-",
    dtype: Literal["uint8", "uint16", "uint32", "uint64"] = "uint32",
    return_labels: bool = False,
) -> Any:
    """Label the objects of a mask and measure them, in one pass over the blocks.

    Parameters
    ----------
    image : array of bool or integers, 1 to 5 axes of space
        Connected voxels of one value are an object, 0 is background: as in `label`.
    intensity_image, properties, spacing, separator : as in `regionprops_table`
    connectivity, dtype : as in `label`
    return_labels : bool
        Also return the label image.

    Returns
    -------
    table : as of `regionprops_table`
    labels : as of `label`, only with `return_labels`

    Raises
    ------
    InputError, ParameterError, RunError : as `label` and `regionprops_table`

    Notes
    -----
    The table equals ``regionprops_table(label(image), intensity_image)`` to the bit. There the labels are painted and
    read again; here every block measures its components as it finds them, the sums are added where components are
    merged, and a row is finished where its object is complete: the image and the intensities are read once.

    Examples
    --------
    >>> import numpy as np
    >>> bigbia.measure.objects(np.array([0, 1, 1, 0, 1], bool), properties=["label", "area", "centroid"])
       label  area  centroid-0
    0      1   2.0         1.5
    1      2   1.0         4.0
    """
    what = "measure.objects"
    check_image(image, what, "biu")
    if intensity_image is not None:
        check_image(intensity_image, f"{what}: intensity_image")
    names = checked_properties(properties, intensity_image is not None, what)
    separator, return_labels = text(separator, "separator", what), truth(return_labels, "return_labels", what)
    sizes, unit = voxel_sizes(spacing, image, what)
    kind = checked_dtype(dtype, what)
    meant = Objects(check_connectivity(connectivity, space_of(image), what))
    if not any(n in INTENSITY for n in names):
        intensity_image = None
    columns = Columns(tuple(names), space_of(image), (), sizes, separator, str(kind))
    if not is_lazy(image) and (intensity_image is None or not is_lazy(intensity_image)):
        if intensity_image is not None and intensity_image.shape != image.shape:
            raise ParameterError(different(what, intensity_image, image))
        table, labels = _at_once(image, intensity_image, meant, columns, kind)
        return (table, labels) if return_labels else table

    from bigbia.graph.measured import Measured
    from bigbia.graph.table import Part, TableGraph

    source = lazy(image, what)
    live = dict(source.live)
    parts, found = [], []
    for where, part in source.each():
        channels = [] if intensity_image is None else intensities(intensity_image, part, where, source, what)
        for _, one in channels:
            live |= one.live
        carried, floats = _carried(part, [one for _, one in channels])
        ranks = Ranks(components_of(part.node, part.grid, replace(meant, carried=carried), "objects"), kind)
        found.append(ranks.labels())
        said = {k: channel_name(source.template, i) if k == "c" else i for k, i in where.items()}
        named = replace(columns, channels=tuple(name for name, _ in channels), floats=floats)
        parts.append(Part(Measured(ranks), named, said, where))
    table = TableGraph(parts, live, {"unit": unit} if unit else {}).as_dataframe()
    if not return_labels:
        return table
    source = replace(source, live=live)
    return table, source.like(source.joined(found), source.joined_chunks() if source.over else None)


def _carried(part: Lazy, images: Sequence[Lazy]) -> tuple[Carried, tuple[bool, ...]]:
    floats = tuple(summed_as_float(one.node.dtype) for one in images)
    units = [unit_stage(one, part.grid).output("unit", (), np.float64) for one, f in zip(images, floats) if f]
    summarise = functools.partial(_summarise, floats=floats)
    return Carried(summarise, combine, tuple(one.node for one in images), tuple(units)), floats


def _summarise(
    runs: Runs, blocks: Sequence[np.ndarray], box: Box, values: Sequence[np.ndarray], *, floats: Sequence[bool]
) -> Mapping[str, np.ndarray]:
    """A row for each component of a block."""
    rows = geometry(runs, tuple(a for a, _ in box))
    if floats:
        labels = paint(runs, np.arange(runs.count + 1, dtype=np.uint32))
        rows |= intensity_columns(labels, blocks[1:], values, floats)
    return rows


def _at_once(
    image: np.ndarray, intensity: np.ndarray | None, meant: Objects, columns: Columns, dtype: np.dtype
) -> tuple[Any, np.ndarray]:
    images = [] if intensity is None else [intensity]
    floats = tuple(summed_as_float(i.dtype) for i in images)
    values = [unit_of(magnitude(i, whole(i.shape)))["unit"] for i, f in zip(images, floats) if f]
    rule = replace(meant, carried=Carried(functools.partial(_summarise, floats=floats), combine)).rule(image.shape)
    runs, _, rows = at_once([image, *images], rule, values)
    check_count(runs.count, dtype)
    columns = replace(columns, channels=(None,) * len(images), floats=floats)
    rows = {**rows, "label": rows["label"].astype(dtype)}
    return columns(rows), paint(runs, np.arange(runs.count + 1, dtype=dtype))
