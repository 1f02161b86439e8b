"""HDF5: every box equal to what was written, and what files say of axes and voxels, in the ways that people write it."""

import json
import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import dask
import numcodecs
import numpy as np
import pytest
from images import check_source, opened, refused, voxels

from bigbia.errors import InputError, MissingExtraError, ParameterError
from bigbia.graph.dask import from_source
from bigbia.hyperstack import channels, time_step, unit, voxel_size
from bigbia.io.formats import found
from bigbia.io.places import Place

h5py = pytest.importorskip("h5py")


def find(path, level=0, scene=None, on_missing=None):
    return found(Place(path), level, scene, on_missing)


def write(path, data, name="image", attrs=None, **words):
    with h5py.File(path, "a") as file:
        made = file.create_dataset(name, data=data, **words)
        made.attrs.update(attrs or {})
    return path


STORED = {
    "contiguous": {},
    "chunks": {"chunks": (4, 7, 8)},
    "gzip": {"chunks": (4, 7, 8), "compression": "gzip"},
    "gzip, shuffle, checksum": {"chunks": (4, 7, 8), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"chunks": (4, 7, 8), "compression": "lzf"},
    "checksum": {"chunks": (4, 7, 8), "fletcher32": True},
    "one chunk": {"chunks": (11, 17, 23), "compression": "gzip"},
}


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", ">u2", "i8", "?"])
@pytest.mark.parametrize("stored", STORED)
def test_voxels(tmp_path, stored, dtype):
    data = voxels(dtype=dtype)
    write(tmp_path / "x", data, **STORED[stored])  # no ending: it is told by its first bytes
    got = find(tmp_path / "x")
    assert got.kind == "HDF5"
    check_source(got.source, data)
    assert got.source.missing_chunks()[0] == 0
    np.testing.assert_array_equal(from_source(got.source).compute(), data)


def test_scale_offset_is_left_to_hdf5(tmp_path):
    write(tmp_path / "x.h5", voxels(), chunks=(4, 7, 8), scaleoffset=0)
    check_source(find(tmp_path / "x.h5").source, voxels())


def test_a_block_of_the_users_before_the_file(tmp_path):
    with h5py.File(tmp_path / "x.mat", "w", userblock_size=512) as file:
        file.create_dataset("x", data=voxels(), chunks=(4, 7, 8), compression="gzip")
    check_source(find(tmp_path / "x.mat").source, voxels())


def test_several_data_sets(tmp_path):
    write(tmp_path / "x.h5", voxels(), "volumes/raw")
    write(tmp_path / "x.h5", voxels()[:5], "volumes/labels")
    write(tmp_path / "x.h5", np.arange(9.0), "curve")
    refused(
        r"holds 2 images: volumes/labels \(5 x 17 x 23\), volumes/raw .*name one, as in .*x.h5/volumes",
        tmp_path / "x.h5",
    )
    for where, words in ((tmp_path / "x.h5/volumes/raw", {}), (tmp_path / "x.h5", {"scene": "volumes/raw"})):
        check_source(find(where, **words).source, voxels())
    assert find(tmp_path / "x.h5", scene=0).source.shape == (5, 17, 23)
    with pytest.raises(ParameterError, match="did you mean 'volumes/raw'"):
        find(tmp_path / "x.h5", scene="volumes/row")
    with pytest.raises(ParameterError, match="0 to 1: volumes/labels, volumes/raw"):
        find(tmp_path / "x.h5", scene=2)
    with pytest.raises(InputError, match="no 'row' in /volumes, did you mean 'raw'"):
        find(tmp_path / "x.h5/volumes/row")
    with pytest.raises(InputError, match="is a data set, there is nothing below it"):
        find(tmp_path / "x.h5/volumes/raw/deeper")
    with pytest.raises(ParameterError, match="level=1: has 1 level"):
        find(tmp_path / "x.h5/volumes/raw", level=1)


def test_a_group_with_one_data_set(tmp_path):
    write(tmp_path / "x.h5", voxels(), "a/b")
    write(tmp_path / "x.h5", voxels(), "c")
    check_source(find(tmp_path / "x.h5/a").source, voxels())


def test_axistags_of_ilastik(tmp_path):
    tags = {"axes": [{"key": k, "typeFlags": 2, "resolution": r} for k, r in zip("tzyxc", (0, 0.5, 0.2, 0.2, 0))]}
    data = voxels((2, 3, 8, 9, 2))
    write(tmp_path / "x.h5", data, attrs={"axistags": json.dumps(tags)})
    image = opened(tmp_path / "x.h5")
    assert image.dims == ("t", "z", "y", "x", "c")
    assert voxel_size(image) == {"z": 0.5, "y": 0.2, "x": 0.2}
    np.testing.assert_array_equal(image.values, data)


@pytest.mark.parametrize(
    "attrs", [{"element_size_um": [0.5, 0.2, 0.1]}, {"resolution": [500, 200, 100], "units": "nm"}]
)
def test_voxel_size_in_an_attribute(tmp_path, attrs):
    write(tmp_path / "x.h5", voxels(), attrs=attrs)
    image = opened(tmp_path / "x.h5")
    sizes = voxel_size(image)
    expected, word = ({"z": 0.5, "y": 0.2, "x": 0.1}, "micrometer")
    if "units" in attrs:
        expected, word = {"z": 500, "y": 200, "x": 100}, "nanometer"
    assert (image.dims, sizes, unit(image)) == (("z", "y", "x"), expected, word)


def test_element_size_and_axes_that_the_user_names(tmp_path):
    write(tmp_path / "x.h5", voxels((2, 3, 8, 9)), attrs={"element_size_um": [0.5, 0.2, 0.1]})
    refused("nothing says which axes", tmp_path / "x.h5", ParameterError)
    image = opened(tmp_path / "x.h5", axes="czyx")
    assert (voxel_size(image), unit(image)) == ({"z": 0.5, "y": 0.2, "x": 0.1}, "micrometer")


def test_dimension_labels_and_scales(tmp_path):
    with h5py.File(tmp_path / "x.nc", "w") as file:
        data = file.create_dataset("image", data=voxels((3, 8, 9)))
        for axis, name, values, word in (
            (0, "time", [0.0, 2.5, 5.0], "s"), (1, "y", np.arange(8) * 0.26 + 3, "um"), (2, "x", np.arange(9) * 260.0, "nm"),
        ):  # fmt: skip
            scale = file.create_dataset(name, data=values)
            scale.make_scale(name)
            scale.attrs["units"] = word
            data.dims[axis].attach_scale(scale)
    image = opened(tmp_path / "x.nc")
    assert image.dims == ("t", "y", "x")
    assert voxel_size(image) == {"y": 260, "x": 260}
    assert unit(image) == "nanometer"
    assert time_step(image) == (2.5, "second")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        data = file.create_dataset("image", data=voxels((3, 8, 9)))
        for dim, label in zip(data.dims, ("channel", "Y", "X")):
            dim.label = label
    assert opened(tmp_path / "y.h5").dims == ("c", "y", "x")


def test_absent_chunks(tmp_path):
    data = np.full((11, 17, 23), 7, "u2")
    data[:4, :7, :8] = voxels()[:4, :7, :8]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        made = file.create_dataset("a", data.shape, "u2", chunks=(4, 7, 8), compression="gzip", fillvalue=7)
        made[:4, :7, :8] = data[:4, :7, :8]
    source = find(tmp_path / "x.h5").source
    assert source.missing_chunks() == (26, 27)
    check_source(source, data)
    strict = find(tmp_path / "x.h5", on_missing="error").source
    assert strict.token != source.token
    np.testing.assert_array_equal(strict.read(((0, 4), (0, 7), (0, 8))), data[:4, :7, :8])
    with pytest.raises(InputError, match=r"a chunk is missing .* at z=4\.\.5.*on_missing=\"fill\""):
        strict.read(((4, 6), (0, 7), (0, 8)))


# ---- links -----------------------------------------------------------------------------------------------------------
def test_links_out_of_the_file(tmp_path):
    write(tmp_path / "other.h5", voxels(), "secret")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["away"] = h5py.ExternalLink("other.h5", "/secret")
        file["soft"] = h5py.SoftLink("/away")
        file["here"] = h5py.SoftLink("/own/data")
        file["round"] = h5py.SoftLink("/round")
        file.create_dataset("own/data", data=voxels())
    check_source(find(tmp_path / "x.h5/here").source, voxels())
    assert find(tmp_path / "x.h5").source.shape == voxels().shape  # links are not looked through for images
    for name in ("away", "soft"):
        with pytest.raises(InputError, match=r"link out of the file, to other\.h5: refused.*follow_links"):
            find(tmp_path / "x.h5" / name)
    with pytest.raises(InputError, match="lead in a circle"):
        find(tmp_path / "x.h5/round")
    with dask.config.set({"bigbia.follow_links": True}):
        check_source(find(tmp_path / "x.h5/away").source, voxels())


def test_virtual_and_external_data_sets(tmp_path):
    write(tmp_path / "other.h5", voxels(), "secret")
    layout = h5py.VirtualLayout(shape=(11, 17, 23), dtype="u2")
    layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "secret", shape=(11, 17, 23))
    (tmp_path / "raw").write_bytes(voxels().tobytes())
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("outside", (11, 17, 23), "u2", external=[(str(tmp_path / "raw"), 0, voxels().nbytes)])
    with pytest.raises(InputError, match="virtual data set, which reads other files: refused"):
        find(tmp_path / "x.h5/virtual")
    with pytest.raises(InputError, match=r"keeps its voxels in another file, .*raw: refused"):
        find(tmp_path / "x.h5/outside")
    with dask.config.set({"bigbia.follow_links": True}):
        check_source(find(tmp_path / "x.h5/virtual").source, voxels())
        check_source(find(tmp_path / "x.h5/outside").source, voxels())


# ---- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.zeros((4, 5), "c8"), "its voxels are complex64"),
        (np.zeros((4, 5), [("a", "u1"), ("b", "u2")]), "its values are"),
        (np.full((4, 5), b"abc"), "its values are"),
        (np.zeros((4, 0), "u1"), "is empty: there is nothing to read"),
        (np.zeros((1,) * 6, "u1"), "has 6 axes"),
        (np.uint8(3), "is a single value"),
    ],
)
def test_what_is_no_image(tmp_path, data, says):
    write(tmp_path / "x.h5", data)
    refused(says, tmp_path / "x.h5/image")
    refused(says, tmp_path / "x.h5")


def test_text_and_nothing(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("names", data=["a", "b"], dtype=h5py.string_dtype())
        file.create_dataset("none", data=h5py.Empty("u2"))
    refused("holds no image: 2 data sets, /names \\(object\\), /none", tmp_path / "x.h5")
    refused("its values are object", tmp_path / "x.h5/names")
    refused("is an empty data set", tmp_path / "x.h5/none")
    with h5py.File(tmp_path / "y.h5", "w"):
        pass
    refused("there is no data set in it", tmp_path / "y.h5")


def test_truncated_and_damaged(tmp_path):
    write(tmp_path / "x.h5", voxels((11, 40, 50)), chunks=(4, 20, 20), compression="gzip")
    whole = (tmp_path / "x.h5").read_bytes()
    for keep in (10, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.h5").write_bytes(whole[:keep])
        refused("cannot be read as HDF5", tmp_path / "cut.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        at = file["image"].id.get_chunk_info(0)
    damaged = bytearray(whole)
    damaged[at.byte_offset + 20 : at.byte_offset + 40] = bytes(20)
    (tmp_path / "bad.h5").write_bytes(damaged)
    source = find(tmp_path / "bad.h5").source
    with pytest.raises(InputError, match=r"z=0\.\.3, y=0\.\.19, x=0\.\.19 cannot be decoded.*damaged, restore"):
        source.read(((0, 11), (0, 40), (0, 50)))


def test_a_flipped_bit_under_a_checksum(tmp_path):
    write(tmp_path / "x.h5", voxels(), chunks=(4, 7, 8), fletcher32=True)
    with h5py.File(tmp_path / "x.h5") as file:
        at = file["image"].id.get_chunk_info(3)
    data = bytearray((tmp_path / "x.h5").read_bytes())
    data[at.byte_offset + 5] ^= 4
    (tmp_path / "x.h5").write_bytes(data)
    with pytest.raises(InputError, match="checksum mismatch"):
        find(tmp_path / "x.h5").source.read(((0, 11), (0, 17), (0, 23)))


def test_a_chunk_that_decodes_to_more_than_it_declares(tmp_path):
    import zlib

    with h5py.File(tmp_path / "x.h5", "w") as file:
        made = file.create_dataset("a", (8, 8), "u1", chunks=(8, 8), compression="gzip")
        made.id.write_direct_chunk((0, 0), zlib.compress(bytes(50 << 20)))
    with pytest.raises(InputError, match="decodes to more bytes, 64 are declared"):
        find(tmp_path / "x.h5").source.read(((0, 8), (0, 8)))


def test_a_chunk_larger_than_the_memory(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (2000, 1000, 1000), "u1", chunks=(1000, 1000, 1000))
    with dask.config.set({"bigbia.memory": "600 MiB"}):
        refused("one chunk of .* is read as a whole", tmp_path / "x.h5")


def test_a_filter_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((8, 8))
        plan.set_filter(32013, h5py.h5z.FLAG_OPTIONAL, (1,))  # zfp
        space = h5py.h5s.create_simple((8, 8))
        h5py.h5d.create(file.id, b"a", h5py.h5t.NATIVE_UINT16, space, plan)
    refused("needs a plugin: pip install hdf5plugin", tmp_path / "x.h5", MissingExtraError)


def test_a_file_that_changes(tmp_path):
    write(tmp_path / "x.h5", voxels())
    source = find(tmp_path / "x.h5").source
    text = pickle.dumps(source)
    assert os.path.getsize(tmp_path / "x.h5") == source.files[0][1]
    (tmp_path / "x.h5").unlink()
    write(tmp_path / "x.h5", voxels() + 1)
    for one in (source, pickle.loads(text)):
        with pytest.raises(InputError, match="has changed since it was opened"):
            one.read(((0, 1), (0, 1), (0, 1)))
    assert find(tmp_path / "x.h5").source.token != source.token


def test_the_package_is_missing(tmp_path, monkeypatch):
    write(tmp_path / "x.h5", voxels())
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(r'pip install "bigbia\[formats\]"', tmp_path / "x.h5", MissingExtraError)


# ---- Imaris ----------------------------------------------------------------------------------------------------------
def letters(text):
    return np.frombuffer(text.encode(), "S1")


def imaris(path, levels, unit="um", names=("DAPI", "GFP")):
    """An .ims file: levels of t c z y x, padded to whole chunks."""
    with h5py.File(path, "w") as file:
        for k, data in enumerate(levels):
            for t, c in np.ndindex(*data.shape[:2]):
                group = file.create_group(f"DataSet/ResolutionLevel {k}/TimePoint {t}/Channel {c}")
                shape = data.shape[2:]
                padded = np.full([-(-n // 8) * 8 for n in shape], 99, data.dtype)
                padded[tuple(map(slice, shape))] = data[t, c]
                group.create_dataset("Data", data=padded, chunks=(8, 8, 8), compression="gzip")
                for axis, n in zip("ZYX", shape):
                    group.attrs[f"ImageSize{axis}"] = letters(str(n))
        info = file.create_group("DataSetInfo")
        image = info.create_group("Image")
        for i, (axis, size) in enumerate(zip("XYZ", (0.1, 0.2, 0.5))):
            n = levels[0].shape[4 - i]
            image.attrs[axis] = letters(str(n))
            image.attrs[f"ExtMin{i}"], image.attrs[f"ExtMax{i}"] = letters("10"), letters(str(10 + n * size))
        image.attrs["Unit"] = letters(unit)
        for c, name in enumerate(names):
            group = info.create_group(f"Channel {c}")
            group.attrs["Name"], group.attrs["Color"] = letters(name), letters("1.000 0.500 0.000")
            group.attrs["ColorRange"] = letters("5.000 250.000")
        times = info.create_group("TimeInfo")
        for t in range(levels[0].shape[0]):
            times.attrs[f"TimePoint{t + 1}"] = letters(f"2020-01-01 00:00:{15 * t:02d}.000")
    return path


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_imaris(tmp_path, dtype):
    fine, coarse = voxels((3, 2, 11, 18, 22), dtype), voxels((3, 2, 11, 9, 11), dtype)
    imaris(tmp_path / "x.ims", [fine, coarse])
    for level, data in enumerate((fine, coarse)):
        got = find(tmp_path / "x.ims", level=level)
        check_source(got.source, data)
        assert got.levels == (fine.shape, coarse.shape)
    image = opened(tmp_path / "x.ims")
    assert (image.dims, channels(image)) == (("t", "c", "z", "y", "x"), ("DAPI", "GFP"))
    assert (voxel_size(image), unit(image)) == ({"z": 0.5, "y": 0.2, "x": 0.1}, "micrometer")
    assert time_step(image) == (15.0, "second")
    assert float(image.x[0]) == 10
    assert voxel_size(opened(tmp_path / "x.ims", level=1)) == {"z": 0.5, "y": 0.4, "x": 0.2}
    assert find(tmp_path / "x.ims").display["GFP"] == {"color": "FF8000", "window": (5.0, 250.0)}
    with pytest.raises(ParameterError, match="level=2: has 2 level"):
        find(tmp_path / "x.ims", level=2)
    with pytest.raises(ParameterError, match="holds one image"):
        find(tmp_path / "x.ims", scene="other")
    check_source(
        find(tmp_path / "x.ims/DataSet/ResolutionLevel 1/TimePoint 2/Channel 1/Data").source, _padded(coarse[2, 1])
    )


def _padded(data):
    out = np.full([-(-n // 8) * 8 for n in data.shape], 99, data.dtype)
    out[tuple(map(slice, data.shape))] = data
    return out


def test_imaris_that_is_not_complete(tmp_path):
    imaris(tmp_path / "x.ims", [voxels((3, 2, 11, 18, 22))])
    with h5py.File(tmp_path / "x.ims", "a") as file:
        del file["DataSet/ResolutionLevel 0/TimePoint 1"]
    refused("TimePoint 0, 2, all from 0 on were expected", tmp_path / "x.ims")
    imaris(tmp_path / "y.ims", [voxels((3, 2, 11, 18, 22))])
    with h5py.File(tmp_path / "y.ims", "a") as file:
        del file["DataSet/ResolutionLevel 0/TimePoint 2/Channel 1"]
    refused("no 'Channel 1' in /DataSet/ResolutionLevel 0/TimePoint 2", tmp_path / "y.ims")
    imaris(tmp_path / "z.ims", [voxels((1, 2, 11, 18, 22))])
    with h5py.File(tmp_path / "z.ims", "a") as file:
        file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"].attrs["ImageSizeX"] = letters("1000")
    refused("says its image is .* 1000, its data are", tmp_path / "z.ims")


# ---- BigDataViewer ---------------------------------------------------------------------------------------------------
def test_bigdataviewer(tmp_path):
    data = {s: np.stack([voxels((11, 18, 22)) + 40000 + 10 * s + t for t in range(2)]) for s in range(2)}
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for s in data:
            file[f"s{s:02d}/resolutions"] = np.array([[1.0, 1, 1], [2, 2, 1]])
            file[f"s{s:02d}/subdivisions"] = np.array([[8, 8, 8], [8, 8, 8]])
            for t in range(2):
                for k, step in enumerate((1, 2)):
                    cells = data[s][t][:, ::step, ::step].astype("u2").view("i2")
                    file.create_dataset(
                        f"t{t:05d}/s{s:02d}/{k}/cells", data=cells, chunks=(8, 8, 8), compression="gzip"
                    )
    (tmp_path / "x.xml").write_text(
        "<SpimData><ViewSetups>"
        + "".join(
            f"<ViewSetup><id>{s}</id><name>angle {s}</name><voxelSize><unit>um</unit><size>0.1 0.2 0.5</size></voxelSize></ViewSetup>"
            for s in data
        )
        + "</ViewSetups></SpimData>"
    )
    refused("holds 2 images: angle 0 .*, angle 1 .*scene='angle 0'", tmp_path / "x.h5")
    got = find(tmp_path / "x.h5", scene="angle 1")
    check_source(got.source, data[1].astype("u2"))
    assert (got.axes, got.sizes, got.unit) == (("t", "z", "y", "x"), {"z": 0.5, "y": 0.2, "x": 0.1}, "micrometer")
    coarse = find(tmp_path / "x.h5", scene=0, level=1)
    check_source(coarse.source, data[0][:, :, ::2, ::2].astype("u2"))
    assert coarse.sizes == {"z": 0.5, "y": 0.4, "x": 0.2}


def test_remote(tmp_path):
    import fsspec

    write(tmp_path / "x.h5", voxels(), "a/b", chunks=(4, 7, 8), compression="gzip")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "x.h5"), "/bucket/x.h5")
    for where in ("memory://bucket/x.h5", "memory://bucket/x.h5/a/b"):
        check_source(find(where).source, voxels())
    memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize(("code", "codec"), [(32015, numcodecs.Zstd()), (32001, numcodecs.Blosc(shuffle=0))])
def test_filters_that_need_no_plugin(tmp_path, code, codec):
    data = voxels()
    with h5py.File(tmp_path / "x.h5", "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((4, 7, 8))
        plan.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (1,))
        made = h5py.h5d.create(file.id, b"a", h5py.h5t.NATIVE_UINT16, h5py.h5s.create_simple(data.shape), plan)
        for index in np.ndindex(3, 3, 3):
            start = [i * n for i, n in zip(index, (4, 7, 8))]
            chunk = np.zeros((4, 7, 8), "u2")
            part = data[tuple(slice(a, a + n) for a, n in zip(start, chunk.shape))]
            chunk[tuple(map(slice, part.shape))] = part
            made.write_direct_chunk(start, bytes(codec.encode(chunk)))
    check_source(find(tmp_path / "x.h5").source, data)


def test_many_threads_and_files(tmp_path):
    """Not every release of h5py takes its lock where chunks are fetched as they are stored."""
    data = np.random.default_rng(0).integers(0, 99, (64, 64, 64)).astype("u2")
    for i in range(3):
        write(tmp_path / str(i), data, chunks=(8, 8, 8), compression="gzip", shuffle=True)
    sources = [find(tmp_path / str(i)).source for i in range(3)]

    def check(k):
        box = tuple((int(a), int(a) + 20) for a in np.random.default_rng(k).integers(0, 44, 3))
        np.testing.assert_array_equal(sources[k % 3].read(box), data[tuple(slice(*b) for b in box)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check, range(600)))
