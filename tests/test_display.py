"""Colours and windows: what a viewer shows at first."""

from __future__ import annotations

import json

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from images import opened

import bigbia
from bigbia.hyperstack import hyperstack
from bigbia.io.display import SIDE, colors_of, window_given, windows_of, with_windows
from bigbia.run import showing


def omero(path):
    attributes = dict(zarr.open_group(path, mode="r").attrs)
    return attributes.get("ome", attributes)["omero"]["channels"]


def window(path, channel=0):
    found = omero(path)[channel]["window"]
    return found["start"], found["end"]


def noise(shape, dtype="u2", seed=0):
    return np.random.default_rng(seed).integers(100, 4000, shape).astype(dtype)


def displayed(image, **display):
    image.encoding["display"] = {name.replace("_", " "): one for name, one in display.items()}
    return image


@pytest.mark.parametrize(
    ("names", "colors"),
    [
        (["DAPI", "GFP", "mCherry", "Cy5"], ["0000FF", "00FF00", "FF0000", "FF00FF"]),
        (["Hoechst 33342", "Alexa 488", "TRITC"], ["0000FF", "00FF00", "FF8000"]),
        (["Alexa Fluor 647", "Texas Red", "BrightField"], ["FF00FF", "FF0000", "FFFFFF"]),
        (["DAPI"], ["0000FF"]),
        (["nuclei"], ["FFFFFF"]),
        (["0", "1", "2"], ["00FF00", "FF00FF", "00FFFF"]),
        (["GFP", "other"], ["00FF00", "FF00FF"]),
        ([str(i) for i in range(16)], None),
    ],
)
def test_colors_by_name(names, colors):
    found = colors_of(names)
    assert len(found) == len(names)
    assert all(len(c) == 6 for c in found)
    assert colors is None or found == colors


def test_a_files_own_color_comes_first():
    given = {"DAPI": {"color": "00ffff"}, "GFP": {"color": "no color"}, "x": {"color": None}}
    assert colors_of(["DAPI", "GFP", "x"], given) == ["00FFFF", "00FF00", "FF00FF"]


def test_windows_that_can_be_shown():
    assert window_given({"window": (1, 5)}) == (1.0, 5.0)
    for one in (None, {}, {"window": (5, 5)}, {"window": (0, float("nan"))}, {"window": "a b"}, {"window": (1,)}):
        assert window_given(one) is None


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "i8", "f4", "f8"])
def test_a_window_holds_nearly_all_voxels(dtype):
    values = np.arange(-120 if dtype[0] != "u" else 0, 120).astype(dtype)
    ((start, end), (least, most)), *more = windows_of(values.reshape(4, -1), "yx")
    assert not more
    assert values.min() <= start < end <= values.max()
    assert least <= start < end <= most
    if dtype[0] != "f":
        assert (least, most) == (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.zeros((5, 5), "u1"), (0, 1)),
        (np.full((5, 5), 7, "u2"), (0, 7)),
        (np.full((5, 5), -7, "i2"), (-7, 0)),
        (np.full((5, 5), 0.25, "f4"), (0, 0.25)),
        (np.full((5, 5), np.nan, "f4"), (0, 1)),
        (np.array([[np.inf, -np.inf, np.nan, 2, 5]], "f4"), (2, 5)),
        (np.pad(np.full((1, 1), 9, "u1"), 60), (0, 9)),  # less than a thousandth is not background
    ],
)
def test_odd_images_have_a_window(values, expected):
    (((start, end), (least, most)),) = windows_of(values, "yx")
    assert (start, end) == expected
    assert least <= start < end <= most


def test_a_large_level_is_looked_at_in_places():
    """As much is read as of a small one, and every channel by itself."""
    read = []

    class Counted:
        shape, dtype = (3, 2, 900, 2000, 2000), np.dtype("u2")

        def __getitem__(self, box):
            shape = tuple(s.stop - s.start for s in box)
            read.append(shape)
            return np.full(shape, 5 + 100 * box[1].start, "u2") + np.arange(shape[-1], dtype="u2")

    first, second = windows_of(Counted(), "tczyx")
    assert max(np.prod(shape) for shape in read) <= SIDE**3
    assert len(read) == 2 * 3 * 8
    assert first[0][0] >= 5
    assert second[0][0] >= 105


def test_with_windows_leaves_the_rest():
    attributes = {
        "ome": {"version": "0.5", "omero": {"id": 7, "channels": [{"label": "a"}, {"label": "b", "window": 1}]}}
    }
    found = with_windows(attributes, [((1.0, 2.0), (0.0, 3.0)), None])
    assert found["ome"]["omero"]["channels"][0]["window"] == {"min": 0.0, "max": 3.0, "start": 1.0, "end": 2.0}
    assert found["ome"]["omero"]["channels"][1] == {"label": "b", "window": 1}
    assert found["ome"]["omero"]["id"] == 7
    assert "window" not in attributes["ome"]["omero"]["channels"][0]
    flat = with_windows(attributes["ome"], [((1.0, 2.0), (0.0, 3.0)), None])
    assert set(flat) == {"version", "omero"}
    assert flat["omero"] == found["ome"]["omero"]
    assert with_windows({"multiscales": []}, []) == {"multiscales": []}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_every_image_has_colors_and_windows(tmp_path, version):
    image = hyperstack(noise((2, 5, 20, 30)), "czyx", "0.5, 0.2, 0.2 um", channels=["DAPI", "GFP"])
    blur = bigbia.filters.gaussian(image, 1)
    one = image.isel(c=0)
    labels = bigbia.measure.label(one > 2000)
    images = {"blur": blur, "mask": one > 2000, "one": one, "plain": da.from_array(noise((5, 20, 30)))}
    path = bigbia.save(
        tmp_path / "a.zarr", image, images=images, labels={"n": labels}, version=version, chunks=8, levels=2
    )
    assert [c["color"] for c in omero(path)] == ["0000FF", "00FF00"]
    assert [c["label"] for c in omero(path / "images/blur")] == ["DAPI", "GFP"]
    (mask,) = omero(path / "images/mask")
    assert mask["window"] == {"min": 0.0, "max": 1.0, "start": 0.0, "end": 1.0}
    (alone,) = omero(path / "images/one")
    assert (alone["label"], alone["color"]) == ("DAPI", "0000FF")
    (plain,) = omero(path / "images/plain")
    assert plain["color"] == "FFFFFF"
    assert 100 <= plain["window"]["start"] < plain["window"]["end"] < 4000
    for c in (0, 1):
        coarse = zarr.open_array(path / "images/blur/1", mode="r")[c]
        start, end = window(path / "images/blur", c)
        assert np.mean((coarse >= start) & (coarse <= end)) > 0.99
    attributes = dict(zarr.open_group(path / "labels/n", mode="r").attrs)
    assert "omero" not in attributes.get("ome", attributes)
    assert bigbia.verify(path).ok


def test_what_a_file_said_is_kept_where_the_voxels_are_its_own(tmp_path):
    channels = ["DAPI", "GFP"]
    source = bigbia.save(tmp_path / "in.zarr", hyperstack(noise((2, 9, 20, 30)), "czyx", channels=channels), levels=2)
    own = {"color": "12AB34", "window": (200.0, 900.0)}
    image = displayed(opened(source), DAPI=own)
    blur = bigbia.filters.gaussian(image, 1)
    path = bigbia.save(tmp_path / "a.zarr", images={"blur": blur, "same": image}, source=image, chunks=8, levels=2)
    for place in (path, path / "images/same"):
        assert (omero(place)[0]["color"], window(place)) == ("12AB34", (200.0, 900.0))
        assert window(place, 1) != (0.0, 65535.0)
    assert omero(path / "images/blur")[0]["color"] == "12AB34"
    assert window(path / "images/blur") != (200.0, 900.0)
    turned = displayed(opened(source).isel(c=slice(None, None, -1)), DAPI=own)
    path = bigbia.save(tmp_path / "b.zarr", turned, chunks=8, levels=2)
    assert [c["label"] for c in omero(path)] == ["GFP", "DAPI"]
    assert window(path, 1) == (200.0, 900.0)
    assert omero(path)[1]["color"] == "12AB34"


def test_colors_and_windows_come_back(tmp_path):
    image = hyperstack(noise((2, 9, 20, 30)), "czyx", channels=["a", "b"])
    first = bigbia.save(tmp_path / "a.zarr", displayed(image, a={"color": "FF8800"}), levels=1)
    again = opened(first)
    if "display" not in again.encoding:
        pytest.skip("bigbia.open does not say how an image is shown")
    second = bigbia.save(tmp_path / "b.zarr", again, levels=1)
    assert omero(second) == omero(first)
    assert omero(second)[0]["color"] == "FF8800"


def test_the_same_for_every_cut_and_for_a_run_that_was_stopped(tmp_path, monkeypatch):
    voxels = noise((9, 70, 80))
    source = zarr.create_array(
        tmp_path / "in.zarr", shape=voxels.shape, chunks=(4, 16, 16), dtype="u2", dimension_names="zyx"
    )
    source[...] = voxels
    found = []
    for i, (block, chunks) in enumerate([(8, 8), (32, 16), ("auto", 64)]):
        image = bigbia.open(tmp_path / "in.zarr", block=block)
        path = bigbia.save(tmp_path / f"{i}.zarr", bigbia.filters.gaussian(image, 1), chunks=chunks, levels=2)
        found.append(omero(path))
    assert found[0] == found[1] == found[2]

    def killed(run, output):
        showing.show(run, output)
        raise KeyboardInterrupt

    image = bigbia.filters.gaussian(bigbia.open(tmp_path / "in.zarr", block=8), 1)
    with dask.config.set({"bigbia.threads": 1}), monkeypatch.context() as patched:
        patched.setattr("bigbia.run.save.show", killed)
        with pytest.raises(KeyboardInterrupt):
            bigbia.save(tmp_path / "s.zarr", image, chunks=8, levels=2)
    held = json.loads((tmp_path / "s.zarr.partial/_bigbia/held/zarr.json").read_bytes())
    assert held["attributes"]["ome"]["omero"]["channels"] == found[0]
    bigbia.save(tmp_path / "s.zarr", image, chunks=8, levels=2)
    assert omero(tmp_path / "s.zarr") == found[0]
    assert bigbia.verify(tmp_path / "s.zarr").ok


def test_the_manifest_knows_the_windows(tmp_path):
    path = bigbia.save(tmp_path / "a.zarr", da.from_array(noise((5, 20, 30))), chunks=8, levels=1)
    text = (path / "zarr.json").read_text()
    start = omero(path)[0]["window"]["start"]
    (path / "zarr.json").write_text(text.replace(json.dumps(start), json.dumps(start + 1)))
    assert [d.file for d in bigbia.verify(path).damaged] == ["zarr.json"]
