"""Batches: plates, folders, patterns; small images as tasks, large ones as runs; what fails, what is joined, what goes on."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner

import bigbia
from bigbia import cli
from bigbia.errors import BigbiaWarning, InputError, ParameterError
from bigbia.graph import at_hand
from bigbia.io.tables import read_table
from bigbia.run import batch, batch_inputs, pipeline_run, small
from bigbia.run.batch_inputs import inputs_of
from bigbia.run.ledger import FOLDER
from bigbia.run.pipeline import Pipeline
from bigbia.run.recipe import recipe_of

PIPELINE = """
bigbia: 1
steps:
  smooth: {op: filters.gaussian, image: input, sigma: 1}
  cut:    {op: filters.threshold_otsu, image: smooth}
  mask:   smooth > cut
  cells:  {op: measure.label, label_image: mask}
  split:  {op: segmentation.split_touching, mask: mask, min_distance: 4}
  table:  {op: measure.regionprops_table, label_image: cells, intensity_image: input}
save:
  labels: {cells: cells, split: split}
  images: {smooth: smooth, mask: mask}
  tables: {cells: table}
"""


def command(*words, code=0):
    found = CliRunner().invoke(cli.main, [str(w) for w in words], catch_exceptions=False)
    assert found.exit_code == code, found.output
    return found.output


def picture(seed, shape=(70, 90)):
    rng = np.random.default_rng(seed)
    noise = rng.random(shape)
    for axis in range(len(shape)):
        for _ in range(3):
            noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    return ((noise - noise.min()) / np.ptp(noise) * 4000).astype("u2")


@pytest.fixture
def files(tmp_path):
    """A folder of images of two kinds, and what is no image; and a pipeline."""
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(4):
        tifffile.imwrite(folder / f"im{k}.tif", picture(k), resolution=(4, 4), metadata={"unit": "um"}, imagej=True)
    tifffile.imwrite(folder / "deep.tif", picture(9, (12, 40, 40)), metadata={"axes": "ZYX"}, imagej=True)
    (folder / "notes.txt").write_text("of the day")
    (tmp_path / "p.yaml").write_text(PIPELINE)
    return folder


def all_files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def arrays_of(root):
    return {name: data for name, data in all_files(root).items() if "/c/" in name or name.startswith("tables")}


def the_same(first, second):
    """Voxels and tables, byte by byte; the metadata but for what is known of the run alone."""
    a, b = all_files(first), all_files(second)
    own = {n for n in {*a, *b} if n.startswith(FOLDER)}
    assert {*a} - own == {*b} - own
    for name in {*a} - own:
        if name.startswith("tables"):
            left, right = read_table(first / name), read_table(second / name)
            assert left.equals(right)
            assert left.attrs.get("units") == right.attrs.get("units")
        elif name.endswith(".json"):
            assert json.loads(a[name]) == json.loads(b[name]), name
        else:
            assert a[name] == b[name], name


def test_a_small_image_comes_out_as_in_a_run_of_its_own(files, tmp_path):
    said = command("run", tmp_path / "p.yaml", files, "-o", tmp_path / "out")
    assert "5 done" in said
    for name in ("im0", "im3", "deep"):
        (tmp_path / "alone").mkdir(exist_ok=True)
        command("run", tmp_path / "p.yaml", files / f"{name}.tif", "-o", tmp_path / "alone" / f"{name}.zarr", "-q")
        the_same(tmp_path / "out" / f"{name}.zarr", tmp_path / "alone" / f"{name}.zarr")
        assert bigbia.verify(tmp_path / "out" / f"{name}.zarr").ok
    assert not (tmp_path / "out" / batch.NEW).exists()


def test_threads_and_blocks_do_not_show(files, tmp_path, monkeypatch):
    command("run", tmp_path / "p.yaml", files, "-o", tmp_path / "one", "--threads", 1, "-q")
    command("run", tmp_path / "p.yaml", files, "-o", tmp_path / "four", "--threads", 4, "--block", 16, "-q")
    monkeypatch.setattr(small, "VOXELS", 6500)  # the flat ones of 6300 voxels are small, the deep one is not
    command("run", tmp_path / "p.yaml", files, "-o", tmp_path / "large", "-q")
    assert (tmp_path / "large" / "deep.zarr" / FOLDER / "report.html").exists()  # a run of its own
    assert not (tmp_path / "large" / "im0.zarr" / FOLDER / "report.html").exists()
    for name in ("im1", "deep"):
        for other in ("four", "large"):
            the_same(tmp_path / "one" / f"{name}.zarr", tmp_path / other / f"{name}.zarr")
    tables = [read_table(tmp_path / folder / "tables" / "cells.parquet") for folder in ("one", "four", "large")]
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_an_output_of_a_batch_is_repeated_and_mended_as_any(files, tmp_path):
    command("run", tmp_path / "p.yaml", files, "-o", tmp_path / "out", "-q")
    out = tmp_path / "out" / "im2.zarr"
    assert "the same" in command("rerun", out, "-q") or bigbia.rerun(out).differing == []
    before = arrays_of(out)
    (out / "labels/cells/0/c/0/0").write_bytes(b"something else")
    assert not bigbia.verify(out).ok
    command("repair", out, "-q")
    assert bigbia.verify(out).ok
    assert arrays_of(out) == before


def test_tables_are_joined_in_the_order_of_the_images(files, tmp_path, monkeypatch):
    command("run", tmp_path / "p.yaml", files / "im?.tif", "-o", tmp_path / "out", "-q")
    table = read_table(tmp_path / "out" / "tables" / "cells.parquet")
    assert list(table.columns[:2]) == ["image", "label"]
    own = [read_table(tmp_path / "out" / f"im{k}.zarr" / "tables" / "cells.parquet") for k in range(4)]
    assert list(table["image"]) == [f"im{k}" for k in range(4) for _ in range(len(own[k]))]
    assert table.attrs.get("units") == own[0].attrs.get("units")
    np.testing.assert_array_equal(table["area"], np.concatenate([t["area"] for t in own]))
    # Rows that are not at hand are read from the outputs.
    monkeypatch.setattr("bigbia.run.batch_tables.HELD", 0)
    monkeypatch.setattr("bigbia.run.batch_tables.TOGETHER", 3)
    command("run", tmp_path / "p.yaml", files / "im?.tif", "-o", tmp_path / "again", "-q")
    assert read_table(tmp_path / "again" / "tables" / "cells.parquet").equals(table)


def test_images_with_other_columns_are_left_out_of_the_joined_table_and_named(files, tmp_path):
    said = command("run", tmp_path / "p.yaml", files, "-o", tmp_path / "out")  # "deep" has three axes, and comes first
    assert "4 images have other columns than deep and are left out, first im0" in said
    assert set(read_table(tmp_path / "out" / "tables" / "cells.parquet")["image"]) == {"deep"}


@pytest.fixture
def plate(tmp_path):
    """Wells A1 with two fields, A2 and B1 with one."""
    root = zarr.open_group(tmp_path / "screen.zarr", mode="w")
    fields = {"A/1": ["0", "1"], "A/2": ["0"], "B/1": ["0"]}
    wells = [{"path": p, "rowIndex": "AB".index(p[0]), "columnIndex": int(p[2]) - 1} for p in fields]
    about = {"rows": [{"name": "A"}, {"name": "B"}], "columns": [{"name": "1"}, {"name": "2"}], "wells": wells}
    root.attrs["ome"] = {"version": "0.5", "plate": {**about, "name": "screen"}}
    for seed, (path, names) in enumerate(fields.items()):
        root.require_group(path).attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": n} for n in names]}}
        for n in names:
            image = bigbia.hyperstack.hyperstack(picture(10 * seed + int(n)), "yx", voxel_size="0.5 um")
            bigbia.save(tmp_path / "screen.zarr" / path / n, image=image)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    return tmp_path / "screen.zarr"


def test_a_plate_is_a_batch_of_its_fields(plate, tmp_path):
    assert [(i.name, i.columns["well"]) for i in inputs_of([str(plate)])] == [
        ("A1_0", "A1"),
        ("A1_1", "A1"),
        ("A2", "A2"),
        ("B1", "B1"),
    ]
    command("run", tmp_path / "p.yaml", plate, "-o", tmp_path / "out", "-q")
    table = read_table(tmp_path / "out" / "tables" / "cells.parquet")
    assert list(table.columns[:3]) == ["image", "well", "field"]
    assert set(zip(table["image"], table["well"], table["field"])) == {
        ("screen", "A1", "0"),
        ("screen", "A1", "1"),
        ("screen", "A2", "0"),
        ("screen", "B1", "0"),
    }
    mask = bigbia.open(tmp_path / "out" / "A1_1.zarr" / "labels" / "cells").to_numpy()
    assert (table[(table.well == "A1") & (table.field == "1")].label == np.arange(1, mask.max() + 1)).all()
    page = (tmp_path / "out" / "summary.html").read_text()
    assert "Plate screen" in page
    assert f"A1: {(table.well == 'A1').sum()} objects" in page


def test_an_image_that_fails_does_not_stop_the_others_and_is_named(files, tmp_path):
    data = (files / "im1.tif").read_bytes()
    (files / "im1.tif").write_bytes(data[: len(data) // 2])
    said = command("run", tmp_path / "p.yaml", files / "im*.tif", "-o", tmp_path / "out", code=4)
    assert "3 done, 1 failed" in said
    assert "im1.tif" in said
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *(FOLDER, "im0.zarr", "im2.zarr", "im3.zarr", "summary.html", "tables")
    ]
    assert "im1.tif" in (tmp_path / "out" / "summary.html").read_text()
    assert set(read_table(tmp_path / "out" / "tables" / "cells.parquet")["image"]) == {"im0", "im2", "im3"}
    (files / "im1.tif").write_bytes(data)
    said = command("run", tmp_path / "p.yaml", files / "im*.tif", "-o", tmp_path / "out")
    assert "1 done, 3 done before" in said
    assert set(read_table(tmp_path / "out" / "tables" / "cells.parquet")["image"]) == {"im0", "im1", "im2", "im3"}


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_batch_that_is_stopped_goes_on(files, tmp_path, monkeypatch, after):
    command("run", tmp_path / "p.yaml", files / "im*.tif", "-o", tmp_path / "whole", "-q")
    count, make = [0], small.Kind.make

    def stopping(self, *words):
        count[0] += 1
        if count[0] > after:
            raise KeyboardInterrupt
        return make(self, *words)

    monkeypatch.setattr(small.Kind, "make", stopping)
    command("run", tmp_path / "p.yaml", files / "im*.tif", "-o", tmp_path / "out", "--threads", 1, code=130)
    there = list((tmp_path / "out").glob("*.zarr"))
    assert len(there) <= after
    assert all(bigbia.verify(p).ok for p in there)  # whole, or not there
    monkeypatch.setattr(small.Kind, "make", make)
    before = {p.name: p.stat().st_ino for p in there}
    said = command("run", tmp_path / "p.yaml", files / "im*.tif", "-o", tmp_path / "out")
    assert f"{4 - len(there)} done" in said
    assert {p.name: p.stat().st_ino for p in there} == before  # not made again
    for k in range(4):
        the_same(tmp_path / "out" / f"im{k}.zarr", tmp_path / "whole" / f"im{k}.zarr")


def test_another_pipeline_is_not_put_over_an_output_unless_asked(files, tmp_path):
    words = ("run", tmp_path / "p.yaml", files / "im*.tif", "-o", tmp_path / "out")
    command(*words, "-q")
    before = arrays_of(tmp_path / "out" / "im0.zarr")
    said = command(*words, "--set", "smooth.sigma=2", code=4)
    assert "im0.zarr: exists, made in another way" in said
    assert arrays_of(tmp_path / "out" / "im0.zarr") == before
    command(*words, "--set", "smooth.sigma=2", "--overwrite", "-q")
    assert arrays_of(tmp_path / "out" / "im0.zarr") != before
    assert bigbia.verify(tmp_path / "out" / "im0.zarr").ok
    tifffile.imwrite(files / "im0.tif", picture(77), resolution=(4, 4), metadata={"unit": "um"}, imagej=True)
    said = command(*words, "--set", "smooth.sigma=2", "--overwrite")
    assert "1 done, 3 done before" in said


def test_a_part_of_an_image_is_the_part(files, tmp_path, monkeypatch):
    tifffile.imwrite(files / "im9.tif", picture(3, (80, 100)), resolution=(4, 4), metadata={"unit": "um"}, imagej=True)
    words = ("run", tmp_path / "p.yaml", files / "im[0149].tif", "--region", "y=20:60,x=10:50", "-q")
    command(*words, "-o", tmp_path / "out")
    monkeypatch.setattr(small, "VOXELS", 5000)  # the part has 1600, but the images have more: they are not read whole
    command(*words, "-o", tmp_path / "large")
    for name in ("im0", "im1", "im9"):
        assert (tmp_path / "large" / f"{name}.zarr" / FOLDER / "report.html").exists()
        the_same(tmp_path / "out" / f"{name}.zarr", tmp_path / "large" / f"{name}.zarr")


def test_only_what_is_an_output_is_replaced(files, tmp_path):
    words = ("run", tmp_path / "p.yaml", files / "im0.tif", files / "im1.tif", "-o", tmp_path / "out")
    (tmp_path / "out" / "im0.zarr").mkdir(parents=True)
    (tmp_path / "out" / "im0.zarr" / "thesis.txt").write_text("years of work")
    assert "im0.zarr: exists" in command(*words, "--restart", code=4)
    assert "is no Zarr folder" in command(*words, "--overwrite", code=4)
    assert (tmp_path / "out" / "im0.zarr" / "thesis.txt").read_text() == "years of work"


def test_what_many_images_have_in_common_is_said_once(tmp_path):
    (tmp_path / "p.yaml").write_text(PIPELINE)
    for k in range(8):
        zarr.create_array(tmp_path / f"bare{k}.zarr", data=picture(k))
    said = command("run", tmp_path / "p.yaml", tmp_path / "bare*.zarr", "-o", tmp_path / "out")
    assert said.count("nothing says which axes") == batch.NOTES + 1
    assert f"and {8 - batch.NOTES} more images: nothing says which axes" in said


def test_notes_come_through_whatever_threads_do_to_the_filters(recwarn):
    filters = list(warnings.filters)
    with batch.gathered_notes():
        first, second = warnings.catch_warnings(), warnings.catch_warnings()
        first.__enter__()
        warnings.simplefilter("ignore")
        second.__enter__()
        first.__exit__(None, None, None)
        second.__exit__(None, None, None)  # "ignore" is left behind, as by two threads
        warnings.warn("/data/a.tif: is odd", BigbiaWarning, stacklevel=1)
        warnings.warn("/data/a.tif: is odd", BigbiaWarning, stacklevel=1)
    assert [str(w.message) for w in recwarn] == ["/data/a.tif: is odd"]
    assert warnings.filters == filters


def test_patterns_folders_and_names_that_lead_to_nothing_are_refused(files, tmp_path):
    run = ("run", tmp_path / "p.yaml")
    out = ("-o", tmp_path / "out")
    said = command(*run, files / "*.png", *out, code=3)
    assert "*.png: matches nothing" in said
    assert "deep.tif, im0.tif, im1.tif, im2.tif and 2 more" in said
    assert "none of them an image (notes.txt)" in command(*run, files / "*.txt", *out, code=3)
    assert "does not exist" in command(*run, tmp_path / "nowhere" / "*.tif", *out, code=3)
    (tmp_path / "empty").mkdir()
    assert "is a folder without an image; it holds nothing" in command(*run, tmp_path / "empty", *out, code=3)
    said = command(*run, files / "im0.tif", files / "im*.tif", *out, code=2)
    assert "im0.tif is there twice" in said
    shutil.copytree(files, tmp_path / "more")
    said = command(*run, files / "im0.tif", tmp_path / "more" / "im0.tif", *out, code=2)
    assert "both would be im0.zarr" in said
    assert not (tmp_path / "out").exists()
    assert "sigma='nonsense'" in command(*run, files, *out, "--set", "smooth.sigma=nonsense", code=4)
    assert [p.name for p in (tmp_path / "out").iterdir()] == [FOLDER]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(files, tmp_path):
    shutil.copy(files / "im0.tif", files / "a[1].tif")
    assert [i.name for i in inputs_of([str(files / "a[1].tif")])] == ["a[1]"]
    assert batch_inputs.stem("x/y.ome.zarr/") == "y"
    assert batch_inputs.stem(".zarr") == ".zarr"
    with pytest.raises(ParameterError, match="twice"):
        inputs_of([str(files), str(files / "im0.tif")])
    with pytest.raises(InputError, match="matches nothing"):
        inputs_of([str(files / "*.nd2")])


def test_python_runs_many_as_the_command_does(files, plate, tmp_path):
    p = bigbia.pipeline.load(tmp_path / "p.yaml")
    command("run", tmp_path / "p.yaml", plate, "-o", tmp_path / "out", "-q")
    found = p.run(plate, tmp_path / "mine")
    assert [image.state for image in found.images] == ["done"] * 4
    the_same(tmp_path / "mine" / "A1_1.zarr", tmp_path / "out" / "A1_1.zarr")
    one = p.run(plate, tmp_path / "one.zarr", well="A1", field="1")
    assert arrays_of(one).keys() == arrays_of(tmp_path / "out" / "A1_1.zarr").keys()
    found = p.run([files / "im0.tif", files / "none.tif"], tmp_path / "two")
    assert [image.state for image in found.images] == ["done", "failed"]
    assert found.tables == {"cells.parquet": found.images[0].rows["cells"]}


def test_labels_of_a_plate_go_into_its_fields(plate, tmp_path):
    text = PIPELINE.replace("  images: {smooth: smooth, mask: mask}\n", "")
    (tmp_path / "labels.yaml").write_text(text)
    before = {n: d for n, d in all_files(plate).items() if "/0/c/" in n}
    assert "into the images: 4 done" in command("run", tmp_path / "labels.yaml", plate, "--into-input")
    assert {n: d for n, d in all_files(plate).items() if n in before} == before
    command("run", tmp_path / "labels.yaml", plate, "-o", tmp_path / "out", "-q")
    for well, name in (("A/1/1", "A1_1"), ("B/1/0", "B1")):
        inside, beside = (
            bigbia.open(p / "labels" / "cells") for p in (plate / well, tmp_path / "out" / f"{name}.zarr")
        )
        np.testing.assert_array_equal(inside, beside)
        assert bigbia.verify(plate / well / "labels" / "split").ok
    said = command("run", tmp_path / "labels.yaml", plate, "--into-input", code=4)
    assert "exists" in said


def test_processes_do_each_image_as_a_run(files, tmp_path):
    command("run", tmp_path / "p.yaml", files / "im0.tif", files / "im1.tif", "-o", tmp_path / "out", "-q")
    given = pipeline_run.checked({})
    recipe = recipe_of(Pipeline.load(tmp_path / "p.yaml"), given)
    inputs = inputs_of([str(files / "im0.tif"), str(files / "im1.tif")])
    each = replace(recipe, threads=False)
    found = batch.run_batch(tmp_path / "each", inputs, each, {})
    assert [image.state for image in found.images] == ["done", "done"]
    the_same(tmp_path / "out" / "im1.zarr", tmp_path / "each" / "im1.zarr")


def test_what_is_kept_in_memory_is_copied_in_and_out(tmp_path):
    kept = at_hand.Kept(tmp_path / "none")
    mine = np.arange(6).reshape(2, 3)
    kept.write("a/0", {"x": mine, "n": np.array(3)})
    mine[:] = 0
    kept.read("a/0")["x"][:] = 7
    np.testing.assert_array_equal(kept.read("a/0", "x")["x"], np.arange(6).reshape(2, 3))
    assert kept.read("a/0")["n"].shape == ()
    np.testing.assert_array_equal(kept.read_rows("a/0", "x", 1, 2), [[3, 4, 5]])
    kept.write("a/0", {"x": mine}, replace=False)
    assert kept.read("a/0")["x"].any()
    kept.finish()
    assert kept.complete
    assert sorted(kept.records()) == ["a/0", "done"]
    kept.remove("a")
    with pytest.raises(bigbia.errors.StorageError, match="a/0 is missing"):
        kept.read("a/0")
    assert not (tmp_path / "none").exists()
