"""Defaults, under `bigbia.` in dask.config.

`dask.config.set({"bigbia.memory": "2 GiB"})`, the environment (`BIGBIA_MEMORY=2GiB`) or Dask's own YAML files change
them.

| key | default | meaning |
|---|---|---|
| memory | "auto" | bytes this process may use; auto: 60 % of the smallest of cgroup limit, SLURM allocation, free memory |
| threads | "auto" | threads of the local scheduler; auto: the CPUs this process may use |
| scratch | "auto" | folder for what stages leave behind; on a cluster it must be one that all workers share |
| block | "auto" | voxels per axis of a compute block |
| cache | 0.2 | share of the memory that decoded input chunks may take |
| integrity | "hash" | "hash" keeps a hash of each file that a run writes; "full" also reads all of them back, twice |
| keep | "auto" | what a run's stages found, kept beside its output for the next one: "auto" (up to a tenth), "all", "none" |
| insecure | false | let a run use a scheduler elsewhere on the network that has no TLS |
| follow_links | false | read through symbolic links that lead out of a Zarr store (git-annex, linked folders) |
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import dask
from dask.utils import parse_bytes

from bigbia.errors import ParameterError

SMALLEST = 256 << 20

DEFAULTS: dict[str, Any] = {
    "memory": "auto",
    "threads": "auto",
    "scratch": "auto",
    "block": "auto",
    "cache": 0.2,
    "integrity": "hash",
    "keep": "auto",
    "insecure": False,
    "follow_links": False,
}


def get(key: str) -> Any:
    """The value of `bigbia.<key>`: dask.config first, then the environment, then the default."""
    value = dask.config.get(f"bigbia.{key}", None)
    if value is None:
        value = os.environ.get("BIGBIA_" + key.upper().replace("-", "_"))
    return DEFAULTS[key] if value is None else value


def threads() -> int:
    """How many block tasks run at once in this process."""
    value = get("threads")
    if value != "auto":
        try:
            count = int(value)
        except (TypeError, ValueError, OverflowError):
            raise ParameterError(f'bigbia.threads={value!r} is not a number of threads: write 4, or "auto"') from None
        if count < 1 or isinstance(value, bool) or (count != value and not isinstance(value, str)):
            raise ParameterError(f'bigbia.threads={value!r}: must be a whole number, at least 1, or "auto"')
        return count
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(os.environ.get("SLURM_CPUS_PER_TASK", 0)) or allowed


def memory() -> int:
    """Bytes this process may use."""
    value = get("memory")
    if value == "auto":
        return int(0.6 * _available())
    try:
        size = int(parse_bytes(value))
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise ParameterError(f'bigbia.memory={value!r} is not a size: write for instance "2 GiB"') from None
    if size < SMALLEST:
        raise ParameterError(
            f"bigbia.memory={value!r}: Python and its libraries alone take {SMALLEST >> 20} MiB: give more"
        )
    return size


@cache
def _available() -> int:
    import psutil

    limits = [psutil.virtual_memory().available]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            limits.append(int(text))
    if mib := os.environ.get("SLURM_MEM_PER_NODE"):
        limits.append(int(mib) << 20)
    if mib := os.environ.get("SLURM_MEM_PER_CPU"):
        limits.append((int(mib) << 20) * threads())
    return min(limits)


def scratch_folder() -> Path:
    """Where stages leave what they found."""
    value = get("scratch")
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ParameterError(f'bigbia.scratch={value!r} is not a folder: write a path, or "auto"')
    return Path(tempfile.gettempdir()) / f"bigbia-{os.getuid()}" if value == "auto" else Path(value)


def cache_share() -> float:
    """The share of the memory that decoded input chunks may take."""
    value = get("cache")
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = -1.0
    if isinstance(value, bool) or not 0 <= share <= 1:
        raise ParameterError(f"bigbia.cache={value!r}: must be a share of the memory, from 0 to 1")
    return share


def truth(key: str) -> bool:
    """A setting that is true or false. In the environment "false", "0" and "no" are false, which `bool` takes for true."""
    value = get(key)
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if str(value).lower() not in known:
        raise ParameterError(f"bigbia.{key}={value!r}: must be true or false")
    return known[str(value).lower()]


def integrity() -> str:
    """How closely what a run writes is checked."""
    value = get("integrity")
    if value not in ("hash", "full"):
        raise ParameterError(f'bigbia.integrity={value!r}: "hash" or "full"')
    return value


def keep() -> str:
    """What is kept of a run's stages."""
    value = get("keep")
    if value not in ("auto", "all", "none"):
        raise ParameterError(f'bigbia.keep={value!r}: "auto", "all" or "none"')
    return value


def check() -> None:
    """Refuse settings that a run could not work with, before it begins."""
    for ask in (memory, threads, cache_share, integrity, keep):
        ask()
    truth("insecure")


def settings() -> dict[str, Any]:
    """All settings as they are, for another process."""
    return {f"bigbia.{key}": get(key) for key in DEFAULTS}
