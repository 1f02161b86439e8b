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
        if int(value) < 1:
            raise ParameterError(f"bigbia.threads={value!r}: needs at least 1")
        return int(value)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(os.environ.get("SLURM_CPUS_PER_TASK", 0)) or allowed


def memory() -> int:
    """Bytes this process may use."""
    value = get("memory")
    if value == "auto":
        return int(0.6 * _available())
    try:
        size = int(parse_bytes(value))
    except (ValueError, TypeError):
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
    return Path(tempfile.gettempdir()) / f"bigbia-{os.getuid()}" if value == "auto" else Path(value)
