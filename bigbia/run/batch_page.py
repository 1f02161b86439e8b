"""What became of a batch, on one page: counts, what failed and why, plates as maps, some of the results, every image.

`<folder>/summary.html`: loads nothing; every text that comes from outside goes through `safe`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from bigbia.errors import BigbiaError
from bigbia.io.durable import put
from bigbia.run.ledger import FOLDER, read_json
from bigbia.run.report_drawings import safe, seconds, shade
from bigbia.run.report_page import document, figure, section, table_of
from bigbia.run.report_pictures import Picture, pictures

PAGE = "summary.html"
SHOWN, WIDE = 12, 150.0  # results that are drawn, and how wide
ROWS, FAILURES = 2000, 100  # images and failures that are told one by one
CELL = 30  # pixels of a well


def write_page(batch: Any) -> None:
    """Write the page of a batch."""
    put(batch.folder, PAGE, page(batch).encode("utf-8", "backslashreplace"))


def page(batch: Any) -> str:
    """The page as HTML."""
    sections = [_header(batch), _failures(batch), *_plates(batch), _results(batch), _images(batch)]
    return document(f"{safe(batch.folder.name)}: batch", sections)


def _header(batch: Any) -> str:
    count = {s: sum(i.state == s for i in batch.images) for s in ("done", "done before", "failed", "waiting")}
    state, said = ("failed", "some failed") if count["failed"] else ("published", "all done")
    tiles = [("images", len(batch.images), ""), *((word, n, "") for word, n in count.items() if n)]
    tiles += [(f"rows in {name}", n, "all images joined") for name, n in batch.tables.items()]
    tiles.append(("time", seconds(batch.seconds), _rate(batch)))
    boxes = "".join(
        f"<div><span>{safe(what)}</span><b>{safe(value)}</b><small>{safe(note)}</small></div>"
        for what, value, note in tiles
    )
    return (
        f'<p class="kind">batch</p><h1>{safe(batch.folder.name)} <span class="state {state}">{said}</span></h1>'
        f'<div class="tiles">{boxes}</div>'
    )


def _rate(batch: Any) -> str:
    done = sum(image.state == "done" for image in batch.images)
    return f"{done / batch.seconds:.3g} images a second" if done and batch.seconds else ""


def _failures(batch: Any) -> str:
    failed = batch.failed
    if not failed:
        return ""
    rows = [(safe(image.name), f'<span class="error">{safe(image.error)}</span>') for image in failed[:FAILURES]]
    more = f"<p>and {len(failed) - FAILURES} more, all of them in batch.json</p>" if len(failed) > FAILURES else ""
    return section(
        "What failed", table_of(("image", "why"), rows) + more, "The same command again tries these once more."
    )


def _plates(batch: Any) -> Iterator[str]:
    """A map of wells for each plate and table: how many objects a well has."""
    plates: dict[str, list[Any]] = {}
    for image in batch.images:
        if "well" in image.columns:
            plates.setdefault(str(image.columns["image"]), []).append(image)
    for plate, images in plates.items():
        maps = [_map(images, file.rpartition(".")[0]) for file in batch.tables]
        if maps:
            yield section(f"Plate {safe(plate)}", '<div class="row">' + "".join(maps) + "</div>", "objects a well")


def _map(images: Sequence[Any], table: str) -> str:
    wells: dict[tuple[str, str], int | None] = {}
    for image in images:
        place = _place(str(image.columns["well"]))
        if image.state in ("done", "done before"):
            wells[place] = (wells.get(place) or 0) + image.rows.get(table, 0)
        else:
            wells.setdefault(place, None)
    rows = sorted({row for row, _ in wells}, key=lambda row: (len(row), row))
    columns = sorted({column for _, column in wells}, key=lambda column: (len(column.lstrip("0")), column))
    values = [n for n in wells.values() if n is not None]
    low, high = (min(values), max(values)) if values else (0, 0)
    parts = [
        f'<text class="axis" x="{(k + 1.5) * CELL}" y="{CELL * 0.7}" text-anchor="middle">{safe(column)}</text>'
        for k, column in enumerate(columns)
    ]
    for r, row in enumerate(rows):
        parts.append(f'<text class="axis" x="{CELL * 0.5}" y="{(r + 1.65) * CELL}">{safe(row)}</text>')
        for k, column in enumerate(columns):
            if (row, column) not in wells:
                continue
            n = wells[row, column]
            kind = "left" if n is None else f"q{shade(n, low, high)}"
            told = f"{row}{column}: " + ("not done" if n is None else f"{n} objects")
            parts.append(
                f'<rect class="{kind}" x="{(k + 1) * CELL + 1}" y="{(r + 1) * CELL + 1}" width="{CELL - 2}" '
                f'height="{CELL - 2}" rx="4"><title>{safe(told)}</title></rect>'
            )
    width, height = (len(columns) + 1) * CELL, (len(rows) + 1) * CELL
    caption = f"{safe(table)}<small>{low} (dark) to {high} (light)</small>"
    drawing = f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'
    return f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>"


def _place(well: str) -> tuple[str, str]:
    """Row and column of a well: "B03" is B and 03."""
    found = re.fullmatch(r"(.*?)/?(\d+)", well)
    return (found[1], found[2]) if found else (well, "")


def _results(batch: Any) -> str:
    done = [image for image in batch.images if image.state in ("done", "done before")]
    step = max(1, -(-len(done) // SHOWN))
    shots = [shot for image in done[::step] for shot in _shots(image)]
    if not shots:
        return ""
    return section("Some of the results", '<div class="row">' + "".join(shots) + "</div>", f"{len(shots)} pictures")


def _shots(image: Any) -> Iterator[str]:
    """The picture of one label image of an output, else of an image."""
    from pathlib import Path

    root = Path(image.output)
    try:
        record = read_json(root / FOLDER / "run.json") or {}
        outputs = {k: v for k, v in record["parts"]["output"].items() if isinstance(v, dict) and "shape" in v}
        labels = {k: v for k, v in outputs.items() if v.get("labels")} or outputs
        drawn = next(pictures(root, labels), None)
    except (BigbiaError, OSError, ValueError, KeyError, TypeError):
        return
    if isinstance(drawn, Picture):
        yield f"<div>{figure(drawn, WIDE)}<small>{safe(image.name)}</small></div>"


def _images(batch: Any) -> str:
    tables = [file.rpartition(".")[0] for file in batch.tables]
    words = [word for word in ("well", "field") if any(word in image.columns for image in batch.images)]
    head = ("image", *words, "state", *tables, "seconds")
    rows = [
        (
            f'<a href="{safe(_link(image.name))}">{safe(image.name)}</a>',
            *(safe(image.columns.get(word, "")) for word in words),
            safe(image.state),
            *(safe(image.rows.get(table, "")) for table in tables),
            safe(f"{image.seconds:.2f}"),
        )
        for image in batch.images[:ROWS]
    ]
    more = f"<p>and {len(batch.images) - ROWS} more in batch.json</p>" if len(batch.images) > ROWS else ""
    return section("Every image", table_of(head, rows) + more)


def _link(name: str) -> str:
    from urllib.parse import quote

    return f"{quote(name)}.zarr"
