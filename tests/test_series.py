"""Series of TIFF files by a pattern: which files are meant, that they are one image, and what is refused."""

import os
import pickle
import warnings

import numpy as np
import pytest
import tifffile
from images import check_source, opened, refused

from bigbia.errors import BigbiaWarning, InputError, ParameterError
from bigbia.hyperstack import channels, time_step, unit, voxel_size
from bigbia.io.describing import describe
from bigbia.io.opening import open as open_image
from bigbia.io.places import Place
from bigbia.io.series import OPEN
from bigbia.io.series_files import files_of, name_for, suggested


def write(folder, pattern, *, shape=(7, 9), dtype="u2", words=None, **axes):
    """A file for each combination; returns the whole, in the order t c z."""
    names = [a for a in "tcz" if a in axes]
    whole = np.random.default_rng(0).integers(1, 200, (*(len(axes[a]) for a in names), *shape)).astype(dtype)
    for index in np.ndindex(*whole.shape[: len(names)]):
        path = folder / pattern.format(**{a: axes[a][i] for a, i in zip(names, index)})
        path.parent.mkdir(exist_ok=True, parents=True)
        tifffile.imwrite(path, whole[index], **(words or {}))
    return whole


PATTERNS = {
    "t c z": ("img_t{t}_c{c}_z{z}.tif", {"t": ["0", "1"], "c": ["0", "1"], "z": ["0", "1", "2"]}, "tczyx"),
    "in another order": ("z{z}-{c}-{t}.tiff", {"t": ["1", "2"], "c": ["DAPI", "GFP"], "z": ["5", "10", "15"]}, "tczyx"),
    "numbers by value": ("t{t}.tif", {"t": ["8", "9", "10", "11"]}, "tyx"),
    "numbers with zeros": ("t{t}.tif", {"t": ["0008", "0009", "0010"]}, "tyx"),
    "words of z": ("{z}.tif", {"z": ["bottom", "top"]}, "zyx"),
    "folders": ("t{t}/z{z}.tif", {"t": ["1", "2"], "z": ["1", "2"]}, "tzyx"),
    "a folder and its file": (
        "t{t}/{c}/img_t{t}_z{z}.tif",
        {"t": ["1", "2"], "c": ["a b", "c_d"], "z": ["1", "2"]},
        "tczyx",
    ),
    "words with signs": ("img_{c}_z{z}.tif", {"c": ["Alexa_488", "Cy-5"], "z": ["1", "2"]}, "czyx"),
    "signs of expressions": ("a+(b)[1]_z{z}.tif", {"z": ["1", "2"]}, "zyx"),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns(tmp_path, name, sources):
    pattern, axes, dims = PATTERNS[name]
    whole = write(tmp_path, pattern, **axes)
    with warnings.catch_warnings():
        warnings.simplefilter("error", BigbiaWarning)
        image = open_image(tmp_path / pattern)
    assert "".join(image.dims) == dims
    np.testing.assert_array_equal(image.values, whole)
    if "c" in axes and not axes["c"][0].isdecimal():
        assert channels(image) == tuple(axes["c"])
        np.testing.assert_array_equal(image.sel(c=axes["c"][1]).values, np.take(whole, 1, dims.index("c")))
    check_source(sources[0], whole)
    assert sources[0].missing_chunks() == (0, np.prod([len(v) for v in axes.values()]))


@pytest.mark.parametrize(
    "words", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}, {"imagej": True}], ids=str
)
def test_files_of_every_kind(tmp_path, words, sources):
    whole = write(tmp_path, "t{t}.tif", shape=(40, 50), words=words, t=["1", "2", "3"])
    np.testing.assert_array_equal(opened(tmp_path / "t{t}.tif").values, whole)
    check_source(sources[0], whole)


def test_files_of_three_axes(tmp_path, sources):
    metadata = {"axes": "ZYX", "spacing": 0.3, "unit": "um"}
    words = {"imagej": True, "metadata": metadata, "resolution": (5, 5)}
    whole = write(tmp_path, "t{t}_{c}.tif", shape=(3, 8, 9), words=words, t=["1", "2"], c=["DAPI", "GFP"])
    image = opened(tmp_path / "t{t}_{c}.tif")
    assert image.dims == ("t", "c", "z", "y", "x")
    assert (voxel_size(image), unit(image)) == ({"z": 0.3, "y": 0.2, "x": 0.2}, "micrometer")
    check_source(sources[0], whole)
    refused(r"its files have an axis z of their own \(t1_DAPI.tif is 3 x 8 x 9", tmp_path / "t{z}_{c}.tif")
    assert opened(tmp_path / "t{t}_{c}.tif", voxel_size="1, 1, 1 um").sizes["t"] == 2


def test_the_first_file_says_how_far_planes_lie_apart(tmp_path):
    metadata = {"axes": "YX", "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2, "PhysicalSizeZ": 0.9, "TimeIncrement": 30}
    metadata |= {"TimeIncrementUnit": "s"}
    write(tmp_path, "t{t}_z{z}.ome.tif", words={"ome": True, "metadata": metadata}, t=["1", "2"], z=["1", "2"])
    image = opened(tmp_path / "t{t}_z{z}.ome.tif")
    assert voxel_size(image) == {"z": 0.9, "y": 0.2, "x": 0.2}
    assert time_step(image) == (30.0, "second")
    assert describe(tmp_path / "t{t}_z{z}.ome.tif")["kind"] == "OME-TIFF series"


def test_files_that_do_not_say_their_axes(tmp_path):
    write(tmp_path, "t{t}.tif", shape=(6, 8, 9), t=["1", "2"])
    with pytest.warns(BigbiaWarning, match=r'shape \(6, 8, 9\) has: taken as zyx \(axes="tzyx" if that is right\)'):
        assert open_image(tmp_path / "t{t}.tif").dims == ("t", "z", "y", "x")
    refused(r"nothing says which axes shape \(2, 6, 8, 9\) has: pass axes", tmp_path / "t{z}.tif", ParameterError)
    assert opened(tmp_path / "t{z}.tif", axes="ztyx").dims == ("z", "t", "y", "x")


def test_numbers_of_channels(tmp_path):
    for numbers, names in ((["0", "1"], None), (["1", "2"], None), (["405", "488"], ("405", "488"))):
        folder = tmp_path / numbers[0]
        write(folder, "c{c}.tif", c=numbers)
        assert channels(opened(folder / "c{c}.tif")) == names
    assert opened(tmp_path / "405/c{c}.tif", channels=["488"]).sizes["c"] == 1


def test_stars(tmp_path):
    write(tmp_path, "exp7_t{t}_z{z}.tif", t=["1", "2"], z=["1", "2"])
    assert opened(tmp_path / "*_t{t}_z{z}.tif").shape == (2, 2, 7, 9)
    refused("exp7_t1_z1.tif and exp7_t1_z2.tif both lie at t=1", tmp_path / "*_t{t}_*.tif")
    refused(r"\* stands for several files, and nothing says", tmp_path / "*.tif", ParameterError)


def test_a_path_that_is_there_is_no_pattern(tmp_path):
    tifffile.imwrite(tmp_path / "odd_{t}.tif", np.ones((3, 4), "u1"))
    assert opened(tmp_path / "odd_{t}.tif").shape == (3, 4)


def test_missing_files(tmp_path, sources):
    pattern = tmp_path / "t{t}_{c}_z{z}.tif"
    whole = write(tmp_path, pattern.name, t=["1", "2"], c=["DAPI", "GFP"], z=["1", "2", "3"])
    (tmp_path / "t1_GFP_z2.tif").unlink()
    (tmp_path / "t2_DAPI_z3.tif").unlink()
    says = r"2 of 12 files are missing \(t1_GFP_z2.tif, t2_DAPI_z3.tif\): restore them, or pass on_missing=\"fill\""
    refused(says, pattern)
    refused(says, pattern, on_missing="error")
    whole[0, 1, 1] = whole[1, 0, 2] = 0
    np.testing.assert_array_equal(opened(pattern, on_missing="fill").values, whole)
    check_source(sources[-1], whole)
    found = describe(pattern)
    assert found["missing_chunks"] == {"absent": 2, "total": 12}
    assert any(one["problem"].startswith("2 of 12 chunks are absent") for one in found["problems"])
    refused(r"2 of 12 files are missing \(t=1 c=GFP z=2, t=2 c=DAPI z=3\)", tmp_path / "t{t}_{c}_z{z}.*f")


def test_gaps_are_said(tmp_path):
    write(tmp_path, "t{t}.tif", t=["1", "2", "5"])
    with pytest.warns(BigbiaWarning, match="t goes from 2 to 5 where it goes by 1 elsewhere"):
        open_image(tmp_path / "t{t}.tif")


def test_files_that_are_not_alike(tmp_path):
    write(tmp_path, "t{t}.tif", t=["1", "2", "3"])
    tifffile.imwrite(tmp_path / "t2.tif", np.ones((7, 8), "u2"))
    refused(
        "t2.tif: is 7 x 8 uint16, .*t1.tif is 7 x 9 uint16: the files of a series must be alike", tmp_path / "t{t}.tif"
    )
    tifffile.imwrite(tmp_path / "t2.tif", np.ones((7, 9), "u1"))
    refused("t2.tif: is 7 x 9 uint8, .*t1.tif is 7 x 9 uint16", tmp_path / "t{t}.tif")
    (tmp_path / "t2.tif").write_bytes((tmp_path / "t1.tif").read_bytes()[:100])
    refused("t2.tif", tmp_path / "t{t}.tif")
    (tmp_path / "t2.tif").write_bytes(b"no tiff at all")
    refused("t2.tif: is not a TIFF file that can be read", tmp_path / "t{t}.tif")


def test_many_files_are_looked_at_when_they_are_read(tmp_path, monkeypatch, sources):
    import bigbia.io.series as series

    monkeypatch.setattr(series, "CHECKED", 2)
    write(tmp_path, "t{t}.tif", t=["1", "2", "3"])
    tifffile.imwrite(tmp_path / "t3.tif", np.ones((7, 8), "u2"))
    opened(tmp_path / "t{t}.tif")
    assert sources[0].read(((0, 2), (0, 7), (0, 9))).shape == (2, 7, 9)
    with pytest.raises(InputError, match=r"t3\.tif: is 7 x 8 uint16"):
        sources[0].read(((2, 3), (0, 7), (0, 9)))


def test_files_that_change(tmp_path, sources):
    write(tmp_path, "t{t}.tif", t=["1", "2", "3"], words={"compression": "zlib"})
    opened(tmp_path / "t{t}.tif")
    sent = pickle.dumps(sources[0])
    opened(tmp_path / "t{t}.tif")
    assert sources[1].token == sources[0].token
    os.utime(tmp_path / "t2.tif", ns=(1, 1))
    opened(tmp_path / "t{t}.tif")
    assert sources[2].token != sources[0].token
    with pytest.raises(InputError, match="its files have changed since it was opened: open it again"):
        pickle.loads(sent).read(((0, 1), (0, 7), (0, 9)))


def test_refused_patterns(tmp_path):
    write(tmp_path, "img_t{t}_{c}.tif", t=["1", "2"], c=["DAPI", "GFP"])
    refused(
        r"matches no file: .* holds 4 entries \(img_t1_DAPI.tif, .*\), which img_t{t}_{c}.tif would",
        tmp_path / "x{t}.tif",
    )
    refused("matches no file: there is no folder .*nowhere", tmp_path / "nowhere/t{t}.tif")
    (tmp_path / "empty").mkdir()
    refused("matches no file: the folder .*empty is empty", tmp_path / "empty/t{t}.tif")
    refused(
        r"\{y\} stands for nothing: only \{t\}, \{c\}, \{z\} and \* do", tmp_path / "img_{t}_{y}.tif", ParameterError
    )
    refused("both lie at t=1", tmp_path / "img_t{t}_*.tif")
    refused(r"\{t\} is the number 1 in one file and the word 'a' in another", _mixed(tmp_path / "mixed") / "{t}.tif")
    refused("01.tif and 1.tif both lie at t=1", _twice(tmp_path / "twice") / "{t}.tif")
    with pytest.raises(ParameterError, match="a web server lists no files"):
        files_of(Place("http://127.0.0.1:9/t{t}.tif"))
    refused("well='B03': .* is no plate, it is TIFF series", tmp_path / "img_t{t}_{c}.tif", ParameterError, well="B03")


def _mixed(folder):
    write(folder, "{t}.tif", t=["1", "a"])
    return folder


def _twice(folder):
    write(folder, "{t}.tif", t=["1", "01"])
    return folder


def test_a_folder_suggests_its_pattern(tmp_path):
    write(tmp_path, "img_t{t}_{c}.tif", t=["1", "2"], c=["DAPI", "GFP"])
    refused(r"of which 4 are TIFF files: name the series by .*img_t{t}_{c}.tif, or name one", tmp_path)
    assert opened(tmp_path / "img_t{t}_{c}.tif").shape == (2, 2, 7, 9)


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["a_t1.tif", "a_t2.tif"], "a_t{t}.tif"),
        (["a_T1_C1_Z1.tif", "a_T1_C2_Z1.tif", "a_T2_C1_Z2.tif"], "a_T{t}_C{c}_Z{z}.tif"),
        (["Channel_0.tif", "Channel_1.tif", "notes.txt"], "Channel_{c}.tif"),
        (["slice001.tiff", "slice002.tiff"], "slice{z}.tiff"),
        (["001.tif", "002.tif"], "{z}.tif"),
        (["a_s1_p1.tif", "a_s2_p2.tif"], None),
        (["a.tif"], None),
        (["a1b.tif", "a.tif"], None),
        (["x_t1_t1.tif", "x_t2_t2.tif"], None),
    ],
)
def test_suggestions(names, pattern):
    assert suggested(names) == pattern


def test_names():
    assert name_for("a/b/img_t{t}_c{c}_z{z}.ome.tif") == "img"
    assert name_for("a/b/{c}.tif") == "b"
    assert name_for("a/exp7/t{t}/z{z}.tif") == "exp7"


def test_many_files_open_few(tmp_path, sources):
    """More files than are kept open, read in threads: none stays open beyond the limit, and none is closed too early."""
    from concurrent.futures import ThreadPoolExecutor

    count = OPEN + 40
    whole = write(
        tmp_path, "z{z}.tif", shape=(5, 6), z=[f"{i:04}" for i in range(count)], words={"compression": "zlib"}
    )
    opened(tmp_path / "z{z}.tif")
    source = pickle.loads(pickle.dumps(sources[0]))
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda i: source.read(((i, i + 3), (0, 5), (0, 6))), range(count - 2)))
    for i, part in enumerate(parts):
        np.testing.assert_array_equal(part, whole[i : i + 3])
    assert len(source._open) <= OPEN
    folders = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_link(fd)]
    assert sum(str(tmp_path) in folder for folder in folders) <= OPEN


def _is_link(fd):
    try:
        os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return False
    return True


def test_what_travels_is_small(tmp_path, sources):
    write(tmp_path, "z{z}.tif", shape=(2, 2), z=[f"{i:05}" for i in range(300)])
    opened(tmp_path / "z{z}.tif")
    assert len(pickle.dumps(sources[0])) < 2000
    assert len(files_of(Place(tmp_path / "z{z}.tif")).files) == 300


def test_links_within_a_series(tmp_path):
    write(tmp_path, "t{t}.tif", t=["1", "2"])
    (tmp_path / "t3.tif").symlink_to(tmp_path / "gone.tif")
    assert opened(tmp_path / "t{t}.tif").shape == (2, 7, 9)


def test_pyramids_and_scenes_of_files(tmp_path, sources):
    whole = np.random.default_rng(0).integers(0, 99, (2, 64, 96)).astype("u2")
    for t, plane in enumerate(whole):
        with tifffile.TiffWriter(tmp_path / f"t{t}.tif") as tif:
            tif.write(plane, subifds=1, resolution=(40000, 40000), resolutionunit=3, metadata={"axes": "YX"})
            tif.write(plane[::2, ::2], subfiletype=1, metadata=None)
            tif.write(plane[:5, :7])
    image = opened(tmp_path / "t{t}.tif", level=1)
    assert voxel_size(image) == {"y": 0.5, "x": 0.5}
    check_source(sources[0], whole[:, ::2, ::2])
    np.testing.assert_array_equal(opened(tmp_path / "t{t}.tif", scene=1).values, whole[:, :5, :7])
    with pytest.warns(BigbiaWarning, match="each file holds 2 images: the first one is read; scene=1 takes another"):
        assert open_image(tmp_path / "t{t}.tif").shape == (2, 64, 96)
    assert describe(tmp_path / "t{t}.tif")["levels"] == [{"shape": [2, 64, 96]}, {"shape": [2, 32, 48]}]
    refused(r"t0.tif: level=2: has 2 level\(s\), 0 to 1", tmp_path / "t{t}.tif", ParameterError, level=2)


def test_a_series_in_a_run_on_processes(tmp_path):
    """What travels to another process reads the same voxels there."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    whole = write(tmp_path, "t{t}_z{z}.tif", t=["1", "2"], z=["1", "2", "3"])
    source = graph_source(tmp_path / "t{t}_z{z}.tif")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        got = pool.submit(source.read, ((0, 2), (1, 3), (0, 7), (2, 9))).result(timeout=60)
    np.testing.assert_array_equal(got, whole[:, 1:, :, 2:])


def graph_source(path):
    from bigbia.io.finding import find

    return find(path, 0, None).source
