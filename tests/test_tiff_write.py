"""TIFF files that are written: what comes back, in bounded memory, whole or not at all."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile

import bigbia
from bigbia import hyperstack
from bigbia.errors import BigbiaWarning, InputError, ParameterError, RunError, StorageError
from bigbia.graph.dask import from_source
from bigbia.graph.lazy import lazy
from bigbia.io import tiff_write
from bigbia.io.tiff_write_words import kept_words, rational
from bigbia.run.tiff_output import blocks, write_tiff

LENGTHS = {"t": 2, "c": 3, "z": 4, "y": 5, "x": 6}
ORDERS = [
    "".join(order)
    for n in range(2, 6)
    for chosen in itertools.combinations("tczyx", n)
    for order in ([chosen] if n == 5 else itertools.permutations(chosen))
    if n < 4 or order == chosen or order == chosen[::-1]
] + ["xyzct", "zyxtc"]
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def made(axes: str, dtype: str = "uint16", chunk: int = 3, lengths: dict[str, int] = LENGTHS, **about: object):
    """A lazy image of different voxels with sizes, names, a time step."""
    shape = [lengths[a] for a in axes]
    kind = np.dtype(dtype)
    values = np.arange(np.prod(shape)).reshape(shape)
    array = (values % 2 == 0) if kind.kind == "b" else (values % 120 - (40 if kind.kind in "if" else 0)).astype(kind)
    space = [a for a in axes if a in "zyx"]
    known = {
        "voxel_size": {a: {"z": 0.5, "y": 0.26, "x": 0.108333}[a] for a in space} or None,
        "unit": "um" if space else None,
        "channels": ["DAPI", "GFP", "Ärger"][: lengths["c"]] if "c" in axes else None,
        "time_step": 2.5 if "t" in axes else None,
        "time_unit": "minute" if "t" in axes else None,
    } | about
    return hyperstack.hyperstack(da.from_array(array, chunks=chunk), axes, **known)


def written(path: Path, image: object, **how: object) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BigbiaWarning)
        return write_tiff(path, image, **how)


def assert_same(again: object, image: object) -> None:
    """Axes as a set, lengths, voxels, dtype, sizes, names and times."""
    assert set(again.dims) == set(image.dims)
    turned = again.transpose(*image.dims)
    assert turned.dtype == (np.uint8 if image.dtype == bool else image.dtype)
    np.testing.assert_array_equal(turned.values, np.asarray(image.values).astype(turned.dtype))
    for known in (hyperstack.voxel_size, hyperstack.unit, hyperstack.channels, hyperstack.time_step):
        assert known(again) == known(image), known.__name__
    assert {a: o for a, o in hyperstack.origin(again).items() if o} == {
        a: o for a, o in hyperstack.origin(image).items() if o
    }


@pytest.mark.parametrize("ending", [".tif", ".ome.tif"])
def test_every_order_of_axes_comes_back(tmp_path: Path, ending: str) -> None:
    for axes in ORDERS:
        image = made(axes)
        path = written(tmp_path / f"{axes}{ending}", image)
        again = bigbia.open(path)
        assert_same(again, image)
        order = "tczyx" if ending == ".ome.tif" or "x" not in axes else "tzcyx"
        assert "".join(again.dims) == "".join(a for a in order if a in axes), axes


@pytest.mark.parametrize("ending", [".tif", ".ome.tif"])
@pytest.mark.parametrize("dtype", [*DTYPES, "bool"])
def test_every_dtype_comes_back(tmp_path: Path, dtype: str, ending: str) -> None:
    image = made("zyx", dtype)
    path = written(tmp_path / f"x{ending}", image)
    assert_same(bigbia.open(path), image)
    with tifffile.TiffFile(path) as tif:
        wanted = ending == ".tif" and dtype in ("uint8", "uint16", "float32", "bool")
        assert (tif.is_imagej, tif.is_ome) == (wanted, not wanted)
        np.testing.assert_array_equal(tif.asarray(), np.asarray(image.values).astype(tif.series[0].dtype))


@pytest.mark.parametrize("ending", [".tif", ".ome.tif"])
def test_axes_of_length_1_the_origin_and_sizes_without_a_unit_come_back(tmp_path: Path, ending: str) -> None:
    one = dict.fromkeys("tcz", 1)
    cases = [
        made("tczyx", lengths=LENGTHS | one, origin={"z": 12.5, "y": -3.25, "x": 0.1, "t": 7.0}),
        made("czyx", lengths=LENGTHS | {"c": 1}),
        made("tzyx", lengths=LENGTHS | {"t": 1, "y": 1}, time_unit=None),
        made("zyx", lengths=LENGTHS | {"z": 1, "y": 1, "x": 1}),
        made("zyx", unit=None),
        made("tcyx", lengths=LENGTHS | {"c": 1}, origin={"y": 2.0}),
    ]
    for k, image in enumerate(cases):
        assert_same(bigbia.open(written(tmp_path / f"{k}{ending}", image)), image)


def test_other_units_come_back(tmp_path: Path) -> None:
    units = [("nm", "millisecond"), ("mm", "hour"), ("inch", "second"), ("angstrom", "day"), ("m", "microsecond")]
    for k, (unit, time_unit) in enumerate(units):
        for ending in (".tif", ".ome.tif"):
            image = made("tyx", unit=unit, time_unit=time_unit)
            assert_same(bigbia.open(written(tmp_path / f"{k}{ending}", image)), image)


@pytest.mark.parametrize("ending", [".tif", ".ome.tif"])
def test_colours_and_contrast_come_back(tmp_path: Path, ending: str) -> None:
    image = made("czyx")
    image.encoding["display"] = display = {
        "DAPI": {"color": "0000FF", "window": (0.0, 50.0)},
        "GFP": {"color": "00FF00", "window": (5.0, 100.5)},
        "Ärger": {"color": "FF8000", "window": (1.0, 70.0)},
    }
    assert bigbia.open(written(tmp_path / f"x{ending}", image)).encoding["display"] == display
    one = bigbia.open(written(tmp_path / f"one{ending}", image.isel(c=1))).encoding["display"]
    assert one[""] == display["GFP"]
    image = made("yx")
    image.encoding["display"] = display = {"": {"color": "FF0000", "window": (0.0, 50.0)}}
    found = bigbia.open(written(tmp_path / f"y{ending}", image)).encoding["display"]
    assert found[""]["window"] == (0.0, 50.0)


def test_imagej_reads_what_it_knows(tmp_path: Path) -> None:
    image = made("tczyx", origin={"z": 5.0})
    image.encoding["display"] = {name: {"window": (0.0, 9.0)} for name in ("DAPI", "GFP", "Ärger")}
    with tifffile.TiffFile(written(tmp_path / "x.tif", image)) as tif:
        meta, page = tif.imagej_metadata, tif.pages[0]
        assert tif.series[0].axes == "TZCYX"
        assert tif.series[0].shape == (2, 4, 3, 5, 6)
        assert (meta["channels"], meta["slices"], meta["frames"]) == (3, 4, 2)
        assert (meta["unit"], meta["spacing"], meta["finterval"], meta["tunit"]) == ("micron", 0.5, 2.5, "min")
        assert meta["mode"] == "composite"
        assert meta["hyperstack"] is True
        assert meta["zorigin"] == -10.0
        assert meta["Labels"] == ["DAPI", "GFP", "Ärger"] * 8
        assert meta["Ranges"] == (0.0, 9.0) * 3
        for tag, size in (("XResolution", 0.108333), ("YResolution", 0.26)):
            pixels, units = page.tags[tag].value
            assert units / pixels == pytest.approx(size, rel=1e-9)


def test_other_readers_agree(tmp_path: Path) -> None:
    imageio = pytest.importorskip("imageio.v3")
    image = made("zyx")
    for ending in (".tif", ".ome.tif"):
        path = written(tmp_path / f"x{ending}", image)
        np.testing.assert_array_equal(imageio.imread(path), image.values)


def test_the_ome_xml_is_valid(tmp_path: Path) -> None:
    ome_types = pytest.importorskip("ome_types")
    image = made("tczyx", origin={"z": 5.0})
    image.encoding["display"] = {name: {"color": "FF0000"} for name in ("DAPI", "GFP", "Ärger")}
    found = ome_types.from_tiff(written(tmp_path / "x.ome.tif", image)).images[0].pixels
    assert (found.size_t, found.size_c, found.size_z, found.size_y, found.size_x) == (2, 3, 4, 5, 6)
    assert [c.name for c in found.channels] == ["DAPI", "GFP", "Ärger"]
    assert found.channels[0].color.as_rgb_tuple()[:3] == (255, 0, 0)
    assert found.physical_size_x_unit.value == "µm"
    assert found.physical_size_z == 0.5


def test_above_its_limit_a_file_is_big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = made("tczyx")
    monkeypatch.setattr(tiff_write, "CLASSIC", 1000)
    for name in ("x.tif", "x.ome.tif"):
        path = written(tmp_path / name, image)
        with tifffile.TiffFile(path) as tif:
            assert tif.is_bigtiff
            assert tif.is_imagej == (name == "x.tif")
        assert_same(bigbia.open(path), image)
    with pytest.warns(BigbiaWarning, match=r"y\.tif: written as BigTIFF.*Bio-Formats"):
        write_tiff(tmp_path / "y.tif", image)


def test_notes_say_what_was_chosen_and_why(tmp_path: Path) -> None:
    with pytest.warns(BigbiaWarning, match=r"x\.tif: written as OME-TIFF: ImageJ TIFF holds .*, the voxels are uint32"):
        write_tiff(tmp_path / "x.tif", made("zyx", "uint32"))
    with pytest.warns(BigbiaWarning, match="a mask is written as uint8, 0 and 1"):
        write_tiff(tmp_path / "m.tif", made("zyx", "bool"))


def test_results_of_stages_are_written_the_same_for_every_cut(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 1000, (12, 33, 41)).astype(np.uint16)
    found = []
    for k, chunk in enumerate((5, 12, (3, 40, 41))):
        image = bigbia.filters.gaussian(da.from_array(values, chunks=chunk), 1)
        labels = bigbia.measure.label(image > bigbia.filters.threshold_otsu(image))
        path = written(tmp_path / f"{k}.tif", labels)
        found.append(path.read_bytes()[-values.size * 4 :])
        np.testing.assert_array_equal(tifffile.imread(path), labels.compute())
    assert tifffile.imread(tmp_path / "0.tif").max() > 1


def test_plain_arrays_and_slices_in_any_order(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    assert np.array_equal(tifffile.imread(written(tmp_path / "a.tif", values)), values)
    assert np.array_equal(tifffile.imread(written(tmp_path / "b.tif", da.from_array(values[0], chunks=2))), values[0])
    image = made("zyx")[::-1, 1:, ::2]
    assert np.array_equal(tifffile.imread(written(tmp_path / "c.tif", image)), image.values)
    swapped = np.arange(6, dtype=">u2").reshape(2, 3)
    assert np.array_equal(tifffile.imread(written(tmp_path / "d.tif", swapped)), swapped)


def test_blocks_are_full_rows_and_planes_where_they_fit() -> None:
    image = lazy(made("zyx", lengths={"z": 64, "y": 96, "x": 128}, chunk=16), "test")
    sizes = list(blocks(image, 2, most=16 * 96 * 128 * 2))
    assert sizes[0] == (16, 96, 128)
    assert sizes[-1] == (16, 16, 16)
    assert all(a[2] == 128 for a in sizes if a[1] > 16)


@pytest.mark.parametrize(
    ("path", "image", "error", "message"),
    [
        ("x.png", "yx", ParameterError, r"x\.png: a TIFF is written as \.tif"),
        ("nowhere/x.tif", "yx", StorageError, "the folder .*nowhere does not exist: make it first"),
        (3, "yx", ParameterError, "path=3"),
        ("x.tif", np.zeros((2, 2), np.int64), InputError, r'int64 voxels: .*image\.astype\("int32"\)'),
        ("x.tif", np.zeros((2, 2), np.uint64), InputError, r'uint64 voxels: .*image\.astype\("uint32"\)'),
        ("x.tif", np.zeros((2, 2), np.float16), InputError, r'float16 voxels: .*image\.astype\("float32"\)'),
        ("x.tif", np.zeros((2, 2), complex), InputError, "complex"),
        ("x.tif", np.zeros((2, 0), np.uint8), InputError, "is empty"),
        ("x.tif", np.zeros((2, 2, 2, 2), np.uint8), InputError, "name them with"),
        ("x.tif", "words", InputError, "needs a NumPy or Dask array"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(
    tmp_path: Path, path: object, image: object, error: type, message: str
) -> None:
    given = made(image) if isinstance(image, str) and image == "yx" else image
    with pytest.raises(error, match=message):
        write_tiff(path if path == 3 else tmp_path / path, given)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "x.tif", made("yx"))
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"exists; choose another place, or pass overwrite=True"):
        write_tiff(path, made("yx"))
    assert path.read_bytes() == before
    other = tmp_path / "y.tif"
    other.write_text("my thesis")
    with pytest.raises(RunError, match="exists and is no TIFF file; it is not replaced"):
        write_tiff(other, made("yx"), overwrite=True)
    assert other.read_text() == "my thesis"
    (tmp_path / "z.tif").mkdir()
    with pytest.raises(RunError, match="is no TIFF file"):
        write_tiff(tmp_path / "z.tif", made("yx"), overwrite=True)
    written(path, made("yx", "uint8"), overwrite=True)
    assert tifffile.imread(path).dtype == np.uint8


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = written(tmp_path / "x.tif", made("tczyx"))
    before, real, calls = old.read_bytes(), os.pwrite, []

    def full(handle: int, data: object, at: int) -> int:
        calls.append(at)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    for how in ({"overwrite": True}, {}):
        path = old if how else tmp_path / "y.tif"
        calls.clear()
        with pytest.raises((StorageError, RunError), match="No space left on device"):
            written(path, made("tczyx", "float32"), **how)
    assert [p.name for p in tmp_path.iterdir()] == ["x.tif"]
    assert old.read_bytes() == before


def test_too_small_a_disk_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(StorageError, match=r"takes .* GiB, .* GiB are free"):
        write_tiff(tmp_path / "x.tif", made("zyx"))
    assert not list(tmp_path.iterdir())


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def bad(block: np.ndarray, block_info: object = None) -> np.ndarray:
        raise ArithmeticError("odd")

    image = da.from_array(np.zeros((8, 8), np.uint8), chunks=4).map_blocks(bad, dtype=np.uint8)
    with pytest.raises((RunError, ArithmeticError), match="odd"):
        write_tiff(tmp_path / "x.tif", image)
    assert not list(tmp_path.iterdir())


def test_one_process_writes_a_file_at_a_time(tmp_path: Path) -> None:
    """The second one is refused while the first writes, and takes over what a killed one left."""
    path, go, began = tmp_path / "x.tif", threading.Event(), threading.Event()

    class Slow:
        shape, dtype, chunks, token = (4, 4), np.dtype("u1"), (4, 4), "slow"

        def read(self, box: object) -> np.ndarray:
            began.set()
            go.wait(20)
            return np.ones([b - a for a, b in box], np.uint8)

    first = threading.Thread(target=written, args=(path, from_source(Slow())))
    first.start()
    assert began.wait(20)
    try:
        with pytest.raises(RunError, match="another run is writing here"):
            write_tiff(path, made("yx"))
        assert path.with_name("x.tif.partial").exists()
        assert not path.exists()
    finally:
        go.set()
        first.join()
    assert tifffile.imread(path).sum() == 16
    left = tmp_path / "y.tif.partial"
    left.write_bytes(b"what a killed process left" * 1000)
    assert_same(bigbia.open(written(tmp_path / "y.tif", made("yx"))), made("yx"))
    assert not left.exists()


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """96 MiB, the blocks of which may take 64 MiB on two threads."""
    script = f"""
import re, sys, numpy as np, dask, pathlib
sys.path.insert(0, {str(Path(__file__).parent)!r})
from bigbia.graph.dask import from_source
from bigbia.run.tiff_output import write_tiff
class Ramp:
    dtype, token = np.dtype("u2"), "ramp"
    def __init__(self, n): self.shape, self.chunks = (n, 1024, 1024), (4, 256, 256)
    def read(self, box):
        (a, b), (c, d), (e, f) = box
        return np.broadcast_to(np.arange(a, b, dtype="u2")[:, None, None], (b - a, d - c, f - e)).copy()
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
dask.config.set({{"bigbia.threads": 2, "bigbia.memory": "512 MiB"}})
write_tiff({str(tmp_path / "a.tif")!r}, from_source(Ramp(4)))
small = peak()
write_tiff({str(tmp_path / "b.tif")!r}, from_source(Ramp(48)))
print((peak() - small) // 1024)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) < 80, "grows with the image"
    assert tifffile.imread(tmp_path / "b.tif")[40].min() == 40


@pytest.mark.parametrize("size", [0.26, 1.0, 1 / 3, 0.108333333333, 6.5 / 63, 1e-7, 1e7, 123456.789])
def test_resolution_is_as_exact_as_two_numbers_allow(size: float) -> None:
    pixels, units = rational(size)
    assert 0 < pixels < 2**32
    assert 0 < units < 2**32
    assert units / pixels == pytest.approx(size, rel=1e-8)


def test_words_that_cannot_be_read_are_passed_over() -> None:
    odd = {"bigbia_axes": "zzz", "bigbia_origin": "z:nan y:3 q:4 x", "bigbia_size": "z:-1", "bigbia_step": "soon"}
    assert kept_words(odd) == {"origin": {"y": 3.0}, "size": {}}
    assert kept_words({"bigbia_window": "0:5 - 5:1"}) == {"window": ((0.0, 5.0), None, None)}
