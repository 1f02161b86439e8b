"""Synthetic volumes: the same voxels in any cut, and truth that is true."""

from __future__ import annotations

import doctest
import itertools
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage.measure import regionprops_table

from bigbia.errors import ParameterError
from bigbia.io import synthetic
from bigbia.io.synthetic import KINDS, Checkerboard, Nuclei, Percolation, Plateau, Shells, Spiral, source

SHAPES = [(37, 61), (19, 30, 41), (1, 33, 29), (23, 1), (1, 1, 1)]
CUTS = [(7, 11, 13), (1, 64, 64), (64, 1, 64), (64, 64, 1), (5, 1, 17)]
SMALL = {"nuclei": {"pitch": 10}, "touching": {"pitch": (9, 10, 11)}, "nuclei-labels": {"pitch": 10, "touch": True}}


def whole(volume):
    return volume.read([(0, n) for n in volume.shape])


def make(kind, shape):
    params = dict(SMALL.get(kind, {}))
    if isinstance(params.get("pitch"), tuple):
        params["pitch"] = params["pitch"][: len(shape)]
    return source(kind, shape, **params)


def boxes(shape, cut):
    pieces = [[(a, min(a + c, n)) for a in range(0, n, c)] for n, c in zip(shape, cut)]
    return itertools.product(*pieces)


def components(mask, connectivity=1):
    return ndi.label(mask, ndi.generate_binary_structure(mask.ndim, connectivity))[1]


# ----------------------------------------------------------------------------------------------------------- every kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_cut_gives_the_same_voxels(kind, shape):
    volume = make(kind, shape)
    expected = whole(volume)
    assert expected.shape == shape
    assert expected.dtype == volume.dtype
    for cut in CUTS:
        joined = np.zeros_like(expected)
        for box in boxes(shape, cut[-len(shape) :]):
            joined[tuple(slice(*pair) for pair in box)] = volume.read(box)
        np.testing.assert_array_equal(joined, expected, err_msg=f"cut {cut}")


@pytest.mark.parametrize("kind", KINDS)
def test_source_protocol(kind):
    volume = source(kind, (40, 0x7F, 50))
    assert volume.shape == (40, 127, 50)
    assert volume.chunks == (40, 64, 50)
    twin = pickle.loads(pickle.dumps(volume))
    assert twin == volume
    assert twin.token == volume.token
    with ThreadPoolExecutor(4) as pool:
        for read in pool.map(twin.read, [((3, 9), (4, 70), (5, 6))] * 8):
            np.testing.assert_array_equal(read, whole(volume)[3:9, 4:70, 5:6])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_a_box_too(kind):
    volume = source(kind, (40, 50))
    assert volume.read(((7, 7), (3, 20))).shape == (0, 17)
    assert volume.read(((0, 40), (50, 50))).shape == (40, 0)
    assert whole(source(kind, (0, 50))).shape == (0, 50)
    for box in [((0, 41), (0, 50)), ((-1, 4), (0, 5)), ((5, 4), (0, 5)), ((0, 40),)]:
        with pytest.raises(ParameterError, match="is not inside"):
            volume.read(box)


@pytest.mark.parametrize("volume", [Percolation, Spiral, Shells, Plateau, Checkerboard])
@pytest.mark.parametrize("shape", [(70,), (5, 1, 6, 7)], ids=str)
def test_adversaries_have_any_number_of_axes(volume, shape):
    expected = whole(volume(shape))
    for box in boxes(shape, (3,) * len(shape)):
        part = expected[tuple(slice(*pair) for pair in box)]
        np.testing.assert_array_equal(volume(shape).read(box), part)


def test_tokens():
    shape = (40, 40, 40)
    volumes = [
        *(source(kind, shape) for kind in KINDS),
        *(replace(Nuclei(shape), **change) for change in NUCLEI_CHANGES),
        Nuclei((40, 40, 41)),
        Nuclei(shape, seed=1).labels,
        Percolation(shape, p=0.3),
        Percolation(shape, seed=1),
        Shells(shape, gap=2),
        Shells(shape, wall=2),
        Shells(shape, channel=True),
        Plateau(shape, spike=False),
        Checkerboard(shape, cell=2),
    ]
    assert len({v.token for v in volumes}) == len(volumes)
    assert Nuclei(shape, pitch=24, fill=1).token == Nuclei(list(shape), pitch=(24.0, 24, 24), fill=1.0).token
    # Pinned: a token must be the same in another process, and on another day. Raise FORMULAS when a formula changes.
    assert Spiral((3, 4)).token == "synthetic-" + SPIRAL_3_4


NUCLEI_CHANGES = [
    {"pitch": 20},
    {"pitch": (20, 24, 24)},
    {"fill": 0.5},
    {"seed": 1},
    {"seed": -1},
    {"radius": (0.6, 0.8)},
    {"jitter": 0.5},
    {"edge": 2},
    {"background": 50},
    {"signal": 500},
    {"noise": False},
]
SPIRAL_3_4 = "4cfccccacdf0081f3d411c9391115e82"


def test_wrong_names_and_values():
    with pytest.raises(ParameterError, match="did you mean 'spiral'"):
        source("spirale", (4, 4))
    with pytest.raises(ParameterError, match="has no parameter 'ptich', did you mean 'pitch'"):
        source("touching", (40, 40), ptich=9)
    with pytest.raises(ParameterError, match="too small for nuclei"):
        Nuclei((40, 40, 40), pitch=5)
    for volume, params, says in [
        (Nuclei, {"fill": 1.5}, "fill=1.5"),
        (Nuclei, {"radius": (0.9, 0.5)}, "radius"),
        (Nuclei, {"pitch": (10, 10, 10)}, "there are 2 axes"),
        (Nuclei, {"background": -1}, "background"),
        (Percolation, {"p": -0.1}, "p=-0.1"),
        (Shells, {"gap": 0}, "gap=0"),
        (Plateau, {"level": 65535}, "uint16"),
        (Checkerboard, {"cell": 0}, "cell=0"),
    ]:
        with pytest.raises(ParameterError, match=says):
            volume((40, 40), **params)
    with pytest.raises(ParameterError, match="2 or 3 axes"):
        Nuclei((4, 4, 4, 4))
    with pytest.raises(ParameterError, match="shape"):
        Spiral((4, -1))


def test_numba_is_imported_on_first_read_only():
    code = "import sys, bigbia.io.synthetic as s; s.source('nuclei', (9, 9)).token; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_examples():
    assert doctest.testmod(synthetic, optionflags=doctest.IGNORE_EXCEPTION_DETAIL).failed == 0


# --------------------------------------------------------------------------------------------------------------- nuclei


NUCLEI = [
    Nuclei((150, 130)),
    Nuclei((60, 70, 90), seed=1),
    Nuclei((60, 50, 70), pitch=9, fill=1, seed=2),  # the smallest pitch
    Nuclei((40, 90, 90), pitch=(8, 24, 20), seed=3),
    Nuclei((60, 60, 60), radius=(0.9, 1), jitter=0, fill=1),  # as little room between them as there can be
    Nuclei((1, 150, 130), seed=4),
    Nuclei((100, 4, 90), seed=5),  # y is too thin for a nucleus: they are cut straight
    Nuclei((1, 1, 300)),
    Nuclei((47, 23, 30), fill=1),  # cells stretched, and shorter than the pitch
    Nuclei((3, 3), fill=1),
    Nuclei((0, 30)),
    Nuclei((50, 50), fill=0),
]


@pytest.mark.parametrize("nuclei", NUCLEI, ids=str)
def test_separated_nuclei_are_the_components_of_their_mask(nuclei):
    truth = whole(nuclei.labels)
    for connectivity in (1, truth.ndim):
        assert components(truth > 0, connectivity) == nuclei.count()
    assert len(np.unique(truth[truth > 0])) == nuclei.count()


@pytest.mark.parametrize("touch", [False, True])
@pytest.mark.parametrize("nuclei", NUCLEI, ids=str)
def test_table_is_what_regionprops_measures(nuclei, touch):
    nuclei = replace(nuclei, touch=touch)
    truth = whole(nuclei.labels).astype(np.int64)
    table = nuclei.table()
    assert len(table) == nuclei.count()
    if truth.size == 0:  # which regionprops refuses
        return
    measured = regionprops_table(truth, properties=("label", "area", "bbox", "centroid"))
    assert list(table.columns) == [*measured, "brightness"]
    for name, column in measured.items():
        np.testing.assert_allclose(table[name], column, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("nuclei", NUCLEI[:5], ids=str)
def test_touching_nuclei_touch_and_are_of_one_piece(nuclei):
    nuclei = replace(nuclei, touch=True)
    truth = whole(nuclei.labels)
    labels = np.unique(truth[truth > 0])
    assert len(labels) == nuclei.count()
    assert components(truth > 0) < 0.6 * nuclei.count()
    for label, box in zip(labels, ndi.find_objects(np.searchsorted(labels, truth) + (truth > 0))):
        assert components(truth[box] == label, truth.ndim) == 1


def test_table_of_a_box_far_inside_a_huge_volume():
    nuclei = Nuclei((100_000, 100_000, 100_000), touch=True, seed=6)
    box = ((50_000, 50_060), (99_940, 100_000), (70_000, 70_070))
    part = nuclei.labels.read(box)
    table = nuclei.table(box).set_index("label")
    assert set(np.unique(part)) - {0} <= set(table.index)
    inside = table[(table["bbox-0"] >= 50_000) & (table["bbox-3"] <= 50_060)]
    inside = inside[(inside["bbox-1"] >= 99_940) & (inside["bbox-2"] >= 70_000) & (inside["bbox-5"] <= 70_070)]
    assert len(inside) > 0
    for label, area in inside["area"].items():
        assert (part == label).sum() == area
    # Read in two halves, far from the origin too.
    first, second = ((50_000, 50_017), *box[1:]), ((50_017, 50_060), *box[1:])
    np.testing.assert_array_equal(np.concatenate([nuclei.read(first), nuclei.read(second)]), nuclei.read(box))


@pytest.mark.parametrize("touch", [False, True])
@pytest.mark.parametrize("shape", [(200, 210), (70, 80, 90)], ids=str)
def test_picture_shows_the_truth(shape, touch):
    nuclei = Nuclei(shape, touch=touch)
    picture, truth = whole(nuclei), whole(nuclei.labels) > 0
    bright = picture > nuclei.background + nuclei.signal / 2
    assert (bright & truth).sum() / (bright | truth).sum() > 0.93
    if not touch:
        smooth = ndi.gaussian_filter(picture.astype(np.float32), 0.7)
        assert components(smooth > nuclei.background + nuclei.signal / 3) == nuclei.count()


def test_noise_has_the_variance_of_counts():
    dark = whole(Nuclei((60, 60, 60), fill=0, background=400)).astype(float)
    assert dark.mean() == pytest.approx(400, rel=0.005)
    assert dark.var() == pytest.approx(400, rel=0.02)
    for axis in range(3):  # and no pattern in it
        a, b = np.delete(dark, 0, axis), np.delete(dark, -1, axis)
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.01
    assert np.unique(whole(Nuclei((30, 30), fill=0, noise=False))).tolist() == [100]


def test_seeds_differ():
    assert Nuclei((300, 300), seed=1).count() != Nuclei((300, 300), seed=2).count()
    assert Nuclei((1000, 1000, 1000), fill=0.3).count() == pytest.approx(0.3 * 41**3, rel=0.02)


# ---------------------------------------------------------------------------------------------------------- adversaries


@pytest.mark.parametrize(
    "shape",
    [*itertools.product(range(1, 13), repeat=2), (64, 61), (5, 8, 9), (6, 7, 6), (2, 5, 5), (3, 1, 9), (4, 5, 6, 7)],
    ids=str,
)
def test_spiral_is_one_path(shape):
    mask = whole(Spiral(shape))
    assert components(mask, 1) == components(mask, mask.ndim) == 1
    # A path: two neighbours each but for the ends, so a step fewer than voxels.
    cross = ndi.generate_binary_structure(mask.ndim, 1).astype(int)
    degree = ndi.convolve(mask.astype(int), cross, mode="constant")[mask] - 1
    assert degree.max() <= 2
    assert degree.sum() == 2 * (mask.sum() - 1)


@pytest.mark.parametrize("shape", [(40, 37), (38, 38), (9, 14, 15)], ids=str)
def test_spiral_passes_through_every_block(shape):
    mask = whole(Spiral(shape))
    block = (2,) * (mask.ndim - 2) + (3, 3)
    assert np.lib.stride_tricks.sliding_window_view(mask, block).any(axis=tuple(range(-mask.ndim, 0))).all()


@pytest.mark.parametrize("channel", [False, True])
def test_shells_count_is_exact(channel):
    shapes = [*itertools.product((1, 2, 3, 6, 9, 14), repeat=2), (9, 10, 11), (15, 15, 15), (1, 14, 17), (30,), (29,)]
    for shape, gap, wall in itertools.product(shapes, (1, 2), (1, 2, 3)):
        shells = Shells(shape, gap, wall, channel)
        mask = whole(shells)
        for connectivity in (1, mask.ndim):
            assert components(mask, connectivity) == shells.count(), shells


def test_channel_joins_all_holes_to_the_border():
    closed, opened = whole(Shells((21, 20, 22))), whole(Shells((21, 20, 22), channel=True))
    assert ndi.binary_fill_holes(closed).sum() == 19 * 18 * 20
    np.testing.assert_array_equal(ndi.binary_fill_holes(opened), opened)
    assert 0 < closed.sum() - opened.sum() < 10


@pytest.mark.parametrize("shape", [(9, 8), (5, 6, 7), (1, 9), (1, 4, 5), (1, 1), (4, 5, 2, 3)], ids=str)
@pytest.mark.parametrize("cell", [1, 2])
def test_checkerboard_count_is_exact(shape, cell):
    board = Checkerboard(shape, cell)
    for connectivity in range(1, len(shape) + 1):
        assert components(whole(board), connectivity) == board.count(connectivity)


def test_plateau_is_decided_at_its_far_end():
    picture = whole(Plateau((9, 9, 9)))
    assert np.unique(picture, return_counts=True)[1].tolist() == [9**3 - 7**3, 7**3 - 1, 1]
    assert picture[7, 7, 7] == 1001
    assert (whole(Plateau((9, 1, 9), rim=0, spike=False)) == 1000).all()
    assert whole(Plateau((2, 5)))[1].tolist() == [999, 1000, 1000, 1001, 999]


def test_percolation_is_random_and_grows_with_its_shape():
    assert whole(Percolation((100, 100, 100), p=0.312)).mean() == pytest.approx(0.312, rel=0.01)
    assert not whole(Percolation((50, 50), p=0)).any()
    assert whole(Percolation((50, 50), p=1)).all()
    np.testing.assert_array_equal(whole(Percolation((60, 70)))[:31, :29], whole(Percolation((31, 29))))
    assert (whole(Percolation((60, 70), seed=1)) != whole(Percolation((60, 70)))).any()
