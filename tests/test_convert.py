"""`bigbia convert`: what is in one format comes out in another, bounded, whole, and goes on where it was stopped."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import warnings
from fractions import Fraction
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from test_tiff_write import assert_same, made

import bigbia
from bigbia import hyperstack
from bigbia.cli_convert import convert as command
from bigbia.errors import BigbiaWarning, InputError, ParameterError, RunError
from bigbia.io.pyramid import downsample
from bigbia.io.tables import read_table, write_table
from bigbia.run.convert import Layout, _cut, convert

FORMATS = {
    "0.5.zarr": Layout(),
    "0.4.zarr": Layout(version="0.4"),
    "sharded.zarr": Layout(chunks="2", shards="4"),
    "imagej.tif": None,
    "x.ome.tif": None,
}


def saved(path: Path, image: object, **how: object) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BigbiaWarning)
        if str(path).endswith(".tif"):
            from bigbia.run.tiff_output import write_tiff

            return write_tiff(path, image)
        return bigbia.save(path, image, **how)


def converted(source: Path, target: Path, **how: object) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BigbiaWarning)
        return convert(source, target, **how)


@pytest.mark.parametrize(
    ("first", "second"),
    [(a, b) for a, b in itertools.permutations(FORMATS, 2) if (a + b).count("zarr") != 2 or a > b],
)
def test_there_and_back(tmp_path: Path, first: str, second: str) -> None:
    """Axes, sizes, units, names, dtype, voxels, origin and colours, from each format to each other one."""
    image = made("tczyx", "uint16", origin={"z": 12.5})
    colors = {"DAPI": "0000FF", "GFP": "FFFF00", "Ärger": "00FFFF"}
    image.encoding["display"] = {name: {"color": c, "window": (1.0, 80.0)} for name, c in colors.items()}
    start = saved(tmp_path / f"start-{first}", image)
    end = converted(start, tmp_path / f"end-{second}", layout=FORMATS[second])
    again = bigbia.open(end)
    assert_same(again, image)
    assert {name: one["color"] for name, one in again.encoding["display"].items()} == colors
    assert again.encoding["display"] == bigbia.open(start).encoding["display"]
    if first.endswith(".tif"):
        assert {one["window"] for one in again.encoding["display"].values()} == {(1.0, 80.0)}


@pytest.mark.parametrize("axes", ["yx", "cyx", "tyx", "zyx", "czyx", "tzyx", "tcyx", "tczyx"])
def test_every_choice_of_axes_goes_through_zarr_and_back(tmp_path: Path, axes: str) -> None:
    image = made(axes)
    store = converted(saved(tmp_path / "a.tif", image), tmp_path / "a.zarr")
    assert "".join(bigbia.open(store).dims) == axes
    for name in ("b.tif", "b.ome.tif"):
        assert_same(bigbia.open(converted(store, tmp_path / name)), image)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_every_dtype_goes_through_zarr_and_back(tmp_path: Path, dtype: str) -> None:
    image = made("zyx", dtype)
    for version in ("0.4", "0.5"):
        store = converted(saved(tmp_path / f"{version}a.tif", image), tmp_path / f"{version}.zarr")
        assert_same(bigbia.open(store), image)
        assert_same(bigbia.open(converted(store, tmp_path / f"{version}b.tif")), image)


def test_words_of_opening_and_of_the_layout(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (6, 40, 50)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "raw.tif", values)
    path = converted(
        tmp_path / "raw.tif",
        tmp_path / "x.zarr",
        opening={"axes": "cyx", "voxel_size": "0.2 um", "region": "y=8:40", "channels": "0,2,4"},
        layout=Layout(chunks="8", shards="16,32", levels=2),
    )
    image = bigbia.open(path)
    assert image.dims == ("c", "y", "x")
    assert hyperstack.voxel_size(image) == {"y": 0.2, "x": 0.2}
    assert np.array_equal(image.values, values[::2, 8:])
    array = zarr.open_array(path / "0")
    assert array.chunks == (1, 8, 8)
    assert array.shards == (1, 16, 32)
    assert len(list((path).glob("[0-9]"))) == 2


def test_labels_have_a_pyramid_of_their_own(tmp_path: Path) -> None:
    labels = np.kron(np.arange(1, 37, dtype=np.uint32).reshape(6, 6), np.ones((9, 9), np.uint32))
    saved(tmp_path / "cells.ome.tif", labels)
    path = converted(tmp_path / "cells.ome.tif", tmp_path / "x.zarr", layout=Layout(labels=True, levels=3))
    group = zarr.open_group(path / "labels/cells")
    assert "image-label" in group.attrs["ome"]
    for level in range(3):
        step = 2**level
        assert np.array_equal(group[str(level)][:], labels[::step, ::step])
    saved(tmp_path / "f.tif", labels.astype("f4"))
    with pytest.raises(InputError, match="float32 voxels are no labels: leave out --labels"):
        convert(tmp_path / "f.tif", tmp_path / "y.zarr", layout=Layout(labels=True))


def test_tables_keep_their_units(tmp_path: Path) -> None:
    table = pd.DataFrame({"label": [1, 2], "area": [7.25, 1 / 3]})
    write_table([table], tmp_path / "a.parquet", metadata={"units": {"area": "um3"}})
    convert(tmp_path / "a.parquet", tmp_path / "a.csv")
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.csv"), table, check_flags=False)
    convert(tmp_path / "a.csv", tmp_path / "b.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "b.parquet"), table)
    assert read_table(tmp_path / "b.parquet").attrs.get("units") == read_table(tmp_path / "a.csv").attrs.get("units")
    with pytest.raises(RunError, match=r"a\.csv: exists"):
        convert(tmp_path / "a.parquet", tmp_path / "a.csv")
    convert(tmp_path / "a.parquet", tmp_path / "a.csv", overwrite=True)


def test_a_conversion_can_be_verified_and_run_again(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.tif", made("zyx"))
    path = converted(source, tmp_path / "x.zarr", layout=Layout(shards="auto"))
    assert bigbia.verify(path).ok
    victim = next(p for p in path.rglob("*") if p.is_file() and "/c/" in str(p))
    victim.write_bytes(b"")
    assert not bigbia.verify(path).ok
    assert bigbia.repair(path).ok
    assert bigbia.rerun(path).same


@pytest.mark.parametrize(
    ("source", "target", "words", "error", "message"),
    [
        ("a.tif", "a.tif", {}, ParameterError, r"a\.tif: is the input itself"),
        ("s.zarr", "s.zarr/labels/x.zarr", {}, ParameterError, "lies in the input"),
        ("s.zarr/0", "s.zarr", {}, ParameterError, "holds the input"),
        ("a.tif", "x.png", {}, ParameterError, r"ends in '\.png'.*OME-Zarr \.zarr; TIFF \.tif"),
        ("a.tif", "x", {}, ParameterError, "has no ending"),
        ("a.tif", "x.csv", {}, ParameterError, "is a table, and .*a.tif is an image"),
        ("t.csv", "x.zarr", {}, ParameterError, "t.csv: is a table"),
        ("t.csv", "x.parquet", {"opening": {"region": "z=0"}}, ParameterError, "--region: a table has none"),
        ("a.tif", "x.tif", {"layout": Layout(chunks="8", levels=2)}, ParameterError, "--chunks, --levels: a TIFF has"),
        ("a.tif", "x.zarr", {"layout": Layout(chunks="8,8,8")}, ParameterError, "--chunks 8,8,8: 3 sizes for 2 axes"),
        ("a.tif", "x.zarr", {"layout": Layout(chunks="soon")}, ParameterError, "--chunks soon: must be sizes"),
        ("a.tif", "x.zarr", {"layout": Layout(chunks="2", shards="3")}, ParameterError, "not a whole number of chunks"),
        ("a.tif", "x.zarr", {"opening": {"axis": "yx"}}, ParameterError, "axis='yx': is no way to open an image"),
        ("none.tif", "x.zarr", {}, InputError, r"none\.tif"),
        ("a.tif", "x.zarr", {"opening": {"level": 3}}, ParameterError, "level=3"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(
    tmp_path: Path, source: str, target: str, words: dict, error: type, message: str
) -> None:
    saved(tmp_path / "a.tif", made("yx"))
    saved(tmp_path / "s.zarr", made("yx"))
    (tmp_path / "t.csv").write_text("a\n1\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message):
        converted(tmp_path / source, tmp_path / target, **words)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command(tmp_path: Path) -> None:
    image = made("czyx")
    saved(tmp_path / "a.tif", image)
    runner = CliRunner()

    def said(*words: object) -> str:
        found = runner.invoke(command, [str(w) for w in words], catch_exceptions=True)
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        assert found.exit_code == 0, found.output
        return found.output

    out = said(tmp_path / "a.tif", tmp_path / "x.zarr", "--version", "0.4", "--channels", "GFP", "--region", "z=1:3")
    assert "x.zarr: written in" in out
    again = bigbia.open(tmp_path / "x.zarr")
    np.testing.assert_array_equal(again.values, image.sel(c=["GFP"]).values[:, 1:3])
    assert said(tmp_path / "x.zarr", tmp_path / "b.ome.tif", "--quiet") == ""
    np.testing.assert_array_equal(bigbia.open(tmp_path / "b.ome.tif").values.squeeze(), again.values.squeeze())
    with pytest.raises(RunError, match="exists"):
        said(tmp_path / "x.zarr", tmp_path / "b.ome.tif")
    said(tmp_path / "x.zarr", tmp_path / "b.ome.tif", "--overwrite", "-q")
    said(tmp_path / "x.zarr", tmp_path / "s.zarr", "--shards", "auto", "--chunks", "2", "-q")
    assert zarr.open_array(tmp_path / "s.zarr/0").shards is not None
    assert runner.invoke(command, ["--help"]).output.count("Examples:") == 1


def test_a_killed_conversion_goes_on(tmp_path: Path) -> None:
    """Killed after some blocks; the same command does the rest, and the result is that of a run in one go."""
    values = np.random.default_rng(1).integers(0, 4000, (48, 64, 64)).astype(np.uint16)
    saved(tmp_path / "a.tif", values)
    script = f"""
import os, signal, sys
from bigbia.run import ledger, contract
from bigbia.run.convert import Layout, convert
from bigbia.io import ome_zarr
real, count = ome_zarr.write_block, [0]
def stopping(*a, **k):
    count[0] += 1
    if len(sys.argv) > 1 and count[0] > 5:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*a, **k)
ome_zarr.write_block = stopping
layout = Layout(chunks="8", shards="16,16,32", levels=2)
convert({str(tmp_path / "a.tif")!r}, {str(tmp_path / "x.zarr")!r}, layout=layout, opening={{"block": "16,16,64"}})
print(count[0])
"""
    environment = {**os.environ, "BIGBIA_THREADS": "1"}
    run = [sys.executable, "-c", script]
    first = subprocess.run([*run, "stop"], capture_output=True, text=True, timeout=60, env=environment)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert not (tmp_path / "x.zarr").exists()
    assert (tmp_path / "x.zarr.partial").exists()
    second = subprocess.run(
        run, capture_output=True, text=True, timeout=60, env=environment | {"BIGBIA_MEMORY": "1 GiB"}
    )
    assert second.returncode == 0, second.stderr
    whole = convert(tmp_path / "a.tif", tmp_path / "y.zarr", layout=Layout(chunks="8", shards="16,16,32", levels=2))
    blocks = sum(1 for p in (tmp_path / "x.zarr").rglob("*") if "/c/" in str(p) and p.is_file())
    assert int(second.stdout) < blocks, "everything was written again"
    for level in "01":
        np.testing.assert_array_equal(
            zarr.open_array(tmp_path / "x.zarr" / level)[:], zarr.open_array(whole / level)[:]
        )
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "x.zarr/0")[:], values)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"])
def test_means_of_a_pyramid_are_exact(dtype: str) -> None:
    """Against fractions: halves to even, windows that the end cuts off, the extremes of the dtype, any order in memory."""
    random = np.random.default_rng(0)
    most = np.iinfo(dtype) if dtype != "bool" else None
    values = [0, 1] if most is None else [most.min, most.min + 1, most.max, most.max - 1, 0, 1, 2, 3, 5]
    for shape, factors in (
        ((1, 3, 4, 5), (1, 2, 2, 2)),
        ((4, 6), (2, 2)),
        ((5, 1, 7), (2, 2, 1)),
        ((2, 3, 4), (1, 1, 2)),
    ):
        block = random.choice(np.array(values, dtype), shape)
        wanted = np.empty([-(-n // f) for n, f in zip(shape, factors)], dtype)
        for index in np.ndindex(*wanted.shape):
            window = block[tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factors))]
            wanted[index] = round(Fraction(sum(map(int, window.ravel())), window.size))
        for same in (block, np.asfortranarray(block), np.flip(block, -1)[..., ::-1]):
            found = downsample(same, factors)
            assert found.dtype == block.dtype
            np.testing.assert_array_equal(found, wanted)


class Planes:
    """What a compressed TIFF is: whole planes."""

    def __init__(self, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
        self.shape, self.chunks, self.dtype, self.token = shape, chunks, np.dtype("u2"), f"{shape}{chunks}"

    def read(self, box: object) -> np.ndarray:
        return np.zeros([b - a for a, b in box], self.dtype)


@pytest.mark.parametrize(
    ("shape", "piece"),
    [((512, 2048, 2048), (4, 64, 2048)), ((512, 2048, 2048), (1, 2048, 2048)), ((60, 8000, 8000), (1, 8000, 8000))],
)
@pytest.mark.parametrize("shards", [None, "auto"])
def test_the_input_is_read_once_in_blocks_that_fit(shape: tuple, piece: tuple, shards: str | None) -> None:
    from bigbia.graph.dask import from_source

    image = hyperstack.hyperstack(from_source(Planes(shape, piece), 64), "zyx")
    cut = _cut(image, Layout(shards=shards))
    size = np.prod(cut.block) * 2
    assert all(b == n or b % p == 0 for b, p, n in zip(cut.block, piece, shape)), "pieces are read more than once"
    unit = cut.shards or cut.chunks
    assert all(b == n or b % u == 0 for b, u, n in zip(cut.block, unit, shape)), "blocks share files"
    assert all(s % c == 0 for s, c in zip(unit, cut.chunks))
    assert size <= 128 << 20
    if shape[1] == 2048:
        assert size <= 64 << 20


def test_little_memory_takes_smaller_blocks(tmp_path: Path) -> None:
    """What is chosen is admitted; only the block depends on the memory, not what is written."""
    values = np.arange(64 * 256 * 1024, dtype=np.uint16).reshape(64, 256, 1024)
    saved(tmp_path / "a.tif", values)
    written = []
    for k, memory in enumerate(("500 MiB", "4 GiB")):
        with dask.config.set({"bigbia.memory": memory, "bigbia.threads": 2}):
            path = convert(tmp_path / "a.tif", tmp_path / f"{k}.zarr", layout=Layout(shards="auto", levels=1))
        written.append({str(p.relative_to(path)): p.read_bytes() for p in (path / "0/c").rglob("*") if p.is_file()})
    assert written[0] == written[1]
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "0.zarr/0")[:], values)


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """A TIFF of 96 MiB to shards takes no more than one of 16 MiB, in a process of its own."""
    for n in (8, 48):
        saved(tmp_path / f"{n}.tif", np.random.default_rng(0).integers(0, 999, (n, 1024, 1024)).astype(np.uint16))
    script = f"""
import re, pathlib
from bigbia.run.convert import Layout, convert
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
for n in (8, 48):
    convert({str(tmp_path)!r} + f"/{{n}}.tif", {str(tmp_path)!r} + f"/{{n}}.zarr", layout=Layout(shards="auto"))
    print(peak() // 1024)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    small, large = map(int, found.stdout.split())
    assert large < 500
    assert large - small < 150
