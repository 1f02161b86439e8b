"""The watershed: its definition, scikit-image where voxels differ, every chunking; rounds; what is refused."""

from __future__ import annotations

import heapq
import threading
import time
from itertools import product

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi
from skimage import morphology, segmentation
from strategies import chunkings, random_cuts, shapes
from test_contract import check_refused

import bigbia
from bigbia.errors import BigbiaError
from bigbia.graph import catchments, rounds
from bigbia.graph.dask import node_of
from bigbia.graph.relax import Relax
from bigbia.graph.stages import stages_of
from bigbia.hyperstack import hyperstack
from bigbia.io.synthetic import source
from bigbia.run.execute import execute

watershed = bigbia.segmentation.watershed


# ---- the definition, voxel by voxel ----------------------------------------------------------------------------------
def defined(image, markers, mask=None, connectivity=1, lowest=False):
    """The definition in the docstring of `watershed`, with a queue over single voxels."""
    inside = np.ones(image.shape, bool) if mask is None else mask != 0
    offsets = [o for o in product((-1, 0, 1), repeat=image.ndim) if 0 < sum(map(abs, o)) <= connectivity]

    def neighbours(p):
        for o in offsets:
            q = tuple(i + k for i, k in zip(p, o))
            if all(0 <= i < n for i, n in zip(q, image.shape)) and inside[q]:
                yield q

    start = -np.inf if lowest else None
    key, todo = {}, []
    for p in map(tuple, np.argwhere((markers != 0) & inside)):
        key[p] = (image[p].item() if start is None else start, 0)
        todo.append((key[p], p))
    heapq.heapify(todo)
    while todo:
        k, p = heapq.heappop(todo)
        if k > key[p]:
            continue
        for q in neighbours(p):
            new = (image[q].item(), 1) if image[q] > k[0] else (k[0], k[1] + 1)
            if q not in key or new < key[q]:
                key[q] = new
                heapq.heappush(todo, (new, q))
    entry, labels = {}, np.zeros_like(markers)
    for p in sorted(key, key=key.__getitem__):
        if markers[p]:
            entry[p], labels[p] = (-np.inf, 0), markers[p]
            continue
        least = min(key[q] for q in neighbours(p) if q in key)
        best = min((q for q in neighbours(p) if key.get(q) == least), key=lambda q: entry[q])  # the first of several
        entry[p] = least if key[p][1] == 1 else entry[best]
        labels[p] = labels[best]
    return labels


def random_case(rng, size=(40, 12, 6, 4)):
    ndim = int(rng.integers(1, 5))
    shape = tuple(int(n) for n in rng.integers(1, size[ndim - 1] + 1, ndim))
    kind = rng.choice(["float", "double", "few", "flat", "distinct", "signed", "mask"])
    image = {
        "float": lambda: rng.random(shape).astype("f4"),
        "double": lambda: rng.choice([-np.inf, -1.5, -0.0, 0.0, 2, np.inf], shape),
        "few": lambda: rng.integers(0, 4, shape).astype("u1"),
        "flat": lambda: np.full(shape, 255, "u1"),
        "distinct": lambda: rng.permutation(int(np.prod(shape))).reshape(shape).astype("u8"),
        "signed": lambda: rng.integers(-3, 3, shape),
        "mask": lambda: rng.random(shape) < 0.5,
    }[kind]()
    markers = np.where(rng.random(shape) < rng.choice([0.02, 0.2, 1]), rng.integers(-9, 50, shape), 0).astype("i4")
    mask = None if rng.random() < 0.5 else rng.random(shape) < rng.choice([0.6, 0.9])
    if mask is not None:
        markers *= mask
    if not markers.any():
        place = (0,) * ndim
        markers[place] = 7
        if mask is not None:
            mask[place] = True
    return image, markers, mask, int(rng.integers(1, ndim + 1))


def cut(rng, array):
    return None if array is None else da.from_array(array, chunks=tuple(random_cuts(rng, n) for n in array.shape))


def check_random_cases(count, seed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        image, markers, mask, connectivity = random_case(rng)
        for level in ("value", "lowest"):
            expected = defined(image, markers, mask, connectivity, level == "lowest")
            words = {"connectivity": connectivity, "marker_level": level}
            whole = watershed(image, markers, mask=mask, **words)
            assert whole.dtype == markers.dtype
            np.testing.assert_array_equal(whole, expected)
            lazy = watershed(cut(rng, image), cut(rng, markers), mask=cut(rng, mask), **words)
            np.testing.assert_array_equal(lazy.compute(scheduler="sync"), expected)


def test_random_cases():
    check_random_cases(12, 0)


@pytest.mark.slow
def test_many_random_cases():
    check_random_cases(1000, 1)


@settings(max_examples=8)
@given(st.data())
def test_distinct_values_give_scikit_image_s_result(data):
    shape = data.draw(shapes())
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    image = rng.permutation(int(np.prod(shape))).reshape(shape).astype("f4")
    markers = np.where(rng.random(shape) < 0.1, rng.integers(1, 9, shape), 0)
    markers.flat[rng.integers(image.size)] = 5
    connectivity = data.draw(st.integers(1, len(shape)))
    expected = segmentation.watershed(image, markers, connectivity)
    np.testing.assert_array_equal(watershed(image, markers, connectivity), expected)
    lazy = watershed(da.from_array(image, chunks=data.draw(chunkings(shape))), markers, connectivity)
    np.testing.assert_array_equal(lazy, expected)


# ---- adversaries -----------------------------------------------------------------------------------------------------
def at(shape, places):
    out = np.zeros(shape, "u4")
    for number, place in enumerate(places, 1):
        out[place] = number
    return out


def spiral():
    corridor = source("spiral", (33, 33)).read(((0, 33), (0, 33))) != 0
    ways = np.argwhere(corridor)
    return np.zeros((33, 33), "u1"), at((33, 33), [tuple(ways[0]), tuple(ways[len(ways) // 2])]), corridor


def staircase():
    image = np.repeat(np.repeat(np.arange(6)[:, None] + np.arange(6), 3, 0), 3, 1).astype("i2")
    return image, at(image.shape, [(0, 0), (17, 16)]), None


ADVERSARIES = {
    "one value": (np.zeros((9, 10, 11), "u1"), at((9, 10, 11), [(0, 0, 0), (8, 9, 10), (4, 5, 5)]), None),
    "one value, 4 axes": (np.zeros((5, 4, 5, 6), "f4"), at((5, 4, 5, 6), [(0, 0, 0, 0), (4, 3, 4, 5)]), None),
    "one value, infinite": (np.full((9, 9), np.inf), at((9, 9), [(4, 4), (4, 5)]), np.indices((9, 9)).sum(0) % 7 != 3),
    "entries at equal distances over a corner": (
        np.pad(np.full((6, 6), 5, "u1"), 1, constant_values=1),
        at((8, 8), [(0, 0), (7, 7)]),
        None,
    ),
    "marker on a face": (np.arange(64).reshape(8, 8) % 3, at((8, 8), [(3, 3), (4, 4), (0, 7)]), None),
    "a corridor through all blocks": spiral(),
    "a staircase of plateaus": staircase(),
    "checkerboard": ((np.indices((7, 8, 9)).sum(0) % 2).astype("u1"), at((7, 8, 9), [(0, 0, 0), (6, 7, 8)]), None),
    "every voxel a marker": (np.zeros((5, 5), "u1"), np.arange(1, 26).reshape(5, 5), None),
    "one label in two places": (
        np.zeros((3, 12), "u1"),
        np.eye(3, 12, 9, dtype="u4") + np.eye(3, 12, dtype="u4"),
        None,
    ),
    "a part without a marker": (np.zeros((6, 6), "u1"), at((6, 6), [(0, 0)]), np.indices((6, 6))[1] != 3),
    "zeros of both signs": (np.where(np.indices((8, 8)).sum(0) % 2, 0.0, -0.0), at((8, 8), [(0, 0), (7, 7)]), None),
}


@pytest.mark.parametrize("case", ADVERSARIES.values(), ids=ADVERSARIES)
def test_adversaries(case):
    image, markers, mask = case
    for connectivity in {1, image.ndim}:
        expected = defined(image, markers, mask, connectivity)
        np.testing.assert_array_equal(watershed(image, markers, connectivity, mask), expected)
        for chunks in (1, 2, 3, 5, (1,) + image.shape[1:], image.shape[:-1] + (1,)):
            if np.prod([-(-n // c) for n, c in zip(image.shape, np.broadcast_to(chunks, image.ndim))]) > 60:
                continue
            lazy = watershed(da.from_array(image, chunks=chunks), markers, connectivity, mask)
            np.testing.assert_array_equal(lazy.compute(scheduler="sync"), expected)


def test_a_change_elsewhere_changes_nothing():
    """scikit-image fails this in one of four such images."""
    rng = np.random.default_rng(0)
    for _ in range(8):
        image = rng.integers(0, 5, (12, 25)).astype("u1")
        mask = np.ones(image.shape, bool)
        mask[:, 12] = False
        markers = np.where(rng.random(image.shape) < 0.03, rng.integers(1, 9, image.shape), 0) * mask
        markers[3, 3], markers[3, 15] = 1, 2
        more = markers.copy()
        more[5:7, 16:20] = 9
        both = [watershed(da.from_array(image, chunks=7), m, mask=mask) for m in (markers, more)]
        np.testing.assert_array_equal(both[0][:, :12], both[1][:, :12])


def test_moved_images_give_moved_results():
    rng = np.random.default_rng(2)
    image = rng.integers(0, 4, (10, 11)).astype("u1")
    markers = np.where(rng.random(image.shape) < 0.05, rng.integers(1, 9, image.shape), 0)
    markers[5, 5] = 3
    wide = [np.pad(a, ((3, 2), (5, 1))) for a in (image, markers, np.ones(image.shape, bool))]
    got = watershed(da.from_array(wide[0], chunks=4), wide[1], mask=wide[2])
    np.testing.assert_array_equal(got[3:-2, 5:-1], watershed(image, markers))


def test_the_flood_level_is_a_reconstruction():
    rng = np.random.default_rng(3)
    image = ndi.gaussian_filter(rng.random((20, 21, 22)), 1).astype("f4")
    markers = np.where(rng.random(image.shape) < 0.002, 1, 0)
    markers[3, 4, 5] = 1
    lazy = watershed(da.from_array(image, chunks=7), markers)
    lazy.compute()
    (flood,) = (s for s in stages_of([node_of(lazy)[0]]) if isinstance(s, Relax))
    level = -flood.left("state", tuple((0, n) for n in image.shape))
    start = np.where(markers, image, image.max())
    expected = morphology.reconstruction(start, image, "erosion", ndi.generate_binary_structure(3, 1))
    np.testing.assert_array_equal(level, expected)


# ---- markers and lines -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("masked", [False, True])
def test_markers_that_are_found(masked):
    rng = np.random.default_rng(4)
    image = ndi.gaussian_filter(rng.random((30, 41)), 2)
    mask = image < np.quantile(image, 0.7) if masked else None
    for markers in (None, 1, 12, 5000):
        expected = segmentation.watershed(image, markers, mask=mask)
        got = watershed(image, markers, mask=mask)
        assert got.dtype == np.uint32
        np.testing.assert_array_equal(got, expected)
        lazy = watershed(da.from_array(image, chunks=(8, 9)), markers, mask=cut(rng, mask))
        np.testing.assert_array_equal(lazy, expected)


def test_lines_are_where_a_label_meets_a_smaller_one():
    rng = np.random.default_rng(5)
    image = rng.random((9, 10, 11))
    markers = np.where(rng.random(image.shape) < 0.03, rng.integers(1, 50, image.shape), 0)
    for connectivity in (1, 3):
        labels = watershed(image, markers, connectivity)
        footprint = ndi.generate_binary_structure(3, connectivity)
        smallest = ndi.minimum_filter(np.where(labels == 0, 99, labels), footprint=footprint, mode="nearest")
        expected = np.where(smallest < labels, 0, labels)
        got = watershed(da.from_array(image, chunks=4), markers, connectivity, watershed_line=True)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(watershed(image, markers, connectivity, watershed_line=True), expected)


def test_labels_of_every_dtype():
    image = np.zeros((4, 9), "u1")
    for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"):
        low, high = max(np.iinfo(dtype).min, -(2**50)), min(np.iinfo(dtype).max, 2**50)
        markers = np.zeros(image.shape, dtype)
        markers[1, 0], markers[2, 8] = low or 1, high
        got = watershed(da.from_array(image, chunks=3), markers).compute()
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, watershed(image, markers))
        assert set(np.unique(got)) == {low or 1, high}


def test_times_and_channels():
    rng = np.random.default_rng(6)
    image = rng.permutation(2 * 3 * 110).reshape(2, 3, 10, 11).astype("f4")
    markers = np.where(rng.random(image.shape) < 0.04, rng.integers(1, 9, image.shape), 0)
    markers[..., 5, 5] = 3
    mask = rng.random((10, 11)) < 0.9
    markers = markers * mask
    markers[..., 2, 2], mask[2, 2] = 4, True
    stack = hyperstack(da.from_array(image, chunks=(1, 2, 4, 5)), "tcyx")
    got = watershed(stack, hyperstack(markers, "tcyx"), mask=hyperstack(mask, "yx"))
    assert got.dims == stack.dims
    found = watershed(stack, None, mask=mask)
    for t, c in product(range(2), range(3)):
        expected = segmentation.watershed(image[t, c], markers[t, c], mask=mask)
        np.testing.assert_array_equal(got[t, c], expected)
        np.testing.assert_array_equal(found[t, c], segmentation.watershed(image[t, c], mask=mask))


def test_inputs_cut_differently_and_inputs_that_are_live():
    rng = np.random.default_rng(7)
    image, markers, mask = rng.random((20, 21)), at((20, 21), [(3, 4), (15, 16)]), rng.random((20, 21)) < 0.95
    markers *= mask
    markers[0, 0] = mask[0, 0] = 1
    expected = watershed(image, markers, mask=mask)
    live = da.from_array(image, chunks=6).map_blocks(lambda b: b, dtype=image.dtype)
    for one in (image, live, da.from_array(image, chunks=(3, 21))):
        for two in (markers, da.from_array(markers, chunks=(20, 4)).map_blocks(lambda b: b, dtype=markers.dtype)):
            np.testing.assert_array_equal(watershed(one, two, mask=da.from_array(mask, chunks=9)), expected)


# ---- the rounds ------------------------------------------------------------------------------------------------------
def noisy(seed):
    rng = np.random.default_rng(seed)
    image = ndi.gaussian_filter(rng.random((40, 41)), 1.5) * 100
    return image.astype("u1"), at(image.shape, [(3, 3), (30, 35), (20, 8)])


def lazily(seed, chunks=8):
    image, markers = noisy(seed)
    return watershed(da.from_array(image, chunks=chunks), markers)


def stages(lazy, kind):
    return [s for s in stages_of([node_of(lazy)[0]]) if isinstance(s, kind)]


def test_it_is_found_once(monkeypatch):
    lazy = lazily(0)
    lazy[:9].compute()
    monkeypatch.setattr(catchments.Catchments, "start", None)
    monkeypatch.setattr(Relax, "start", None)
    np.testing.assert_array_equal(lazy, watershed(*noisy(0)))


def test_two_watersheds_share_one_limit(monkeypatch):
    running, most, lock = [0], [0], threading.Lock()
    step = rounds.Rounds._checked_step

    def counted(self, *where):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.002)
        try:
            return step(self, *where)
        finally:
            with lock:
                running[0] -= 1

    monkeypatch.setattr(rounds.Rounds, "_checked_step", counted)
    both = da.stack([lazily(1), lazily(2)])
    with dask.config.set({"bigbia.threads": 2}):
        got = both.compute(scheduler="threads", num_workers=6)
    np.testing.assert_array_equal(got, np.stack([watershed(*noisy(k)) for k in (1, 2)]))
    assert 1 <= most[0] <= 2


def files(stage):
    return {p: p.stat().st_mtime_ns for p in stage.folder.path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", [Relax, catchments.Catchments])
def test_a_driver_that_is_stopped_writes_nothing_more_and_the_next_goes_on(monkeypatch, kind):
    lazy = lazily(3, 6)
    (stage,) = stages(lazy, kind)
    done = []
    step = kind.step

    def stopping(self, index):
        done.append(index)
        if len(done) == 60:
            self.stop()
        return step(self, index)

    monkeypatch.setattr(kind, "step", stopping)
    with dask.config.set({"bigbia.threads": 2}), pytest.raises(BigbiaError, match="stopped"):
        execute(stages_of([node_of(lazy)[0]]), scheduler="threads")
    before, complete = files(stage), stage.rounds
    time.sleep(0.2)
    assert files(stage) == before
    assert sum(complete) <= 60 < len(done) + 3
    monkeypatch.setattr(kind, "step", step)
    np.testing.assert_array_equal(lazy, watershed(*noisy(3)))
    assert stage.rounds[: len(complete)] == complete


# ---- what is written -------------------------------------------------------------------------------------------------
def test_the_definition_is_saved_with_the_labels(tmp_path):
    import zarr

    path = bigbia.save(tmp_path / "w.zarr", hyperstack(lazily(4) + 0, "yx"))
    assert zarr.open_group(path, mode="r").attrs["bigbia"] == {"definitions": ["watershed 1, marker_level value"]}
    path = bigbia.save(tmp_path / "m.zarr", hyperstack(da.from_array(noisy(4)[0], chunks=9), "yx"))
    assert "bigbia" not in zarr.open_group(path, mode="r").attrs


# ---- bad input -------------------------------------------------------------------------------------------------------
A = np.arange(42, dtype="u1").reshape(6, 7)
M = at((6, 7), [(0, 0), (5, 6)])
REFUSED = {
    "markers of another shape": (lambda a: watershed(a, M[:3]), "(3, 7)"),
    "a mask of another shape": (lambda a: watershed(a, M, mask=M[:, :3]), "(6, 3)"),
    "float markers": (lambda a: watershed(a, M * 1.0), "float"),
    "bool markers": (lambda a: watershed(a, M > 0), "measure.label(markers)"),
    "no number of markers": (lambda a: watershed(a, 0), "markers=0"),
    "a number below 0": (lambda a: watershed(a, -3), "markers=-3"),
    "markers that are true": (lambda a: watershed(a, True), "bool"),
    "connectivity": (lambda a: watershed(a, M, 3), "connectivity=3"),
    "a footprint": (lambda a: watershed(a, M, np.eye(3)), "connectivity=[[1.0"),
    "half floats": (lambda a: watershed(a.astype("f2"), M), "float16"),
    "complex": (lambda a: watershed(a.astype("c8"), M), "complex"),
    "compactness": (lambda a: watershed(a, M, compactness=0.1), "compactness=0.1"),
    "a level": (lambda a: watershed(a, M, marker_level="min"), "'min'"),
    "a line": (lambda a: watershed(a, M, watershed_line="yes"), "'yes'"),
    "axes in another order": (
        lambda a: watershed(hyperstack(a[:6, :6], "yx"), hyperstack(M[:, :6], "xy")),
        "transpose",
    ),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_before_anything_is_read(call):
    check_refused(call, A)


FOUND = {
    "NaN": (np.where(A == 30, np.nan, A), M, None, r"NaN at voxel \(4, 2\)"),
    "a marker outside": (A, M, A < 40, r"marker 2 at voxel \(5, 6\) .* np\.where\(mask, markers, 0\)"),
    "no marker": (A, 0 * M, None, "no marker"),
    "no minimum": (0 * A, None, None, "no marker .* one value"),
    "too large": (A, np.where(M, 2**62, 0), None, "relabel_sequential"),
}


@pytest.mark.parametrize("case", FOUND.values(), ids=FOUND)
def test_what_is_found_when_it_is_computed(tmp_path, case):
    image, markers, mask, said = case
    lazy = watershed(da.from_array(image, chunks=3), markers, mask=mask)
    with pytest.raises(BigbiaError, match=said):
        bigbia.save(tmp_path / "w.zarr", hyperstack(lazy, "yx"))
    assert not (tmp_path / "w.zarr").exists()
    if "relabel" not in said:  # one block has room for all numbers
        with pytest.raises(BigbiaError, match=said):
            watershed(image, markers, mask=mask)


def test_an_empty_mask_is_no_error():
    assert not watershed(A, 0 * M, mask=A > 99).any()
    assert not watershed(da.from_array(A, chunks=3), 0 * M, mask=A > 99).compute().any()


def test_an_axis_without_voxels_is_refused():
    with pytest.raises(BigbiaError, match="empty"):
        watershed(A[:0], M[:0])


@pytest.mark.parametrize("n", [6, 20])
def test_a_plateau_that_no_water_has_reached_is_no_margin(n):
    """Water that comes from it comes from nowhere yet. Once counted as margin, there was more of it than room."""
    from bigbia.kernels.padded import shell
    from bigbia.kernels.plateaus import FAR, OUTSIDE, plateaus, settle
    from bigbia.kernels.plateaus import catchments as followed

    level = np.full((n + 2,) * 3, 1, np.int32)
    level[2:-2, 2:-2, 2:-2] = 0  # a lower plateau within, of which nothing is known
    distance = np.full(level.shape, OUTSIDE, np.uint32)
    distance[1:-1, 1:-1, 1:-1] = FAR
    level[0] = -5  # water comes through this side of the margin
    distance[0] = 3
    block = plateaus(level, distance)
    tree, rim = followed(block, settle(block, 1), np.zeros((n,) * 3, np.int32), 1, 1)
    assert len(rim) <= n * n
    assert set(rim) <= set(shell(level.shape, 0))
    assert (tree[1:-1, 1:-1, 1:-1] == 0).all()  # as far as it goes, it flows into the plateau
    assert tree[0].all()
    assert tree.max() == len(rim)
