"""Hostile files and words (`hostile.py`): each a named error or a documented harmless end; no code run, no file outside
the root opened, no memory past the cap."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hostile
import pytest


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Every group in a process of its own, of little memory; what became of each case."""
    environment = os.environ | {
        "NUMCODECS_ALLOW_UNSAFE_PICKLE_DECODE": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
        "MALLOC_ARENA_MAX": "2",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }

    folders = {group: str(tmp_path_factory.mktemp(group)) for group in hostile.GROUPS}

    def run(group: str) -> subprocess.CompletedProcess:
        command = [sys.executable, hostile.__file__, group, folders[group]]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)

    with ThreadPoolExecutor(2) as pool:
        done = dict(zip(hostile.GROUPS, pool.map(run, hostile.GROUPS)))
    found = {}
    for group, process in done.items():
        for line in process.stdout.splitlines():
            if line.startswith("{"):
                result = json.loads(line)
                found[result["case"]] = result
        found[group] = process.stderr[-2000:]
    return found


@pytest.mark.parametrize("name", hostile.CASES)
def test_hostile(results, name):
    case = hostile.CASES[name]
    assert name in results, f"the process ended before this case: {results[case.group]}"
    found = results[name]
    assert found["named"], found["trace"]
    if case.says is None:
        assert found["error"] is None, found["trace"]
    else:
        assert found["error"] is not None, "nothing was refused"
        assert re.search(case.says, found["message"]), found["message"][:500]
    assert "\n" not in found["message"]
    assert found["message"].isprintable()
    assert len(found["message"]) < 1000
    assert not found["marker"], "the payload ran"
    assert found["outside"], "a file outside was touched"
    assert found["opened"] == []
    assert found["growth"] < hostile.GROWTH
    assert found["seconds"] < hostile.SECONDS


def test_there_are_enough():
    assert len(hostile.CASES) >= 25
    assert {case.group for case in hostile.CASES.values()} == set(hostile.GROUPS)


def test_a_bomb_is_one(tmp_path):
    """The traps are traps: decoded without bounds they are large."""
    import zlib

    from numcodecs import Zstd

    engine = zlib.decompressobj(wbits=47)
    assert len(engine.decompress(hostile.gzip_bomb(), 1 << 26)) == 1 << 26
    assert engine.unconsumed_tail
    assert len(Zstd().decode(hostile.zstd_bomb(1)[: 10 + 4 * 63] + hostile.zstd_bomb(1)[-4:])) > 1 << 22


def test_the_watch_sees(tmp_path):
    """What the tests rely on: opening a file outside, and starting a program, are noticed."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(hostile.__file__).parent)!r})
import hostile, os, pathlib
out = pathlib.Path({str(tmp_path)!r}).resolve(); (out / "f").write_text("x"); (out.parent / "link").symlink_to(out / "f")
hostile.watch(out); hostile.watched.set()
open(out.parent / "link").close(); os.close(os.open(str(out / "f"), os.O_RDONLY)); os.system("true")
hostile.watched.clear(); print(len(hostile.opened))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "3", done.stderr
