"""Plates and wells: which images lie in them, and which of them `well=` and `field=` mean."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bigbia.errors import BigbiaError, InputError, ParameterError
from bigbia.io.found import SHOWN, listed
from bigbia.io.multiscale import inside
from bigbia.io.places import Place, brief, shown
from bigbia.io.zarr_source import ZarrNode, find_node

AT_ONCE = 16  # wells that are asked for at once behind a network
_WELL = re.compile(r"([^\W\d_]+)[/ _-]?(\d+)")


@dataclass(frozen=True)
class Field:
    """One image of a plate. `field` is "" where the well cannot be read; opening `path` then says why."""

    well: str  # "B03", as the plate names its row and column
    field: str
    path: str  # that `bigbia.open` takes
    row: str
    column: str
    acquisition: int | None = None


@dataclass(frozen=True)
class Well:
    """A well as its plate lists it."""

    row: str
    column: str
    path: str

    @property
    def name(self) -> str:
        return self.row + self.column


@dataclass(frozen=True)
class Plate:
    """What the metadata of a plate say."""

    place: Place
    version: str
    name: str | None
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    wells: tuple[Well, ...]
    acquisitions: Mapping[int, str]


def is_plate(path: Any) -> bool:
    """Is there an OME-Zarr plate at a path?

    Parameters
    ----------
    path : folder or URL

    Raises
    ------
    InputError : metadata that are no JSON, or a plate that names no wells

    >>> is_plate("cells.zarr")
    False
    """
    node = find_node(Place(path))
    return node is not None and plate_of(node) is not None


def fields_of(path: Any) -> list[Field]:
    """All images of a plate, by row, column and field; none of them is opened.

    Parameters
    ----------
    path : folder or URL of the plate

    Returns
    -------
    list of Field, with `well`, `field`, `path`, `row`, `column`, `acquisition`. A well that cannot be read stands there
    with the path of the well, so that opening it says what is wrong.

    Raises
    ------
    InputError : no plate

    >>> [(f.well, f.field) for f in fields_of("plate.zarr")]  # doctest: +SKIP
    [('A01', '0'), ('A01', '1'), ('A02', '0')]
    """
    place = Place(path)
    node = find_node(place)
    plate = None if node is None else plate_of(node)
    if plate is None:
        raise InputError(f"{place}: is no plate: name the folder whose metadata list the wells")

    def look(well: Well) -> list[Field]:
        where = place / well.path
        try:
            inner = find_node(where)
            images = None if inner is None else images_of(inner)
        except BigbiaError:
            images = None
        if not images:
            return [Field(well.name, "", where.url, well.row, well.column)]
        return [Field(well.name, name, (where / name).url, well.row, well.column, run) for name, run in images]

    wells = sorted(plate.wells, key=lambda w: (_order(w.row, plate.rows), _order(w.column, plate.columns)))
    if place.local:
        return [field for well in wells for field in look(well)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [field for fields in pool.map(look, wells) for field in fields]


def _order(name: str, known: Sequence[str]) -> tuple[int, int, str]:
    """As the plate lists its rows and columns; those it does not list come last, by number or letter."""
    return (
        known.index(name) if name in known else len(known),
        int(name) if name.isdecimal() and len(name) < 10 else 0,
        name,
    )


def ome_of(node: ZarrNode) -> Mapping[str, Any]:
    """What a group says in OME's words: 0.5 has them under `ome`, versions before beside everything else."""
    found = node.attributes.get("ome", node.attributes)
    return found if isinstance(found, Mapping) else {}


def plate_of(node: ZarrNode) -> Plate | None:
    """The plate a group describes, None where it describes none. InputError for one that cannot be true."""
    said = ome_of(node).get("plate")
    if node.kind != "group" or not isinstance(said, Mapping):
        return None
    place = node.place
    entries = said.get("wells")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{place}: is a plate that lists no wells: its metadata are damaged, restore them")
    wells, names = [], {key: _names(said.get(key)) for key in ("rows", "columns")}
    for entry in entries:
        path = inside(entry.get("path") if isinstance(entry, Mapping) else entry, str(place), "plate")
        row, _, column = path.rpartition("/")
        wells.append(Well(shown(row), shown(column), path))
    runs = {}
    for one in said.get("acquisitions") or [] if isinstance(said.get("acquisitions"), list) else []:
        if isinstance(one, Mapping) and isinstance(one.get("id"), int):
            runs[one["id"]] = brief(one.get("name") or one["id"])
    name = said.get("name")
    return Plate(
        place, brief(ome_of(node).get("version") or said.get("version") or "0.4"), brief(name) if name else None,
        names["rows"], names["columns"], tuple(wells), runs,
    )  # fmt: skip


def _names(entries: Any) -> tuple[str, ...]:
    found = entries if isinstance(entries, list) else []
    return tuple(shown(str(one.get("name"))) for one in found if isinstance(one, Mapping))


def images_of(node: ZarrNode) -> list[tuple[str, int | None]] | None:
    """Path and acquisition of each image of a well; None where the group describes no well."""
    said = ome_of(node).get("well")
    if node.kind != "group" or not isinstance(said, Mapping):
        return None
    images = said.get("images")
    if not isinstance(images, list) or not images:
        raise InputError(f"{node.place}: is a well that lists no images: its metadata are damaged, restore them")
    out = []
    for one in images:
        entry = one if isinstance(one, Mapping) else {"path": one}
        run = entry.get("acquisition")
        out.append((inside(entry.get("path"), str(node.place), "well"), run if isinstance(run, int) else None))
    return out


def chosen(node: ZarrNode, well: Any, field: Any) -> tuple[ZarrNode, str] | None:
    """The image that `well` and `field` mean in a plate or a well, and a name for it; None where the group is neither.

    Raises InputError where a choice is needed, with what there is; ParameterError for a choice that is not there.
    """
    plate = plate_of(node)
    if plate is None:
        images = images_of(node)
        if images is None:
            return None
        if well is not None:
            raise ParameterError(f"well={well!r}: {node.place} is a well itself: leave it out, or open its plate")
        name, _ = _one_field(node.place, images, field)
        return _image(node.place, name), f"{node.place.name.removesuffix('.zarr')}_{name}"
    if well is None:
        raise InputError(_which_well(plate))
    meant = _one_well(plate, well)
    inner = find_node(plate.place / meant.path)
    images = None if inner is None else images_of(inner)
    if inner is None or images is None:
        what = "nothing is" if inner is None else "no list of images is"
        raise InputError(
            f"{plate.place}: lists the well {meant.name}, and {what} at {plate.place / meant.path}: the plate is not "
            "complete, restore it"
        )
    name, _ = _one_field(inner.place, images, field, meant.name)
    return _image(inner.place, name), f"{plate.place.name.removesuffix('.zarr')}_{meant.name}_{name}"


def _image(well: Place, name: str) -> ZarrNode:
    found = find_node(well / name)
    if found is None:
        raise InputError(
            f"{well}: lists the image {name!r}, and nothing is at {well / name}: the plate is not complete, restore it"
        )
    return found


def _which_well(plate: Plate) -> str:
    first = plate.wells[0]
    field = "0"
    try:
        node = find_node(plate.place / first.path)
        images = None if node is None else images_of(node)
        field = images[0][0] if images else field
    except InputError:
        pass  # an example is enough here; opening that well says what is wrong with it
    return (
        f"{plate.place}: is a plate of {len(plate.wells)} ({listed([w.path for w in plate.wells])}): open one, as in "
        f'{plate.place}/{first.path}/{field}, or name the well: well="{first.name}"'
    )


def _one_well(plate: Plate, well: Any) -> Well:
    words = f"well={well!r}"
    if not isinstance(well, str) or not well.strip("/ "):
        raise ParameterError(f'{words}: is no well: write its row and column, as in well="{plate.wells[0].name}"')
    text = well.strip("/ ")
    same = [w for w in plate.wells if text in (w.path, w.name)]
    same = same or [w for w in plate.wells if _key(text) in (_key(w.path), _key(w.name))]
    if len(same) == 1 or (same and len({w.path for w in same}) == 1):
        return same[0]
    names = [w.name for w in plate.wells]
    if same:
        raise ParameterError(
            f"{words}: {plate.place} has {len(same)} such wells: write the path of one, "
            f"{listed([w.path for w in same])}"
        )
    close = difflib.get_close_matches(text.upper(), names, n=3, cutoff=0.4)
    near = f"near it: {', '.join(close)}" if close else listed(names)
    raise ParameterError(f"{words}: {plate.place} has no such well; it has {len(names)} ({near}): name one of them")


def _key(text: str) -> tuple[str, ...]:
    """Row and column, in any case and with any zeros in front: "B03", "b3", "B/3" and "B/03" are one well."""
    found = _WELL.fullmatch(text)
    row, column = found.groups() if found else text.partition("/")[::2]
    return row.lower(), (column.lstrip("0") or "0") if column.isdecimal() else column.lower()


def _one_field(
    place: Place, images: Sequence[tuple[str, int | None]], field: Any, well: str | None = None
) -> tuple[str, int | None]:
    names = [name for name, _ in images]
    known = _with_acquisitions(images)
    if field is None:
        if len(images) == 1:
            return images[0]
        which = f"the well {well} of {len(images)} fields" if well else f"a well of {len(images)}"
        raise InputError(f'{place}: is {which} ({known}): open one, as in {place}/{names[0]}, or field="{names[0]}"')
    if isinstance(field, str) and field.strip("/") in names:
        return images[names.index(field.strip("/"))]
    number = int(field) if not isinstance(field, bool) and re.fullmatch(r"\d{1,9}", str(field)) else -1
    if not isinstance(field, int | str) or not 0 <= number < len(images):
        last = len(images) - 1
        raise ParameterError(
            f"field={field!r}: {place} has {len(images)} field(s) ({known}): name one of them, or give its number "
            f"from 0 to {last}"
        )
    return images[number]


def _with_acquisitions(images: Sequence[tuple[str, int | None]]) -> str:
    """The fields of a well; where they are of several acquisitions, each with its own."""
    several = len({run for _, run in images}) > 1

    def words() -> Iterator[str]:
        for name, run in images[:SHOWN]:
            yield f"{shown(name)} of acquisition {run}" if several and run is not None else shown(name)

    return ", ".join(words()) + (", ..." if len(images) > SHOWN else "")
