"""Every neighbourhood operator against SciPy or scikit-image on one core and dask-image on all; and its memory.

    python benchmarks/operators.py --sizes 256,512 --only "gaussian sigma 2,sobel" --parts time,memory

Every operator, size and dtype in a process of its own; in it the peers take turns, after each has run once on a small
image. Ratios are those within a turn, the median of them is given. Memory: the peak of one block, inside the image and at its
corner, over what `graph/cost.py` predicts for it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import report
from measure import measure, python
from operator_list import entries

HERE = Path(__file__).resolve().parent
ONE, ALL, REFERENCE, PEER = "bigbia, one core", "bigbia, all cores", "reference", "dask-image"


def main(argv: list[str] | None = None) -> int:
    given = arguments(argv)
    known = entries()
    names = [n for n in known if not given.only or n in given.only]
    times: list[dict[str, Any]] = []
    if "time" in given.parts:
        for size in given.sizes:
            for name in names:
                for dtype in ["bool"] if known[name].mask else given.dtypes:
                    length = size // 2 if known[name].heavy else size
                    found = job(given, "time", name, length, dtype, given.repeats)
                    times.append(
                        {"name": name, "size": length, "asked": size, "dtype": dtype, "bar": known[name].bar} | found
                    )
                    print(f"{name}, {length}^3, {dtype}: {told(times[-1])}", file=sys.stderr)
    memory: list[dict[str, Any]] = []
    if "memory" in given.parts:
        for name in [n for n in names if not known[n].table]:
            for dtype in ["bool"] if known[name].mask else given.dtypes:
                found = job(given, "memory", name, given.block, dtype)
                memory.append({"name": name, "dtype": dtype} | found)
                print(f"{name}, {dtype}: {shares(memory[-1])}", file=sys.stderr)
    settings = {"sizes": given.sizes, "dtypes": given.dtypes, "repeats": given.repeats, "block": given.block}
    results = {"settings": settings, "machine": report.machine(), "times": times, "memory": memory}
    report.write(given.out, "operators", written(results), results)
    print((given.out / "operators.md").read_text())
    return 0 if all(r["finished"] for r in [*times, *memory]) else 1


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = {"type": lambda text: [w.strip() for w in text.split(",")]}
    parser.add_argument("--sizes", default=[256], type=lambda t: [int(w) for w in t.split(",")], help="lengths (256)")
    parser.add_argument("--dtypes", default=["uint16", "float32"], **words, help="dtypes (uint16,float32)")  # type: ignore[arg-type]
    parser.add_argument("--only", default=[], **words, help="names of operators, default all")  # type: ignore[arg-type]
    parser.add_argument("--parts", default=["time", "memory"], **words, help="time, memory (both)")  # type: ignore[arg-type]
    parser.add_argument("--repeats", type=int, default=3, help="turns (3)")
    parser.add_argument("--block", type=int, default=96, help="length of the block whose memory is measured (96)")
    parser.add_argument("--limit", type=float, default=300, help="seconds after which an operator is given up (300)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    given = parser.parse_args(argv)
    for name in given.only:
        if name not in entries():
            parser.error(f"--only: there is no {name!r}: choose among {', '.join(entries())}")
    return given


def job(given: argparse.Namespace, *words: Any) -> dict[str, Any]:
    run = measure(python("jobs/operator_run.py", *words), given.limit)
    return {"finished": run["finished"]} | (json.loads(run["output"]) if run["finished"] else {})


def ratios(row: dict[str, Any], slow: str, quick: str) -> list[float]:
    """Of each turn: wall time, or CPU time where both have one core."""
    clock = 1 if {slow, quick} == {REFERENCE, ONE} else 0
    return [a[clock] / b[clock] for a, b in zip(row["seconds"][slow], row["seconds"][quick])]


def nanoseconds(row: dict[str, Any], way: str) -> float:
    return 1e9 * statistics.median(cpu for _, cpu in row["seconds"][way]) / row["voxels"]


def told(row: dict[str, Any]) -> str:
    if not row["finished"]:
        return "did not finish"
    return f"{nanoseconds(row, ONE):.1f} ns/voxel, {statistics.median(ratios(row, REFERENCE, ONE)):.2f} times the reference"


def shares(row: dict[str, Any]) -> str:
    if not row["finished"]:
        return "did not finish"
    return ", ".join(
        f"{where} {row[where]['measured'] / row[where]['predicted']:.2f}" for where in ("inside", "corner")
    )


def written(results: dict[str, Any]) -> list[str]:
    asked = results["settings"]
    lines = [
        "# Neighbourhood operators",
        "",
        "From an array in memory to another, bigbia and dask-image in chunks of 128^3. Median (smallest..largest) of "
        f"{asked['repeats']} turns; ratios are those within each turn. The reference (SciPy or scikit-image, whichever has "
        "it; `operator_list.py` says what each runs) has the whole array and one core, as has the first bigbia column; "
        "the others have all cores. One core: CPU time; all cores: wall time. bigbia's time has Dask, the margins of "
        "every block and the copy into the result in it. Made by `python benchmarks/operators.py`.",
        "",
    ]
    head = [
        "operator",
        "dtype",
        "ns/voxel, one core",
        "times the reference",
        "all cores over one",
        "times dask-image",
        "bar",
    ]
    for size in asked["sizes"]:
        rows = [r for r in results["times"] if r["asked"] == size]
        if rows:
            lines += [f"## {size}^3", "", *report.table(head, [cells(r) for r in rows]), ""]
            halves = sorted({r["name"] for r in rows if r["size"] != size})
            if halves:
                lines += [f"At {size // 2}^3, because they are slow everywhere: {', '.join(halves)}.", ""]
    if results["memory"]:
        head = ["operator", "dtype", "predicted, MiB", "measured", "share", "at the corner: measured", "share"]
        lines += [
            "## Memory",
            "",
            f"Of one task, a block of {asked['block']}^3: the peak above what the process held before, over what was predicted.",
            "",
            *report.table(head, [memory_cells(r) for r in results["memory"]]),
            "",
        ]
    return [*lines, *report.machine_lines(results["machine"])]


def cells(row: dict[str, Any]) -> list[str]:
    if not row["finished"]:
        return [row["name"], row["dtype"], "did not finish", "", "", "", ""]
    peer = report.spread(ratios(row, PEER, ALL), "{:.1f}") if PEER in row["seconds"] else "-"
    against = ratios(row, REFERENCE, ONE)
    reached = (
        ""
        if row["bar"] == 1
        else f"{row['bar']:g}: {'reached' if statistics.median(against) >= row['bar'] else 'MISSED'}"
    )
    return [
        row["name"],
        row["dtype"],
        f"{nanoseconds(row, ONE):.1f}",
        report.spread(against, "{:.2f}"),
        report.spread(ratios(row, ONE, ALL), "{:.2f}"),
        peer,
        reached,
    ]


def memory_cells(row: dict[str, Any]) -> list[str]:
    if not row["finished"]:
        return [row["name"], row["dtype"], "did not finish", "", "", "", ""]
    inside, corner = row["inside"], row["corner"]
    return [
        row["name"],
        row["dtype"],
        f"{inside['predicted'] / 2**20:.0f}",
        f"{inside['measured'] / 2**20:.0f}",
        f"{inside['measured'] / inside['predicted']:.2f}",
        f"{corner['measured'] / 2**20:.0f}",
        f"{corner['measured'] / corner['predicted']:.2f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
