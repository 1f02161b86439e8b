"""A worker process is killed in the middle of a labelling: the result is the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from skimage import measure

import bigbia
from bigbia.graph.dask import from_source
from bigbia.io.synthetic import source

pytestmark = pytest.mark.cluster

SHAPE = (40, 44, 48)


def kill_at(step: str, mark: str) -> None:
    """On a worker: the first task of a step that any worker runs ends its process."""
    from bigbia.graph.merge import Components
    from bigbia.graph.rank import Ranks

    for kind in (Components, Ranks):
        run = kind.run

        def killed(self, at, index, *rest, run=run):
            if at == step:
                try:
                    os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
                    os.kill(os.getpid(), signal.SIGKILL)
                except FileExistsError:
                    pass
            run(self, at, index, *rest)

        kind.run = killed


STEPS = ("leaf", "pairs", "up1", "down2", "rows", "numbers")
FAST = {("waves", "leaf", 1), ("waves", "up1", 2), ("compute", "numbers", 2)}
EVERY = [
    pytest.param(*case, marks=() if case in FAST else (pytest.mark.slow, pytest.mark.faults))
    for case in [(how, step, workers) for how in ("waves", "compute") for step in STEPS for workers in (1, 2)]
]


@pytest.mark.parametrize(("how", "step", "workers"), EVERY)
def test_a_worker_is_killed(tmp_path, how, step, workers):
    from distributed import Client, LocalCluster

    volume = source("percolation", SHAPE)
    mask = volume.read(tuple((0, n) for n in SHAPE))
    mark = tmp_path / "killed"
    labels = bigbia.measure.label(from_source(volume, 10), connectivity=1)
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(kill_at, step, str(mark))
        if how == "compute":
            got = labels.compute()
        else:
            bigbia.save(tmp_path / "out.zarr", labels={"n": bigbia.hyperstack.hyperstack(labels, "zyx")})
            got = da.from_zarr(str(Path(tmp_path / "out.zarr", "labels/n/0"))).compute(scheduler="sync")
    assert mark.exists()
    np.testing.assert_array_equal(got, measure.label(mask, connectivity=1))
