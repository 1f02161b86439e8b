"""What the run contract costs: the main job with a hash a file, with reading back, and without a contract.

    python benchmarks/contract.py --size 512 --repeats 5 --baseline PATH

PATH is a checkout of bigbia from before the contract (its jobs are run too); without it only the two settings of
`bigbia.integrity` are compared. They take turns; each run is a fresh process, measured from outside.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import report
from measure import ROOT, measure, python

HERE = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--baseline", type=Path, help="a checkout from before the contract")
    parser.add_argument("--data", type=Path, default=HERE / "data")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args(argv)
    given.data.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="contract-", dir=given.data))
    kinds = {name: {"BIGBIA_INTEGRITY": name, "PYTHONPATH": str(ROOT)} for name in ("hash", "full")}
    if given.baseline:
        kinds = {"without": {"PYTHONPATH": str(given.baseline.resolve())}, **kinds}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in kinds}
    try:
        for size in (64, given.size):
            shape = ",".join([str(size)] * 3)
            made = measure(
                [sys.executable, "-m", "bigbia.cli", "synth", str(folder / f"{size}.zarr"), "--shape", shape, "-q"],
                3600,
            )
            assert made["finished"], made["output"]
        for turn in range(given.repeats + 1):
            for name, environment in kinds.items():
                size = given.size if turn else 64  # Numba compiles in the first
                run = measure(
                    python("jobs/job_bigbia.py", folder / f"{size}.zarr", folder / "out.zarr", 128), 3600, environment
                )
                assert run["finished"], run["output"]
                shutil.rmtree(folder / "out.zarr")
                if turn:
                    runs[name].append(run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    first = next(iter(kinds))
    rows = [
        [
            {"without": "before the contract", "hash": "integrity=hash, the default", "full": "integrity=full"}[name],
            report.spread([r["wall"] for r in several], "{:.2f}"),
            report.spread([r["cpu"] for r in several], "{:.2f}"),
            f"{statistics.median(r['wall'] / o['wall'] for r, o in zip(several, runs[first])):.3f}",
            f"{statistics.median(r['cpu'] / o['cpu'] for r, o in zip(several, runs[first])):.3f}",
        ]
        for name, several in runs.items()
    ]
    head = ["the main job", "wall, s", "CPU, s", f"wall / {rows[0][0]}", "CPU"]
    about = report.machine()
    lines = [
        f"# What the run contract costs, {given.size}^3",
        "",
        __doc__.split("\n\n", 2)[2],
        *report.table(head, rows),
        "",
    ]
    lines += report.machine_lines(about)
    report.write(given.out, "contract", lines, {"machine": about, "runs": runs})
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
