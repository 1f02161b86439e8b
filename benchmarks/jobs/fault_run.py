"""A run that is to be disturbed: in a process of its own, or in one forked from a warm one.

    python fault_run.py run REQUEST     one run, as the JSON says; 0 if it was published
    python fault_run.py serve           a request a line on standard input, what became of it on standard output

A forked run needs 0.1 s less than the two that imports take, so hundreds can be killed. What a request may say stands
in `Request`; the faults that are put under a run are those of `fault_disk.py`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LAYOUTS: dict[str, dict[str, Any]] = {"plain": {}, "sharded": {"shards": 2}, "v2": {"version": "0.4"}}
JOBS = ("filter", "label", "distance", "pyramid", "watershed")


@dataclass
class Request:
    """One run: what is computed, and what happens to it."""

    job: str  # one of JOBS, or "table": the kernel that a table on disk tells what to do
    source: str  # an OME-Zarr of bigbia, or another Zarr
    output: str
    scratch: str = "auto"
    block: int = 16
    chunks: int = 16
    layout: str = "plain"
    sigma: float = 1.0
    threads: int = 2
    scheduler: str = "threads"
    integrity: str = "hash"
    log: str = ""  # a line for every task that begins, and one for every task that ends
    words: dict[str, Any] = field(default_factory=dict)  # more for `bigbia.save`
    opening: dict[str, Any] = field(default_factory=dict)  # more for `bigbia.open`
    disk: dict[str, Any] | None = None  # faults of the file system: see fault_disk.Faults
    limits: dict[str, int] = field(default_factory=dict)  # {"fsize": bytes}
    drop_root: bool = False  # permissions bind root, too
    kill_after: float | None = None  # seconds from the start of the run, of a forked one
    limit: float = 300  # seconds after which it counts as hanging


def outputs(request: Request) -> dict[str, Any]:
    """What the run saves, lazily."""
    import bigbia

    image = bigbia.open(request.source, block=request.block, **request.opening)
    if request.job == "filter":
        return {"image": bigbia.filters.gaussian(image, request.sigma), "levels": 1}
    if request.job == "pyramid":
        return {"image": image, "levels": 5}
    if request.job == "table":
        return {"image": bigbia.window(by_table, image, table=request.words["table"]), "levels": 1}
    smooth = bigbia.filters.gaussian(image, request.sigma)
    mask = smooth > bigbia.filters.threshold_otsu(smooth)
    if request.job == "label":
        labels = bigbia.measure.label(mask, connectivity=1)
        table = bigbia.measure.regionprops_table(labels, image, ["label", "area", "intensity_mean"])
        return {"labels": {"n": labels}, "tables": {"n": table}, "levels": 2}
    if request.job == "distance":
        return {"image": bigbia.morphology.distance_transform_edt(mask), "levels": 2}
    if request.job == "watershed":
        labels = bigbia.segmentation.split_touching(mask, min_distance=3)
        return {"labels": {"n": labels}, "levels": 1}
    raise ValueError(f"no job {request.job!r}")


def run(request: Request) -> None:
    """Compute and save as asked. What bigbia refuses comes out as its exception."""
    import dask

    import bigbia

    settings = {
        "bigbia.threads": request.threads,
        "bigbia.scratch": request.scratch,
        "bigbia.integrity": request.integrity,
        "bigbia.memory": "1 GiB",
    }
    layout = dict(LAYOUTS[request.layout])
    if "shards" in layout:
        layout["shards"] *= request.chunks
    words = {k: v for k, v in request.words.items() if k != "table"}
    with dask.config.set(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = {**outputs(request), "chunks": request.chunks, **layout, **words}
        bigbia.save(request.output, **saved, scheduler=request.scheduler)


# ---- a kernel that fails as it is told -----------------------------------------------------------------------------
def by_table(block: Any, table: str) -> Any:
    """One more than the block, or what the folder `table` says of the block, whose voxels hold its number.

    plan.json: {"3": ["EIO", "kill", "ok"]}: what happens at the first, second, ... call for block 3; the last one stays
    calls: a line a call
    """
    import errno

    folder, number = Path(table), int(block.flat[0])
    handle = os.open(folder / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{number}\n".encode())
    os.close(handle)
    plan = json.loads((folder / "plan.json").read_text()).get(str(number), ["ok"])
    calls = sum(int(line) == number for line in (folder / "calls").read_text().split())
    what = plan[min(calls, len(plan)) - 1]
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "exit":
        os._exit(3)
    elif what == "segfault":
        import ctypes

        ctypes.string_at(0)
    elif what == "memory":
        raise MemoryError
    elif what == "raise":
        raise FloatingPointError("on purpose")
    elif what == "shape":
        return block[:1]
    elif what == "dtype":
        return block.astype("f8") * 1.5
    elif what == "slow":
        time.sleep(1.0)
    elif what != "ok":
        raise OSError(getattr(errno, what), os.strerror(getattr(errno, what)))
    return block + block.dtype.type(1)


# ---- the process ---------------------------------------------------------------------------------------------------
def log_tasks(path: str) -> None:
    """A line for each task that begins ("+") and ends ("-"), which outlives this process.

    "+ block LEDGER INDEX", or "small" for a task that is none of a block.
    """
    from bigbia.run import tasks
    from bigbia.run.ledger import stage_name

    handle, attempt = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), tasks.attempt

    def logged(stage: Any, step: str, index: Any) -> Any:
        kind = "block" if step in stage.block_steps else "small"
        name = f"{kind} {stage_name(stage.kind, stage.token)}.{step}.jsonl {'.'.join(map(str, index)) or '-'}"
        os.write(handle, f"+ {name}\n".encode())
        found = attempt(stage, step, index)
        os.write(handle, f"- {name}\n".encode())
        return found

    tasks.attempt = logged


def dask_setup(worker: Any) -> None:
    """What a worker does first: see "preload" in Dask's settings."""
    log_tasks(os.environ["BIGBIA_FAULT_LOG"])


def bind_root() -> None:
    """Let permissions count for root as for anybody: give up the capabilities that pass them over."""
    import ctypes
    import struct

    header = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0))
    sets = ctypes.create_string_buffer(24)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    words = list(struct.unpack("<6I", sets.raw))
    words[0] &= ~0b110  # effective: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    if libc.capset(header, ctypes.create_string_buffer(struct.pack("<6I", *words))):
        raise OSError(ctypes.get_errno(), "capset")


def prepared(request: Request) -> None:
    if request.drop_root and os.geteuid() == 0:
        bind_root()
    if "fsize" in request.limits:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request.limits["fsize"],) * 2)
    if request.log and request.scheduler == "processes":
        import dask

        os.environ["BIGBIA_FAULT_LOG"] = request.log
        dask.config.set({"distributed.worker.preload": [str(Path(__file__).resolve())]})
    elif request.log:
        log_tasks(request.log)
    if request.disk is not None:
        import fault_disk

        fault_disk.install(fault_disk.Faults(**request.disk))


def told(request: Request) -> dict[str, Any]:
    """Run, and say what became of it."""
    from bigbia.errors import BigbiaError

    try:
        prepared(request)
        run(request)
    except BigbiaError as error:
        return {"error": type(error).__name__, "text": str(error), "code": error.exit_code, "named": True}
    except BaseException as error:
        import traceback

        where = traceback.format_exc()
        return {"error": type(error).__name__, "text": str(error), "code": 70, "named": False, "trace": where}
    counted = sys.modules.get("fault_disk")
    return {"error": None, "code": 0, "operations": counted.count() if counted else 0}


def forked(request: Request) -> dict[str, Any]:
    """The run in a fork of this process, which has imported everything; killed when the request says so."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        quiet = os.open(os.devnull, os.O_RDWR)
        os.dup2(quiet, 0)
        os.dup2(2, 1)
        found = told(request)
        os.write(writing, json.dumps(found).encode()[:60000])
        os._exit(found["code"])
    os.close(writing)
    began, killed = time.perf_counter(), False
    after = request.limit if request.kill_after is None else request.kill_after
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.perf_counter() - began > after and not killed:
            os.kill(pid, signal.SIGKILL)
            killed = True
        time.sleep(0.001)
    seconds = time.perf_counter() - began
    text = b""
    while piece := os.read(reading, 1 << 16):
        text += piece
    os.close(reading)
    code = os.waitstatus_to_exitcode(status)
    said = json.loads(text) if text else {"error": None, "code": code}
    hangs = killed and request.kill_after is None
    return {**said, "signal": -code if code < 0 else 0, "seconds": seconds, "hangs": hangs}


def warm() -> None:
    """Import what the runs need, without starting a thread."""
    import dask.array
    import numba
    import pyarrow.parquet
    import skimage.measure
    import zarr

    import bigbia
    from bigbia.run import alone, save

    assert all((dask.array, numba, pyarrow.parquet, skimage.measure, zarr, bigbia, alone, save))
    for package in ("filters", "measure", "morphology", "segmentation"):
        getattr(bigbia, package)


def serve() -> None:
    out, sys.stdout = sys.stdout, sys.stderr
    warm()
    if threading.active_count() > 1:
        raise RuntimeError("a process with threads cannot be forked")
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(forked(Request(**json.loads(line)))), file=out, flush=True)


def main() -> int:
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    # A function of this module must have a name that workers and lone tasks can import it by.
    import fault_run

    if sys.argv[1] == "serve":
        fault_run.serve()
        return 0
    found = fault_run.told(fault_run.Request(**json.loads(sys.argv[2])))
    print(json.dumps(found), flush=True)
    return int(found["code"])


if __name__ == "__main__":
    sys.exit(main())
