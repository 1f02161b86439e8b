"""Run stages in waves: step by step, a few blocks a thread in flight, on threads, local processes or a cluster.

The tasks are those of the Dask graph (`graph/dask.py`), submitted a window at a time, so that the scheduler's memory
is bounded by the window and not by the volume. A stage whose scratch folder is complete is not run again, nor is a task
that the run's ledger knows as done.
"""

from __future__ import annotations

import atexit
import gc
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any

import dask.array as da

from bigbia import config
from bigbia.errors import BlockError, ParameterError
from bigbia.graph.boxes import Index, volume, whole
from bigbia.graph.hold import Hold, held
from bigbia.graph.stages import Stage, stages_of
from bigbia.run.alone import alone
from bigbia.run.failures import Failures, Stopped
from bigbia.run.ledger import Entry
from bigbia.run.tasks import Failure, Outcome, failure, run_tasks, where

IN_FLIGHT = 4  # tasks submitted for each thread
Begun = Callable[[Stage, str, Index], None]

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
    run: Any = None,
    only: Collection[str] | None = None,
) -> None:
    """Run stages and all they need.

    scheduler : None (the current distributed client, else threads), "threads", "processes", or a scheduler's address
    live : the Dask arrays that live nodes name
    done_steps : stage token -> steps that have been done elsewhere
    only : tokens of the stages that are needed, where some are not
    run : a `Run` (run/contract.py) that keeps what is done and knows what was
    """
    order: dict[str, Stage] = {}
    for stage in stages:
        for s in [*stages_of(stage.inputs), stage]:
            order.setdefault(s.token, s)
    holds: dict[str, Hold] = {}
    run = Unrecorded() if run is None else run
    with workers(scheduler) as pool:
        for stage in order.values():
            if not stage.complete and (only is None or stage.token in only):
                run_stage(
                    held(stage, live or {}, pool.compute, holds),
                    pool,
                    progress,
                    (done_steps or {}).get(stage.token, ()),
                    run,
                )


class Unrecorded:
    """What stands for a run where nothing is kept of it."""

    def begin(self, stage: Stage, step: str) -> Callable[[Index], bool] | None: ...
    def done(self, stage: Stage, step: str, entry: Entry) -> None: ...
    def end(self, stage: Stage, step: str, failures: Sequence[Failure] = ()) -> None: ...
    def finished(self, stage: Stage) -> None: ...

    def begun(self, stage: Stage, step: str, index: Index) -> None: ...

    def suspects(self, stage: Stage, step: str) -> Collection[Index]:
        return ()

    def replaced(self, stage: Stage, step: str, failure: Failure) -> Entry | None:
        return None


def run_stage(stage: Stage, pool: Any, progress: Any, skip: Sequence[str], run: Any) -> None:
    for step in stage.steps:
        if step not in skip:
            run_step(stage, step, pool, progress, run)
    run.finished(stage)


def run_step(stage: Stage, step: str, pool: Any, progress: Any, run: Any) -> None:
    """All tasks of a step that are not done yet. Those that fail are told at its end."""
    by_block = step in stage.block_steps
    if by_block:
        total, indices = len(stage.grid), stage.grid.morton()
    else:
        known = list(stage.indices(step))
        total, indices = len(known), iter(known)
    progress = progress if by_block else None
    is_done = run.begin(stage, step)
    if progress:
        progress.begin(stage.title(step), total, volume(whole(stage.grid.shape)))
    if is_done is not None:
        indices = _not_done(indices, is_done, progress)
    # Blocks that were being worked on when this process died, more than once: they must not kill it again.
    suspects = run.suspects(stage, step)
    if suspects:
        indices = (index for index in indices if index not in suspects)
    failures = Failures(total)
    size = 1 if by_block else max(1, min(16, total // (2 * pool.count)))

    def settle(outcome: Outcome) -> None:
        if isinstance(outcome, Entry):
            failures.succeeded += 1
            run.done(stage, step, outcome)
            if progress:
                progress.advance(1)
        elif replacement := run.replaced(stage, step, outcome):
            failures.given_up.append(outcome)
            run.done(stage, step, replacement)
        else:
            failures.add(outcome)

    try:
        with closing(pool.outcomes(stage, step, _batches(indices, size), run.begun)) as outcomes:
            for outcome in outcomes:
                settle(outcome)
        for index in [*suspects, *failures.take_alone()]:
            settle(alone(stage, step, index))
    except Stopped:
        pass
    finally:
        run.end(stage, step, [*failures.given_up, *failures.found, *failures.alone])
    if progress:
        progress.end()
    if error := failures.error():
        raise error


def _not_done(indices: Iterable[Index], is_done: Callable[[Index], bool], progress: Any) -> Iterator[Index]:
    for index in indices:
        if not is_done(index):
            yield index
        elif progress:
            progress.advance(1)


def _batches(indices: Iterable[Index], size: int) -> Iterator[list[Index]]:
    """Block tasks one by one; the small tasks above them a few at a time."""
    rest = iter(indices)
    while batch := list(islice(rest, size)):
        yield batch


class Threads:
    """Tasks on this process's threads."""

    compute = "threads"

    def __init__(self) -> None:
        self.count = config.threads()
        self.pool = ThreadPoolExecutor(self.count, thread_name_prefix="bigbia")

    def outcomes(self, stage: Stage, step: str, batches: Iterable[list[Index]], begun: Begun) -> Iterator[Outcome]:
        """What became of each task, as they end. `begun` is told of each block before it is worked on."""
        stop = threading.Event()

        def some(batch: list[Index]) -> list[Outcome]:
            if stop.is_set():
                return []
            if step in stage.block_steps:
                begun(stage, step, batch[0])
            return run_tasks(stage, step, batch)

        pending: set[Future] = set()
        try:
            waiting = iter(batches)
            while True:
                for batch in islice(waiting, IN_FLIGHT * self.count - len(pending)):
                    pending.add(self.pool.submit(some, batch))
                if not pending:
                    return
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
        except BaseException:
            stop.set()
            stage.stop()
            wait(pending)  # what is running finishes, so that nothing is written after the error
            raise

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)


def handed(stage: Stage) -> Stage:
    """The stage, on a worker, for all its tasks there."""
    return stage


class Cluster:
    """Tasks on the workers of a distributed client."""

    def __init__(self, client: Any, owned: Sequence[Any] = ()) -> None:
        self.client, self.owned = client, owned
        self.compute = client

    @property
    def count(self) -> int:
        return max(1, sum(self.client.nthreads().values()))

    def outcomes(self, stage: Stage, step: str, batches: Iterable[list[Index]], begun: Begun) -> Iterator[Outcome]:
        """What became of each task, as they end. A worker that dies with a block does not end this process."""
        from distributed import as_completed

        # The result of a task, not scattered data, which would be lost with the worker that holds it.
        shared = self.client.submit(handed, stage, pure=False, retries=3)
        pending: dict[Any, list[Index]] = {}
        running = as_completed(loop=self.client.loop, raise_errors=False)

        def submit(batch: list[Index]) -> None:
            future = self.client.submit(run_tasks, shared, step, batch, pure=False)
            pending[future.key] = batch
            running.add(future)

        waiting = iter(batches)
        try:
            for batch in islice(waiting, IN_FLIGHT * self.count):
                submit(batch)
            for future in running:
                if future.status in ("pending", "lost"):  # was done, and its result went with a worker: it comes again
                    running.add(future)
                    continue
                batch = pending.pop(future.key)
                if future.status == "finished":
                    yield from future.result()
                else:
                    yield from _lost(stage, step, batch, future.exception())
                future.release()
                for batch in islice(waiting, 1):
                    submit(batch)
        except BaseException:
            stage.stop()
            self.client.cancel(list(running.futures))
            raise

    def close(self) -> None:
        for thing in self.owned:
            thing.close()


def _lost(stage: Stage, step: str, batch: Sequence[Index], error: BaseException) -> Iterator[Failure]:
    """Tasks that the scheduler gave up: as a rule because workers died while they had them."""
    killed = type(error).__name__ == "KilledWorker"
    for index in batch:
        said = BlockError(f"{where(stage, step, index)}: the workers that had it died") if killed else error
        yield failure(stage, step, index, said, why="killed" if killed else "error")


def memory_of(scheduler: str | None) -> tuple[int, int]:
    """How many tasks run at once in a process that computes blocks, and how many bytes that process may have."""
    if scheduler == "processes":
        return 1, config.memory() // config.threads()
    if scheduler == "threads" or (scheduler is None and _client() is None):
        return config.threads(), config.memory()
    return 1, sys.maxsize  # workers elsewhere have limits of their own, which Dask keeps


def _client() -> Any:
    """The distributed client of this process, if it has one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


@contextmanager
def workers(scheduler: str | None) -> Iterator[Any]:
    pool = _workers(scheduler)
    try:
        yield pool
    finally:
        pool.close()


def _workers(scheduler: str | None) -> Any:
    if scheduler is None:
        client = _client()
        return Threads() if client is None else Cluster(client)
    if not isinstance(scheduler, str):
        raise ParameterError(f'scheduler={scheduler!r}: "threads", "processes" or an address: tcp://127.0.0.1:8786')
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
        from bigbia.run.network import check_address

        check_address(scheduler, config.truth("insecure"))
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
