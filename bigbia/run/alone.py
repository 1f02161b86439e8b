"""A task by itself, in a process of its own: for a block that had not enough memory, or whose worker died with it.

    python -m bigbia.run.alone     reads a stage and a task from standard input, writes what became of it

Whatever the block does to its process, the run lives on.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace

from bigbia.errors import BlockError
from bigbia.graph.boxes import Index
from bigbia.graph.stages import Stage
from bigbia.run.tasks import Failure, Outcome, attempt, failure, where


def alone(stage: Stage, step: str, index: Index) -> Outcome:
    """Run one task in a process of its own."""
    import cloudpickle

    from bigbia import config

    # By value what only this process can import, as for workers; the path first, for all that is imported by name.
    job = pickle.dumps(sys.path) + cloudpickle.dumps((stage, step, index, config.settings()))
    done = subprocess.run([sys.executable, "-m", "bigbia.run.alone"], input=job, stdout=subprocess.PIPE, check=False)
    if done.returncode == 0:
        outcome = pickle.loads(done.stdout)
        return replace(outcome, why="error") if isinstance(outcome, Failure) and outcome.why != "full" else outcome
    code = -done.returncode
    how = signal.Signals(code).name if code in set(signal.Signals) else f"exit code {done.returncode}"
    error = BlockError(f"{where(stage, step, index)}: kills its process ({how}), also when it runs alone")
    return failure(stage, step, index, error, 1, "error")


def main() -> None:
    """The other side."""
    import dask

    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the block prints is not the answer
    sys.path[:] = pickle.load(sys.stdin.buffer)
    stage, step, index, settings = pickle.load(sys.stdin.buffer)
    with dask.config.set(settings):
        outcome = attempt(stage, step, index)
    out.write(pickle.dumps(outcome))
    out.flush()


if __name__ == "__main__":
    main()
