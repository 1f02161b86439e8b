"""The picture of the values that were tried: for each the middle slice, with the objects in colour and outlined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bigbia.run.report_pictures import painted, stretched

COLUMNS = 4
INK, FAINT, BAD = "#1f2933", "#616e7c", "#b00020"
FILL = 0.30
"""How much of a pixel within an object is its colour."""


def draw(found: Any, path: Path) -> None:
    """Draw `Tried` into a PNG: one panel a value; a row of panels for each label image where there are several."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    names = list(dict.fromkeys(row.labels for row in found.rows))
    each = len(found.rows) // len(names)
    columns = -(-each // -(-each // COLUMNS))
    panels: list[Any] = []
    for name in names:
        mine = [row for row in found.rows if row.labels == name]
        panels += mine + [None] * (-len(mine) % columns)
    lines = len(panels) // columns
    tall = _tallest(found)
    width = 3.6 * columns if columns > 1 else 5.0
    engine = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.10)
    # Not pyplot: it would choose a backend for the whole process and keep the figure.
    figure = Figure(figsize=(width, lines * (width / columns * tall + 0.75)), dpi=130, facecolor="white", layout=engine)
    FigureCanvasAgg(figure)
    several = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    for axes, row in zip(several, panels):
        axes.set_axis_off()
        if row is not None:
            _panel(axes, found, row, len(names) > 1)
    figure.savefig(path)


def _tallest(found: Any) -> float:
    shapes = [row.panel[0].shape for row in found.rows if row.panel is not None]
    return min(3.0, max((h * found.aspect / w for h, w in shapes), default=0.7))


def _panel(axes: Any, found: Any, row: Any, named: bool) -> None:
    what = f"{found.parameter} = {row.value}" + (f", {row.labels}" if named else "")
    if row.error:
        below, colour = "failed", BAD
        axes.text(0, 0.95, _wrapped(row.error), transform=axes.transAxes, color=BAD, va="top", size=8)
    else:
        median = f", median {row.median:.3g} {found.unit}" if row.objects else ""
        below, colour = f"{row.objects:,} objects{median}".replace(",", "\u202f", 1 if row.objects > 999 else 0), FAINT
        axes.imshow(over(*row.panel), interpolation="nearest", aspect=found.aspect)
    axes.set_title(f"{_short(what)}\n", loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.text(0, 1.02, below, transform=axes.transAxes, fontsize=9, color=colour, va="bottom")


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 48)[:10])


def over(labels: np.ndarray, image: np.ndarray | None) -> np.ndarray:
    """Labels on a grey image: a thin fill in colour, and the outline full."""
    colours = painted(labels).astype(np.float64)
    if image is None or image.shape != labels.shape:
        return colours.astype(np.uint8)
    out = np.repeat(stretched(image)[0][..., None], 3, axis=2).astype(np.float64)
    inside = labels != 0
    out[inside] += FILL * (colours[inside] - out[inside])
    edge = inside & _outline(labels)
    out[edge] = colours[edge]
    return np.round(out).astype(np.uint8)


def _outline(labels: np.ndarray) -> np.ndarray:
    """Voxels that have another label beside them."""
    out = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differs = np.diff(labels.astype(np.int64), axis=axis) != 0
        first = [slice(None), slice(None)]
        second = [slice(None), slice(None)]
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        out[tuple(first)] |= differs
        out[tuple(second)] |= differs
    return out
