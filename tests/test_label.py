"""Labels: equal to scikit-image number for number, whatever the cut; real masks; numbers and places beyond 32 bits."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import tifffile
from cases import canonical
from skimage import measure
from strategies import KINDS, image, random_cuts

import bigbia
from bigbia.graph import rank
from bigbia.graph.boxes import Grid
from bigbia.graph.dask import from_source
from bigbia.graph.merge import Components, Rule
from bigbia.graph.rank import Ranks
from bigbia.graph.regions import Literal
from bigbia.graph.stages import tasks
from bigbia.io.synthetic import source


def labelled(array, grid, connectivity, background=0):
    """Through the stage's own tasks, in one thread: a thousand cases in seconds."""
    objects = Components(Literal(array), grid, Rule(connectivity, background))
    stage = Ranks(objects, np.dtype("u4"))
    for one in (objects, stage):
        for step, index in tasks(one):
            one.task(step, index)
    return stage.left("labels", tuple((0, n) for n in array.shape)), int(stage.left("count", ()))


def by_cc3d(array, connectivity):
    """cc3d's labels of a 2D or 3D image whose background is 0, where it is installed.

    Masks as numbers: cc3d 4.1 gives labels to background, or fails, for some 2D masks of bool with 8 neighbours.
    """
    try:
        import cc3d
    except ImportError:
        return None
    neighbours = {(2, 1): 4, (2, 2): 8, (3, 1): 6, (3, 2): 18, (3, 3): 26}.get((array.ndim, connectivity))
    array = array.view("u1") if array.dtype == bool else array
    return None if neighbours is None else cc3d.connected_components(array, connectivity=neighbours)


def check_random_cases(cases, seed):
    rng = np.random.default_rng(seed)
    for _ in range(cases):
        ndim = int(rng.choice([1, 2, 2, 3, 3, 3, 4, 5]))
        shape = tuple(int(n) for n in rng.integers(1, {1: 80, 2: 20, 3: 10, 4: 5, 5: 4}[ndim], ndim))
        dtype = "bool" if ndim > 3 else str(rng.choice(["bool", "uint8", "int32"]))
        array = image(str(rng.choice(KINDS)), shape, dtype, int(rng.integers(2**31)))
        if dtype != "bool":
            array = array % int(rng.integers(2, 5)) - int(dtype == "int32")
        connectivity = int(rng.integers(1, ndim + 1))
        background = int(rng.integers(0, 2)) if dtype != "bool" else 0
        expected = canonical(measure.label(array, background=background, connectivity=connectivity))
        got, n = labelled(array, Grid(tuple(random_cuts(rng, m) for m in shape)), connectivity, background)
        np.testing.assert_array_equal(got, expected)
        assert n == expected.max(initial=0)
        if not background and (peer := by_cc3d(array, connectivity)) is not None:
            np.testing.assert_array_equal(got, peer)


def test_random_cases():
    check_random_cases(100, 0)


@pytest.mark.slow
def test_ten_thousand_random_cases():
    check_random_cases(10000, 1)


@pytest.mark.parametrize("kind", ["spiral", "shells", "percolation", "checkerboard"])
@pytest.mark.parametrize("chunks", [7, 16, (33, 5, 40)])
def test_adversaries(kind, chunks):
    volume = source(kind, (33, 34, 40))
    lazy = from_source(volume, chunks)
    whole = volume.read(tuple((0, n) for n in volume.shape))
    for connectivity in (1, 3):
        got = bigbia.measure.label(lazy, connectivity=connectivity).compute(scheduler="sync")
        np.testing.assert_array_equal(got, measure.label(whole, connectivity=connectivity))


def merged(array, chunks, connectivity):
    stage = Components(Literal(array), Grid.regular(array.shape, (chunks,) * array.ndim), Rule(connectivity))
    for step, index in tasks(stage):
        stage.task(step, index)
    return stage


RODS = np.broadcast_to((np.indices((64, 64)) % 2 == 0).all(axis=0)[:, :, None], (64, 64, 64))


@pytest.mark.parametrize("kind", ["rods", "percolation", "spiral", "checkerboard"])
@pytest.mark.parametrize("connectivity", [1, 3])
def test_messages_are_bounded_by_the_surface(kind, connectivity):
    """A record of the tree holds at most one name (some 40 bytes of it) for every second voxel of its box's surface."""
    array = RODS if kind == "rods" else source(kind, (64, 64, 64)).read(((0, 64),) * 3)
    stage = merged(array, 8, connectivity)
    for level in (1, 2, 3):
        surface = 6 * (8 << level) ** 2
        for index in stage.indices(f"up{level}"):
            for step in ("up", "down"):
                size = stage.folder.file(rank.block_name(f"{step}{level}", index)).stat().st_size
                assert size < 20 * surface + 1024


def test_what_ends_nearby_does_not_climb_the_tree():
    """Objects of two voxels across the cuts at the middle of every level: settled before."""
    array = np.zeros((64, 64), bool)
    array[3::8, 7::16] = array[3::8, 8::16] = True
    array[7::16, 3::8] = array[8::16, 3::8] = True
    stage = merged(array, 4, 1)
    names = [
        len(stage.folder.read(rank.block_name(f"up{level}", index), "leaf")["leaf"])
        for level in (1, 2, 3, 4)
        for index in stage.indices(f"up{level}")
    ]
    assert sum(names) == 0
    assert measure.label(array, connectivity=1).max() > 50


MASKS = [
    "bbbc007/masks/A9_p5d_(cropped_1).tif",
    "cells3d_nuclei/nuclei_label.tif",
    "gala_fib_em/train-gt.tif",
    "gala_fib_em/train-ws.tif",
    "maize_2d/maize_clsm_labels.tif",
    "stardist_3d/mask3d.tif",
    "stardist_dsb2018/mask2d.tif",
]


@pytest.mark.parametrize("name", MASKS)
def test_real_masks(data, name):
    labels = np.squeeze(tifffile.imread(data / name))
    if labels.dtype.kind == "f":
        labels = labels.astype("i4")
    for array in (labels, labels > 0):
        for connectivity in (1, labels.ndim):
            lazy = da.from_array(array, chunks=tuple(max(1, n // 3 + 1) for n in array.shape))
            got, count = bigbia.measure.label(lazy, connectivity=connectivity, return_num=True)
            expected, n = measure.label(array, background=0, connectivity=connectivity, return_num=True)
            np.testing.assert_array_equal(got.compute(), expected)
            assert count.compute() == n


class Sparse:
    """2**40 voxels, all 0 but for a few places."""

    shape = (2**20, 2**20)
    chunks = (2**13, 2**15)
    dtype = np.dtype(bool)
    token = "sparse"
    places = ((5, 7), (5, 8), (2**13 - 1, 2**15 - 1), (2**13, 2**15), (2**19, 3), (2**20 - 1, 2**20 - 1))

    def read(self, box):
        here = [p for p in self.places if all(a <= i < b for i, (a, b) in zip(p, box))]
        shape = tuple(b - a for a, b in box)
        if not here:
            return np.broadcast_to(np.bool_(False), shape)
        block = np.zeros(shape, bool)
        for p in here:
            block[tuple(i - a for i, (a, _) in zip(p, box))] = True
        return block


@pytest.mark.slow
def test_objects_and_numbers_past_two_to_the_32(monkeypatch):
    """Places past 2**32 come from the store; numbers past it from roots that are said to come before."""
    lazy = from_source(Sparse(), Sparse.chunks)
    labels = bigbia.measure.label(lazy, dtype="uint64")
    places = [*Sparse.places[:4], *Sparse.places[4:]]
    assert [int(labels[p].compute()) for p in places] == [1, 1, 2, 2, 3, 4]

    base = 2**33
    scan = Ranks._scan

    def many_before(self, k, index):
        scan(self, k, index)
        if k == 0:
            for b in range(self.grid.numblocks[0]):
                name = rank.block_name("ahead0", (b,))
                self.folder.write(name, {"ahead": self.folder.read(name)["ahead"] + base})
            self._check(base + int(self.folder.read(rank.block_name("scan0", ()))["count"]))

    monkeypatch.setattr(Ranks, "_scan", many_before)
    array = np.random.default_rng(0).random((30, 40, 20)) < 0.2
    expected = bigbia.measure.label(array, connectivity=1)
    got = bigbia.measure.label(da.from_array(array, chunks=9), connectivity=1, dtype="uint64").compute()
    np.testing.assert_array_equal(got, np.where(expected, expected + np.uint64(base), 0))
    with pytest.raises(bigbia.errors.RunError, match=r'do not fit uint32 .*dtype="uint64"'):
        bigbia.measure.label(da.from_array(array, chunks=9), connectivity=1).compute()


def test_over_all_joins_time():
    from bigbia.hyperstack import hyperstack

    array = np.random.default_rng(0).random((3, 8, 9)) < 0.4
    stack = hyperstack(da.from_array(array, chunks=(1, 4, 4)), "tyx")
    np.testing.assert_array_equal(bigbia.measure.label(stack, over="all"), measure.label(array))
    each = bigbia.measure.label(stack)
    np.testing.assert_array_equal(each, np.stack([measure.label(a) for a in array]))
