"""What the fault tests and the fault benchmark share: disturbed runs, damage, and what is left of it all.

The runs are `benchmarks/jobs/fault_run.py`: forked from a warm process (`Server`), or started anew (`started`) where
they have worker processes.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
JOB = ROOT / "benchmarks" / "jobs" / "fault_run.py"
JOBS = ("filter", "label", "distance", "pyramid", "watershed")
OURS = "_bigbia"
IN_FLIGHT = 4  # tasks that are handed out for each thread
BATCH = 16  # small tasks handed out together


def environment() -> dict[str, str]:
    paths = [str(ROOT), str(JOB.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


class Server:
    """Runs forked from one process that has imported everything."""

    def __init__(self) -> None:
        self.errors = open(os.devnull, "w")  # noqa: SIM115  as long as the process
        self.process = subprocess.Popen(
            [sys.executable, str(JOB), "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment(),
            text=True,
        )
        assert self._line(120) == "ready\n"

    def _line(self, limit: float) -> str:
        assert self.process.stdout
        ready, _, _ = select.select([self.process.stdout], [], [], limit)
        if not ready:
            self.close()
            raise TimeoutError(f"the process of the runs says nothing for {limit} s")
        return self.process.stdout.readline()

    def run(self, **request: Any) -> dict[str, Any]:
        """What became of a run: error (its class, None if published or killed), text, signal, seconds."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request, default=str) + "\n")
        self.process.stdin.flush()
        line = self._line(request.get("limit", 300) + 30)
        assert line, "the process of the runs has died"
        return json.loads(line)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()


def started(**request: Any) -> subprocess.Popen:
    """A run in a process of its own, which says in its last line what became of it."""
    return subprocess.Popen(
        [sys.executable, str(JOB), "run", json.dumps(request, default=str)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen, limit: float = 300) -> dict[str, Any]:
    out, _ = process.communicate(timeout=limit)
    code = process.returncode
    said = json.loads(out.splitlines()[-1]) if out.strip() and code >= 0 else {"error": None, "code": code}
    return {**said, "signal": -code if code < 0 else 0}


# ---- images --------------------------------------------------------------------------------------------------------
def make_source(path: Path, size: int = 48, chunks: int = 16, layout: str = "plain") -> Path:
    """Smooth noise: objects of many sizes, voxels other than zero everywhere."""
    import dask.array as da
    from scipy import ndimage as ndi

    import bigbia

    noise = np.random.default_rng(0).random((size, size, size), np.float32)
    image = ndi.gaussian_filter(noise, 2, mode="wrap")
    image = ((image - image.min()) / np.ptp(image) * 999 + 1).astype("u2")
    words: dict[str, Any] = {"plain": {}, "sharded": {"shards": 2 * chunks}, "v2": {"version": "0.4"}}[layout]
    return bigbia.save(path, da.from_array(image, chunks=2 * chunks), chunks=chunks, levels=1, **words)


def make_numbered(path: Path, counts: tuple[int, ...] = (4, 4, 4), block: int = 8) -> Path:
    """An image whose voxels hold the number of their block, in raster order."""
    import dask.array as da

    import bigbia

    image = np.arange(np.prod(counts), dtype="u2").reshape(counts)
    for axis in range(len(counts)):
        image = image.repeat(block, axis)
    return bigbia.save(path, da.from_array(image, chunks=block), chunks=block, levels=1)


# ---- what is there -------------------------------------------------------------------------------------------------
def contents(folder: Path) -> dict[str, bytes]:
    """Every file of an output but those about the run."""
    found = {}
    for place, folders, files in os.walk(folder):
        if OURS in folders:
            folders.remove(OURS)
        for name in files:
            path = Path(place, name)
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / OURS / "manifest.json").read_text())


def differences(folder: Path, reference: Path) -> list[str]:
    """Files that are not the same in two outputs, and the roots of their manifests."""
    mine, other = contents(folder), contents(reference)
    found = sorted(name for name in {*mine, *other} if mine.get(name) != other.get(name))
    if manifest(folder)["root"] != manifest(reference)["root"]:
        found.append("the manifest's root")
    return found


def voxels_lost(folder: Path, reference: Path) -> int:
    """Voxels that differ, over all arrays of an output."""
    import zarr

    lost = 0
    for document in [*reference.rglob("zarr.json"), *reference.rglob(".zarray")]:
        place = document.parent.relative_to(reference)
        if OURS in place.parts or (document.name == "zarr.json" and b'"array"' not in document.read_bytes()):
            continue
        one = zarr.open_array(reference / place, mode="r")[...]
        try:
            lost += int((np.asarray(zarr.open_array(folder / place, mode="r")[...]) != one).sum())
        except Exception:
            lost += one.size
    return lost


def partial_of(output: Path) -> Path:
    return output.with_name(output.name + ".partial")


def in_ledger(output: Path) -> set[str]:
    """Tasks that have a whole line in the ledger of a run that was stopped: "LEDGER INDEX"."""
    found = set()
    for path in (partial_of(output) / OURS / "ledger").glob("*.jsonl"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            if line:
                found.add(f"{path.name} {'.'.join(map(str, json.loads(line)['block'])) or '-'}")
    return found


def tasks_of(log: Path, begin: int = 0) -> dict[str, list[str]]:
    """Tasks that have begun, from a byte of the log on: those of blocks and the small ones above them."""
    found: dict[str, list[str]] = {"block": [], "small": []}
    if log.exists():
        for line in log.read_bytes()[begin:].decode().splitlines():
            sign, kind, name = line.split(" ", 2)
            if sign == "+":
                found[kind].append(name)
    return found


# ---- kills ---------------------------------------------------------------------------------------------------------
@dataclass
class Story:
    """A run that was killed until it was done. Work is counted in tasks: of blocks, and the small ones above them."""

    kills: int = 0
    sessions: int = 0
    early: int = 0  # outputs that were there before they were whole
    lost: int = 0  # voxels
    differ: list[str] = field(default_factory=list)
    redone: list[int] = field(default_factory=list)  # tasks of blocks that a kill cost: begun and not in the ledger
    small: list[int] = field(default_factory=list)  # the same of small tasks
    repeated: list[str] = field(default_factory=list)  # begun though the ledger had them
    excess: int = 0  # tasks of blocks begun in all sessions, beyond those of an undisturbed run
    errors: list[str] = field(default_factory=list)


class Killing:
    """Kills the runs of one job at random moments, and keeps the books."""

    def __init__(self, server: Server | None, folder: Path, request: dict[str, Any], seed: int) -> None:
        self.server, self.folder, self.request = server, folder, request
        self.lot = random.Random(seed)
        self.reference = folder / "reference" / "out.zarr"
        self.reference.parent.mkdir(parents=True, exist_ok=True)
        self.seconds = 0.0

    def undisturbed(self) -> float:
        """Make the reference, twice, since the first run compiles; the seconds of the last."""
        for _ in range(2):
            shutil.rmtree(self.reference.parent)
            self.reference.parent.mkdir()
            began, log = time.perf_counter(), self.reference.with_name("log")
            found = self._whole(self.reference, log)
            assert found["error"] is None, found
            assert found["code"] == 0, found
            self.seconds = found.get("seconds", time.perf_counter() - began)
        self.tasks = len(tasks_of(log)["block"])
        return self.seconds

    def _whole(self, output: Path, log: Path) -> dict[str, Any]:
        request = {**self.request, "output": output, "log": log}
        return ended(started(**request)) if self.server is None else self.server.run(**request)

    def story(self, number: int, most: int = 6) -> Story:
        """One run to an output of its own, killed at most so many times."""
        here = self.folder / f"run-{number}"
        here.mkdir()
        output, log, story = here / "out.zarr", here / "log", Story()
        while not output.exists():
            known, at = in_ledger(output), log.stat().st_size if log.exists() else 0
            found = self._whole(output, log) if story.kills == most else self._killed(output, log)
            begun = tasks_of(log, at)
            story.sessions += 1
            story.repeated += sorted(known.intersection(begun["block"] + begun["small"]))
            if found["signal"] == signal.SIGKILL:
                story.kills += 1
                if output.exists():
                    story.early += bool(differences(output, self.reference))
                else:
                    done = in_ledger(output)
                    if (partial_of(output) / OURS / "manifest.json").exists():
                        done.update(begun["block"], begun["small"])  # whole, with its ledger cut down; not published
                    story.redone.append(sum(name not in done for name in begun["block"]))
                    story.small.append(sum(name not in done for name in begun["small"]))
            elif found["error"] or found["code"]:
                story.errors.append(f"{found['error']} {found['code']}: {found.get('text')}\n{found.get('trace', '')}")
                break
        if output.exists():
            story.differ = differences(output, self.reference)
            story.lost = voxels_lost(output, self.reference) if story.differ else 0
            story.excess = len(tasks_of(log)["block"]) - self.tasks
        if not (story.differ or story.errors):
            shutil.rmtree(here, ignore_errors=True)
        return story

    def _killed(self, output: Path, log: Path) -> dict[str, Any]:
        after = self.lot.uniform(0, 1.05 * self.seconds)
        if self.server is not None:
            return self.server.run(**self.request, output=output, log=log, kill_after=after)
        process = started(**self.request, output=output, log=log)
        try:
            return ended(process, after)
        except subprocess.TimeoutExpired:
            process.kill()
            found = ended(process, 60)
            wait_for_group(process.pid)
            return found


def wait_for_group(group: int, limit: float = 20) -> None:
    """Wait until the workers of a killed run have noticed."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.02)
    os.killpg(group, signal.SIGKILL)


def seeds(seed: int, count: int) -> Iterator[int]:
    lot = random.Random(seed)
    return (lot.randrange(1 << 30) for _ in range(count))
