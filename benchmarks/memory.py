"""Operators over volumes 2, 8 and 32 times as large as the memory they may use: what was predicted, and what it took.

    python benchmarks/memory.py                                       all: a filter, labels, distances, a watershed, a table
    python benchmarks/memory.py --ratios 2,8 --operators filter,label

Each is saved by `bigbia.save` in a fresh process with the block that `fitting_block` chooses. The volumes are formulas,
computed where they are read, so no input lies on the disk or in its cache. It exits with 1 if one did not finish, was above
the limit, or was foretold wrong by more than half. What is not asked for stays as it is in the results.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import report
from measure import measure, python

HERE = Path(__file__).resolve().parent
OPERATORS = {
    "filter": "Gaussian, sigma 1",
    "label": "labels of a mask",
    "distance": "distance transform",
    "watershed": "watershed",
    "table": "table of objects",
}
WITHIN = 1.5  # times too much or too little


def main() -> int:
    given = arguments()
    file = given.out / "memory.json"
    runs: list[dict[str, Any]] = json.loads(file.read_text())["runs"] if file.exists() else []
    for ratio in given.ratios:
        for operator in given.operators:
            row = one(given, operator, ratio)
            print(row, file=sys.stderr)
            key = (operator, ratio, row["limit"])
            runs = [r for r in runs if (r["operator"], r["ratio"], r["limit"]) != key] + [row]
            runs.sort(key=lambda r: (r["limit"], list(OPERATORS).index(r["operator"]), r["ratio"]))
            lines = written(runs)
            report.write(given.out, "memory", lines, {"machine": report.machine(), "runs": runs})
    print("\n".join(written(runs)))
    return 0 if all(good(r) for r in runs) else 1


def arguments() -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratios", type=lambda t: [float(w) for w in words(t)], default=[2.0, 8.0, 32.0])
    parser.add_argument("--operators", type=words, default=list(OPERATORS), help="among " + ",".join(OPERATORS))
    parser.add_argument("--mib", type=int, default=512, help="memory that may be used (512)")
    parser.add_argument("--threads", type=int, default=2, help="threads (2)")
    parser.add_argument("--limit", type=float, default=7200, help="seconds after which one is given up (7200)")
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()), help="where the results are written")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the figures")
    given = parser.parse_args()
    if unknown := set(given.operators) - set(OPERATORS):
        parser.error(f"--operators: {', '.join(sorted(unknown))}: known: {', '.join(OPERATORS)}")
    return given


def one(given: argparse.Namespace, operator: str, ratio: float) -> dict[str, Any]:
    limit = given.mib << 20
    folder = Path(tempfile.mkdtemp(prefix="bigbia-memory-", dir=given.data))
    try:
        job = python("jobs/memory_run.py", operator, ratio * limit, limit, given.threads, folder)
        run = measure(job, given.limit)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    row = {"operator": operator, "ratio": ratio, "limit": limit, "threads": given.threads}
    row |= {k: run[k] for k in ("finished", "wall", "cpu", "peak")}
    return row | (json.loads(run["output"].splitlines()[-1]) if run["finished"] else {})


def good(row: dict[str, Any]) -> bool:
    if not row["finished"] or row["peak"] > row["limit"]:
        return False
    return 1 / WITHIN <= row["predicted"] / row["peak"] <= WITHIN


def written(runs: list[dict[str, Any]]) -> list[str]:
    rows = []
    for r in runs:
        done = r["finished"]
        shape = "x".join(map(str, r["shape"])) if done else "-"
        block = "x".join(map(str, r["block"])) if done else "-"
        rows.append(
            [
                OPERATORS[r["operator"]],
                f"{r['ratio']:g}",
                shape,
                block,
                f"{r['wall']:.0f}" if done else "did not finish",
                mib(r["limit"]),
                mib(r["peak"]),
                mib(r["predicted"]) if done else "-",
                f"{r['predicted'] / r['peak']:.2f}" if done else "-",
                "yes" if good(r) else "NO",
            ]
        )
    head = [
        "operator",
        "volume / limit",
        "voxels",
        "block",
        "seconds",
        "limit, MiB",
        "peak",
        "predicted",
        "predicted / peak",
        "as promised",
    ]
    return [
        "# Volumes larger than memory",
        "",
        "Volumes of 4 bytes a voxel that are formulas, through `bigbia.save`, each in a fresh process. The limit is "
        "`bigbia.memory`; the peak is that of the whole process, Python and its libraries included. As promised: finished, "
        "peak within the limit, prediction within 1.5 times of the peak. Made by `python benchmarks/memory.py`.",
        "",
        *report.table(head, rows),
        "",
        *report.machine_lines(report.machine()),
    ]


def mib(size: float) -> str:
    return f"{size / 2**20:.0f}"


if __name__ == "__main__":
    sys.exit(main())
