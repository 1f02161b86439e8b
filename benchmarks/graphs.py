"""How large the graphs are, and how long they take to build: tasks a block of bigbia and of dask-image.

    python benchmarks/graphs.py

Over 32,768 blocks of 64^3 (a volume of 2048^3 that is a formula: nothing is stored and nothing is computed). Tasks are
those of the optimised Dask graph, `len(dask.optimize(array)[0].__dask_graph__())`. Each graph in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import report
from measure import measure, python

HERE = Path(__file__).resolve().parent
CASES = {
    "gaussian": "gaussian",
    "chain": "gaussian, median, sobel, > 100",
    "arithmetic": "(gaussian > 300) & (image > 100)",
    "arithmetic_window": "opening of (gaussian > 300) & (image > 100)",
    "label": "label of gaussian > 300",
    "main_job": "label of gaussian > Otsu's threshold, itself lazy",
    "peer_gaussian": "dask-image: gaussian",
    "peer_label": "dask-image: label of image > 300",
    "peer_main_job": "dask-image: label of gaussian > 300",
}


def main() -> int:
    given = arguments()
    largest = given.blocks
    wanted = [(case, largest) for case in CASES if not case.startswith("peer")]
    wanted += [("peer_gaussian", n) for n in (2, 3, largest)]
    wanted += [(case, n) for case in ("peer_label", "peer_main_job") for n in given.label_blocks]
    counts = [counted(case, n, given.limit) for case, n in wanted]
    lines = written(counts, largest, given.limit)
    report.write(given.out, "graphs", lines, {"machine": report.machine(), "limit": given.limit, "graphs": counts})
    print("\n".join(lines))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=32, help="blocks along each axis (32)")
    parser.add_argument(
        "--label-blocks", type=int, nargs="*", default=[2, 3, 4], help="the same for dask-image's label (2 3 4)"
    )
    parser.add_argument("--limit", type=float, default=300, help="seconds after which a graph is given up (300)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    return parser.parse_args()


def counted(case: str, blocks: int, limit: float) -> dict[str, Any]:
    run = measure(python("counting.py", case, blocks), limit)
    found = json.loads(run["output"]) if run["finished"] else {"case": case, "blocks": blocks**3}
    found |= {name: run[name] for name in ("finished", "timed_out", "peak")}
    print(f"{CASES[case]}, {blocks**3} blocks: {found.get('tasks', 'not finished')} tasks", file=sys.stderr)
    return found


def written(counts: list[dict[str, Any]], largest: int, limit: float) -> list[str]:
    head = ["", "blocks", "tasks", "tasks a block", "build, s", "optimise, s", "peak memory, GiB"]
    volume = largest * 64
    return [
        "# The size of graphs",
        "",
        f"Blocks of 64^3 voxels; {largest**3:,} of them are a volume of {volume}^3. Tasks of the optimised Dask graph; "
        "nothing is computed. Peak memory is that of the process that builds it, libraries included. Made by "
        "`python benchmarks/graphs.py`.",
        "",
        *report.table(head, [row(c, limit) for c in counts]),
        "",
        *report.machine_lines(report.machine()),
    ]


def row(c: dict[str, Any], limit: float) -> list[str]:
    name, blocks, peak = CASES[c["case"]], f"{c['blocks']:,}", f"{c['peak'] / 2**30:.2f}"
    if not c["finished"]:
        gone = f"> {limit:g}" if c["timed_out"] else "failed"
        return [name, blocks, "-", "-", gone, "-", f">= {peak}"]
    per_block = f"{c['tasks'] / c['blocks']:,.2f}"
    return [name, blocks, f"{c['tasks']:,}", per_block, f"{c['build']:.2f}", f"{c['optimise']:.2f}", peak]


if __name__ == "__main__":
    sys.exit(main())
