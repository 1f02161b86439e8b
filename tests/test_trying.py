"""Several values of one parameter: what is counted, what is shared, what is drawn, what is refused."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from click.testing import CliRunner
from skimage import measure
from test_contract import Array

import bigbia
from bigbia.cli_try import try_
from bigbia.errors import MissingExtraError, ParameterError, RunError
from bigbia.graph.dask import from_source
from bigbia.hyperstack import hyperstack
from bigbia.run import tried_picture
from bigbia.run.pipeline import Pipeline
from bigbia.run.pipeline_builder import PipelineBuilder
from bigbia.run.trying import tried_on, try_values

TEXT = """bigbia: 1
steps:
  smooth: {op: filters.gaussian, image: input, sigma: 1}
  cut: {op: filters.threshold_otsu, image: smooth}
  mask: smooth > cut
  all: {op: measure.label, label_image: mask}
  large: {op: morphology.remove_small_objects, image: all, max_size: 3}
  table: {op: measure.regionprops_table, label_image: all}
save:
  labels: {large: large}
  tables: {t: table}
"""
VOXELS = np.random.default_rng(0).integers(0, 999, (12, 40, 50)).astype("u2")


def image(counted=None):
    return hyperstack(from_source(counted or Array(VOXELS), (6, 20, 25)), "zyx", "0.5, 0.25, 0.25 um")


@pytest.fixture
def cells(tmp_path):
    return bigbia.save(tmp_path / "cells.zarr", hyperstack(VOXELS, "zyx", "0.5, 0.25, 0.25 um"), chunks=16)


def counted(sigma, size):
    smooth = np.asarray(bigbia.filters.gaussian(VOXELS, sigma))
    labels = measure.label(smooth > float(bigbia.filters.threshold_otsu(smooth)), connectivity=None)
    sizes = np.bincount(labels.ravel())[1:]
    sizes = sizes[sizes > size]
    return len(sizes), float(np.median(sizes)), sizes.sum() / VOXELS.size


def test_the_figures_are_right():
    found = tried_on(Pipeline.parse(TEXT), "smooth.sigma", ["0.5", "1", "2"], image())
    for row, sigma in zip(found.rows, (0.5, 1, 2)):
        objects, median, share = counted(sigma, 3)
        assert (row.objects, row.foreground) == (objects, pytest.approx(share))
        assert row.median == pytest.approx(median * 0.5 * 0.25 * 0.25)
        assert row.labels == "large"
    assert found.unit == "µm³"
    head, *lines = str(found).splitlines()
    assert head.split() == ["smooth.sigma", "objects", "median", "µm³", "foreground", "seconds"]
    assert lines[1].split()[:2] == ["1", str(found.rows[1].objects)]


def test_what_is_shared_is_computed_once():
    alone, both = [], []
    for values, reads in ((["3"], alone), (["3", "10", "30", "100"], both)):
        other = Array(VOXELS + len(values), chunks=(6, 20, 25))
        found = tried_on(Pipeline.parse(TEXT), "large.max_size", values, image(other))
        reads.append(other.reads)
        assert [row.objects for row in found.rows] == sorted((r.objects for r in found.rows), reverse=True)
    # The middle slice that is drawn is read for each; smoothing and labelling, which read it all, are not done again.
    plane_blocks = 4
    assert both[0] <= alone[0] + 3 * plane_blocks


def test_times_and_channels_count_by_themselves():
    stack = hyperstack(from_source(Array(np.stack([VOXELS, VOXELS])), (2, 6, 20, 25)), "tzyx")
    both = tried_on(Pipeline.parse(TEXT), "smooth.sigma", ["1"], stack).rows[0]
    one = tried_on(Pipeline.parse(TEXT), "smooth.sigma", ["1"], image()).rows[0]
    assert both.objects == 2 * one.objects
    assert both.foreground == pytest.approx(one.foreground)
    assert both.panel[0].shape == (40, 50)


def test_the_channel_that_was_segmented_is_drawn():
    voxels = np.stack([np.zeros_like(VOXELS), VOXELS])
    stack = hyperstack(from_source(Array(voxels), (1, 6, 20, 25)), "czyx", channels=["other", "nuclei"])
    text = TEXT.replace("image: input, sigma", "image: part, sigma").replace(
        "steps:", "steps:\n  part: {op: select, image: input, c: nuclei}"
    )
    row = tried_on(Pipeline.parse(text), "smooth.sigma", ["1"], stack).rows[0]
    np.testing.assert_array_equal(row.panel[1], VOXELS[6])


def test_a_value_that_fails_when_it_is_computed_is_a_row(monkeypatch):
    text = (
        TEXT.replace("sigma: 1}", "sigma: 0.3}")
        .replace("max_size: 3", "max_size: 0")
        .replace("mask}", "mask, connectivity: 1}")
    )
    found = tried_on(Pipeline.parse(text), "all.dtype", ["uint8", "uint16"], image())
    assert "objects do not fit uint8" in found.rows[0].error
    assert found.rows[1].objects > 255
    assert "uint8: " in str(found)

    def broken(*_):
        raise ZeroDivisionError("of a\nkernel")

    monkeypatch.setattr("bigbia.run.trying._counted", broken)
    found = tried_on(Pipeline.parse(TEXT), "smooth.sigma", ["1"], image())
    assert [row.error for row in found.failed] == ["ZeroDivisionError: of a kernel"]


def test_the_command(cells, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(TEXT)
    words = ["p.yaml", "cells.zarr", "smooth.sigma", "3 parsecs", "0.2um", "0.5 um", "-o", "tried", "--region", "z=2:8"]
    result = CliRunner().invoke(try_, words)
    assert result.exit_code == 0, result.output
    assert "3 parsecs: p.yaml: step 'smooth'" in result.output
    assert '--set smooth.sigma="0.2um"' in result.output
    with open(tmp_path / "tried" / "tried.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [r["value"] for r in rows] == ["3 parsecs", "0.2um", "0.5 um"]
    part = bigbia.open(cells).isel(z=slice(2, 8))
    expected = Pipeline.parse(TEXT).override(["smooth.sigma=0.2um"]).build(part)["large"]
    assert int(rows[1]["objects"]) == len(np.unique(expected)) - 1
    assert "median (µm³)" in rows[0]
    assert rows[0]["objects"] == "" and "parsecs" in rows[0]["error"]  # noqa: PT018
    picture = (tmp_path / "tried" / "tried.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    with pytest.raises(RunError, match=r"tried.csv exists: choose another folder, or replace it with --overwrite"):
        CliRunner().invoke(try_, words, catch_exceptions=False)
    assert CliRunner().invoke(try_, [*words, "--overwrite"]).exit_code == 0
    with pytest.raises(ParameterError, match=r"'1 parsec': is .* voxels along z"):
        CliRunner().invoke(try_, [*words[:3], "1 parsec", "2 parsec"], catch_exceptions=False)


def test_the_picture_shows_each_value():
    matplotlib = pytest.importorskip("matplotlib.image")
    from io import BytesIO

    found = tried_on(Pipeline.parse(TEXT), "smooth.sigma", ["0.5", "1", "2", "4", "x y"], image())
    assert [bool(row.error) for row in found.rows] == [False] * 4 + [True]
    out = BytesIO()
    tried_picture.draw(found, out)
    out.seek(0)
    pixels = matplotlib.imread(out)[..., :3]
    assert pixels.shape[1] > pixels.shape[0], "three and two panels"
    labels, grey = found.rows[1].panel
    shown = tried_picture.over(labels, grey)
    ground = shown[labels == 0]
    assert (ground == ground[:, :1]).all(), "what is no object is grey"
    colours = {tuple(c) for c in shown[labels != 0].tolist()}
    assert len(colours) > len(np.unique(labels)), "objects are in colour, over the image"
    inner, outer = np.zeros((7, 7), "u4"), np.zeros((7, 7), bool)
    inner[1:6, 1:6], outer[1:6, 1:6] = 3, True
    outer[2:5, 2:5] = False
    np.testing.assert_array_equal((inner != 0) & tried_picture._outline(inner), outer)


def test_values_of_python(cells, tmp_path):
    p = PipelineBuilder.parse(TEXT)
    found = p.try_values(
        "smooth.sigma", [1, [1, 2, 2], np.float64(0.5), "0.5 um"], cells, settings=["large.max_size=0"]
    )
    assert [row.value for row in found.rows] == ["1", "[1, 2, 2]", "0.5", "0.5 um"]
    assert not found.failed, str(found)
    found = p.try_values("mask", ["smooth > cut", "smooth > 1.1 * cut"], cells, region="z=0:6")
    assert found.rows[0].foreground > found.rows[1].foreground > 0
    assert not list(tmp_path.glob("tried*"))


WRONG = [
    ("smoth.sigma", ["1"], "there is no step 'smoth': did you mean 'smooth'"),
    ("smooth.sgima", ["1"], "has no parameter 'sgima'"),
    ("smooth", ["1"], "say which parameter of it, for instance smooth.sigma"),
    ("table.spacing", ["um"], "no saved labels depend on 'table'"),
    ("smooth.sigma", [], "there are no values"),
    ("smooth.sigma", "0.5 um", "must be a list"),
    ("smooth.sigma", ["1", "1"], "the value 1 is there twice"),
    ("smooth.sigma", [dict], "a type is no value"),
    ("smooth.sigma", list(range(65)), "65 values are more than a picture holds"),
    ("mask", ["smooth >"], "is not an expression"),
]


@pytest.mark.parametrize(("parameter", "values", "said"), WRONG, ids=[f"{p} {str(v)[:30]}" for p, v, _ in WRONG])
def test_what_is_wrong_is_refused(cells, parameter, values, said):
    with pytest.raises(ParameterError, match=said) as caught:
        try_values(Pipeline.parse(TEXT), parameter, values, cells)
    assert "\n" not in str(caught.value)


def test_without_labels_or_matplotlib(cells, tmp_path, monkeypatch):
    with pytest.raises(ParameterError, match="saves no labels, so there are no objects to count"):
        try_values(Pipeline.parse(TEXT.replace("  labels: {large: large}\n", "")), "smooth.sigma", ["1"], cells)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'needs the package matplotlib: pip install "bigbia\[demo\]"'):
        try_values(Pipeline.parse(TEXT), "smooth.sigma", ["1"], cells, output=tmp_path / "tried")
