"""Records: what is written is read, packed or not, whole or in part; damage is an error."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from bigbia.errors import StorageError
from bigbia.graph import packing
from bigbia.graph.scratch import Folder

RNG = np.random.default_rng(0)
STEPS = np.arange(70 * 50 * 41).reshape(70, 50, 41)
ARRAYS = {
    "smooth": (STEPS // 1000).astype("f4"),
    "noise": RNG.random((70, 50, 41)),
    "noise and nothing": np.concatenate([RNG.random((99, 2000)), np.zeros((99, 2000))]),
    "masks": STEPS % 1000 > 500,
    "wide rows": np.zeros((3, 700, 700), "i8"),
    "one row": np.ones((1, 3000), "u2"),
    "a line": np.repeat(np.arange(5), 3000),
    "infinite": np.where(RNG.random((40, 40, 40)) < 1e-3, 3.5, -np.inf).astype("f4"),
    "small": np.arange(12).reshape(3, 4),
    "empty": np.empty((0, 5)),
    "no row": np.empty((5, 0)),
    "number": np.array(7),
    "turned": np.ones((64, 50, 2), "u1").T,
}


@pytest.mark.parametrize("pack", [False, True])
def test_what_is_written_is_read(tmp_path, pack):
    folder = Folder(tmp_path)
    folder.write("kind/all", ARRAYS, pack=pack)
    for got in (folder.read("kind/all"), {k: folder.read("kind/all", k)[k] for k in ARRAYS}):
        for name, array in ARRAYS.items():
            assert got[name].dtype == array.dtype
            np.testing.assert_array_equal(got[name], array, err_msg=name)
            assert got[name].flags.c_contiguous
            assert got[name].flags.writeable
    for name, array in ARRAYS.items():
        for _ in range(10 if array.ndim else 0):
            a, b = sorted(RNG.integers(0, len(array) + 1, 2))
            np.testing.assert_array_equal(folder.read_rows("kind/all", name, a, b), array[a:b], err_msg=name)
    folder.remove("kind")
    assert list(tmp_path.iterdir()) == []


def test_packing_only_where_it_wins(tmp_path):
    folder = Folder(tmp_path)
    folder.write("plain", ARRAYS)
    folder.write("packed", ARRAYS, pack=True)
    assert folder.file("packed").stat().st_size < 0.4 * folder.file("plain").stat().st_size
    assert packing.packed(ARRAYS["noise"]) is None
    sizes = [len(d) for d in packing.packed(ARRAYS["noise and nothing"]).data]
    assert max(sizes) > 100 * min(sizes)  # noise as it is, nothing packed


def test_rows_are_read_without_the_others(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    folder.write("zeros", {"voxels": np.zeros((64, 256, 256), "f4")}, pack=True)
    unpacked = []
    monkeypatch.setattr("bigbia.graph.scratch.unpack", lambda *a: unpacked.append(a[2]) or packing.unpack(*a))
    folder.read_rows("zeros", "voxels", 9, 11)
    assert sum(unpacked) == 1 << 20


def test_damage_is_an_error(tmp_path):
    folder = Folder(tmp_path)
    folder.write("good", {"voxels": ARRAYS["smooth"]}, pack=True)
    whole = folder.file("good").read_bytes()
    rng = np.random.default_rng(1)
    for at in (0, 9, 30, *rng.integers(256, len(whole), 50)):
        folder.file("bad").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        with pytest.raises(StorageError, match="damaged"):
            folder.read("bad")
    for length in (0, 5, 30, 400, len(whole) // 2, len(whole) - 100):
        folder.file("bad").write_bytes(whole[:length])
        with pytest.raises(StorageError, match=r"damaged|cut short"):
            folder.read_rows("bad", "voxels", 0, 70)
    with pytest.raises(StorageError, match="is missing"):
        folder.read("none")
    with pytest.raises(StorageError, match="holds no 'other'"):
        folder.read_rows("good", "other", 0, 1)


def test_a_record_that_is_there_can_stay(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    for refuse in (False, True):  # a file system without links
        if refuse:
            monkeypatch.setattr("os.link", lambda *paths: (_ for _ in ()).throw(PermissionError()))
        folder.write(f"kind/{refuse}", {"n": np.array(1)}, replace=False)
        folder.write(f"kind/{refuse}", {"n": np.array(2)}, replace=False)
        assert folder.read(f"kind/{refuse}")["n"] == 1
    folder.write("kind/True", {"n": np.array(3)})
    assert folder.read("kind/True")["n"] == 3
    assert len(list((tmp_path / "kind").iterdir())) == 2


def test_the_codec_is_imported_when_it_is_needed():
    said = "import sys, bigbia.graph.scratch; sys.exit('numcodecs' in sys.modules)"
    subprocess.run([sys.executable, "-c", said], check=True)
