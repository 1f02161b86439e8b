"""Predicted memory against what tasks take, in fresh processes; admission; blocks that fit; disks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import dask
import numpy as np
import pytest
from cases import CASES

import bigbia
from bigbia.errors import BigbiaWarning, ParameterError, StorageError
from bigbia.graph import cache, cost
from bigbia.graph.boxes import Grid
from bigbia.graph.dask import from_source, node_of
from bigbia.io import synthetic
from bigbia.run import admission
from bigbia.run.admission import admit, fitting_block, halved_block
from bigbia.run.memory import largest_task, predicted, stages_for

HERE = Path(__file__).parent
MIB = 1 << 20
FEW = ("gaussian", "label", "distance_transform_edt", "watershed-lines", "regionprops_table")
linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")


def fresh(*words: object, limit: float = 500) -> list[dict]:
    """What the probe found in a process of its own: a line of JSON each."""
    paths = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "BIGBIA_SCRATCH": str(dask.config.get("bigbia.scratch")),
    }
    command = [sys.executable, str(HERE / "memory_probe.py"), *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def wrong(found: dict[str, dict[str, list[int]]]) -> list[str]:
    """Tasks that took more than was foretold, and those foretold to be more than three times what the largest took."""
    out = []
    for dtype, steps in found.items():
        for name, (foretold, took, _) in steps.items():
            if took > 1.1 * foretold + NOISE:
                out.append(f"{dtype} {name}: {took / MIB:.1f} MiB, {foretold / MIB:.1f} foretold")
        foretold, took = (max(step[k] for step in steps.values()) for k in (0, 1))
        if foretold > 3 * took + 4 * MIB:
            out.append(f"{dtype}: at most {took / MIB:.1f} MiB, {foretold / MIB:.1f} foretold")
    return out


NOISE = 3 * MIB  # what a process grows by in any case: first uses, the allocator's own pieces


# ---- calibration -----------------------------------------------------------------------------------------------------
@linux
@pytest.mark.slow
def test_tasks_take_what_was_foretold():
    lines = fresh(96, *FEW)
    assert tuple(line["case"] for line in lines) == FEW
    assert {line["case"]: wrong(line["found"]) for line in lines if wrong(line["found"])} == {}
    assert all(max(step[1] for steps in line["found"].values() for step in steps.values()) > NOISE for line in lines)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_operator_takes_what_was_foretold(name):
    (line,) = fresh(112, name)
    assert wrong(line["found"]) == []


@linux
@pytest.mark.slow
def test_objects_of_noise_take_what_was_foretold():
    """Runs of one voxel and a half: the most of them that memory is foretold for."""
    (line,) = fresh(96, "noise")
    assert wrong(line["found"]) == []


@linux
def test_writing_takes_what_was_foretold():
    (line,) = fresh(128, "writing")
    found = {name: step for steps in line["found"].values() for name, step in steps.items()}
    assert {"write: write", "pyramid: level"} <= found.keys()
    assert wrong(line["found"]) == []


@linux
def test_python_and_its_libraries_take_what_is_reserved():
    """After every kind of kernel has been loaded, and outputs of every kind were written."""
    (line,) = fresh(0, "libraries")
    assert cache.RESERVED / 1.5 <= line["peak"] <= cache.RESERVED


# ---- a run -----------------------------------------------------------------------------------------------------------
def nuclei(block: object = 256, size: int = 1024) -> dict:
    image = from_source(synthetic.source("nuclei", (size,) * 3), block)
    smooth = bigbia.filters.gaussian(image, 2)
    labels = bigbia.measure.label(smooth > bigbia.filters.threshold_otsu(smooth))
    return {"labels": {"nuclei": labels}, "tables": {"nuclei": bigbia.measure.regionprops_table(labels, image)}}


def test_a_run_that_fits_is_admitted_with_its_figures(tmp_path):
    stages = stages_for(nuclei(), (128,) * 3)
    found = admit(stages, threads=2, limit=4 << 30, destination=tmp_path / "out.zarr", bytes_written=4 << 20)
    assert found.bytes == found.peak.fixed + 2 * found.peak.largest.bytes <= 4 << 30
    assert found.peak.largest.bytes == max(largest_task(stage).bytes for stage in stages)
    assert json.loads(json.dumps(found.record))["predicted_peak"] == found.bytes
    assert "of 4.0 GiB that may be used" in str(found)


@pytest.mark.parametrize(("threads", "limit"), [(8, 1 << 30), (16, 2 << 30), (2, 640 << 20), (64, 4 << 30)])
def test_what_a_refusal_names_fits(threads, limit):
    stages = stages_for(nuclei(), (64,) * 3)
    with pytest.raises(
        ParameterError, match=r"a task x .* more than the .* that may be used \(bigbia.memory\)"
    ) as caught:
        admit(stages, threads=threads, limit=limit)
    message = str(caught.value)
    assert "\n" not in message
    named = re.search(r"use block \((.*?)\)", message)
    fewer = re.search(r"(\d+) threads?$", message)
    assert named or fewer
    if named:
        smaller = stages_for(nuclei(tuple(map(int, named[1].split(", ")))), (64,) * 3)
        admit(smaller, threads=threads, limit=limit)
    if fewer:
        admit(stages, threads=int(fewer[1]), limit=limit)
        assert predicted(stages, int(fewer[1]) + 1, limit).bytes > limit


def test_where_nothing_fits_the_least_is_named():
    stages = stages_for(nuclei(64), (64,) * 3)
    with pytest.raises(ParameterError, match=r"one thread alone takes (\d+) MiB") as caught:
        admit(stages, threads=2, limit=360 * MIB)
    least = int(re.search(r"alone takes (\d+) MiB", str(caught.value))[1])
    assert predicted(stages, 1, 360 * MIB).bytes <= (least + 1) * MIB


def test_a_block_is_found_that_fits():
    seen = []

    def build(block):
        seen.append(block)
        return stages_for(nuclei(block), (64,) * 3)

    limit = 640 * MIB
    block = fitting_block(build, (256, 256, 256), (1024,) * 3, (64,) * 3, threads=2, limit=limit)
    assert predicted(build(block), 2, limit).bytes <= limit < predicted(build(seen[-3]), 2, limit).bytes
    assert all(b % 64 == 0 for b in block)
    with pytest.raises(ParameterError, match="more than the 400 MiB"):
        fitting_block(build, (256, 256, 256), (1024,) * 3, (64,) * 3, threads=8, limit=400 * MIB)


def test_blocks_are_halved_in_whole_chunks():
    assert halved_block((256, 256, 128), (64, 64, 64)) == (128, 256, 128)
    assert halved_block((96, 192, 64), (64, 64, 64)) == (96, 128, 64)
    assert halved_block((64, 64, 64), (64, 64, 64)) is None
    assert halved_block((16, 30, 20), (1, 1, 1)) == (16, 16, 20)


def test_explain_and_admission_agree():
    results = nuclei(128)
    plan = bigbia.explain(results)
    peak = predicted(stages_for(results), plan.threads, plan.limit)
    assert plan.memory == peak.bytes
    assert peak.largest.bytes == max(line.memory for line in plan.lines)
    assert "predicted" in str(plan)


def test_memory_grows_with_the_block_and_not_with_the_volume():
    one, two, far = (predicted(stages_for(nuclei(b, n)), 4, 8 << 30) for b, n in ((64, 512), (128, 512), (64, 4096)))
    assert one.largest.bytes < two.largest.bytes
    assert far.largest.bytes < 1.5 * one.largest.bytes


def test_stages_that_are_done_take_nothing():
    image = from_source(synthetic.source("nuclei", (64, 64, 64)), 32)
    labels = bigbia.measure.label(image > 300)
    labels.compute(scheduler="sync")
    before = stages_for({"labels": {"nuclei": labels}})
    assert [stage.kind for stage in before if not stage.complete] == ["labels/nuclei"]
    assert predicted(before, 1, 1 << 30).largest.stage == "labels/nuclei"


def test_arrays_at_hand_are_counted():
    held = np.zeros((64, 64, 64), np.float64)
    image = from_source(synthetic.source("nuclei", (64, 64, 64)), 32)
    peak = predicted(stages_for({"images": {"sum": image + bigbia.filters.gaussian(image, 1)}}), 1, 1 << 30)
    assert peak.held == 0
    import dask.array as da

    node, _, _ = node_of(da.from_array(held, chunks=32) + 1.0)
    assert cost.task_bytes([node], [((0, 32),) * 3]) >= 32**3 * 8


def test_a_chunk_larger_than_the_block_is_counted():
    """A block of a huge chunk takes the chunk."""
    source = SimpleNamespace(shape=(512,) * 3, dtype=np.dtype(np.uint16), chunks=(512, 512, 512), token="huge")
    node, _, _ = node_of(from_source(source, 64))
    assert cost.task_bytes([node], [((0, 64),) * 3]) >= 512**3 * 2


def test_blocks_put_together_of_others_are_counted():
    grid = Grid.regular((64, 64), (32, 32))
    assert cost.one_part(grid, ((0, 32), (0, 32))) == 0
    assert cost.one_part(grid, ((16, 48), (0, 32))) == 16 * 32
    assert cost.one_part(grid, ((0, 32), (8, 24))) == 32 * 32


# ---- disks -----------------------------------------------------------------------------------------------------------
def free(monkeypatch, size: int) -> None:
    monkeypatch.setattr(admission.shutil, "disk_usage", lambda _: SimpleNamespace(free=size))


def test_a_disk_that_cannot_hold_the_output_is_refused(monkeypatch, tmp_path):
    free(monkeypatch, MIB)
    stages = stages_for(nuclei(64), (64,) * 3)
    with pytest.raises(StorageError, match=r"before compression do not fit the 1.0 MiB that are free"):
        admit(stages, threads=1, limit=8 << 30, destination=tmp_path / "out.zarr", bytes_written=4 << 30)


def test_a_disk_that_may_become_full_is_told(monkeypatch, tmp_path):
    free(monkeypatch, 2 << 30)
    stages = stages_for(nuclei(64, 128), (64,) * 3)
    with pytest.warns(BigbiaWarning, match="2.0 GiB are free: it may become full"):
        admit(stages, threads=1, limit=8 << 30, destination=tmp_path / "out.zarr", bytes_written=4 << 30)
    free(monkeypatch, 100 << 30)
    admit(stages, threads=1, limit=8 << 30, destination=tmp_path / "not" / "there" / "out.zarr", bytes_written=4 << 30)


def test_an_address_is_not_asked_for_its_free_space(monkeypatch):
    free(monkeypatch, 1 << 30)
    stages = stages_for(nuclei(64, 128), (64,) * 3)
    found = admit(stages, threads=1, limit=8 << 30, destination="s3://bucket/out.zarr", bytes_written=1 << 50)
    assert [disk.raw < 1 << 40 for disk in found.disks] == [True]


# ---- what the allocator keeps ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("share", "calls"), [(0.5, []), (0.75, ["trim"]), (0.9, ["large", "trim"])])
def test_memory_is_given_back_where_it_is_scarce(monkeypatch, share, calls):
    made = []

    class Allocator:
        mallopt = staticmethod(lambda what, size: made.append("large"))
        malloc_trim = staticmethod(lambda keep: made.append("trim"))

    monkeypatch.setattr(cache, "_allocator", Allocator)
    monkeypatch.setattr(cache, "resident", lambda: int(share * (1 << 30)))
    monkeypatch.setattr(cache, "_last", -1.0)
    with dask.config.set({"bigbia.memory": "1 GiB"}):
        cache.relieve()
        assert made == calls
        cache.relieve()  # not again at once
        assert made == calls


@linux
def test_what_is_resident_is_known():
    before = cache.resident()
    held = np.ones(1 << 26, "u1")
    assert cache.resident() - before > 1 << 25
    del held
