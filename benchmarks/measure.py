"""Run a command in a fresh process and measure it from outside: wall time, CPU time, peak memory.

    python measure.py RESULT.json LIMIT_SECONDS COMMAND ...

is a process of its own that imports nothing large: Linux counts the memory of the process that starts another one
towards the peak of the new one, so a benchmark that holds an image itself would report its own size.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def measure(command: Sequence[str], limit: float, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a command. Seconds and bytes; `steps` from the lines of `jobs/steps.py`, all others in `output`."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        subprocess.run([sys.executable, "-I", __file__, str(result), str(limit), *command], env=env, check=True)
        return json.loads(result.read_text())


def python(script: str, *words: Any) -> list[str]:
    """The command that runs a script of this folder."""
    return [sys.executable, str(Path(__file__).parent / script), *map(str, words)]


def run(command: Sequence[str], limit: float) -> dict[str, Any]:
    """Start the command, wait for it at most `limit` seconds, say what it took."""
    with tempfile.TemporaryFile("w+") as out:
        began, clock = time.time(), time.perf_counter()
        child = subprocess.Popen(command, stdout=out, start_new_session=True)
        status, usage, in_time = wait(child.pid, limit)
        wall = time.perf_counter() - clock
        out.seek(0)
        lines = out.read().splitlines()
    return {
        "finished": in_time and os.waitstatus_to_exitcode(status) == 0,
        "timed_out": not in_time,
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        **read_steps(lines, began, wall),
    }


def wait(pid: int, limit: float) -> tuple[int, Any, bool]:
    """Wait for a process; kill it and its children when the time is over, or when we are stopped ourselves."""

    def late(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.setitimer(signal.ITIMER_REAL, limit)
    in_time = True
    try:
        _, status, usage = os.wait4(pid, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except TimeoutError:
        in_time = False
        os.killpg(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
    except BaseException:
        os.killpg(pid, signal.SIGKILL)
        raise
    return status, usage, in_time


def read_steps(lines: Sequence[str], began: float, wall: float) -> dict[str, Any]:
    """Seconds a step, the start of the interpreter and its imports first; and the lines that are no steps."""
    times, names, output = [began], ["start and imports"], []
    for line in lines:
        at, _, name = line.partition(" ")
        try:
            times.append(float(at))
            names.append(name)
        except ValueError:
            output.append(line)
    times.append(began + wall)
    steps = [[name, round(b - a, 3)] for name, a, b in zip(names, times, times[1:])]
    return {"steps": steps, "output": "\n".join(output)}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(run(sys.argv[3:], float(sys.argv[2]))))
