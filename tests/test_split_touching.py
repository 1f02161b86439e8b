"""Touching objects, split: distances, peaks and the watershed together, on what is known exactly and on real images."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage.draw import disk
from strategies import random_cuts
from test_contract import check_refused

import bigbia
from bigbia.hyperstack import hyperstack
from bigbia.io.synthetic import source

split = bigbia.segmentation.split_touching


def disks(*places, shape=(100, 100)):
    mask = np.zeros(shape, bool)
    for centre, radius in places:
        mask[disk(centre, radius, shape=shape)] = True
    return mask


THREE = disks(((30, 30), 10), ((45, 48), 15), ((75, 75), 8))


def test_three_disks_of_which_two_overlap():
    assert bigbia.measure.label(THREE).max() == 2
    assert split(THREE, 5).max() == 3
    assert (split(da.from_array(THREE, chunks=17), 5).compute() == split(THREE, 5)).all()


@pytest.mark.parametrize("seed", range(3))
def test_noise_makes_many_and_opening_leaves_three(seed):
    noisy = THREE | (np.random.default_rng(seed).random(THREE.shape) < 0.1)
    lazy = da.from_array(noisy, chunks=(31, 40))
    depth = bigbia.morphology.distance_transform_edt(lazy)
    words = {"min_distance": 12, "labels": lazy, "exclude_border": False}
    middles = bigbia.feature.peak_local_max(depth, **words, output="markers")
    cells = bigbia.segmentation.watershed(-depth, middles, mask=lazy).compute()
    assert 38 <= len(np.unique(cells[cells > 0])) <= 46
    assert split(lazy, 5).max().compute() > 500  # every speck is an object
    clean = bigbia.morphology.dilation(bigbia.morphology.erosion(lazy))
    assert split(clean, 5).max().compute() == 3


def test_no_object_is_lost_and_none_is_joined():
    rng = np.random.default_rng(0)
    for _ in range(6):
        shape = tuple(int(n) for n in rng.integers(1, 14, int(rng.integers(1, 4))))
        mask = rng.random(shape) < rng.choice([0.1, 0.5, 0.9])
        lazy = split(da.from_array(mask, chunks=tuple(random_cuts(rng, n) for n in shape)), 3).compute()
        whole = split(mask, 3)
        np.testing.assert_array_equal(lazy, whole)
        assert ((whole > 0) == mask).all()
        objects = bigbia.measure.label(mask)
        pairs = {(int(a), int(b)) for a, b in zip(whole[mask], objects[mask])}
        assert len(pairs) == len({a for a, _ in pairs}) == whole.max()


def test_smoothing_joins_the_pieces_of_a_rough_outline():
    rng = np.random.default_rng(1)
    rough = ndi.binary_opening(disks(((50, 50), 30)) & (rng.random((100, 100)) < 0.97))
    assert split(rough, 6).max() > split(rough, 6, smooth=4).max() >= 1


def test_lengths_go_by_the_voxel_size():
    """Two balls side by side along z, in voxels that are four times as long there."""
    z, y, x = np.indices((15, 40, 40))
    balls = [((4 * (z - c)) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 15**2) for c in (4, 10)]
    mask = hyperstack(da.from_array(balls[0] | balls[1], chunks=20), "zyx", voxel_size="2, 0.5, 0.5 um")
    assert split(mask, "5 um").max() == 2
    assert split(mask, "5000 nm").max() == 2
    assert split(mask, 10).max() == 2  # of the shortest side
    assert split(mask, "20 um").max() == 1
    np.testing.assert_array_equal(split(mask, "5 um", "1 um"), split(mask, 10, 2))


def test_times_and_channels():
    stack = np.stack([THREE, np.roll(THREE, 7, 0)])
    got = split(hyperstack(da.from_array(stack, chunks=(1, 30, 30)), "tyx"), 5)
    for t in range(2):
        np.testing.assert_array_equal(got[t], split(stack[t], 5))


def test_a_blank_image_has_no_objects():
    assert not split(np.zeros((9, 9), bool), 3).any()
    assert not split(da.zeros((9, 9), dtype=bool, chunks=4), 3).compute().any()


def test_a_mask_without_background_is_one_object():
    for mask in (np.ones((9, 9), bool), da.ones((9, 9), dtype=bool, chunks=4)):
        assert (np.asarray(split(mask, 3, 1)) == 1).all()


def test_in_a_pipeline(tmp_path):
    from bigbia.run.pipeline import Pipeline

    text = "bigbia: 1\nsteps:\n  cells: {op: segmentation.split_touching, mask: input, min_distance: 2.5 um, smooth: 0.5 um}\n"
    image = hyperstack(da.from_array(THREE.astype("u1"), chunks=33), "yx", voxel_size="0.5, 0.5 um")
    cells = Pipeline.parse(text + "save:\n  labels: {cells: cells}\n", name="p").build(image)["cells"]
    np.testing.assert_array_equal(cells, split(image, "2.5 um", "0.5 um"))
    assert cells.max() == 3


# ---- known and real objects ------------------------------------------------------------------------------------------
def test_touching_nuclei_are_found_for_every_chunking():
    shape = (48, 96, 96)
    truth = source("touching", shape, seed=2).labels.read(tuple((0, n) for n in shape)).astype("u4")
    assert bigbia.measure.label(truth > 0).max() < 0.7 * len(np.unique(truth[truth > 0]))
    scores = []
    for chunks in ((48, 96, 96), (16, 40, 96), (48, 33, 29)):
        found = split(da.from_array(truth > 0, chunks=chunks), 6, 1)
        scores.append(bigbia.metrics.matching(da.from_array(truth, chunks=chunks), found).compute())
    assert scores[0].equals(scores[1])
    assert scores[0].equals(scores[2])
    assert scores[0]["f1"][0] > 0.8


# ---- bad input -------------------------------------------------------------------------------------------------------
A = THREE[:20, :21]
REFUSED = {
    "negative": (lambda a: split(a, -1), "min_distance=-1"),
    "infinite": (lambda a: split(a, np.inf), "min_distance=inf"),
    "no length": (lambda a: split(a, None), "min_distance=None"),
    "a unit without a voxel size": (lambda a: split(a, "2 um"), "voxel size"),
    "smooth": (lambda a: split(a, 2, -1), "smooth=-1"),
    "smooth with a unit": (lambda a: split(a, 2, "1 um"), "smooth='1 um'"),
    "floats": (lambda a: split(a * 1.0, 2), "float"),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_before_anything_is_read(call):
    check_refused(call, A, 9)
