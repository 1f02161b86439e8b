"""Run stages in waves: step by step, a few blocks a thread in flight, on threads, local processes or a cluster.

The tasks are those of the Dask graph (`graph/dask.py`), submitted a window at a time, so that the scheduler's memory
is bounded by the window and not by the volume. A stage whose scratch folder is complete is not run again.
"""

from __future__ import annotations

import atexit
import gc
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import dask.array as da

from bigbia import config
from bigbia.errors import BigbiaError, BlockError, ParameterError
from bigbia.graph.boxes import Index, describe, morton, volume, whole
from bigbia.graph.hold import Hold, held
from bigbia.graph.stages import Stage, stages_of

IN_FLIGHT = 4  # tasks submitted for each thread

# The last collection of a process walks every object of every imported module, a third of a second, to free what the
# operating system frees at once.
atexit.register(gc.freeze)


def execute(
    stages: Sequence[Stage],
    *,
    scheduler: str | None = None,
    live: Mapping[str, da.Array] | None = None,
    progress: Any = None,
    done_steps: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Run stages and all they need.

    scheduler : None (the current distributed client, else threads), "threads", "processes", or a scheduler's address
    live : the Dask arrays that live nodes name
    done_steps : stage token -> steps that have been done elsewhere
    """
    order: dict[str, Stage] = {}
    for stage in stages:
        for s in [*stages_of(stage.inputs), stage]:
            order.setdefault(s.token, s)
    holds: dict[str, Hold] = {}
    with workers(scheduler) as pool:
        for stage in order.values():
            if not stage.complete:
                run_stage(
                    held(stage, live or {}, pool.compute, holds),
                    pool,
                    progress,
                    (done_steps or {}).get(stage.token, ()),
                )


def run_stage(stage: Stage, pool: Any, progress: Any = None, skip: Sequence[str] = ()) -> None:
    for step in stage.steps:
        if step in skip:
            continue
        by_block = step in stage.block_steps
        indices = list(stage.indices(step))
        if by_block:
            indices = morton(indices)
        shown = progress is not None and by_block
        if shown:
            progress.begin(stage.title(step), len(indices), volume(whole(stage.grid.shape)))
        pool.run(stage, step, indices, progress.advance if shown else None)
        if shown:
            progress.end()


def run_tasks(stage: Stage, step: str, indices: Sequence[Index]) -> None:
    """Some tasks of a step, on a worker; an error says which stage and block it was."""
    for index in indices:
        try:
            stage.task(step, index)
        except BigbiaError:
            raise
        except MemoryError as error:
            raise BlockError(
                f"{where(stage, step, index)}: out of memory; use a smaller --block, or fewer --threads"
            ) from error
        except Exception as error:
            raise BlockError(f"{where(stage, step, index)}: {type(error).__name__}: {error}") from error


def where(stage: Stage, step: str, index: Index) -> str:
    """Which stage, step and voxels a task is, for messages."""
    place = (
        f" at {describe(stage.grid.box(index))}"
        if step in stage.block_steps and index
        else f" {index}"
        if index
        else ""
    )
    return f"{stage.kind}, {step}{place}"


class Threads:
    """Tasks on this process's threads."""

    compute = "threads"

    def __init__(self) -> None:
        self.count = config.threads()
        self.pool = ThreadPoolExecutor(self.count, thread_name_prefix="bigbia")

    def run(self, stage: Stage, step: str, indices: Sequence[Index], advance: Callable[[int], None] | None) -> None:
        stop = threading.Event()

        def one(batch: list[Index]) -> int:
            if not stop.is_set():
                run_tasks(stage, step, batch)
            return len(batch)

        pending: set[Future] = set()
        try:
            for batch in batches(indices, stage, step, self.count):
                if len(pending) >= IN_FLIGHT * self.count:
                    pending = _collect(pending, advance)
                pending.add(self.pool.submit(one, batch))
            while pending:
                pending = _collect(pending, advance)
        except BaseException:
            stop.set()
            stage.stop()
            wait(pending)  # what is running finishes, so that nothing is written after the error
            raise

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)


def _collect(pending: set[Future], advance: Callable[[int], None] | None) -> set[Future]:
    done, rest = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        n = future.result()
        if advance:
            advance(n)
    return rest


def batches(indices: Sequence[Index], stage: Stage, step: str, count: int) -> Iterator[list[Index]]:
    """Block tasks one by one; the small tasks above them a few at a time."""
    size = 1 if step in stage.block_steps else max(1, min(16, len(indices) // (2 * count)))
    for i in range(0, len(indices), size):
        yield list(indices[i : i + size])


def handed(stage: Stage) -> Stage:
    """The stage, on a worker, for all its tasks there."""
    return stage


class Cluster:
    """Tasks on the workers of a distributed client."""

    def __init__(self, client: Any, owned: Sequence[Any] = ()) -> None:
        self.client, self.owned = client, owned
        self.compute = client

    def run(self, stage: Stage, step: str, indices: Sequence[Index], advance: Callable[[int], None] | None) -> None:
        from distributed import as_completed

        count = max(1, sum(self.client.nthreads().values()))
        # The result of a task, not scattered data, which would be lost with the worker that holds it.
        shared = self.client.submit(handed, stage, pure=False, retries=3)
        waiting = iter(batches(indices, stage, step, count))
        pending: dict[Any, int] = {}

        def submit() -> bool:
            batch = next(waiting, None)
            if batch is None:
                return False
            future = self.client.submit(run_tasks, shared, step, batch, pure=False, retries=3)
            pending[future.key] = len(batch)
            running.add(future)
            return True

        running = as_completed(loop=self.client.loop, raise_errors=False)
        try:
            for _ in range(IN_FLIGHT * count):
                if not submit():
                    break
            for future in running:
                if future.status != "finished":
                    error = future.exception()
                    raise (
                        error
                        if isinstance(error, BigbiaError)
                        else BlockError(f"{stage.kind}, {step}: {type(error).__name__}: {error}")
                    )
                if advance:
                    advance(pending.pop(future.key))
                future.release()
                submit()
        except BaseException:
            stage.stop()
            self.client.cancel(list(running.futures))
            raise

    def close(self) -> None:
        for thing in self.owned:
            thing.close()


@contextmanager
def workers(scheduler: str | None) -> Iterator[Any]:
    pool = _workers(scheduler)
    try:
        yield pool
    finally:
        pool.close()


def _workers(scheduler: str | None) -> Any:
    if scheduler is None:
        import sys

        if "distributed" in sys.modules:
            from distributed import default_client

            try:
                return Cluster(default_client())
            except ValueError:
                pass
        return Threads()
    if scheduler == "threads":
        return Threads()
    if scheduler == "processes":
        from distributed import Client, LocalCluster

        # Loopback only, and no dashboard: nothing listens to the network.
        cluster = LocalCluster(
            n_workers=config.threads(),
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,
            silence_logs=40,
        )
        client = Client(cluster, set_as_default=False)
        return Cluster(client, [client, cluster])
    if scheduler.split("://")[0] in ("tcp", "tls"):
        return Cluster(*_connected(scheduler))
    raise ParameterError(f'scheduler={scheduler!r}: "threads", "processes" or an address such as tcp://127.0.0.1:8786')


def _connected(address: str) -> tuple[Any, list[Any]]:
    """A client of the scheduler at an address, which must have workers."""
    from distributed import Client

    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"scheduler {address!r}: no scheduler answers there ({type(error).__name__}); start one, or use threads"
        ) from None
    except (TypeError, RuntimeError) as error:
        raise ParameterError(
            f"scheduler {address!r}: {error}; for tls:// set distributed.comm.tls.ca-file and client.cert, client.key in Dask's configuration"
        ) from None
    if not client.nthreads():
        try:
            client.wait_for_workers(1, timeout=30)
        except TimeoutError:
            client.close()
            raise ParameterError(
                f"scheduler {address!r}: no worker came within 30 s; start some: dask worker {address}"
            ) from None
    return client, [client]
