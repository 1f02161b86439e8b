"""Tables, the picture, and the machine they were made on: no names and no places of it."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("bigbia", "numpy", "scipy", "scikit-image", "numba", "dask", "dask-image", "zarr", "numcodecs", "pandas")


def machine() -> dict[str, Any]:
    """Cores, memory, versions, date."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {p: version(p) for p in PACKAGES},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "from a checkout" if package == "bigbia" else "not installed"


def machine_lines(about: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {v}" for name, v in about["versions"].items())
    return [
        f"{about['date']}, {about['cores']} cores, {gib(about['memory'])} of memory, {about['system']}; "
        f"Python {about['python']}, {versions}."
    ]


def gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def spread(values: Sequence[float], form: str = "{:.1f}") -> str:
    """Median, and from where to where: "7.1 (6.9..7.4)"."""
    middle = form.format(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({form.format(min(values))}..{form.format(max(values))})"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """A Markdown table; the first column to the left, figures to the right."""
    out = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    return out + [f"| {' | '.join(map(str, row))} |" for row in rows]


def write(folder: Path, name: str, lines: Sequence[str], results: dict[str, Any]) -> None:
    """NAME.md and NAME.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text("\n".join(lines) + "\n")
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")


def bars(path: Path, title: str, panels: Sequence[tuple[str, str, list[dict[str, Any]]]], note: str) -> None:
    """Horizontal bars side by side: (title, axis, [{name, value, low, high, text, cut}]).

    A `cut` one was stopped; it is drawn not much longer than the others, or they could not be told apart.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    count = len(panels[0][2])
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 1.8 + 0.75 * count), layout="constrained")
    figure.suptitle(title, fontsize=14)
    for axis, (name, unit, rows) in zip(axes, panels):
        longest = 1.5 * max((r["high"] for r in rows if not r["cut"]), default=float("inf"))
        rows = [r | {k: min(r[k], longest) for k in ("value", "low", "high")} if r["cut"] else r for r in rows]
        top = max(r["high"] for r in rows)
        for y, row in enumerate(rows):
            color = "#1f77b4" if row["name"] == "bigbia" else "#a0a0a0"
            axis.barh(y, row["value"], 0.62, color=color, hatch="///" if row["cut"] else None, edgecolor="white")
            if row["high"] > row["low"]:
                away = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
                axis.errorbar(row["value"], y, xerr=away, color="black", capsize=4, linewidth=1.2)
            axis.text(row["high"] + 0.02 * top, y, row["text"], va="center", fontsize=11)
        axis.set_title(name, fontsize=12)
        axis.set_xlabel(unit, fontsize=11)
        axis.set_yticks(range(count), [r["name"] for r in rows], fontsize=12)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.35 * top)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(note, fontsize=9, color="#404040")
    figure.savefig(path, dpi=130)
    plt.close(figure)
