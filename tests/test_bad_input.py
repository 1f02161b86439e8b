"""What is refused: in one line that names the path, axis or step, gives the figure and the way out, before
anything is computed or written."""

from __future__ import annotations

import os
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner

import bigbia
from bigbia.cli import main
from bigbia.errors import BigbiaError
from bigbia.hyperstack import hyperstack

PIPELINE = """bigbia: 1
steps:
  smooth: {op: filters.gaussian, image: input, sigma: SIGMA}
  cut:    {op: filters.threshold_otsu, image: smooth}
  mask:   smooth > cut
  nuclei: {op: measure.label, label_image: mask}
save:
  labels: {nuclei: nuclei}
"""


@pytest.fixture
def here(tmp_path):
    """A folder with good and bad things in it."""
    image = np.random.default_rng(0).integers(0, 1000, (6, 20, 20)).astype("u2")
    tifffile.imwrite(tmp_path / "good.tif", image, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "four.tif", np.zeros((2, 3, 8, 8), "u1"), photometric="minisblack")
    (tmp_path / "text.tif").write_text("no image")
    zarr.save_array(tmp_path / "complex.zarr", np.zeros((4, 4), "c8"))
    zarr.save_array(tmp_path / "empty.zarr", np.zeros((0, 4), "u1"))
    (tmp_path / "p.yaml").write_text(PIPELINE.replace("SIGMA", "1"))
    (tmp_path / "unit.yaml").write_text(PIPELINE.replace("SIGMA", "0.5 um"))
    (tmp_path / "negative.yaml").write_text(PIPELINE.replace("SIGMA", "-2"))
    (tmp_path / "operator.yaml").write_text(PIPELINE.replace("SIGMA", "1").replace("gaussian", "gausian"))
    (tmp_path / "parameter.yaml").write_text(PIPELINE.replace("sigma: SIGMA", "sgima: 1"))
    (tmp_path / "step.yaml").write_text(PIPELINE.replace("SIGMA", "1").replace("smooth > cut", "smoth > cut"))
    bigbia.save(tmp_path / "taken.zarr", hyperstack(np.zeros((4, 4), "u1"), "yx"))
    return tmp_path


RUNS = [
    (["p.yaml", "absent.tif", "-o", "o.zarr"], 3, "absent.tif"),
    (["p.yaml", "text.tif", "-o", "o.zarr"], 3, "text.tif"),
    (["p.yaml", "four.tif", "-o", "o.zarr"], (2, 3), "axes"),
    (["p.yaml", "complex.zarr", "-o", "o.zarr"], 3, "complex"),
    (["p.yaml", "empty.zarr", "-o", "o.zarr"], 3, "empty"),
    (["unit.yaml", "good.tif", "-o", "o.zarr"], 2, "voxel size"),
    (["negative.yaml", "good.tif", "-o", "o.zarr"], 2, "-2"),
    (["p.yaml", "good.tif", "-o", "taken.zarr"], 4, "overwrite"),
    (["p.yaml", "good.tif", "-o", "no/such/folder/o.zarr"], 5, "no/such/folder"),
    (["operator.yaml", "good.tif", "-o", "o.zarr"], 2, "gaussian"),
    (["parameter.yaml", "good.tif", "-o", "o.zarr"], 2, "sigma"),
    (["step.yaml", "good.tif", "-o", "o.zarr"], 2, "smooth"),
    (["p.yaml", "good.tif", "-o", "o.zarr", "--set", "smoth.sigma=2"], 2, "smooth"),
    (["p.yaml", "good.tif", "-o", "o.zarr", "--voxel-size", "0.3, 0.3, 0.3"], 2, "um"),
    (["p.yaml", "good.tif", "-o", "o.zarr", "--set", "smooth.sigma=0.5"], 0, ""),
    (["p.yaml", "good.tif", "-o", "taken.zarr", "--overwrite"], 0, ""),
]


@pytest.mark.parametrize(("arguments", "code", "said"), RUNS, ids=[" ".join(r[0]) for r in RUNS])
def test_bigbia_run(here, monkeypatch, arguments, code, said):
    monkeypatch.chdir(here)
    before = sorted(p.name for p in here.iterdir())
    result = CliRunner().invoke(main, ["run", *arguments, "--quiet"])
    output = result.output + (result.stderr if result.stderr not in result.output else "")
    codes = code if isinstance(code, tuple) else (code,)
    assert result.exit_code in codes, output
    assert said in output
    if result.exit_code:
        assert "Traceback" not in output
        assert len([line for line in output.strip().splitlines() if line.startswith("bigbia: error")]) == 1
        assert sorted(p.name for p in here.iterdir()) == before


def test_a_folder_that_cannot_be_written(here, monkeypatch):
    folder = here / "locked"
    folder.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder)
    with pytest.raises(BigbiaError, match=r"locked.*cannot be written"):
        bigbia.save(folder / "o.zarr", hyperstack(np.zeros((4, 4), "u1"), "yx"))


IMAGE = np.zeros((6, 20, 20), "u2")
CALLS = {
    "shards that are not whole chunks": (
        lambda p: bigbia.save(p, IMAGE, chunks=8, shards=12),
        "12 voxels is not a whole number of chunks of 8; use 16",
    ),
    "nothing to save": (bigbia.save, "nothing to save"),
    "a name that leaves the folder": (lambda p: bigbia.save(p, labels={"../x": IMAGE}), "no name"),
    "a float image as labels": (lambda p: bigbia.save(p, labels={"a": IMAGE * 0.5}), "no labels"),
    "an array of four axes without names": (lambda p: bigbia.save(p, np.zeros((2, 2, 2, 2))), "axes"),
    "a negative sigma": (lambda p: bigbia.filters.gaussian(IMAGE, -1), "negative"),
    "a length without a voxel size": (lambda p: bigbia.filters.gaussian(IMAGE, "0.5 um"), "voxel size"),
    "a length without a unit": (lambda p: bigbia.filters.gaussian(hyperstack(IMAGE, "zyx"), "0.5"), "0.5"),
    "an unknown mode": (lambda p: bigbia.filters.gaussian(IMAGE, 1, mode="nearst"), "did you mean 'nearest'"),
    "rescaling": (lambda p: bigbia.filters.gaussian(IMAGE, 1, preserve_range=False), "65535"),
    "connectivity out of range": (lambda p: bigbia.measure.label(IMAGE, connectivity=4), "1 to 3"),
    "labels of floats": (lambda p: bigbia.measure.label(IMAGE * 0.5), "compare"),
    "a background the image cannot have": (lambda p: bigbia.measure.label(IMAGE, background=-1), "0 to 65535"),
    "an unknown property": (
        lambda p: bigbia.measure.regionprops_table(IMAGE, properties=["aera"]),
        "did you mean 'area'",
    ),
    "intensity without an image": (
        lambda p: bigbia.measure.regionprops_table(IMAGE, properties=["intensity_mean"]),
        "needs an intensity_image",
    ),
    "images of two shapes": (lambda p: bigbia.measure.regionprops_table(IMAGE, IMAGE[1:]), "same image"),
    "a halo of half a voxel": (lambda p: bigbia.window(np.abs, IMAGE, halo=0.5), "whole numbers"),
    "an empty footprint": (lambda p: bigbia.morphology.erosion(IMAGE, np.zeros((3, 3, 3))), "empty"),
    "a footprint of other axes": (lambda p: bigbia.morphology.erosion(IMAGE, np.ones((3, 3))), "2 axes"),
    "blocks of unknown size": (
        lambda p: bigbia.filters.gaussian(da.zeros((9,), chunks=3)[da.zeros((9,), chunks=3) > 0], 1),
        "compute_chunk_sizes",
    ),
    "bins below one": (lambda p: bigbia.filters.threshold_otsu(IMAGE, nbins=0), "nbins=0"),
    "an image that is none": (lambda p: bigbia.filters.gaussian([1, 2], 1), "list"),
    "dims that are not ours": (
        lambda p: bigbia.filters.gaussian(hyperstack(IMAGE, "zyx").rename(z="depth"), 1),
        "depth",
    ),
    "an unknown scheduler": (lambda p: bigbia.save(p, IMAGE, scheduler="slurm"), "threads"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_calls(tmp_path, call):
    function, said = call
    with pytest.raises(BigbiaError) as caught:
        function(tmp_path / "o.zarr")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_more_labels_than_numbers_stops_before_any_is_written(tmp_path):
    mask = da.from_array(np.arange(4000) % 2 == 0, chunks=100)
    labels = bigbia.measure.label(mask, dtype="uint8")
    message = r'2000 objects do not fit uint8 \(at most 255\); nothing was written. Pass dtype="uint16"'
    with pytest.raises(BigbiaError, match=message):
        labels.compute()
    with pytest.raises(BigbiaError, match=message):
        bigbia.save(tmp_path / "o.zarr", labels={"n": labels.reshape(40, 100)})
    assert not list(tmp_path.iterdir())
    assert bigbia.measure.label(mask, dtype="uint16").max().compute() == 2000


NAN = np.where(np.arange(400).reshape(20, 20) == 42, np.nan, 1.0)
BELOW = np.where(np.arange(400).reshape(20, 20) == 42, -1, 1).astype("i4")
VOXELS = {
    "a table of labels below zero": (
        lambda p: bigbia.save(p, tables={"t": bigbia.measure.regionprops_table(da.from_array(BELOW, chunks=10))}),
        r"label -1 in the block y=0\.\.9, x=0\.\.9: labels are 1 or more",
    ),
    "a threshold of NaN": (
        lambda p: bigbia.save(p, da.from_array(NAN, chunks=10) > bigbia.filters.threshold_otsu(NAN)),
        r"holds nan at voxel \(2, 2\).*replace it first",
    ),
    "numbers for labels below zero": (
        lambda p: bigbia.save(p, labels={"a": bigbia.segmentation.relabel_sequential(da.from_array(BELOW, chunks=10))}),
        r"label -1 in the block .*set it to 0 first",
    ),
}  # fmt: skip


@pytest.mark.parametrize("call", VOXELS.values(), ids=VOXELS)
def test_what_only_the_voxels_tell_is_named_and_nothing_is_published(tmp_path, call):
    function, said = call
    with pytest.raises(BigbiaError, match=said) as caught:
        function(tmp_path / "o.zarr")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "o.zarr").exists()
