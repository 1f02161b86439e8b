"""Three filters in a row over a volume that is a formula, reduced to one number: memory must not grow with the volume.

    python benchmarks/stream.py                   64 GiB; --gib 1,8,64 for several

Median of 3, Gaussian of sigma 1, Sobel magnitude, and the share of voxels above 10, of a float32 volume of waves and noise
that is computed where it is read. Each size in a fresh process under one memory setting.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import report
from measure import measure, python

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Waves:
    """Waves along every axis and a hash of the place for noise."""

    shape: tuple[int, ...]

    dtype = np.dtype(np.float32)
    chunks = (128, 128, 128)

    @property
    def token(self) -> str:
        return f"waves-{self.shape}"

    def read(self, box: Sequence[tuple[int, int]]) -> np.ndarray:
        axes = [np.arange(a, b, dtype=np.uint32) for a, b in box]
        wave = [np.sin(at.astype(np.float32) * np.float32(0.1 * (k + 1))) * 100 for k, at in enumerate(axes)]
        out = wave[0][:, None, None] + wave[1][:, None] + wave[2]
        noise = (axes[0] * np.uint32(73856093))[:, None, None] ^ (axes[1] * np.uint32(19349663))[:, None]
        noise = noise ^ axes[2] * np.uint32(83492791)
        out += (noise >> np.uint32(8)) % np.uint32(64)
        return out


def job(gib: float, threads: int) -> None:
    import dask

    from bigbia import filters
    from bigbia.graph.dask import from_source

    depth = int(gib * 2**30 / 4 / 2048**2)
    image = from_source(Waves((depth, 2048, 2048)), 128)
    edges = filters.sobel(filters.gaussian(filters.median(image), 1))
    began = time.perf_counter()
    with dask.config.set(scheduler="threads", num_workers=threads):
        share = float((edges > 10).mean().compute())
    print(
        json.dumps(
            {"voxels": image.size, "blocks": image.npartitions, "share": share, "seconds": time.perf_counter() - began}
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", default=[64.0], type=lambda t: [float(w) for w in t.split(",")], help="sizes (64)")
    parser.add_argument("--threads", type=int, default=2, help="threads (2)")
    parser.add_argument("--limit", type=float, default=3600, help="seconds after which a size is given up (3600)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        job(given.gib[0], given.threads)
        return 0
    found = []
    for gib in given.gib:
        run = measure(python("stream.py", "--job", "--gib", gib, "--threads", given.threads), given.limit)
        found.append({"gib": gib, "finished": run["finished"], "peak": run["peak"], "cpu": run["cpu"]})
        found[-1] |= json.loads(run["output"]) if run["finished"] else {}
        print(found[-1], file=sys.stderr)
    rows = [
        [
            f"{r['gib']:g} GiB",
            f"{r['blocks']:,}",
            f"{r['seconds']:.0f}",
            f"{1e9 * r['cpu'] / r['voxels']:.1f}",
            f"{r['peak'] / 2**30:.2f}",
            f"{r['share']:.6f}",
        ]
        for r in found
        if r["finished"]
    ]
    lines = [
        "# Three filters over a volume that is a formula",
        "",
        "Median of 3, Gaussian of sigma 1, Sobel magnitude, share of voxels above 10; float32, blocks of 128^3, "
        f"{given.threads} threads. Made by `python benchmarks/stream.py`.",
        "",
        *report.table(
            ["volume", "blocks", "seconds", "CPU, ns/voxel (formula included)", "peak memory, GiB", "share above 10"],
            rows,
        ),
        "",
        *report.machine_lines(report.machine()),
    ]
    report.write(given.out, "stream", lines, {"machine": report.machine(), "runs": found})
    print("\n".join(lines))
    return 0 if all(r["finished"] for r in found) else 1


if __name__ == "__main__":
    sys.exit(main())
