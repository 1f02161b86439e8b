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


# ---- drivers of rounds -----------------------------------------------------------------------------------------------
def kill_in_a_round(who: str, mark: str) -> None:
    """On a worker: in the second round of a watershed, its driver's process ends, or that of one of its block tasks."""
    from bigbia.graph import catchments, relax, rounds

    def once() -> None:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass

    if who == "driver":
        together, calls = rounds.together, [0]

        def killed_together(function, items):
            calls[0] += 1
            if calls[0] == 2:
                once()
            return together(function, items)

        rounds.together = killed_together
        return
    kind = relax.Relax if who == "level" else catchments.Catchments
    step = kind.step

    def killed_step(self, index):
        if self.folder.exists("rounds/1"):
            once()
        return step(self, index)

    kind.step = killed_step


@pytest.mark.parametrize("who", ["driver", pytest.param("level", marks=pytest.mark.slow), "catchments"])
def test_a_worker_is_killed_in_a_round_of_a_watershed(tmp_path, who):
    from distributed import Client, LocalCluster
    from scipy import ndimage as ndi

    rng = np.random.default_rng(0)
    image = (ndi.gaussian_filter(rng.random((40, 44)), 1.5) * 60).astype("u1")  # wide plateaus over many blocks
    markers = np.zeros(image.shape, "u4")
    markers[3, 3], markers[30, 35], markers[20, 8] = 1, 2, 3
    mark = tmp_path / "killed"
    labels = bigbia.segmentation.watershed(da.from_array(image, chunks=8), markers)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(kill_in_a_round, who, str(mark))
        bigbia.save(tmp_path / "out.zarr", labels={"n": bigbia.hyperstack.hyperstack(labels, "yx")})
    got = da.from_zarr(str(Path(tmp_path / "out.zarr", "labels/n/0"))).compute(scheduler="sync")
    assert mark.exists()
    np.testing.assert_array_equal(got, bigbia.segmentation.watershed(image, markers))
