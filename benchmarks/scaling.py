"""How time and memory grow with the volume: the main job with bigbia at several sizes, under one memory setting.

    python benchmarks/scaling.py            256^3 and 512^3
    python benchmarks/scaling.py --large    and 1024^3: about 10 GB of disk while it runs

The sizes take turns; every run is a fresh process measured from outside.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import main_job
import report

HERE = Path(__file__).resolve().parent
LARGE = 1024


def main() -> int:
    given = arguments()
    given.data.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=given.data))
    made: list[Path] = []
    try:
        main_job.warm_up(given, folder, made)
        runs = rounds(given, folder, made)
    finally:
        main_job.cleaned(given, folder, made)
    lines = written(given, runs)
    report.write(given.out, "scaling", lines, {"machine": report.machine(), "memory": given.memory, "runs": runs})
    print("\n".join(lines))
    return 0 if all(r["finished"] for several in runs.values() for r in several) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="256,512", help="voxels along each axis (256,512)")
    parser.add_argument("--large", action="store_true", help=f"also {LARGE}")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each size (3)")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which a run is stopped (1800)")
    parser.add_argument("--memory", default="2 GiB", help='memory setting of bigbia ("2 GiB")')
    parser.add_argument("--chunk", type=int, default=128, help="voxels along each axis of a stored chunk (128)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--data", type=Path, default=HERE / "data", help="folder of the images, removed at the end")
    parser.add_argument("--keep", action="store_true", help="keep the images")
    given = parser.parse_args()
    given.sizes = sorted({int(n) for n in given.sizes.split(",")} | ({LARGE} if given.large else set()))
    given.size, given.peers, given.block = given.sizes[-1], ["bigbia"], None
    return given


def rounds(given: argparse.Namespace, folder: Path, made: list[Path]) -> dict[int, list[dict[str, Any]]]:
    images = {size: main_job.prepared(given, size, made)["path"] for size in given.sizes}
    runs: dict[int, list[dict[str, Any]]] = {size: [] for size in given.sizes}
    for _ in range(given.repeats):
        for size, image in images.items():
            run = main_job.job(given, "bigbia", image, folder / "bigbia")
            runs[size].append(run)
            print(f"{size}^3: {run['wall']:.1f} s, peak {report.gib(run['peak'])}", file=sys.stderr)
            shutil.rmtree(folder / "bigbia", ignore_errors=True)
    return runs


def written(given: argparse.Namespace, runs: dict[int, list[dict[str, Any]]]) -> list[str]:
    head = ["voxels", "wall, s", "times the wall before", "times the voxels", "CPU, s", "peak memory, GiB"]
    return [
        "# Time and memory by size",
        "",
        f"The main job with bigbia, memory setting {given.memory}, input and labels in chunks of {given.chunk}^3. "
        f"Fresh processes, imports included; median (smallest..largest) of {given.repeats} runs, the sizes in turn; "
        "the ratio of times is that within each turn. Made by "
        f"`python benchmarks/scaling.py{' --large' if LARGE in given.sizes else ''}`.",
        "",
        *report.table(head, rows(runs)),
        "",
        *report.machine_lines(report.machine()),
    ]


def rows(runs: dict[int, list[dict[str, Any]]]) -> list[list[str]]:
    out: list[list[str]] = []
    before: int | None = None
    for size, several in runs.items():
        ratios = [b["wall"] / a["wall"] for a, b in zip(runs[before], several)] if before else []
        wall = report.spread([r["wall"] for r in several])
        wall += "" if all(r["finished"] for r in several) else " (not finished)"
        larger = f"{(size / before) ** 3:.1f}" if before else "-"
        cpu = report.spread([r["cpu"] for r in several])
        peak = report.spread([r["peak"] / 2**30 for r in several], "{:.2f}")
        out.append([f"{size}^3", wall, report.spread(ratios, "{:.2f}") if before else "-", larger, cpu, peak])
        before = size
    return out


if __name__ == "__main__":
    sys.exit(main())
