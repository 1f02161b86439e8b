"""Runs that are killed, starved and lied to lose nothing. The long part is marked `faults`: `make faults`.

The runs are those of `benchmarks/jobs/fault_run.py`. `benchmarks/faults.py` does the same in numbers.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import conftest
import fault_damage
import faults
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bigbia
from bigbia.errors import ParameterError

LONG = (pytest.mark.faults, pytest.mark.slow)
SEED = int(os.environ.get("BIGBIA_FAULT_SEED", "20261121"))


@pytest.fixture(scope="module")
def server():
    server = faults.Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(
        prefix="bigbia-faults-", dir=conftest.memory_folder(), ignore_cleanup_errors=True
    ) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def source(folder):
    return faults.make_source(folder / "in.zarr", 32, 8)


@pytest.fixture(scope="module")
def numbered(folder):
    return faults.make_numbered(folder / "numbered.zarr")


# ---- kills ---------------------------------------------------------------------------------------------------------
def check(story: faults.Story, threads: int, seed: int) -> None:
    """What the contract promises of a run that was killed."""
    about = f"seed {seed}: {story}"
    assert not story.errors, about
    assert story.early == 0, about
    assert story.differ == [], about
    assert story.lost == 0, about
    assert story.repeated == [], about
    assert max(story.redone, default=0) <= faults.IN_FLIGHT * threads, about
    assert max(story.small, default=0) <= faults.IN_FLIGHT * threads * faults.BATCH, about
    assert story.excess <= faults.IN_FLIGHT * threads * story.kills, about


KILLED_JOBS = ("filter", "label", "distance", "pyramid")
KILLED = [(job, 1) for job in KILLED_JOBS]
KILLED_LONG = [(job, 4) for job in faults.JOBS]


@pytest.mark.parametrize(
    ("job", "runs"), [*KILLED, *(pytest.param(*one, marks=LONG, id=f"{one[0]}-long") for one in KILLED_LONG)]
)
def test_killed_at_random_moments(server, source, tmp_path, job, runs):
    killing = faults.Killing(server, tmp_path, {"job": job, "source": source, "chunks": 8}, SEED)
    killing.undisturbed()
    kills = number = 0
    while kills < 2 * runs:
        story = killing.story(number, most=4)
        check(story, 2, SEED)
        kills, number = kills + story.kills, number + 1
        assert number < 20 * runs, f"seed {SEED}: hardly anything was killed"


@pytest.mark.cluster
def test_killed_with_worker_processes(server, source, tmp_path):
    """The leading process is killed, its workers go with it, and threads go on with the run."""
    request = {"job": "filter", "source": source, "chunks": 8}
    reference, _ = operations(server, request, tmp_path)
    output = tmp_path / "out.zarr"
    leader = faults.started(**request, output=output, scheduler="processes")
    while leader.poll() is None and not faults.in_ledger(output):
        time.sleep(0.005)
    leader.kill()
    leader.communicate()
    faults.wait_for_group(leader.pid)
    done = faults.in_ledger(output)
    log = tmp_path / "log"
    found = server.run(**request, output=output, log=log)
    assert found["error"] is None, found
    assert not done.intersection(faults.tasks_of(log)["block"]), "what was done was done again"
    assert faults.differences(output, reference) == []


@pytest.mark.cluster
@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("job", KILLED_JOBS)
def test_killed_at_random_moments_with_worker_processes(source, tmp_path, job):
    request = {"job": job, "source": source, "chunks": 8, "scheduler": "processes"}
    killing = faults.Killing(None, tmp_path, request, SEED)
    killing.undisturbed()
    story = killing.story(0, most=2)
    check(story, 2, SEED)


def operations(server, request, folder, **disk):
    """A run to `folder/reference`, and how many operations on files it takes."""
    reference = folder / "reference" / "out.zarr"
    reference.parent.mkdir()
    found = server.run(**request, output=reference, disk={"root": str(reference.parent), **disk})
    assert found["error"] is None, found
    return reference, found["operations"]


def chosen(count, total, always=()):
    """Numbers from 1 to `total`, spread, and the last ones, when a run is put together."""
    spread = np.random.default_rng(SEED).choice(np.arange(1, total + 1), min(count, total), replace=False)
    return sorted({*map(int, spread), *(n for n in always if 0 < n <= total)})


def check_reached(found, number):
    """Two runs differ by some operations (a folder is made by whoever comes first): the last ones may not be reached."""
    if found["signal"] != signal.SIGKILL:
        assert (found["error"], found["code"]) == (None, 0), (number, found)
        assert found["operations"] < number, found


@pytest.mark.parametrize(("job", "count"), [("label", 1), *(pytest.param(j, 60, marks=LONG) for j in faults.JOBS)])
def test_killed_at_an_operation_on_a_file(server, source, tmp_path, job, count):
    """In the middle of a write, before a rename, while the run is put together and published."""
    request = {"job": job, "source": source, "chunks": 8}
    reference, total = operations(server, request, tmp_path)
    for number in chosen(count, total, [total - 60, total - 25, total - 2]):
        here = tmp_path / str(number)
        here.mkdir()
        found = server.run(**request, output=here / "out.zarr", disk={"root": str(here), "kill": number})
        check_reached(found, number)
        if not (here / "out.zarr").exists():
            found = server.run(**request, output=here / "out.zarr")
            assert (found["error"], found["code"]) == (None, 0), (number, found)
        assert faults.differences(here / "out.zarr", reference) == [], number
        assert [p.name for p in here.iterdir()] == ["out.zarr"], number
        shutil.rmtree(here)


# ---- power ---------------------------------------------------------------------------------------------------------
def started_again(output: Path) -> None:
    """The machine was started anew: its number of this start is another one."""
    path = faults.partial_of(output) / faults.OURS / "run.json"
    try:
        record = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return
    for session in record["sessions"]:
        if "boot" in session:
            session["boot"] = "an earlier one"
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("job", "keep", "count"),
    [("label", 0.5, 1), *(pytest.param(job, keep, 40, marks=LONG) for job in faults.JOBS for keep in (0.0, 0.5))],
)
def test_the_power_goes(server, source, tmp_path, job, keep, count):
    """What was not brought to the disk is lost, all of it or half: published is whole, stopped goes on."""
    request = {"job": job, "source": source, "chunks": 8}
    reference, total = operations(server, request, tmp_path)
    for number in chosen(count, total, [total - 10, total]):
        here = tmp_path / str(number)
        here.mkdir()
        disk = {"root": str(here), "power": number, "keep": keep, "seed": number}
        found = server.run(**request, output=here / "out.zarr", disk=disk)
        check_reached(found, number)
        if (here / "out.zarr").exists():
            assert faults.differences(here / "out.zarr", reference) == [], (
                f"operation {number}: published and not whole"
            )
        else:
            started_again(here / "out.zarr")
            found = server.run(**request, output=here / "out.zarr")
            assert (found["error"], found["code"]) == (None, 0), (number, found)
            assert faults.differences(here / "out.zarr", reference) == [], number
        shutil.rmtree(here)


# ---- room ----------------------------------------------------------------------------------------------------------
ROOMS = ["size=700k", "nr_inodes=120", "fsize"]


@pytest.mark.parametrize("room", ROOMS)
def test_no_room(server, source, tmp_path, room):
    """A StorageError that names the way out; with room the run goes on to the same bytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    job = "filter" if room == "fsize" else "label"  # of the former only the ledger becomes as large
    request = {"job": job, "source": source, "chunks": 8, "output": disk / "out.zarr"}
    reference, _ = operations(server, {k: v for k, v in request.items() if k != "output"}, tmp_path)
    if room == "fsize":
        found = server.run(**request, limits={"fsize": 3000})
        check_room(found, disk)
        found = server.run(**request)
    else:
        if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", room, "tmpfs", disk], check=False).returncode:
            pytest.skip("a small file system can be mounted by root only")
        try:
            found = server.run(**request)
            check_room(found, disk)
            more = "size=200m,nr_inodes=20000"
            subprocess.run(["mount", "-o", f"remount,{more}", disk], check=True)
            found = server.run(**request)
            assert found["error"] is None, found
            assert faults.differences(disk / "out.zarr", reference) == []
        finally:
            subprocess.run(["umount", "-l", disk], check=True)
        return
    assert found["error"] is None, found
    assert faults.differences(disk / "out.zarr", reference) == []


def check_room(found, disk):
    assert found["error"] == "StorageError", found
    assert any(word in found["text"] for word in ("No space left", "File too large")), found
    assert "run again to go on" in found["text"], found
    assert not (disk / "out.zarr").exists()
    assert faults.in_ledger(disk / "out.zarr"), "nothing was done before there was no room: too small to test anything"


@pytest.mark.parametrize(
    ("error", "lasting", "count"),
    [
        ("ENOSPC", True, 1),
        ("EIO", False, 1),
        *(pytest.param(e, lasting, 60, marks=LONG) for e in ("ENOSPC", "EDQUOT", "EIO") for lasting in (True, False)),
    ],
)
def test_an_operation_on_a_file_fails(server, source, tmp_path, error, lasting, count):
    """From one operation on, or once: published and right, or a named error and the next run publishes."""
    request = {"job": "label", "source": source, "chunks": 8}
    reference, total = operations(server, request, tmp_path)
    for number in chosen(count, total, [2, total - 40, total - 4]):
        here = tmp_path / str(number)
        here.mkdir()
        last = 10**9 if lasting else number
        disk = {"root": str(here), "error": error, "first": number, "last": last}
        found = server.run(**request, output=here / "out.zarr", disk=disk)
        assert found["signal"] == 0, (number, found)
        assert found["error"] in (None, "StorageError"), (number, found)
        if found["error"]:
            assert not (here / "out.zarr").exists() or number > total - 5, (number, found)
            assert "/" in found["text"] or "block" in found["text"], found
        if not (here / "out.zarr").exists():
            found = server.run(**request, output=here / "out.zarr")
            assert (found["error"], found["code"]) == (None, 0), (number, found)
        assert faults.differences(here / "out.zarr", reference) == [], number
        shutil.rmtree(here)


# ---- blocks that fail ----------------------------------------------------------------------------------------------
class Table:
    """A folder that tells the kernel what to do with which block, and an output of the run."""

    def __init__(self, folder: Path, source: Path, scheduler: str = "threads") -> None:
        self.folder, self.output = folder, folder / "out.zarr"
        self.request = {"job": "table", "source": source, "block": 8, "chunks": 8, "scheduler": scheduler}

    def plan(self, **blocks: list[str]) -> None:
        (self.folder / "plan.json").write_text(json.dumps({k.lstrip("b"): v for k, v in blocks.items()}))
        (self.folder / "calls").write_text("")

    def run(self, server: faults.Server | None, **words) -> dict:
        request = {**self.request, "output": self.output, "words": {"table": str(self.folder), **words}}
        if server is not None:  # workers need a process that is not forked
            request["scheduler"] = "threads"
        return faults.ended(faults.started(**request)) if server is None else server.run(**request)

    @property
    def calls(self) -> Counter:
        return Counter(map(int, (self.folder / "calls").read_text().split()))

    def done(self) -> set[int]:
        """The numbers of the blocks in the ledger."""
        places = [name.split() for name in faults.in_ledger(self.output)]
        indices = [tuple(map(int, i.split("."))) for file, i in places if file.startswith("write-") and i != "-"]
        return {int(np.ravel_multi_index(i, (4, 4, 4))) for i in indices}

    def right(self) -> bool:
        expected = np.asarray(bigbia.open(self.request["source"])) + 1
        return bool((np.asarray(bigbia.open(self.output)) == expected).all())


def test_failures_that_pass(server, numbered, tmp_path):
    table = Table(tmp_path, numbered)
    table.plan(b3=["EIO", "ESTALE", "ok"], b17=["ETIMEDOUT", "ok"], b40=["slow"])
    assert server.run(**{**table.request, "output": table.output, "words": {"table": str(tmp_path)}})["error"] is None
    assert table.right()
    assert {n: c for n, c in table.calls.items() if c != 1} == {3: 3, 17: 2}


def test_blocks_that_fail_are_set_aside(server, numbered, tmp_path):
    table = Table(tmp_path, numbered)
    bad = {3: "raise", 17: "shape", 33: "dtype", 50: "EIO", 51: "memory"}
    table.plan(**{f"b{n}": [what] for n, what in bad.items()})
    found = table.run(server)
    assert found["named"], found
    assert "z=" in found["text"], found
    assert not table.output.exists()
    assert table.done() == set(range(64)) - set(bad)
    assert table.calls[50] == 3
    table.plan()
    assert table.run(server)["error"] is None
    assert set(table.calls) == set(bad)
    assert table.right()


def test_a_block_that_kills_the_run_is_found_out(server, numbered, tmp_path):
    """On threads the run dies with it, and the session after next tries it elsewhere."""
    table = Table(tmp_path, numbered)
    table.plan(b9=["kill"])
    sessions = [table.run(server) for _ in range(4)]
    killed = [s for s in sessions if s["signal"]]
    assert 1 <= len(killed) <= 3, sessions
    assert sessions[-1]["error"] == "BlockError", sessions
    assert "SIGKILL" in sessions[-1]["text"]
    assert table.done() == set(range(64)) - {9}
    table.plan()
    assert table.run(server)["error"] is None
    assert set(table.calls) == {9}
    assert table.right()


@pytest.mark.cluster
@pytest.mark.parametrize("what", ["kill", *(pytest.param(w, marks=LONG) for w in ("exit", "segfault"))])
def test_a_block_that_kills_its_worker(server, numbered, tmp_path, what):
    table = Table(tmp_path, numbered, "processes")
    table.plan(b9=[what], b20=[what, "ok"], b30=["raise"])
    found = table.run(None)
    assert found["named"], found
    assert not table.output.exists()
    assert table.done() == set(range(64)) - {9, 30}, found
    table.plan()
    assert table.run(server)["error"] is None
    assert set(table.calls) == {9, 30}
    assert table.right()


def test_a_block_without_enough_memory_is_tried_alone(tmp_path):
    """In a process of its own, which gets a function that only this one knows."""
    import dask.array as da

    leader = os.getpid()

    def hungry(block):
        if block.flat[0] == 3 and os.getpid() == leader:
            raise MemoryError
        print("not the answer")
        return block

    image = np.arange(8, dtype="u2").reshape(2, 2, 2).repeat(8, 0).repeat(8, 1).repeat(8, 2)
    path = bigbia.save(tmp_path / "a.zarr", bigbia.window(hungry, da.from_array(image, chunks=8)), chunks=8, levels=1)
    np.testing.assert_array_equal(np.asarray(bigbia.open(path)), image)


def test_doing_without(server, numbered, tmp_path):
    table = Table(tmp_path, numbered)
    table.plan(b9=["raise"], b40=["raise"])
    assert table.run(server, allow_missing=True)["error"] is None
    missing = faults.manifest(table.output)["missing"]
    assert sorted(tuple(m["block"]) for m in missing) == [(0, 2, 1), (2, 2, 0)]
    assert all("on purpose" in m["error"] for m in missing)
    voxels = np.asarray(bigbia.open(table.output))
    assert not voxels[0:8, 16:24, 8:16].any()
    assert not voxels[16:24, 16:24, 0:8].any()
    assert int((voxels == 0).sum()) == 2 * 8**3


def test_everything_fails(server, numbered, tmp_path):
    table = Table(tmp_path, numbered)
    table.plan(**{f"b{n}": ["raise"] for n in range(64)})
    found = table.run(server)
    assert found["error"] == "BlockError", found
    assert "stopped, since more would" in found["text"]
    assert sum(table.calls.values()) <= 10 + faults.IN_FLIGHT * 2
    assert not table.output.exists()


# ---- damage --------------------------------------------------------------------------------------------------------
QUICK = [
    ("partial", "1 bit flipped", "chunk"),
    ("partial", "swapped with another", "chunk"),
    ("partial", "a folder in its place", "chunk"),
    ("partial", "truncated", "scratch record"),
    ("partial", "no permission", "ledger"),
    ("partial", "8 bits flipped", "ledger"),
    ("partial", "other JSON", "run.json"),
    ("partial", "a folder in its place", "held metadata"),
    ("partial", "8 bits flipped", "list of records"),
    ("partial", "stale temporary files", "chunk"),
    ("input", "1 bit flipped", "chunk"),
    ("input", "deleted", "chunk"),
]


@pytest.fixture(scope="module")
def matrix(server, folder):
    found: dict[str, fault_damage.Matrix] = {}

    def of(layout: str) -> fault_damage.Matrix:
        if layout not in found:
            (folder / layout).mkdir()
            found[layout] = fault_damage.Matrix(server, folder / layout, layout)
        return found[layout]

    return of


def test_damage(matrix):
    published = [c[1:] for c in fault_damage.cases(("plain",)) if c[1] == "published"]
    found = [matrix("plain").case(*case, seed=SEED + k) for k, case in enumerate([*QUICK, *published])]
    assert [f for f in found if not f.fine] == []


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("layout", fault_damage.LAYOUTS)
def test_every_damage(matrix, layout):
    found = [matrix(layout).case(*case[1:], seed=SEED + k) for k, case in enumerate(fault_damage.cases((layout,)))]
    assert [f for f in found if not f.fine and f.case not in fault_damage.UNSEEN] == []


def test_a_line_of_the_ledger_that_names_another_block(server, source, tmp_path):
    """A block that was never done is not believed to be done because a bit of another one's line has changed."""
    request = {"job": "filter", "source": source, "chunks": 8}
    reference, total = operations(server, request, tmp_path)
    output = tmp_path / "out" / "out.zarr"
    output.parent.mkdir()
    server.run(**request, output=output, disk={"root": str(output.parent), "kill": total // 3})
    (path,) = (faults.partial_of(output) / faults.OURS / "ledger").glob("write-*.jsonl")
    lines = path.read_bytes()
    assert b'"block":[0,0,0]' in lines
    assert b'"block":[1,1,1]' not in lines
    path.write_bytes(lines.replace(b'"block":[0,0,0]', b'"block":[1,1,1]'))
    found = server.run(**request, output=output)
    assert found["error"] is None, found
    assert faults.differences(output, reference) == []


# ---- blocks and chunks ---------------------------------------------------------------------------------------------
@settings(max_examples=12)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    chunks=st.integers(1, 20),
    shards=st.one_of(st.none(), st.integers(1, 40)),
    block=st.integers(3, 40),
    halo=st.integers(0, 5),
    threads=st.integers(1, 4),
)
def test_blocks_that_do_not_fit(tmp_path_factory, shape, chunks, shards, block, halo, threads):
    """Whatever the chunks, shards and blocks: refused, or every voxel is there."""
    import dask
    import dask.array as da
    from scipy import ndimage as ndi

    image = np.random.default_rng(3).integers(1, 1000, shape, dtype="u2")
    path = tmp_path_factory.mktemp("align") / "out.zarr"
    largest = bigbia.window(ndi.maximum_filter, da.from_array(image, chunks=block), halo=halo, size=2 * halo + 1)
    refused = ""
    with dask.config.set({"bigbia.threads": threads}):
        try:
            bigbia.save(path, largest, chunks=chunks, shards=shards, levels=1)
        except ParameterError as error:
            refused = str(error)
    if refused:
        assert shards is not None
        assert shards % chunks
        assert "is not a whole number of chunks" in refused
        assert list(path.parent.iterdir()) == []
        return
    np.testing.assert_array_equal(np.asarray(bigbia.open(path)), ndi.maximum_filter(image, 2 * halo + 1))


# ---- who leads -----------------------------------------------------------------------------------------------------
def test_a_second_run_is_refused_and_a_dead_one_is_taken_over(server, numbered, tmp_path):
    table = Table(tmp_path, numbered)
    table.plan(**{f"b{n}": ["slow"] for n in range(40, 64)})
    request = {**table.request, "output": table.output, "words": {"table": str(tmp_path)}}
    first = faults.started(**request)
    try:
        for _ in range(3000):
            if faults.in_ledger(table.output):
                break
            time.sleep(0.01)
        second = server.run(**request)
        assert second["error"] == "RunError", second
        assert f"process {first.pid}" in second["text"], second
    finally:
        first.kill()
        first.communicate()
    done = table.done()
    assert done
    table.plan()
    assert server.run(**request)["error"] is None
    assert table.right()
    assert not done & set(table.calls)


def test_another_run_is_not_gone_on_with(server, source, tmp_path):
    request = {"job": "filter", "source": source, "chunks": 8, "output": tmp_path / "out.zarr"}
    server.run(**request, disk={"root": str(tmp_path), "kill": 200})
    before = faults.in_ledger(tmp_path / "out.zarr")
    assert before
    found = server.run(**request, sigma=2.0)
    assert found["error"] == "RunError", found
    assert "holds another run that was stopped" in found["text"]
    assert "voxels changed" in found["text"] or "sigma" in found["text"], found
    assert faults.in_ledger(tmp_path / "out.zarr") == before
    assert server.run(**request, sigma=2.0, words={"restart": True})["error"] is None
    expected = bigbia.filters.gaussian(np.asarray(bigbia.open(source)), 2.0)
    np.testing.assert_array_equal(np.asarray(bigbia.open(tmp_path / "out.zarr")), expected)
