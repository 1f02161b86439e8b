"""A relaxation finished by a tree of boxes: the bits that rounds come to, whatever the image and its blocks."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest
from scipy import ndimage as ndi
from strategies import random_cuts
from test_relax import relaxations

import bigbia
from bigbia.errors import BigbiaError
from bigbia.graph import relax
from bigbia.graph.floodtree import FloodTree
from bigbia.io.synthetic import source
from bigbia.kernels.boundary_tree import Edges, contracted, forest, settled
from bigbia.run.execute import execute

DTYPES = ["bool", "uint8", "int16", "uint16", "int32", "int64", "uint64", "float32", "float64"]


def random_images(rng):
    """A seed nowhere above a mask; often with few different values, infinities, few seeds or ways that are narrow."""
    ndim = int(rng.integers(1, 5))
    shape = tuple(int(n) for n in rng.integers(1, {1: 60, 2: 18, 3: 9, 4: 6}[ndim], ndim))
    dtype = np.dtype(str(rng.choice(DTYPES)))
    levels = np.sort(rng.integers(0, 2**63, int(rng.choice([2, 5, 1000])), np.int64))
    if dtype.kind == "f":
        levels = np.concatenate([levels / 2**62 - 1, [-np.inf, np.inf, 0.0, -0.0]]).astype(dtype)
    elif dtype.kind != "b":
        ends = np.iinfo(dtype)
        levels = np.concatenate([levels.astype(np.uint64).astype(dtype), np.array([ends.min, ends.max, 0], dtype)])
    mask = rng.choice(levels, shape).astype(dtype)
    if rng.random() < 0.3:
        mask[rng.random(shape) < 0.4] = mask.min()
    low = -np.inf if dtype.kind == "f" else 0 if dtype.kind == "b" else np.iinfo(dtype).min
    seed = np.minimum(mask, np.where(rng.random(shape) < rng.choice([0.02, 0.3]), rng.choice(levels, shape), low))
    return seed.astype(dtype), mask, int(rng.integers(1, ndim + 1))


def check_random_cases(monkeypatch, count, seed):
    rng = np.random.default_rng(seed)
    switched = 0
    for _ in range(count):
        low, mask, connectivity = random_images(rng)
        monkeypatch.setattr(relax, "PATIENCE", float(rng.choice([0, 0, 1, 1.5])))
        chunks = tuple((1,) * n if mask.size < 200 and rng.random() < 0.3 else random_cuts(rng, n) for n in mask.shape)
        expected = bigbia.morphology.reconstruction(low, mask, connectivity=connectivity)
        lazy = bigbia.morphology.reconstruction(
            da.from_array(low, chunks=chunks), da.from_array(mask, chunks=chunks), connectivity=connectivity
        )
        got = lazy.compute(scheduler="sync")
        np.testing.assert_array_equal(got, expected, err_msg=f"{mask.dtype} {chunks} {connectivity}")
        assert got.tobytes() == expected.tobytes()
        switched += relaxations(lazy)[0].folder.exists("switched")
    assert switched > 0.5 * count


def test_random_cases(monkeypatch):
    check_random_cases(monkeypatch, 15, 0)


@pytest.mark.slow
def test_many_random_cases(monkeypatch):
    check_random_cases(monkeypatch, 1000, 1)


def one_seed(mask, at):
    seed = np.full_like(mask, -np.inf if mask.dtype.kind == "f" else 0)
    seed[at] = mask[at]
    return seed


def spiral(n):
    corridor = source("spiral", (n, n)).read(((0, n), (0, n))).astype("u1") * 9
    return one_seed(corridor, tuple(np.argwhere(corridor)[0])), corridor


def noise(n, ndim, sigma=0.7):
    mask = ndi.gaussian_filter(np.random.default_rng(2).random((n,) * ndim, np.float32), sigma)
    return one_seed(mask, (n // 2,) * ndim), mask


@pytest.mark.parametrize("method", ["dilation", "erosion"])
@pytest.mark.parametrize("images", [spiral(65), noise(60, 2), noise(24, 3)], ids=["spiral", "noise", "noise 3D"])
def test_ways_through_many_blocks(monkeypatch, images, method):
    monkeypatch.setattr(relax, "PATIENCE", 2.0)
    seed, mask = images if method == "dilation" else (255 - a.astype("f4") for a in images)
    for connectivity in range(1, mask.ndim + 1):
        expected = bigbia.morphology.reconstruction(seed, mask, method, connectivity=connectivity)
        lazy = bigbia.morphology.reconstruction(
            *(da.from_array(a, chunks=8) for a in (seed, mask)), method, connectivity=connectivity
        )
        np.testing.assert_array_equal(lazy, expected)
        assert relaxations(lazy)[0].folder.exists("switched")


def test_what_goes_up_is_smaller_than_the_surface(monkeypatch):
    monkeypatch.setattr(relax, "PATIENCE", 0.0)
    sizes = {}
    task = FloodTree._task

    def told(self, step, function, index):
        task(self, step, function, index)
        if step.startswith("up"):
            shape = [min(8 << int(step[2:]), 48)] * 3
            surface = np.prod(shape) - np.prod([n - 2 for n in shape])
            record = self.folder.read(f"tree/{step}/{'.'.join(map(str, index))}", "name", "a")
            sizes[step, index] = len(record["name"]) / surface
            assert len(record["a"]) < max(1, len(record["name"]))

    monkeypatch.setattr(FloodTree, "_task", told)
    seed, mask = noise(48, 3)
    lazy = bigbia.morphology.reconstruction(*(da.from_array(a, chunks=8) for a in (seed, mask)))
    np.testing.assert_array_equal(lazy, bigbia.morphology.reconstruction(seed, mask))
    assert len(sizes) == 27 + 8 + 1
    assert max(sizes.values()) < 0.2
    assert sizes["up3", (0, 0, 0)] == 0


WHEN = {"up1": 9, "down1": 9, "up2": 3, "down2": 3, "up3": 0, "down3": 0}  # after how many of its tasks


@pytest.mark.parametrize("step", ["leaf", "join", "up1", "up2", "up3", "down3", "down2", "down1", "rise"])
@pytest.mark.parametrize("written", [False, True])
def test_cut_off_in_the_middle_of_a_step(monkeypatch, step, written):
    """Before a task, and between its end and what it says of it."""
    monkeypatch.setattr(relax, "PATIENCE", 1.5)
    seed, mask = noise(40, 2)
    lazy = bigbia.morphology.reconstruction(*(da.from_array(a, chunks=6) for a in (seed, mask)))
    (stage,) = relaxations(lazy)
    done, fail = [], [True]
    task = FloodTree._task

    def dying(self, name, function, index):
        if name == step and fail[0] and done.count(name) == WHEN.get(name, 20):
            fail[0] = False
            if written:
                function(index)
            raise OSError("no luck")
        task(self, name, function, index)
        done.append(name)

    monkeypatch.setattr(FloodTree, "_task", dying)
    with dask.config.set({"bigbia.threads": 1}), pytest.raises(BigbiaError, match="no luck"):
        execute([stage], scheduler="threads")
    rounds = stage.rounds
    assert not stage.complete
    execute([stage], scheduler="threads")
    assert stage.rounds == rounds
    np.testing.assert_array_equal(lazy, bigbia.morphology.reconstruction(seed, mask))
    assert {p.name for p in stage.folder.path.iterdir()} == {
        "state",
        "driver.lock",
        "round",
        "rounds",
        "switched",
        "done",
    }


def test_a_stop_mark_ends_the_passes(monkeypatch):
    monkeypatch.setattr(relax, "PATIENCE", 0.0)
    seed, mask = noise(40, 2)
    lazy = bigbia.morphology.reconstruction(*(da.from_array(a, chunks=6) for a in (seed, mask)))
    (stage,) = relaxations(lazy)
    joins, join = [], FloodTree.join

    def stopping(self, index):
        joins.append(index)
        if len(joins) == 9:
            self.stage.stop()
        return join(self, index)

    monkeypatch.setattr(FloodTree, "join", stopping)
    with dask.config.set({"bigbia.threads": 1}), pytest.raises(BigbiaError, match="stopped"):
        execute([stage], scheduler="threads")
    assert len(joins) == 9
    np.testing.assert_array_equal(lazy, bigbia.morphology.reconstruction(seed, mask))
    assert len(joins) == 49


def test_two_at_once(monkeypatch):
    monkeypatch.setattr(relax, "PATIENCE", 1.0)
    pairs = [noise(40, 2), noise(40, 2, 1.0)]
    total = sum(bigbia.morphology.reconstruction(*(da.from_array(a, chunks=7) for a in pair)) for pair in pairs)
    with dask.config.set({"bigbia.threads": 2}):
        got = total.compute(scheduler="threads", num_workers=6)
    np.testing.assert_array_equal(got, sum(bigbia.morphology.reconstruction(*pair) for pair in pairs))


@pytest.mark.cluster
def test_the_passes_run_on_the_workers(monkeypatch):
    from distributed import Client, LocalCluster

    seed, mask = spiral(65)
    expected = bigbia.morphology.reconstruction(seed, mask)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster),
    ):
        lazy = bigbia.morphology.reconstruction(*(da.from_array(a, chunks=16) for a in (seed, mask)))
        np.testing.assert_array_equal(lazy.compute(), expected)
        assert relaxations(lazy)[0].folder.exists("switched")


@pytest.mark.parametrize(
    ("steps", "left", "switches"),
    [(599, 99, False), (600, 11, True), (600, 10, False), (1199, 1, False), (1200, 1, True), (9999, 0, False)],
)
def test_when_rounds_are_given_up(monkeypatch, steps, left, switches):
    image = np.zeros((100, 1), "u1")
    lazy = bigbia.morphology.reconstruction(*(da.from_array(image, chunks=1) for _ in range(2)))
    (stage,) = relaxations(lazy)
    runs = []
    monkeypatch.setattr(FloodTree, "run", lambda self: runs.append(self))
    todo = [(i, 0) for i in range(left)]
    assert stage.remaining(7, steps, todo) == ([] if switches else todo)
    assert len(runs) == switches == stage.folder.exists("switched")


# ---- trees -----------------------------------------------------------------------------------------------------------
def best_ways(edges, seed):
    """The same by looking along every edge until nothing changes."""
    out = seed.copy()
    for _ in range(len(seed)):
        for a, b, level in zip(*edges):
            out[a], out[b] = max(out[a], min(level, out[b])), max(out[b], min(level, out[a]))
    return out


def test_trees_say_what_the_graphs_say():
    rng = np.random.default_rng(4)
    for _ in range(200):
        n, m = int(rng.integers(1, 12)), int(rng.integers(0, 30))
        edges = Edges(rng.integers(0, n, m), rng.integers(0, n, m), rng.integers(0, 9, m))
        seed = rng.integers(0, 9, n)
        tree = forest(edges, n)
        assert len(tree.a) < n
        np.testing.assert_array_equal(settled(tree, seed), expected := best_ways(edges, seed))
        kept = rng.random(n) < 0.5
        small = contracted(tree, expected, kept)
        assert len(small.a) < max(1, kept.sum())
        more = rng.integers(0, 12, kept.sum())
        later = expected.copy()
        later[kept] = np.maximum(later[kept], more)
        got = settled(small, later[kept])
        np.testing.assert_array_equal(got, best_ways(edges, later)[kept])
