"""A TIFF to sharded OME-Zarr with its pyramid: speed against that of reading it, and peak memory.

Both in processes of their own, on all threads, in the same blocks, in turns; the seconds are those of the work, without
starting Python; peak memory is the system's, of the whole process. "warm": the file is in the page cache, so that
reading is copying; "cold": it comes from the disk. "the disk alone" writes as many bytes, in as many files, as the
conversion leaves, each brought to the disk: a conversion cannot be quicker than that.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import report
from measure import measure, python

HERE = Path(__file__).resolve().parent
PLANE = 8 << 20
KINDS = {"contiguous": "ImageJ hyperstack, contiguous", "tiled": "OME-TIFF, tiles of 256 x 256, zlib"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4.0, help="of the contiguous file")
    parser.add_argument("--tiled-gib", type=float, default=1.0, help="of the compressed one; 0 leaves it out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, default=HERE / "data")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args(argv)
    given.data.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="convert-", dir=given.data))
    runs: list[dict[str, Any]] = []
    try:
        for kind, gib in (("contiguous", given.gib), ("tiled", given.tiled_gib)):
            if gib:
                runs += _of_kind(folder, kind, gib, given.repeats)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    about = report.machine()
    lines = ["# A TIFF to sharded OME-Zarr", "", __doc__.split("\n\n", 1)[1], *_table(runs), "", *_peak(runs), ""]
    report.write(given.out, "convert", [*lines, *report.machine_lines(about)], {"machine": about, "runs": runs})
    print("\n".join(lines))
    return 0


def _of_kind(folder: Path, kind: str, gib: float, repeats: int) -> list[dict[str, Any]]:
    place, out = folder / f"{kind}.tif", folder / "out.zarr"
    planes = max(1, round(gib * 2**30 / PLANE))
    _measured(python("jobs/convert_data.py", place, kind, planes))
    _measured(python("jobs/convert_run.py", "read", place, out))  # what is imported first is in no figure
    runs = []
    for turn in range(repeats):
        for cold in (False, True):
            for what in ("read", "convert", "write"):
                if what == "write" and cold:
                    continue
                if what == "convert":
                    shutil.rmtree(out, ignore_errors=True)
                found = _measured(python("jobs/convert_run.py", what, place, out, *(["cold"] if cold else [])))
                seconds = json.loads(found["output"].splitlines()[-1])["seconds"]
                size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) if out.exists() else 0
                one = {"kind": kind, "gib": planes * PLANE / 2**30, "turn": turn, "cold": cold, "what": what}
                runs.append({**one, "seconds": seconds, "cpu": found["cpu"], "peak": found["peak"], "written": size})
                shutil.rmtree(f"{out}.bytes", ignore_errors=True)
                print(json.dumps(runs[-1]), flush=True)
    place.unlink()
    shutil.rmtree(out, ignore_errors=True)
    return runs


def _measured(command: list[str]) -> dict[str, Any]:
    found = measure(command, 3600)
    assert found["finished"], found["output"]
    return found


def _table(runs: list[dict[str, Any]]) -> list[str]:
    rows = []
    for kind, name in KINDS.items():
        for cold in (False, True):
            mine = {what: _seconds(runs, kind, cold, what) for what in ("read", "convert", "write")}
            if not mine["read"]:
                continue
            gib = next(r["gib"] for r in runs if r["kind"] == kind)
            ratio = statistics.median(r / c for r, c in zip(mine["read"], mine["convert"]))
            speed = [report.spread([gib * 1024 / s for s in mine[what]], "{:.0f}") for what in ("read", "convert")]
            disk = report.spread([gib * 1024 / s for s in mine["write"]], "{:.0f}") if mine["write"] else ""
            rows.append([f"{name}, {gib:g} GiB, {'cold' if cold else 'warm'}", *speed, f"{ratio:.0%}", disk])
    return report.table(
        ["", "reading, MiB/s", "converting, MiB/s", "of reading", "the disk alone, MiB/s of voxels"], rows
    )


def _seconds(runs: list[dict[str, Any]], kind: str, cold: bool, what: str) -> list[float]:
    return [r["seconds"] for r in runs if (r["kind"], r["cold"], r["what"]) == (kind, cold, what)]


def _peak(runs: list[dict[str, Any]]) -> list[str]:
    converted = [r for r in runs if r["what"] == "convert"]
    packed = {r["kind"]: r["written"] / (r["gib"] * 2**30) for r in converted}
    cpu = {k: statistics.median(r["cpu"] / r["gib"] for r in converted if r["kind"] == k) for k in packed}
    words = [f"{KINDS[k]}: {packed[k]:.2f} of the voxels' bytes, {cpu[k]:.1f} s of CPU a GiB" for k in packed]
    peak = max(r["peak"] for r in converted)
    return [f"Peak memory of a converting process: {peak / 2**20:.0f} MiB. Written: {'; '.join(words)}."]


if __name__ == "__main__":
    sys.exit(main())
