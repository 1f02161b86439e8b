"""One task on a worker: tried again where the cause may pass, and what became of it as a value, not as an exception.

A task that fails does not stop the others; `run/failures.py` says when a run stops.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bigbia.errors import BigbiaError, BlockError, StorageError
from bigbia.graph.boxes import Index, describe
from bigbia.graph.journal import noting
from bigbia.graph.stages import Stage
from bigbia.run.ledger import Entry

ATTEMPTS = 3
PAUSE = 0.2  # seconds before the second attempt; five times as long before each further one

# What may be gone the next moment: a network file system, a busy store.
PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EINTR,
    errno.EBUSY,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EREMOTEIO,
}
# What every other block would meet too.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@dataclass(frozen=True)
class Failure:
    """A task that was given up.

    why  "error": it would fail again; "full": no room to write; "memory": not enough memory; "killed": its worker died
    """

    stage: str
    step: str
    block: Index
    region: str
    why: str
    error: BigbiaError
    attempts: int
    worker: str
    peak: int

    def record(self) -> dict:
        """For the report."""
        found = {k: getattr(self, k) for k in ("stage", "step", "region", "why", "attempts", "worker", "peak")}
        return {**found, "block": list(self.block), "error": str(self.error)}


Outcome = Entry | Failure


def run_tasks(stage: Stage, step: str, indices: Sequence[Index]) -> list[Outcome]:
    """Some tasks of a step, one after the other."""
    return [attempt(stage, step, index) for index in indices]


def attempt(stage: Stage, step: str, index: Index) -> Outcome:
    """One task."""
    start, tried = time.perf_counter(), 0
    while True:
        tried += 1
        try:
            with noting() as files:
                stage.task(step, index)
        except Exception as error:
            if tried < ATTEMPTS and passes(error):
                time.sleep(PAUSE * 5 ** (tried - 1))
                continue
            return failure(stage, step, index, error, tried)
        return Entry(index, tuple(files), time.perf_counter() - start, tried, worker(), peak_memory(), time.time())


def passes(error: BaseException) -> bool:
    """Whether trying again may help."""
    return any(
        getattr(e, "errno", None) in PASSING or isinstance(e, ConnectionError | TimeoutError) for e in chain(error)
    )


def chain(error: BaseException | None) -> list[BaseException]:
    """An error and what caused it."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__
    return found


def failure(
    stage: Stage, step: str, index: Index, error: BaseException, tried: int = 1, why: str | None = None
) -> Failure:
    """A task that was given up, with an error that says which stage and block it was."""
    if why is None:
        full = any(getattr(e, "errno", None) in FULL for e in chain(error))
        why = "full" if full else "memory" if isinstance(error, MemoryError) else "error"
    return Failure(
        stage.kind, step, index, region(stage, step, index), why, told(stage, step, index, error), tried, worker(), peak_memory()
    )  # fmt: skip


def told(stage: Stage, step: str, index: Index, error: BaseException) -> BigbiaError:
    """An error as it is told: bigbia's own as it is, others with the stage and the block."""
    if isinstance(error, BigbiaError):
        return error
    place = where(stage, step, index)
    if isinstance(error, MemoryError):
        raised: BigbiaError = BlockError(f"{place}: out of memory; use a smaller --block, or fewer --threads")
    elif isinstance(error, OSError) and error.errno is not None:
        raised = StorageError(f"{place}: {error.strerror or error}: {error.filename or ''}".rstrip(": "))
        raised.errno = error.errno  # type: ignore[attr-defined]
    else:
        raised = BlockError(f"{place}: {type(error).__name__}: {error}")
    raised.__cause__ = error
    return raised


def region(stage: Stage, step: str, index: Index) -> str:
    """The voxels of a block task."""
    return describe(stage.grid.box(index)) if step in stage.block_steps and index else ""


def where(stage: Stage, step: str, index: Index) -> str:
    """Which stage, step and voxels a task is, for messages."""
    voxels = region(stage, step, index)
    return f"{stage.kind}, {step}" + (f" at {voxels}" if voxels else f" {index}" if index else "")


def worker() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def peak_memory() -> int:
    """The most bytes that this process has had in memory so far."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
