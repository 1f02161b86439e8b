"""Runs: stopped and gone on with, looked at, verified, repaired, repeated; what is the same is taken over."""

from __future__ import annotations

import json
import shutil

import dask
import numpy as np
import pandas as pd
import pytest
import zarr
from click.testing import CliRunner

import bigbia
from bigbia import cli
from bigbia.errors import BlockError, InputError, RunError
from bigbia.graph.journal import Written
from bigbia.run import contract
from bigbia.run.inputs import open_input
from bigbia.run.ledger import FOLDER, Entry, Lines, entries_at, ledger_folder, root_of
from bigbia.run.partial import holder_of, led
from bigbia.run.pipeline import Pipeline

PIPELINE = """
bigbia: 1
steps:
  smooth: {op: filters.gaussian, image: input, sigma: 1}
  cut:    {op: filters.threshold_otsu, image: smooth}
  mask:   smooth > cut
  cells:  {op: measure.label, label_image: mask}
  big:    {op: morphology.remove_small_objects, image: cells, max_size: 3}
  table:  {op: measure.regionprops_table, label_image: big, intensity_image: input}
save:
  labels: {cells: big}
  images: {smooth: smooth}
  tables: {cells: table}
"""
OPTIONS = {"axes": None, "voxel_size": None, "level": 0, "channels": None, "region": None, "block": "16"}


@pytest.fixture
def work(monkeypatch):
    """How many blocks each step of each stage does."""
    seen: list[tuple[str, str, int, int]] = []
    end = contract.Run.end

    def noted(self, stage, step, failures=()):
        end(self, stage, step, failures)
        now = self.worked[-1]
        if now.by_block:
            seen.append((now.stage, now.step, now.done, now.skipped))

    monkeypatch.setattr(contract.Run, "end", noted)
    return seen


@pytest.fixture
def image(tmp_path):
    return volume(tmp_path / "in.zarr", np.random.default_rng(0).integers(0, 900, (30, 40, 50)).astype("u2"))


def volume(path, voxels):
    axes = "tczyx"[-voxels.ndim :] if voxels.ndim != 4 else "tzyx"
    chunks = tuple(1 if a in "tc" else 16 for a in axes)
    array = zarr.create_array(path, shape=voxels.shape, chunks=chunks, dtype=voxels.dtype, dimension_names=list(axes))
    array[...] = voxels
    return path


def run(image, out, pipeline=PIPELINE, settings=(), options=(), **more):
    plan = Pipeline.parse(pipeline).override(settings)
    opened = {**OPTIONS, **dict(options)}
    outputs = plan.outputs(plan.build(open_input(str(image), **opened)))
    origin = {"input": str(image), "options": opened}
    return bigbia.save(out, **outputs, chunks=8, levels=2, pipeline=plan.text, origin=origin, **more)


def root(path):
    return json.loads((path / FOLDER / "manifest.json").read_text())["root"]


def stopping(monkeypatch, after):
    """Blocks stop as if Ctrl-C had been pressed, once so many tasks are done."""
    done = contract.Run.done
    count = [0]

    def stop(self, stage, step, entry):
        count[0] += 1
        if count[0] > after:
            raise KeyboardInterrupt
        done(self, stage, step, entry)

    monkeypatch.setattr(contract.Run, "done", stop)
    return lambda: monkeypatch.setattr(contract.Run, "done", done)


@pytest.mark.parametrize("after", [1, 15, 45, 70])
def test_a_stopped_run_goes_on(image, tmp_path, work, monkeypatch, after):
    whole = run(image, tmp_path / "whole.zarr")
    tasks = sum(done for *_, done, _ in work)
    work.clear()
    monkeypatch.setitem(dask.config.config["bigbia"], "scratch", str(tmp_path / "scratch"))  # nothing is known there
    again = stopping(monkeypatch, after)
    with pytest.raises(KeyboardInterrupt):
        run(image, tmp_path / "out.zarr")
    again()
    assert not (tmp_path / "out.zarr").exists()
    assert not (tmp_path / "out.zarr.partial" / "zarr.json").exists()  # nothing that opens as an image
    with pytest.raises(InputError):
        bigbia.open(tmp_path / "out.zarr.partial")
    state = bigbia.status(tmp_path / "out.zarr")
    assert state.state == "stopped"
    assert "KeyboardInterrupt" in str(state)
    run(image, tmp_path / "out.zarr")
    assert root(tmp_path / "out.zarr") == root(whole)
    assert bigbia.verify(tmp_path / "out.zarr").ok
    assert bigbia.status(tmp_path / "out.zarr").state == "published"
    assert not (tmp_path / "out.zarr.partial").exists()
    assert tasks <= sum(done for *_, done, _ in work) <= tasks + 16  # those in flight


def test_what_is_another_run_is_refused_and_named(image, tmp_path, monkeypatch):
    again = stopping(monkeypatch, 20)
    with pytest.raises(KeyboardInterrupt):
        run(image, tmp_path / "out.zarr")
    again()
    with pytest.raises(
        RunError, match=r"another run that was stopped \(pipeline.steps.smooth.sigma: 1 -> 2\).*--restart"
    ):
        run(image, tmp_path / "out.zarr", settings=["smooth.sigma=2"])
    array = zarr.open_array(image)
    array[0, 0, 0] = 1 - int(array[0, 0, 0] > 0)
    with pytest.raises(RunError, match=r"\(input\..*in.zarr changed\)"):
        run(image, tmp_path / "out.zarr")
    run(image, tmp_path / "out.zarr", settings=["smooth.sigma=2"], restart=True)
    assert bigbia.verify(tmp_path / "out.zarr").ok


def test_a_run_that_did_nothing_leaves_nothing(image, tmp_path):
    with pytest.raises(RunError, match="exists"):
        run(image, image)
    (tmp_path / "blocked").write_text("")
    with pytest.raises(Exception, match="blocked"):
        run(image, tmp_path / "blocked" / "out.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blocked", "in.zarr"]


def test_a_run_is_led_by_one(image, tmp_path):
    partial = tmp_path / "out.zarr.partial"
    with led(partial):
        holder = holder_of(partial)
        assert holder is not None
        assert holder["pid"]
        with pytest.raises(RunError, match=rf"another run is writing here \(.*process {holder['pid']}, since"):
            run(image, tmp_path / "out.zarr")
    assert holder_of(partial) is None
    run(image, tmp_path / "out.zarr")


def test_a_holder_elsewhere_counts_while_it_shows_signs_of_life(tmp_path):
    import os
    import time

    lock = tmp_path / "out.zarr.partial" / FOLDER / "lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"host": "another-computer", "pid": 1, "since": "yesterday"}))
    with pytest.raises(RunError, match="another-computer"), led(tmp_path / "out.zarr.partial"):
        pass
    os.utime(lock, (time.time() - 3600,) * 2)
    with led(tmp_path / "out.zarr.partial"):
        pass


def test_files_that_were_packed_otherwise_are_not_taken_over(image, tmp_path, work, monkeypatch):
    run(image, tmp_path / "out.zarr")
    work.clear()
    run(image, tmp_path / "out.zarr", overwrite=True)
    assert not sum(done for *_, done, _ in work)
    monkeypatch.setattr("bigbia.run.fingerprint.ENCODING", "another")
    monkeypatch.setitem(dask.config.config["bigbia"], "scratch", str(tmp_path / "scratch"))  # nothing is known there
    run(image, tmp_path / "out.zarr", overwrite=True)
    assert sum(done for _, step, done, _ in work if step == "write") == 2 * 3 * 4


def test_a_damaged_file_is_found_and_only_its_block_made_again(image, tmp_path, work):
    out = run(image, tmp_path / "out.zarr")
    before = root(out)
    file = out / "labels/cells/0/c/1/2/3"
    data = bytearray(file.read_bytes())
    data[20] ^= 4
    file.write_bytes(data)
    (out / "images/smooth/1/c/0/0/0").unlink()
    found = bigbia.verify(out)
    assert {d.file for d in found.damaged} == {"labels/cells/0/c/1/2/3", "images/smooth/1/c/0/0/0"}
    assert "holds other bytes" in str(found)
    assert "is gone" in str(found)
    work.clear()
    assert bigbia.repair(out).ok
    assert root(out) == before
    assert sum(done for kind, step, done, _ in work if kind == "write") == 2


def test_the_manifest_and_the_ledger_are_verified_too(image, tmp_path):
    out = run(image, tmp_path / "out.zarr")
    ledger = next(ledger_folder(out).glob("write-*.jsonl"))
    text = ledger.read_bytes()
    ledger.write_bytes(text.replace(b'"files"', b'"filez"', 1))
    assert any("the ledger has lost its line" in d.what for d in bigbia.verify(out).damaged)
    ledger.write_bytes(text)
    assert bigbia.verify(out).ok
    manifest = out / FOLDER / "manifest.json"
    text = manifest.read_bytes()
    for change in (text[:-20], text.replace(b'"files": ', b'"files": 1', 1), b"", b"[]"):
        manifest.write_bytes(change)
        with pytest.raises(RunError, match="damaged"):
            bigbia.verify(out)
    manifest.write_bytes(text)
    (out / "zarr.json").write_text("{}")
    assert [d.file for d in bigbia.verify(out).damaged] == ["zarr.json"]


def test_the_same_again(image, tmp_path):
    out = run(image, tmp_path / "out.zarr")
    comparison = bigbia.rerun(out)
    assert comparison.same
    assert "the same bytes again" in str(comparison)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.zarr", "out.zarr"]
    array = zarr.open_array(image)
    array[:5] = 7
    with pytest.raises(RunError, match="would not be the same again"):
        bigbia.rerun(out)


def test_what_was_saved_from_python_says_how_to_make_it_again(tmp_path):
    out = bigbia.save(tmp_path / "a.zarr", np.ones((20, 20), "u1"))
    assert bigbia.verify(out).ok
    assert bigbia.repair(out).ok
    (out / "0/c/0/0").unlink()
    with pytest.raises(RunError, match=r"call bigbia.save with the same\s+arguments and overwrite=True"):
        bigbia.repair(out)
    bigbia.save(out, np.ones((20, 20), "u1"), overwrite=True)
    assert bigbia.verify(out).ok


def test_a_changed_parameter_runs_only_what_is_behind_it(image, tmp_path, work, monkeypatch):
    out = run(image, tmp_path / "out.zarr")
    work.clear()
    monkeypatch.setitem(dask.config.config["bigbia"], "scratch", str(tmp_path / "scratch"))  # nothing is known there
    run(image, out, settings=["big.max_size=9"], overwrite=True)
    assert {kind for kind, *_ in work} <= {"remove_small_objects", "write"}  # what the others found was kept
    fresh = run(image, tmp_path / "fresh.zarr", settings=["big.max_size=9"])
    assert root(out) == root(fresh)
    work.clear()
    run(image, out, settings=["big.max_size=9"], overwrite=True)
    assert work == []  # nothing changed: all of it is taken over
    assert root(out) == root(fresh)
    assert bigbia.verify(out).ok


def test_an_unchanged_image_is_not_written_again(image, tmp_path, work):
    out = run(image, tmp_path / "out.zarr")
    inode = (out / "images/smooth/0/c/0/0/0").stat().st_ino
    run(image, out, settings=["big.max_size=9"], overwrite=True)
    assert (out / "images/smooth/0/c/0/0/0").stat().st_ino == inode


def test_a_damaged_file_is_not_taken_over(image, tmp_path):
    out = run(image, tmp_path / "out.zarr")
    whole = root(out)
    file = out / "images/smooth/0/c/0/0/0"
    file.write_bytes(file.read_bytes()[:-1])
    for kept in (out / FOLDER / "kept").rglob("*"):
        if kept.is_file() and kept.suffix != ".records":
            kept.write_bytes(kept.read_bytes()[:-1])
    run(image, out, overwrite=True)
    assert root(out) == whole
    assert bigbia.verify(out).ok


@pytest.mark.parametrize("over", [None, "all"])
def test_only_an_appended_time_point_is_computed(tmp_path, work, over):
    rng = np.random.default_rng(1)
    voxels = rng.integers(0, 900, (4, 20, 24, 28)).astype("u2")
    image = volume(tmp_path / "in.zarr", voxels[:3])
    pipeline = (
        PIPELINE
        if over is None
        else PIPELINE.replace("threshold_otsu, image: smooth", "threshold_otsu, image: smooth, over: all")
    )
    options = {"axes": "tzyx", "block": "1,16,16,16"}
    out = run(image, tmp_path / "out.zarr", pipeline, options=options)
    array = zarr.open_array(image)
    array.resize(voxels.shape)
    array[3] = voxels[3]
    work.clear()
    run(image, out, pipeline, options=options, overwrite=True)
    written = [(done, skipped) for kind, _, done, skipped in work if kind == "write"]
    blocks = 2 * 2 * 2
    assert written == ([(blocks, 3 * blocks)] if over is None else [(4 * blocks, 0)])
    fresh = run(image, tmp_path / "fresh.zarr", pipeline, options=options)
    assert root(out) == root(fresh)
    assert bigbia.verify(out).ok
    tables = [pd.read_parquet(p / "tables/cells.parquet") for p in (out, fresh)]
    pd.testing.assert_frame_equal(*tables)
    assert sorted(set(tables[0]["t"])) == [0, 1, 2, 3]


def test_a_changed_time_point_is_computed_again(tmp_path, work):
    voxels = np.random.default_rng(1).integers(0, 900, (3, 20, 24, 28)).astype("u2")
    image = volume(tmp_path / "in.zarr", voxels)
    options = {"axes": "tzyx", "block": "1,16,16,16"}
    out = run(image, tmp_path / "out.zarr", options=options)
    zarr.open_array(image)[1, :5] = 3
    work.clear()
    run(image, out, options=options, overwrite=True)
    assert [(done, skipped) for kind, _, done, skipped in work if kind == "write"] == [(8, 16)]
    assert root(out) == root(run(image, tmp_path / "fresh.zarr", options=options))


def test_a_block_that_fails_is_set_aside_and_the_others_are_done(tmp_path):
    broken = [True]

    def kernel(block):
        if broken and block[0, 0] == 7:
            raise ZeroDivisionError("no luck")
        return block

    voxels = np.arange(64, dtype="u1").reshape(8, 8)
    voxels[4, 4] = 7
    voxels[0, 7] = 255

    def saved(**more):
        from bigbia.graph.dask import from_source

        class Source:
            shape, dtype, chunks, token = voxels.shape, voxels.dtype, (4, 4), "eight"

            def read(self, box):
                return voxels[tuple(slice(*b) for b in box)]

        return bigbia.save(tmp_path / "a.zarr", bigbia.window(kernel, from_source(Source(), 4)), chunks=4, **more)

    with pytest.raises(BlockError, match=r"y=4..7, x=4..7.*ZeroDivisionError: no luck"):
        saved()
    lines = next(ledger_folder(tmp_path / "a.zarr.partial").glob("write-*.write.jsonl"))
    assert sorted(e.block for _, e in entries_at(lines)) == [(0, 0), (0, 1), (1, 0)]
    saved(allow_missing=True)
    manifest = json.loads((tmp_path / "a.zarr" / FOLDER / "manifest.json").read_text())
    assert [m["block"] for m in manifest["missing"]] == [[1, 1]]
    assert "no luck" in manifest["missing"][0]["error"]
    got = zarr.open_array(tmp_path / "a.zarr" / "0")[...]
    expected = voxels.copy()
    expected[4:, 4:] = 0
    np.testing.assert_array_equal(got, expected)
    assert "missing since it was written" in str(bigbia.verify(tmp_path / "a.zarr"))
    broken.clear()
    saved(overwrite=True)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr" / "0")[...], voxels)
    assert not bigbia.verify(tmp_path / "a.zarr").missing


def test_full_integrity_reads_back(tmp_path, monkeypatch):
    from bigbia.io import durable

    real = durable.replace

    def lying(path, data):
        real(path, data[:-1] + bytes([data[-1] ^ 1]) if "/c/" in str(path) else data)

    monkeypatch.setattr(durable, "replace", lying)
    with dask.config.set({"bigbia.integrity": "full"}), pytest.raises(Exception, match="read back differs"):
        bigbia.save(tmp_path / "a.zarr", np.ones((8, 8), "u1"))
    assert not (tmp_path / "a.zarr").exists()


# ---- the ledger ------------------------------------------------------------------------------------------------------


def entry(block, *files):
    return Entry(block, tuple(files), 0.5, 1, "here:1", 10, 1.0)


def test_lines_that_were_cut_off_or_damaged_are_none(tmp_path):
    path = tmp_path / "x.jsonl"
    lines = Lines(path, (2, 3))
    for block in ((0, 0), (1, 2), (0, 0)):
        lines.add(entry(block))
    lines.close()
    whole = path.read_bytes()
    with open(path, "ab") as file:
        file.write(entry((1, 1)).line()[:-9])
    assert [e.block for e in Lines(path, (2, 3)).entries()] == [(0, 0), (1, 2)]
    more = Lines(path, (2, 3))
    more.add(entry((1, 0)))
    more.close()
    assert [e.block for e in Lines(path, (2, 3)).entries()] == [(0, 0), (1, 0), (1, 2)]
    for text in (b"{}\n", b"[1]\n", b"\xff\n", b'{"block": "x"}\n', b"[" * 100_000 + b"\n"):
        path.write_bytes(text + whole)
        assert [e.block for e in Lines(path, (2, 3)).entries()] == [(0, 0), (1, 2)]
    assert [e.block for e in Lines(path, (1, 1)).entries()] == [(0, 0)]  # of another grid: none of its blocks


def test_the_root_does_not_depend_on_the_order():
    files = [(f"c/{i}", i, f"{i:032x}") for i in range(9)]
    assert root_of(files) == root_of(files[::-1]) != root_of(files[1:])
    assert root_of([("a", 1, "x"), ("b", 1, "y")]) != root_of([("a", 1, "y"), ("b", 1, "x")])


@pytest.mark.slow
def test_the_ledger_of_many_blocks_takes_little_memory(tmp_path):
    import tracemalloc

    path = tmp_path / "x.jsonl"
    with open(path, "wb") as file:
        for block in np.ndindex(100, 50, 20):
            file.write(entry(block, Written("0/c/0/0/0", 100, "0" * 32)).line())
    tracemalloc.start()
    done, damaged = Lines(path, (100, 50, 20)).done(lambda e: True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert done.all()
    assert not damaged
    assert len(done) == 100_000
    assert peak < 60 * len(done)


# ---- the commands ----------------------------------------------------------------------------------------------------


def command(*words, code=0):
    result = CliRunner().invoke(cli.main, list(map(str, words)))
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def test_the_commands(image, tmp_path, monkeypatch):
    (tmp_path / "p.yaml").write_text(PIPELINE)
    out = tmp_path / "out.zarr"
    again = stopping(monkeypatch, 8)
    command("run", tmp_path / "p.yaml", image, "-o", out, "-q", "--block", 16, code=130)
    again()
    assert "stopped" in command("status", out)
    command("run", tmp_path / "p.yaml", image, "-o", out, "-q", "--set", "smooth.sigma=3", code=4)
    command("run", tmp_path / "p.yaml", image, "-o", out, "-q")  # with the block that it began with
    assert "published" in command("status", out)
    assert "intact" in command("verify", out)
    next(p for p in (out / "labels/cells/0/c").rglob("*") if p.is_file()).unlink()
    assert "is gone" in command("verify", out, code=3)
    assert "intact" in command("repair", out, "-q")
    assert "the same bytes" in command("rerun", out, "-q")
    assert "there is nothing" in command("verify", tmp_path / "no.zarr", code=3)
    assert "no output of bigbia" in command("status", image, code=3)
    shutil.rmtree(out)


def test_many_images_are_one_run(tmp_path):
    (tmp_path / "p.yaml").write_text(PIPELINE)
    rng = np.random.default_rng(0)
    images = [volume(tmp_path / f"{name}.zarr", rng.integers(0, 900, (20, 20, 20)).astype("u2")) for name in "abc"]
    shutil.rmtree(images[1] / "c")
    (images[1] / "zarr.json").write_text("{}")
    words = ["run", tmp_path / "p.yaml", *images, "-o", tmp_path / "out", "--block", 16]
    said = command(*words, code=4)
    assert "2 done, 1 failed" in said
    assert "b.zarr" in said
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *(FOLDER, "a.zarr", "c.zarr", "summary.html", "tables")
    ]
    before = {n: root(tmp_path / "out" / f"{n}.zarr") for n in "ac"}
    images[1] = volume(tmp_path / "d.zarr", rng.integers(0, 900, (20, 20, 20)).astype("u2"))
    words[3] = images[1]
    assert "1 done, 2 done before" in command(*words)
    assert {n: root(tmp_path / "out" / f"{n}.zarr") for n in "ac"} == before
    assert [i["state"] for i in json.loads((tmp_path / "out" / FOLDER / "batch.json").read_text())["images"]] == [
        "done before",
        "done",
        "done before",
    ]
    other = tmp_path / "more"
    other.mkdir()
    shutil.copytree(images[0], other / "a.zarr")
    assert "both would be" in command(
        "run", tmp_path / "p.yaml", images[0], other / "a.zarr", "-o", tmp_path / "x", code=2
    )
    assert not (tmp_path / "x").exists()


def test_a_batch_whose_first_images_all_fail_stops(tmp_path):
    (tmp_path / "p.yaml").write_text(PIPELINE)
    images = [tmp_path / f"none{i}.zarr" for i in range(9)]
    said = command("run", tmp_path / "p.yaml", *images, "-o", tmp_path / "out", code=4)
    assert "the first 5 images all failed" in said


def test_a_block_is_chosen_that_fits_and_what_cannot_fit_is_refused(tmp_path):
    import dask.array as da

    from bigbia.hyperstack import hyperstack

    (tmp_path / "p.yaml").write_text(PIPELINE)
    zeros = hyperstack(da.zeros((512, 512, 512), chunks=32, dtype="u2"), "zyx")
    image = tmp_path / "big.zarr"
    zarr.create_array(image, shape=zeros.shape, chunks=(32,) * 3, dtype="u2", dimension_names=list("zyx"))
    small = command("explain", tmp_path / "p.yaml", image, "--memory", "520 MiB", "--threads", 2)
    large = command("explain", tmp_path / "p.yaml", image, "--memory", "8 GiB", "--threads", 2)
    assert "128 x 128 x 256" in large
    assert "128 x 128 x 256" not in small
    said = command(
        "run", tmp_path / "p.yaml", image, "-o", tmp_path / "o.zarr", "--memory", "360 MiB", "--threads", 8, code=2
    )
    assert "more than the 360 MiB that may be used" in said
    assert not list(tmp_path.glob("o.zarr*"))


def test_an_output_as_a_crate(image, tmp_path):
    out = run(image, tmp_path / "out.zarr")
    command("crate", out)
    graph = json.loads((out / "ro-crate-metadata.json").read_text())["@graph"]
    assert any(one.get("@type") == "CreateAction" for one in graph)
    assert bigbia.verify(out).ok


def test_what_was_replaced_while_the_process_was_killed_is_no_run(image, tmp_path, monkeypatch):
    """Killed between the swap of the names and the removal: the old output lies where a run would."""
    from bigbia.run import partial

    out = run(image, tmp_path / "out.zarr")
    old = root(out)
    monkeypatch.setattr(partial.os, "rename", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(image, out, settings=["smooth.sigma=2"], overwrite=True)
    monkeypatch.undo()
    if root(out) == old:
        pytest.skip("this system has no swap of names")
    assert root(tmp_path / "out.zarr.partial") == old
    run(image, out, settings=["smooth.sigma=3"], overwrite=True)
    assert bigbia.verify(out).ok
    assert not (tmp_path / "out.zarr.partial").exists()


def test_rounds_that_may_be_older_than_they_say_are_done_again(image, tmp_path, monkeypatch):
    pipeline = PIPELINE.replace(
        "{op: measure.label, label_image: mask}", "{op: segmentation.watershed, image: smooth, mask: mask}"
    )
    whole = run(image, tmp_path / "whole.zarr", pipeline)
    monkeypatch.setitem(dask.config.config["bigbia"], "scratch", str(tmp_path / "scratch"))
    begun = []
    begin = contract.Run.begin

    def stop(self, stage, step):
        begun.append((stage.kind, step))
        if stage.kind == "watershed" and step == "done":
            raise KeyboardInterrupt
        return begin(self, stage, step)

    monkeypatch.setattr(contract.Run, "begin", stop)
    with pytest.raises(KeyboardInterrupt):
        run(image, tmp_path / "out.zarr", pipeline)
    monkeypatch.setattr(contract.Run, "begin", begin)
    record = tmp_path / "out.zarr.partial" / FOLDER / "run.json"
    text = json.loads(record.read_text())
    text["sessions"][-1]["boot"] = "an earlier one"
    record.write_text(json.dumps(text))
    forgotten = []
    forget = contract.Run.forget
    monkeypatch.setattr(contract.Run, "forget", lambda self, stage: (forgotten.append(stage.kind), forget(self, stage)))
    run(image, tmp_path / "out.zarr", pipeline)
    assert forgotten[0] == "watershed"
    assert root(tmp_path / "out.zarr") == root(whole)
