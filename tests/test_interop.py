"""What bigbia writes, others accept and read: the validators of OME-Zarr, and the programs that open it.

The whole matrix takes minutes and is marked slow; one of each kind is in every run. napari is opened where
BIGBIA_NAPARI_PYTHON names an interpreter that has it (benchmarks/napari_opens.py).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from images import opened

import bigbia
from bigbia.hyperstack import hyperstack

SHAPE = {"t": 3, "c": 2, "z": 6, "y": 40, "x": 50}
SIZE = {"z": 0.5, "y": 0.2, "x": 0.2}
OPENS = Path(__file__).resolve().parents[1] / "benchmarks" / "napari_opens.py"


def image(axes="zyx", dtype="u2", sizes=True, shape=None):
    shape = tuple((shape or SHAPE)[a] for a in axes)
    values = np.random.default_rng(0).integers(0, 4000, shape)
    values = values > 2000 if dtype == "bool" else (values - (2000 if dtype[0] == "i" else 0)).astype(dtype)
    size = {a: s for a, s in SIZE.items() if a in axes} if sizes else None
    names = ["DAPI", "GFP"] if "c" in axes else None
    step = {"time_step": 2.5, "time_unit": "s"} if "t" in axes and sizes else {}
    return hyperstack(values, axes, size, "um" if sizes else None, names, **step)


def labels_of(one):
    one = one.isel(c=0) if "c" in one.dims else one
    return bigbia.measure.label(one > (0 if one.dtype.kind == "b" else 2000))


def written(path, axes="zyx", dtype="u2", sizes=True, labels=True, into=False, origin=False, **words):
    """An output of bigbia, and the places of its images in it."""
    one = image(axes, dtype, sizes)
    if origin:
        one = one.isel(y=slice(4, None), x=slice(None, None, 2))
    masks = {"cells": labels_of(one)} if labels else {}
    words = {"chunks": 16, "levels": 2, **words}
    if into:
        bigbia.save(path, one, **words)
        bigbia.save(None, into=path, labels={"cells": labels_of(opened(path))}, chunks=16)
        return ["", "labels/cells"]
    bigbia.save(path, one, labels=masks, images={"again": one}, **words)
    return ["", "images/again", *(f"labels/{name}" for name in masks)]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """An output, written once for all that look at it."""
    made = {}

    def of(words):
        key = json.dumps(words, sort_keys=True)
        if key not in made:
            path = tmp_path_factory.mktemp("interop") / "a.zarr"
            made[key] = path, written(path, **words)
        return made[key]

    return of


FAST = {
    "0.5": {},
    "0.4": {"version": "0.4"},
    "0.5 sharded, two channels, time": {"axes": "tczyx", "shards": 32},
    "0.4 into the input": {"version": "0.4", "axes": "czyx", "into": True},
    "0.5 without sizes, float32": {"sizes": False, "dtype": "f4"},
}
SLOW = {
    f"{version} {axes} {dtype}": {"version": version, "axes": axes, "dtype": dtype}
    for version in ("0.4", "0.5")
    for axes, dtype in [
        ("yx", "u1"), ("zyx", "bool"), ("zyx", "f4"), ("zyx", "f8"), ("zyx", "i2"), ("zyx", "u4"), ("cyx", "u2"),
        ("tyx", "u2"), ("tzyx", "u1"), ("czyx", "u2"), ("tczyx", "u2"),
    ]
}  # fmt: skip
SLOW |= {
    "0.5 into the input": {"axes": "tczyx", "into": True},
    "0.4 without sizes": {"version": "0.4", "sizes": False},
    "0.5 2D without sizes": {"axes": "yx", "sizes": False},
    "0.5 sharded 2D": {"axes": "yx", "shards": 32},
    "0.5 from elsewhere": {"origin": True},
    "0.4 from elsewhere": {"version": "0.4", "origin": True},
    "0.5 one level": {"levels": 1},
}
MATRIX = [
    *(pytest.param(words, id=name) for name, words in FAST.items()),
    *(pytest.param(words, id=name, marks=pytest.mark.slow) for name, words in SLOW.items()),
]


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


# ---- validators ----------------------------------------------------------------------------------------------------
def by_models(place, version, is_label):
    import ome_zarr_models.v04
    import ome_zarr_models.v05

    models = {"0.4": ome_zarr_models.v04, "0.5": ome_zarr_models.v05}[version]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (models.ImageLabel if is_label else models.Image).from_zarr(zarr.open_group(place, mode="r"))
        if (place / "labels").exists():
            models.Labels.from_zarr(zarr.open_group(place / "labels", mode="r"))


def by_yaozarrs(place, version, is_label):
    import yaozarrs

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yaozarrs.validate_zarr_store(str(place))


def by_ngff_zarr(place, version, is_label):
    import ngff_zarr

    ngff_zarr.from_ngff_zarr(place, validate=True, version=version)
    attributes = dict(zarr.open_group(place, mode="r").attrs)
    ngff_zarr.validate(attributes, version=version, model="label" if is_label else "image")


@pytest.mark.parametrize("words", MATRIX)
def test_validators_accept_it(output, words):
    path, places = output(words)
    checks = {"ome_zarr_models": by_models, "yaozarrs": by_yaozarrs, "ngff_zarr": by_ngff_zarr}
    there = {name: check for name, check in checks.items() if importlib.util.find_spec(name) is not None}
    for place in places:
        for name, check in there.items():
            try:
                check(path / place, words.get("version", "0.5"), place.startswith("labels/"))
            except Exception as error:
                raise AssertionError(f"{name} refuses {place or 'the image'}: {error}") from error


@pytest.mark.parametrize("check", [by_models, by_yaozarrs, by_ngff_zarr])
def test_validators_do_refuse(tmp_path, check):
    """A test of the tests: what is wrong is refused."""
    pytest.importorskip(check.__name__.removeprefix("by_").replace("models", "ome_zarr_models"))
    path = tmp_path / "a.zarr"
    written(path, labels=False)
    document = json.loads((path / "zarr.json").read_bytes())
    document["attributes"]["ome"]["multiscales"][0]["axes"][0]["type"] = 7
    document["attributes"]["ome"]["multiscales"][0]["datasets"] = []
    (path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(Exception, match=r"(?s)."):
        check(path, "0.5", False)


# ---- readers -------------------------------------------------------------------------------------------------------
def levels_of(place):
    """What bigbia reads, level by level."""
    count = len(list(zarr.open_group(place, mode="r").arrays()))
    return [opened(place, level=level) for level in range(count)]


def with_zarr(place, version):
    group = zarr.open_group(place, mode="r")
    return [group[str(i)][...] for i in range(len(list(group.arrays())))]


def with_ome_zarr(place, version):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    # For a label image it begins with the image that it belongs to.
    (node,) = (n for n in Reader(parse_url(str(place)))() if Path(n.zarr.path).resolve() == place.resolve())
    return [np.asarray(level) for level in node.data]


def with_ngff_zarr(place, version):
    import ngff_zarr

    return [np.asarray(one.data) for one in ngff_zarr.from_ngff_zarr(place, version=version).images]


def with_tensorstore(place, version):
    import tensorstore

    driver = "zarr3" if version == "0.5" else "zarr"
    found = []
    for level in range(len(levels_of(place))):
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{place / str(level)}/"}}
        found.append(tensorstore.open(spec, read=True).result().read().result())
    return found


READERS = [
    with_zarr,
    pytest.param(with_ome_zarr, marks=needs("ome_zarr")),
    pytest.param(with_ngff_zarr, marks=needs("ngff_zarr")),
    pytest.param(with_tensorstore, marks=needs("tensorstore")),
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("words", MATRIX)
def test_others_read_the_same_bytes(output, words, reader):
    path, places = output(words)
    for place in places:
        ours, theirs = levels_of(path / place), reader(path / place, words.get("version", "0.5"))
        for level, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            assert other.dtype == mine.dtype, (place, level)
            assert other.shape == mine.shape, (place, level)
            assert np.ascontiguousarray(other).tobytes() == mine.values.tobytes(), (place, level)


@needs("ome_zarr")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_finds_channels_and_labels(tmp_path, version):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    path = tmp_path / "a.zarr"
    written(path, axes="czyx", version=version, into=True)
    nodes = list(Reader(parse_url(str(path)))())
    assert nodes[0].metadata["channel_names"] == ["DAPI", "GFP"]
    assert [tuple(c[1]) for c in nodes[0].metadata["colormap"]] == [(0, 0, 1), (0, 1, 0)]
    for start, end in nodes[0].metadata["contrast_limits"]:
        assert 0 <= start < end <= 4000
    assert [node.metadata.get("name") for node in nodes].count("cells") == 1


@needs("ngff_zarr")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ngff_zarr_finds_sizes_and_units(tmp_path, version):
    import ngff_zarr

    path = tmp_path / "a.zarr"
    written(path, axes="tczyx", version=version)
    for place in ("", "labels/cells"):
        first = ngff_zarr.from_ngff_zarr(path / place, version=version).images[0]
        assert {a: first.scale[a] for a in "tzyx"} == {"t": 2.5, **SIZE}
        assert {a: first.axes_units[a] for a in "tx"} == {"t": "second", "x": "micrometer"}


@needs("tensorstore")
def test_tensorstore_sees_a_damaged_chunk(tmp_path):
    """The checksum that is written is one that others look at."""
    import tensorstore

    path = tmp_path / "a.zarr"
    written(path, labels=False)
    file = path / "0/c/0/0/0"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path / '0'}/"}}
    with pytest.raises(ValueError, match=r"CRC|decoding|Digest"):
        tensorstore.open(spec, read=True).result().read().result()


# ---- tables --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_tables_open_without_us(tmp_path, form):
    import pandas
    from pyarrow import csv, parquet

    one = image()
    cells = labels_of(one)
    table = bigbia.measure.regionprops_table(cells, one, ["label", "area", "centroid", "intensity_mean"], spacing="um")
    path = bigbia.save(
        tmp_path / "a.zarr", labels={"cells": cells}, tables={"cells": table}, table_format=form, chunks=16
    )
    expected, file = table.compute(), path / f"tables/cells.{form}"
    if form == "parquet":
        pandas.testing.assert_frame_equal(pandas.read_parquet(file), expected.reset_index(drop=True))
        schema = parquet.read_schema(file)
        assert schema.field("area").metadata[b"unit"] == b"um3"
        assert schema.field("label").metadata is None
    else:
        rows = csv.read_csv(file)
        assert rows.column_names == list(expected.columns)
        assert rows.num_rows == len(expected)
        beside = json.loads(file.with_name(file.name + "-metadata.json").read_bytes())
        columns = {c["titles"]: c for c in beside["tableSchema"]["columns"]}
        assert columns["area"]["schema:unitText"] == "um3"
        assert columns["area"]["datatype"] == "double"
        assert beside["url"] == file.name
        assert beside["@context"] == "http://www.w3.org/ns/csvw"


# ---- napari --------------------------------------------------------------------------------------------------------
NAPARI = os.environ.get("BIGBIA_NAPARI_PYTHON")


@pytest.mark.slow
@pytest.mark.skipif(not NAPARI, reason="BIGBIA_NAPARI_PYTHON names no interpreter with napari and napari-ome-zarr")
@pytest.mark.skipif(shutil.which("xvfb-run") is None and "DISPLAY" not in os.environ, reason="there is no display")
@pytest.mark.parametrize("case", ["0.5", "0.4", "time"])
def test_napari_opens_it(tmp_path, case):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(OPENS.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    subprocess.run(
        [sys.executable, OPENS, "write", tmp_path / "a.zarr", case], check=True, env=environment, timeout=300
    )
    screen = ["xvfb-run", "-a"] if "DISPLAY" not in os.environ else []
    shown = subprocess.run(
        [*screen, str(NAPARI), OPENS, "open", tmp_path / "a.zarr", case, tmp_path / "a.png"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stdout + shown.stderr
