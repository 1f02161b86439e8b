"""A run of very many blocks: the memory of the process that leads it must not grow with them.

    python benchmarks/blocks.py --blocks 10000,100000,1000000

A stage whose blocks do nothing but leave a record of a few bytes every thousandth time, under the ledger: what remains is
what the run contract costs a block, and what the leading process holds. Then the run is gone on with: how long it takes
to look at what is done. Each count in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import report
from measure import measure, python

HERE = Path(__file__).resolve().parent


def job(blocks: int, folder: str) -> None:
    import numpy as np

    from bigbia.graph.boxes import Grid
    from bigbia.graph.stages import Stage, block_name
    from bigbia.run.execute import execute
    from bigbia.run.sessions import running

    class Idle(Stage):
        kind = "idle"
        steps = ("block", "done")
        block_steps = frozenset({"block"})

        def indices(self, step):
            return [()]

        def run(self, step, index, blocks=None):
            if step == "done":
                self.folder.finish()
            elif not sum(index) % 1000:
                self.folder.write(block_name("block", index), {"place": np.array(index)})

    side = round(blocks ** (1 / 3))
    stage = Idle("idle", [], Grid.regular((side,) * 3, (1,) * 3))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    parts = {"pipeline": None, "input": {}, "output": {"blocks": len(stage.grid)}, "versions": {}}
    how = {"overwrite": False, "restart": False, "resumable": True, "allow_missing": False}
    taken = []
    for turn in range(2):
        start = time.perf_counter()
        try:
            with running(Path(folder) / "out.zarr", parts, **how) as run:
                run.settle(stage)
                if turn:
                    stage.folder.file("done").unlink()
                    run.begin(stage, "block")
                else:
                    execute([stage], run=run, scheduler="threads")
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            taken.append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    ledger = sum(p.stat().st_size for p in (Path(folder) / "out.zarr.partial/_bigbia/ledger").iterdir())
    print(
        json.dumps(
            {
                "blocks": len(stage.grid),
                "first": taken[0],
                "again": taken[1],
                "before": before,
                "after": after,
                "ledger": ledger,
            }
        )
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", default="10000,100000,1000000")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.job:
        job(int(given.job[0]), given.job[1])
        return 0
    results = []
    for count in map(int, given.blocks.split(",")):
        folder = tempfile.mkdtemp(prefix="blocks-")
        try:
            found = measure(python("blocks.py", "--job", count, folder), 3600)
            results.append({**json.loads(found["output"].splitlines()[-1]), "cpu": found["cpu"]})
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    head = ["blocks", "us a block", "looking again, us a block", "memory before", "at the peak", "ledger"]
    rows = [
        [
            f"{r['blocks']:,}",
            f"{r['first'] / r['blocks'] * 1e6:.0f}",
            f"{r['again'] / r['blocks'] * 1e6:.0f}",
            report.gib(r["before"]),
            report.gib(r["after"]),
            report.gib(r["ledger"]),
        ]
        for r in results
    ]
    lines = ["# Very many blocks", "", __doc__.split("\n\n", 2)[2], *report.table(head, rows), ""]
    about = report.machine()
    lines += report.machine_lines(about)
    report.write(given.out, "blocks", lines, {"machine": about, "runs": results})
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
