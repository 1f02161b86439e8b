"""Many small images against one large one of as many pixels: the same pipeline, the same command.

    python benchmarks/batch.py --sides 256,512,1024 --images 1000 --repeats 3

Pictures of nuclei, uint16, as TIFF files; Gaussian, Otsu, objects split at their necks, a table. The large image holds
the small ones side by side, so objects and pixels are alike. Each run is a fresh process, measured from outside; they
take turns. Rate: pixels a second of the whole command, its start included.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import report
from measure import measure

HERE = Path(__file__).resolve().parent
BIGBIA = [sys.executable, "-m", "bigbia.cli", "run"]
PIPELINES = {
    "label": ("nuclei: {op: measure.label, label_image: mask}", "gaussian, otsu, label, table"),
    "split": (
        "nuclei: {op: segmentation.split_touching, mask: mask, min_distance: 5}",
        "gaussian, otsu, split_touching, table",
    ),
}
PIPELINE = """\
bigbia: 1
steps:
  smooth: {{op: filters.gaussian, image: input, sigma: 2}}
  cut:    {{op: filters.threshold_otsu, image: smooth}}
  mask:   smooth > cut
  {objects}
  table:  {{op: measure.regionprops_table, label_image: nuclei, intensity_image: input}}
save:
  labels: {{nuclei: nuclei}}
  tables: {{nuclei: table}}
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default="256,512,1024", help="pixels a side of a small image")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pipelines", default=",".join(PIPELINES))
    parser.add_argument("--data", type=Path, default=HERE / "data")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args(argv)
    given.data.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": report.machine(), "rows": []}
    for side in map(int, given.sides.split(",")):
        folder = Path(tempfile.mkdtemp(prefix="batch-", dir=given.data))
        try:
            write_images(folder, given.images, side)
            for name in given.pipelines.split(","):
                (folder / "pipeline.yaml").write_text(PIPELINE.format(objects=PIPELINES[name][0]))
                results["rows"].append({"side": side, "pipeline": name, **compared(folder, given.repeats)})
                print(lines_of(results)[-1])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    report.write(given.out, "batch", lines_of(results), results)
    print("\n".join(lines_of(results)))
    return 0


def write_images(folder: Path, count: int, side: int) -> None:
    """The small images, and the large one that they make up."""
    import tifffile

    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    across = math.isqrt(count - 1) + 1
    down = -(-count // across)
    large = np.zeros((down * side, across * side), np.uint16)
    for k in range(count):
        picture = nuclei(rng, side)
        tifffile.imwrite(folder / "images" / f"image{k:04d}.tif", picture, resolution=(3, 3), metadata={"axes": "YX"})
        y, x = divmod(k, across)
        large[y * side : (y + 1) * side, x * side : (x + 1) * side] = picture
    tifffile.imwrite(folder / "large.tif", large, metadata={"axes": "YX"})


def nuclei(rng: np.random.Generator, side: int) -> np.ndarray:
    """Bright discs of 12 to 20 pixels, some of which touch, on a noisy ground: one every 1600 pixels."""
    picture = rng.normal(200, 20, (side, side))
    for _ in range(max(1, side * side // 1600)):
        y, x, r = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(6, 10)
        top, left = max(0, int(y - r)), max(0, int(x - r))
        rows, columns = np.mgrid[top : min(side, int(y + r) + 2), left : min(side, int(x + r) + 2)]
        picture[top : top + rows.shape[0], left : left + rows.shape[1]] += 800.0 * (
            (rows - y) ** 2 + (columns - x) ** 2 < r * r
        )
    return np.clip(picture, 0, 65535).astype(np.uint16)


def compared(folder: Path, repeats: int) -> dict[str, Any]:
    """Both, in turns; the first turn, in which kernels are compiled, is not counted."""
    pixels = sum(1 for _ in (folder / "images").iterdir())
    runs: dict[str, list[dict[str, Any]]] = {"small": [], "large": []}
    for turn in range(repeats + 1):
        for name, word, out in (("small", "images", "results"), ("large", "large.tif", "large.zarr")):
            run = measure(
                [*BIGBIA, str(folder / "pipeline.yaml"), str(folder / word), "-o", str(folder / out), "-q"], 7200
            )
            assert run["finished"], run["output"]
            shutil.rmtree(folder / out)
            if turn:
                runs[name].append({k: run[k] for k in ("wall", "cpu", "peak")})
    return {"images": pixels, "runs": runs}


def lines_of(results: dict[str, Any]) -> list[str]:
    rows = []
    for row in results["rows"]:
        small, large = row["runs"]["small"], row["runs"]["large"]
        pixels = row["images"] * row["side"] ** 2
        walls = [statistics.median(r["wall"] for r in runs) for runs in (small, large)]
        cpus = [statistics.median(r["cpu"] for r in runs) for runs in (small, large)]
        side = math.isqrt(row["images"] - 1) + 1
        larger = side * -(-row["images"] // side) / row["images"]  # the large one has empty places at its end
        rows.append(
            [
                f"{row['images']} of {row['side']} x {row['side']}: {PIPELINES[row['pipeline']][1]}",
                report.spread([r["wall"] for r in small]),
                report.spread([r["wall"] for r in large]),
                f"{pixels / walls[0] / 1e6:.1f}",
                f"{pixels * larger / walls[1] / 1e6:.1f}",
                f"{100 * walls[1] / larger / walls[0]:.0f} %",
                f"{cpus[0]:.1f} / {cpus[1]:.1f}",
                f"{max(r['peak'] for r in small) / 2**20:.0f} / {max(r['peak'] for r in large) / 2**20:.0f}",
            ]
        )
    head = ["image", "small, s", "large, s", "small, Mpixel/s", "large, Mpixel/s", "rate", "CPU s", "peak MiB"]
    return [
        "# Many small images against one large one",
        "",
        "Small images against one of as many pixels; medians (least..most). `python benchmarks/batch.py`",
        "",
        *report.machine_lines(results["machine"]),
        "",
        *report.table(head, rows),
    ]


if __name__ == "__main__":
    sys.exit(main())
