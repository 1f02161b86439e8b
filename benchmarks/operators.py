"""Every neighbourhood operator against SciPy or scikit-image on one core and dask-image on all; and its memory.

    python benchmarks/operators.py --sizes 256,512 --only "gaussian sigma 2,sobel" --parts time,memory

Every operator, size and dtype in a process of its own; in it the peers take turns, after each has run once on a small
image. Ratios are those within a turn, the median of them is given. Memory: the peak of one block, inside the image and
at its corner, over what `graph/cost.py` predicts for it. What is measured replaces what the results have of it, and the
rest of them stays.
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
AT_ONCE, ONE, ALL = "bigbia, at once", "bigbia, one core", "bigbia, all cores"
REFERENCE, PEER = "reference", "dask-image"
CHUNK = 128  # of jobs/operator_run.py


def main(argv: list[str] | None = None) -> int:
    given = arguments(argv)
    known = entries()
    file = given.out / "operators.json"
    results = json.loads(file.read_text()) if file.exists() else {"times": [], "memory": []}
    results |= {"settings": {"block": given.block}, "machine": report.machine()}
    made = []
    for part, row in planned(given):
        name, dtype = row["name"], row["dtype"]
        if part == "times":
            row |= {"size": row["asked"] // 2 if known[name].heavy else row["asked"], "bar": known[name].bar}
            row |= {"turns": given.repeats} | job(given, "time", name, row["size"], dtype, given.repeats)
            print(f"{name}, {row['size']}^3, {dtype}: {told(row)}", file=sys.stderr)
        else:
            row |= job(given, "memory", name, given.block, dtype)
            print(f"{name}, {dtype}: {shares(row)}", file=sys.stderr)
        same = [r for r in results[part] if all(r[k] == row[k] for k in ("name", "dtype", "asked"))]
        results[part] = [r for r in results[part] if r not in same] + [row]
        results[part].sort(key=lambda r: (r["asked"], list(known).index(r["name"]), r["dtype"] != "uint16"))
        report.write(given.out, "operators", written(results), results)
        made.append(row)
    print((given.out / "operators.md").read_text())
    return 0 if all(r["finished"] for r in made) else 1


def planned(given: argparse.Namespace) -> list[tuple[str, dict[str, Any]]]:
    """What to measure: part, and which operator, dtype and size."""
    known = {n: e for n, e in entries().items() if not given.only or n in given.only}
    kinds = {n: ["bool"] if e.mask else given.dtypes for n, e in known.items()}
    plan: list[tuple[str, dict[str, Any]]] = []
    if "time" in given.parts:
        for size in [*given.sizes, *given.bars]:
            wanted = [n for n, e in known.items() if size in given.sizes or e.bar > 1]
            plan += [("times", {"name": n, "dtype": k, "asked": size}) for n in wanted for k in kinds[n]]
    if "memory" in given.parts:
        wanted = [n for n, e in known.items() if not e.table]
        plan += [("memory", {"name": n, "dtype": k, "asked": given.block}) for n in wanted for k in kinds[n]]
    return plan


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = {"type": lambda text: [w.strip() for w in text.split(",")]}
    parser.add_argument("--sizes", default=[256], type=lambda t: [int(w) for w in t.split(",")], help="lengths (256)")
    parser.add_argument(
        "--bars",
        default=[],
        type=lambda t: [int(w) for w in t.split(",")],
        help="lengths for those with a bar alone (none)",
    )
    parser.add_argument("--dtypes", default=["uint16", "float32"], **words, help="dtypes (uint16,float32)")  # type: ignore[arg-type]
    parser.add_argument("--only", default=[], **words, help="names of operators, default all")  # type: ignore[arg-type]
    parser.add_argument(
        "--parts",
        default=["time", "memory"],
        **words,
        help="time, memory (both); what is not asked for stays as it is in the results",
    )  # type: ignore[arg-type]
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
    clock = 0 if ALL in (slow, quick) else 1
    return [a[clock] / b[clock] for a, b in zip(row["seconds"][slow], row["seconds"][quick])]


def nanoseconds(row: dict[str, Any], way: str) -> float:
    return 1e9 * statistics.median(cpu for _, cpu in row["seconds"][way]) / row["voxels"]


def told(row: dict[str, Any]) -> str:
    if not row["finished"]:
        return "did not finish"
    once, blocks = (statistics.median(ratios(row, REFERENCE, way)) for way in (AT_ONCE, ONE))
    return f"{nanoseconds(row, AT_ONCE):.1f} ns/voxel, {once:.2f} times the reference, {blocks:.2f} in blocks"


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
        "From an array in memory to another. Median (smallest..largest) of the turns, where there were several; ratios are "
        "those within each turn, of the better of two runs each where a run is short. The reference (SciPy or "
        'scikit-image, whichever has it; `operator_list.py` says what each runs) and "times the reference" have the whole '
        'NumPy array and one core; "in blocks" is bigbia lazily in chunks of 128^3, with Dask, margins and the copy into '
        "the result in it, and so is dask-image. One core: CPU time; all cores: wall time. Made by `python "
        "benchmarks/operators.py`.",
        "",
    ]
    head = [
        "operator",
        "dtype",
        "ns/voxel",
        "times the reference",
        "in blocks",
        "all cores over one",
        "times dask-image",
        "bar",
    ]
    for size in sorted({r["asked"] for r in results["times"]}):
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
        return [row["name"], row["dtype"], "did not finish", "", "", "", "", ""]
    peer = report.spread(ratios(row, PEER, ALL), "{:.1f}") if PEER in row["seconds"] else "-"
    against = ratios(row, REFERENCE, AT_ONCE)
    bar = f"{row['bar']:g}: {'reached' if statistics.median(against) >= row['bar'] else 'MISSED'}"
    return [
        row["name"],
        row["dtype"],
        f"{nanoseconds(row, AT_ONCE):.1f}",
        report.spread(against, "{:.2f}"),
        report.spread(ratios(row, REFERENCE, ONE), "{:.2f}"),
        report.spread(ratios(row, ONE, ALL), "{:.2f}") if row["size"] > CHUNK else "one block",
        peer,
        "" if row["bar"] == 1 else bar,
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
