"""Calls in Python, recorded and run again from the file: the same voxels and tables; what has no step is refused."""

from __future__ import annotations

import threading

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from test_contract import Array

import bigbia
from bigbia import arrange
from bigbia.cli import main
from bigbia.errors import InputError, ParameterError
from bigbia.graph.dask import from_source
from bigbia.hyperstack import hyperstack
from bigbia.io.synthetic import Nuclei
from bigbia.run import operators
from bigbia.run.pipeline import Pipeline
from bigbia.run.recording import record


def stack(dtype="u2"):
    voxels = np.random.default_rng(0).integers(0, 999, (2, 2, 6, 20, 30)).astype(dtype)
    return hyperstack(
        from_source(Array(voxels), (1, 1, 4, 16, 16)), "tczyx", "2, 0.5, 0.5 um", channels=["DAPI", "GFP"]
    )


def test_recorded_run_from_the_file_gives_the_same(tmp_path):
    voxels = hyperstack(from_source(Nuclei((24, 64, 64)), 32), "zyx", "0.5, 0.5, 0.5 um")
    bigbia.save(tmp_path / "in.zarr", voxels)
    image = bigbia.open(tmp_path / "in.zarr")
    with record(image) as recorded:
        smooth = bigbia.filters.gaussian(image, "0.6 um")
        wide = bigbia.filters.gaussian(image, sigma=[4, 8, 8.0], mode="reflect")
        bigbia.filters.median(image)  # tried, and not used
        cut = bigbia.filters.threshold_otsu(smooth)
        mask = (smooth - 0.25 * wide > 0.75 * cut) & ~(image > 60000) | (smooth > 2 * cut)
        nuclei = bigbia.segmentation.split_touching(mask, "2 um")
        table = bigbia.measure.regionprops_table(nuclei, intensity_image=image, spacing="um")
    made = recorded.pipeline(labels={"nuclei": nuclei}, tables={"nuclei": table}, names={"smooth": smooth, "cut": cut})
    assert made.steps == ("smooth", "gaussian", "cut", "mask", "nuclei", "nuclei_2")
    assert Pipeline.parse(made.text).text == made.text
    made.write(tmp_path / "p.yaml")
    words = [str(tmp_path / w) for w in ("p.yaml", "in.zarr", "out.zarr")]
    result = CliRunner().invoke(main, ["run", *words[:2], "-o", words[2], "-q"])
    assert result.exit_code == 0, result.output
    expected = np.asarray(nuclei)
    assert expected.max() > 3
    np.testing.assert_array_equal(bigbia.open(tmp_path / "out.zarr" / "labels" / "nuclei"), expected)
    found = pd.read_parquet(tmp_path / "out.zarr" / "tables" / "nuclei.parquet")
    pd.testing.assert_frame_equal(found, table.compute().reset_index(drop=True))


EXPRESSIONS = """
x > 5
5 < x
x + 1 - 2 * x
-(x - 3)
(x > 3) & (x < 9) | ~(x > 500)
x // 2 % 3
1.0 * x / 2.5
1 / (x + 1)
x ** 2 >= 4
(x == 3) | (x != 4)
x > -2.5
s > cut
(s > cut) & (x < 1e3)
s - cut
s > cut * 0.5 + 3
""".strip().splitlines()


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_arithmetic_is_written_down(text):
    image = stack()
    with record(image) as recorded:
        smooth = bigbia.filters.gaussian(image, 1)
        cut = bigbia.filters.threshold_otsu(smooth)  # one an image: broadcast over z, y, x
        result = eval(text, {"x": image, "s": smooth, "cut": cut})
        again = bigbia.filters.median(result)
    made = recorded.pipeline(images={"a": result, "b": again}, names={"cut": cut})
    outputs = made.pipeline.outputs(made.build(image))["images"]
    for name, value in (("a", result), ("b", again)):
        np.testing.assert_array_equal(outputs[name], value)
        assert outputs[name].dtype == value.dtype


def test_every_kind_of_array_can_be_recorded():
    for image in (stack(), from_source(Array(np.ones((9, 8), "u1")), 4), da.ones((9, 8), chunks=4)):
        with record(image) as recorded:
            result = bigbia.morphology.dilation(bigbia.filters.gaussian(image, 1) > 0.5)
        made = recorded.pipeline(result)
        assert [s.split(":")[0].strip() for s in made.text.splitlines()[2:5]] == ["gaussian", "mask", "image"]


def test_views_lists_and_shared_parts():
    image, early = stack(), arrange.select
    with record(image) as recorded:
        nuclei = early(image, c="DAPI", z=slice(1, 5))
        other = bigbia.arrange.select(image, c=1, z="1:5")
        both = bigbia.arrange.stack([nuclei, other, nuclei + other], "c", ["a", "b", "sum"])
    assert len(recorded.calls) == 2, "the first was called by a name from before"
    with pytest.raises(ParameterError, match="made by bigbia outside the recording"):
        recorded.pipeline(both)
    with record(image) as recorded:
        nuclei, other = (bigbia.arrange.select(image, c=c, z=slice(1, 5)) for c in ("DAPI", 1))
        both = bigbia.arrange.stack([nuclei, other, nuclei + other], "c", ["a", "b", "sum"])
    made = recorded.pipeline(both)
    assert "images: [select, select_2, value]" in made.text, made.text
    np.testing.assert_array_equal(made.build(image)["image"], both)


def test_shared_arithmetic_does_not_grow_without_end():
    image = stack("f4")
    with record(image) as recorded:
        y = image
        for _ in range(12):
            y = y + y * 0.5
    made = recorded.pipeline(y)
    assert len(made.text) < 5000
    np.testing.assert_array_equal(made.build(image)[made.pipeline.save["image"]], y)


def refused(make, said):
    image = stack()
    with record(image) as recorded:
        result = make(image)
    with pytest.raises(ParameterError, match=said) as caught:
        recorded.pipeline(result)
    assert "\n" not in str(caught.value)


OTHERS = {
    "a part cut out": (lambda x: x.isel(z=2), "was cut out with .* write bigbia.select"),
    "a run cut out": (lambda x: x[:, :, 1:4] > 3, "write bigbia.select"),
    "a flip": (lambda x: x[:, :, ::-1] > 3, "give another result"),
    "a type": (lambda x: x.astype("f4") > 3, "astype has no step: `1.0 [*] image`"),
    "a function of NumPy": (np.sqrt, "np.sqrt has no step"),
    "a function of Dask": (lambda x: x.copy(data=da.where(x.data > 3, x.data, 0)), "where has no step"),
    "map_blocks": (lambda x: x.copy(data=x.data.map_blocks(lambda b: b + 1, dtype="u2")), "has no step|elsewhere"),
    "an array from elsewhere": (lambda x: x + np.ones(x.shape, "u2"), "comes from elsewhere|stands in the arithmetic"),
    "another image": (lambda x: x + stack("u1"), "outside the recording"),
    "a number of NumPy": (lambda x: x > np.float32(0.1), r"write float\("),
    "a window of one's own": (lambda x: bigbia.window(np.abs, x, halo=0), "or by bigbia.window"),
    "several results": (lambda x: bigbia.measure.label(x > 500, return_num=True)[0], "one of several results"),
    "a mean": (lambda x: x - x.mean(), "only operators of bigbia and arithmetic"),
    "NumPy": (lambda x: bigbia.filters.gaussian(np.asarray(x), 1), "is no lazy result"),
    "a coordinate": (lambda x: bigbia.filters.gaussian(x.assign_coords(y=x.y * 2), 1), "the coordinate y"),
    "axes in another order": (lambda x: bigbia.filters.gaussian(x.transpose("c", "t", "z", "y", "x"), 1), "axes"),
    "a power of a mask": (lambda x: 2 ** (x > 3), "a power must be a number"),
    "put together": (lambda x: x.copy(data=da.concatenate([x.data[:1], x.data[1:]])) + 1, "write bigbia.stack|select"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_has_no_step_is_refused_by_name(name):
    refused(*OTHERS[name])


def test_a_changed_table_is_refused():
    image = stack()
    with record(image) as recorded:
        nuclei = bigbia.measure.label(image > 500)
        table = bigbia.measure.regionprops_table(nuclei)
    with pytest.raises(ParameterError, match=r"tables: t: the table was changed .*filter_labels"):
        recorded.pipeline(tables={"t": table[table.area > 3]})
    with pytest.raises(ParameterError, match="says not what to save"):
        recorded.pipeline()
    with pytest.raises(ParameterError, match="labels: must be a mapping"):
        recorded.pipeline(labels=nuclei)


def test_a_voxel_size_that_was_changed_in_between_is_noticed():
    image = stack()
    with record(image) as recorded:
        other = image.assign_coords(y=("y", image.y.values * 2, image.y.attrs | {"voxel_size": 1.0}))
        nuclei = bigbia.measure.label(bigbia.filters.gaussian(other, "1 um") > 500)
    with pytest.raises(ParameterError, match="labels: n: the steps that were written down give another result"):
        recorded.pipeline(labels={"n": nuclei})


def test_a_table_is_an_argument_too():
    image = stack()
    with record(image) as recorded:
        nuclei = bigbia.measure.label(image > 500)
        table = bigbia.measure.regionprops_table(nuclei)
        large = bigbia.segmentation.filter_labels(nuclei, table, "area > 2")
    made = recorded.pipeline(labels={"large": large})
    assert "table: regionprops_table" in made.text
    np.testing.assert_array_equal(made.build(image)["large"], large)


def test_the_operators_are_themselves_again():
    before = {full: operators.find(full)[1] for full in operators.operators()}
    image = stack()
    with record(image):
        assert bigbia.filters.gaussian is not before["filters.gaussian"]
        assert bigbia.filters.gaussian.__doc__ == before["filters.gaussian"].__doc__
    with pytest.raises(ParameterError), record(image):
        bigbia.filters.gaussian(image, -1)
    assert all(getattr(getattr(bigbia, f.split(".")[0]), f.split(".")[1]) is v for f, v in before.items() if "." in f)
    assert arrange.select is bigbia.arrange.select


def test_recordings_do_not_mix():
    image = stack()
    with record(image) as recorded:
        with pytest.raises(ParameterError, match="a recording goes on already"), record(image):
            pass
        thread = threading.Thread(target=lambda: bigbia.filters.gaussian(image, 1))
        thread.start()
        thread.join()
    assert not recorded.calls
    with pytest.raises(InputError, match="record: needs a lazy image, got ndarray"), record(np.ones(3)):
        pass


def test_names_that_are_given_are_kept():
    image = stack()
    with record(image) as recorded:
        smooth = bigbia.filters.gaussian(image, 1)
        wide = bigbia.filters.gaussian(image, 3)
        mask = smooth > wide
    made = recorded.pipeline(images={"smooth": mask, "b c": wide}, names={"smooth": wide, "gaussian": mask})
    assert made.steps == ("gaussian_2", "smooth", "gaussian")
    for names, said in (
        ({"a b": mask}, "'a b': a name is made of letters"),
        ({"input": mask}, "is the name of the image that comes in"),
        ({"a": mask, "b": mask}, "a and b are the same result"),
        ({"a": image}, "is the input"),
        ({"a": 3}, "is no lazy result"),
        ([mask], "must be a mapping"),
    ):
        with pytest.raises(ParameterError, match=said):
            recorded.pipeline(mask, names=names)


ARGUMENTS = {
    "an array": lambda x: bigbia.morphology.opening(x, np.ones((1, 3, 3), bool)),
    "a tuple": lambda x: bigbia.filters.gaussian(x, (0, 1, 2)),
    "NumPy's number": lambda x: bigbia.filters.gaussian(x, np.float32(1.5), truncate=np.int64(3)),
    "infinity": lambda x: bigbia.filters.gaussian(x, 1, mode="constant", cval=float("inf")),
    "a range": lambda x: bigbia.filters.sato(x, sigmas=range(1, 4)),
    "weights": lambda x: bigbia.filters.convolve(x, np.arange(9.0).reshape(1, 3, 3)),
    "a matrix": lambda x: bigbia.transform.affine(x, np.diag([1, 0.5, 0.5])),
    "a type": lambda x: bigbia.exposure.rescale_intensity(x, out_range=np.uint8),
    "no value": lambda x: bigbia.segmentation.watershed(x, None, connectivity=1, mask=x > 3),
    "a number for an image": lambda x: bigbia.filters.apply_hysteresis_threshold(
        x, 300, bigbia.filters.threshold_otsu(x)
    ),
    "a slice": lambda x: bigbia.arrange.select(x, y=slice(np.int64(2), None, 3)),
    "units": lambda x: bigbia.morphology.distance_transform_edt(x > 500, sampling="um"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_every_kind(name):
    image = stack()
    with record(image) as recorded:
        result = ARGUMENTS[name](image)
    made = recorded.pipeline(result)
    found = Pipeline.parse(made.text).build(image)[made.pipeline.save["image"]]
    np.testing.assert_array_equal(found, result)
