"""The drawings of the run report, as SVG without scripts: the blocks of a step, and the steps of a pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from statistics import fmean
from typing import Any

SHADES = 9
WIDTH = 400  # of a block map
NODE, LINE, GAP, LAYER = (
    236,
    15,
    26,
    34,
)  # of a box in the graph: its width, a line of text, between boxes, between layers
CHARACTERS = 34  # of a line that fits a box
NODES = 300  # more are not drawn


def safe(value: object) -> str:
    """Text from outside for a page: nothing in it is markup, nothing in it is invisible."""
    text = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in str(value))
    return escape(text, quote=True)


def seconds(value: float | None) -> str:
    """A time for people."""
    if value is None:
        return "?"
    if value < 0.0995:
        return f"{1000 * value:.0f} ms"
    if value < 99.5:
        return f"{value:.2g} s" if value < 9.95 else f"{value:.0f} s"
    if value < 5970:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h"


# ---- blocks ----------------------------------------------------------------------------------------------------------
def span(mapped: Mapping[str, Any]) -> tuple[float, float]:
    """The shortest and the longest mean time of a cell."""
    every = [v for panel in mapped["panels"] for row in panel["seconds"] for v in row if v is not None]
    return (min(every), max(every)) if every else (0.0, 0.0)


def shade(value: float, low: float, high: float) -> int:
    return min(SHADES - 1, int(SHADES * (value - low) / (high - low))) if high > low else 0


def block_map(mapped: Mapping[str, Any]) -> str:
    """The cells of a step, one drawing a panel."""
    low, high = span(mapped)
    return "".join(_panel(mapped, panel, low, high) for panel in mapped["panels"])


def _panel(mapped: Mapping[str, Any], panel: Mapping[str, Any], low: float, high: float) -> str:
    rows, columns = len(panel["seconds"]), max((len(r) for r in panel["seconds"]), default=0)
    many = len(mapped["panels"])
    size = max(4.0, min(26.0, (WIDTH if many == 1 else WIDTH / 2) / max(rows, columns, 1)))
    left, top = 16, 14
    width, height = left + columns * size + 2, top + rows * size + 2
    marks = {k: {(r, c): n for r, c, n in panel[k]} for k in ("retried", "missing", "failed", "left")}
    drawn = [
        _cell(mapped, panel, (r, c), (left + c * size, top + r * size, size), (low, high), marks)
        for r in range(rows)
        for c in range(columns)
    ]
    across, down = safe(mapped["columns"]), safe(mapped["rows"])
    names = f'<text x="{left}" y="10" class="axis">{across} \u2192</text>' if across else ""
    names += f'<text x="2" y="{top + 10}" class="axis">{down}</text>' if down else ""
    names += f'<text x="2" y="{top + 23}" class="axis">\u2193</text>' if down and rows * size > 22 else ""
    title = f"<figcaption>{safe(panel['title'])}</figcaption>" if panel["title"] else ""
    return (
        f'<figure class="map"><svg viewBox="0 0 {width:.1f} {height:.1f}" width="{width:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="blocks by time">{names}{"".join(drawn)}</svg>{title}</figure>'
    )


def _cell(
    mapped: Mapping[str, Any],
    panel: Mapping[str, Any],
    at: tuple[int, int],
    place: tuple[float, float, float],
    scale: tuple[float, float],
    marks: Mapping[str, Mapping[tuple[int, int], int]],
) -> str:
    (r, c), (x, y, size) = at, place
    mean, longest = panel["seconds"][r][c], panel["longest"][r][c]
    counts = {kind: cells[at] for kind, cells in marks.items() if at in cells}
    kind = "failed" if "failed" in counts else "missing" if "missing" in counts else "left" if mean is None else ""
    kind = kind or f"q{shade(mean, *scale)}" + (" part" if "left" in counts else "")
    side = size - (1 if size >= 6 else 0.3)
    drawn = f'<rect x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" class="{kind}"/>'
    middle, arm = (x + side / 2, y + side / 2), side * 0.28
    if "failed" in counts:
        a, b = middle
        drawn += f'<path class="cross" d="M{a - arm:.1f} {b - arm:.1f}l{2 * arm:.1f} {2 * arm:.1f}m0 {-2 * arm:.1f}l{-2 * arm:.1f} {2 * arm:.1f}"/>'
    elif "missing" in counts:
        drawn += f'<path class="cross" d="M{middle[0] - arm:.1f} {middle[1]:.1f}h{2 * arm:.1f}"/>'
    elif "retried" in counts:
        drawn += f'<circle class="again" cx="{middle[0]:.1f}" cy="{middle[1]:.1f}" r="{max(1.2, side * 0.2):.1f}"/>'
    said = []
    if mean is not None:
        said.append(f"{seconds(mean)} a block" + (f", longest {seconds(longest)}" if longest > mean * 1.01 else ""))
    words = {"retried": "tried again", "missing": "missing", "failed": "failed", "left": "not done"}
    said += [f"{n} {words[kind]}" for kind, n in counts.items()]
    return f"<g><title>{safe(_where(mapped, r, c))}: {'; '.join(said)}</title>{drawn}</g>"


def _where(mapped: Mapping[str, Any], r: int, c: int) -> str:
    """Which blocks a cell stands for."""
    down, across = mapped["cell"]
    found = []
    for name, i, n in ((mapped["rows"], r, down), (mapped["columns"], c, across)):
        if name:
            found.append(f"{name} {i}" if n == 1 else f"{name} {i * n}..{i * n + n - 1}")
    text = "block " + ", ".join(found) if found else "the block"
    return text + (f" ({mapped['deep']} along {', '.join(mapped['along'])})" if mapped["along"] else "")


def legend(mapped: Mapping[str, Any]) -> str:
    """What the colours and marks of a block map mean."""
    low, high = span(mapped)
    shades = "".join(f'<i class="q{i}"></i>' for i in range(SHADES if high > low else 1))
    parts = [f'<span class="scale">{seconds(low)} {shades} {seconds(high)} a block</span>'] if high else []
    present = {kind for panel in mapped["panels"] for kind in ("retried", "missing", "failed", "left") if panel[kind]}
    words = {
        "retried": ("again", "tried again"),
        "failed": ("failed", "failed"),
        "missing": ("missing", "missing: zeros stand for it"),
        "left": ("left", "not done"),
    }
    parts += [f'<span><i class="{words[k][0]}"></i> {words[k][1]}</span>' for k in words if k in present]
    return f'<p class="legend">{" ".join(parts)}</p>' if parts else ""


# ---- the graph -------------------------------------------------------------------------------------------------------
@dataclass
class Box:
    """A node in its place; without lines it only leads an edge past a layer."""

    name: str
    kind: str
    lines: list[str] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    height: float = 0.0

    def __post_init__(self) -> None:
        self.width = NODE if self.lines else 6
        self.height = LINE * len(self.lines) + 12 if self.lines else 0


def graph(found: Mapping[str, Any]) -> str:
    """The steps of a pipeline from the input down, each below those that it reads."""
    boxes = {n["name"]: Box(n["name"], n["kind"], _lines(n)) for n in found["nodes"]}
    edges = list(dict.fromkeys((a, b) for a, b, _ in found["edges"] if a in boxes and b in boxes))
    layers, paths = _layers(boxes, edges)
    _order(layers, [pair for path in paths for pair in pairwise(path)])
    width = max(sum(boxes[n].width + GAP for n in layer) - GAP for layer in layers)
    top = 8.0
    for layer in layers:
        at = (width - sum(boxes[n].width + GAP for n in layer) + GAP) / 2
        tall = max(boxes[n].height for n in layer)
        for name in layer:
            box = boxes[name]
            box.height = box.height or tall  # an edge passes straight
            box.x, box.y = at + box.width / 2, top + (tall - box.height) / 2
            at += boxes[name].width + GAP
        top += tall + LAYER
    drawn = [_edge([boxes[n] for n in path]) for path in paths]
    drawn += [_node(box) for box in boxes.values() if box.lines]
    wide, high = width + 16, top - LAYER + 10
    return (
        f'<svg class="graph" viewBox="-8 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" role="img" '
        f'aria-label="the steps of the pipeline"><defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" '
        f'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0.5L8 4L0 7.5z"/></marker></defs>{"".join(drawn)}</svg>'
    )


def _lines(node: Mapping[str, Any]) -> list[str]:
    given = [f"{k}: {_brief(v)}" for k, v in node["parameters"].items()]
    lines = [node["name"], *([node["op"]] if node["op"] else [])]
    line = ""
    for text in given:
        if line and len(line) + len(text) + 2 > CHARACTERS:
            lines.append(line)
            line = ""
        line += (", " if line else "") + text
    return [_cut(t) for t in [*lines, *([line] if line else [])]]


def _brief(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "none" if value is None else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "\u2026"


def _layers(boxes: dict[str, Box], edges: Sequence[tuple[str, str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Each node one layer below the lowest that it reads, and each edge as a path with a place in every layer it passes."""
    above = _neighbours((b, a) for a, b in edges)
    depth: dict[str, int] = {}
    for name in list(boxes):  # the nodes stand in the order in which they are built
        depth[name] = max((depth[a] + 1 for a in above.get(name, ())), default=0)
    layers: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for name, at in depth.items():
        layers[at].append(name)
    paths = []
    for number, (a, b) in enumerate(edges):
        path = [a]
        for at in range(depth[a] + 1, depth[b]):
            bend = f"\0{number}.{at}"
            boxes[bend] = Box(bend, "bend")
            layers[at].append(bend)
            path.append(bend)
        paths.append([*path, b])
    return layers, paths


def _order(layers: list[list[str]], pairs: Sequence[tuple[str, str]]) -> None:
    """Sort each layer by where its neighbours are, down and up a few times, so that few edges cross."""
    above, below = _neighbours((b, a) for a, b in pairs), _neighbours(pairs)
    for sweep in range(4):
        downward = sweep % 2 == 0
        near = above if downward else below
        place = {n: (i + 0.5) / len(layer) for layer in layers for i, n in enumerate(layer)}
        for layer in layers if downward else layers[::-1]:
            wanted = {n: fmean(place[m] for m in near[n]) if n in near else place[n] for n in layer}
            layer.sort(key=wanted.__getitem__)
            place |= {n: (i + 0.5) / len(layer) for i, n in enumerate(layer)}


def _neighbours(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, other in pairs:
        found.setdefault(name, []).append(other)
    return found


def _edge(boxes: Sequence[Box]) -> str:
    """From the foot of a box to the head of another, straight where it passes a layer."""
    path = f"M{boxes[0].x:.1f} {boxes[0].y + boxes[0].height:.1f}"
    for above, box in pairwise(boxes):
        foot = above.y + above.height
        middle = (foot + box.y) / 2
        path += f"C{above.x:.1f} {middle:.1f} {box.x:.1f} {middle:.1f} {box.x:.1f} {box.y:.1f}"
        path += f"V{box.y + box.height:.1f}" if not box.lines else ""
    return f'<path class="edge" d="{path}" marker-end="url(#tip)"/>'


def _node(box: Box) -> str:
    words = "".join(
        f'<text x="{box.x:.1f}" y="{box.y + 8 + LINE * (i + 0.7):.1f}" class="{"name" if i == 0 else "op"}">{safe(line)}</text>'
        for i, line in enumerate(box.lines)
    )
    corner = f'x="{box.x - box.width / 2:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
    return f'<g class="{box.kind}"><rect {corner} rx="6"/>{words}</g>'
