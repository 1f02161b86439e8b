"""Labels and tables written into the image they were made from: nothing else of it is touched, whatever happens."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import sys

import numpy as np
import pytest
import zarr
from images import multiscale, opened, scaled

import bigbia
from bigbia.errors import BigbiaWarning, BlockError, InputError, ParameterError, RunError, StorageError
from bigbia.hyperstack import hyperstack
from bigbia.io.tables import read_table
from bigbia.run import into, outfit, sessions
from bigbia.run.job import DEFAULT_LAYOUT, job_of
from bigbia.run.partial import led, partial_of

SHAPE = (6, 20, 22)


def voxels(shape=SHAPE):
    return np.random.default_rng(0).integers(0, 900, shape).astype("u2")


def foreign(path, version="0.5", axes="zyx", levels=2):
    """An image that another program wrote."""
    shape = {"t": 2, "c": 2, **dict(zip("zyx", SHAPE))}
    size = {a: s for a, s in zip("zyx", (0.5, 0.2, 0.2)) if a in axes}
    image = hyperstack(voxels([shape[a] for a in axes]), axes, size, "um")
    bigbia.save(path, image, version=version, chunks=8, levels=levels)
    shutil.rmtree(path / "_bigbia")
    return path


def results(path, **words):
    image = opened(path, **words)
    one = image.isel(c=0) if "c" in image.dims else image
    labels = bigbia.measure.label(one > 450)
    return labels, bigbia.measure.regionprops_table(labels, one, ["label", "area"], spacing="um")


def put_into(path, name="cells", **words):
    labels, table = results(path)
    return bigbia.save(None, into=path, labels={name: labels}, tables={name: table}, chunks=8, **words)


def state(path, *without):
    """Every file with its bytes, but for those below some folders."""
    found = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path).as_posix()
        if not name.startswith(without):
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def names_in(path, version):
    document = json.loads((path / "labels" / ("zarr.json" if version == "0.5" else ".zattrs")).read_bytes())
    return (document["attributes"]["ome"] if version == "0.5" else document)["labels"]


@pytest.mark.parametrize(("version", "axes"), [("0.4", "zyx"), ("0.4", "tczyx"), ("0.5", "yx"), ("0.5", "czyx")])
def test_labels_lie_over_the_image(tmp_path, version, axes):
    path = foreign(tmp_path / "in.zarr", version, axes)
    before = state(path)
    assert put_into(path) == path
    assert state(path, "labels/", "tables/") == before
    assert os.listdir(tmp_path) == ["in.zarr"]
    assert names_in(path, version) == ["cells"]
    labels, table = results(path)
    again, image = opened(path / "labels" / "cells"), opened(path)
    np.testing.assert_array_equal(again.values, labels.values)
    assert again.dims == tuple(a for a in axes if a != "c")
    assert read_table(path / "tables/cells.parquet").area.tolist() == table.compute().area.tolist()
    for axis in again.dims:
        np.testing.assert_array_equal(again.coords.get(axis, 0), image.coords.get(axis, 0))
    groups = [zarr.open_group(place, mode="r") for place in (path, path / "labels/cells")]
    mine, theirs = ((g.attrs.get("ome") or dict(g.attrs))["multiscales"][0]["datasets"] for g in groups[::-1])
    at = [axes.index(str(a)) for a in again.dims]
    for one, other in zip(mine, theirs, strict=True):
        for a, b in zip(one["coordinateTransformations"], other["coordinateTransformations"], strict=True):
            assert a[a["type"]] == [b[b["type"]][i] for i in at]
    assert groups[1].metadata.zarr_format == (3 if version == "0.5" else 2)
    found = bigbia.verify(path / "labels" / "cells")
    assert found.ok
    assert found.files > 4


def test_a_missing_chunk_of_the_labels_is_an_error(tmp_path):
    path = put_into(foreign(tmp_path / "in.zarr"))
    (path / "labels/cells/0/c/0/1/1").unlink()
    with pytest.raises(InputError, match="is missing"):
        opened(path / "labels/cells").values  # noqa: B018
    assert [d.file for d in bigbia.verify(path / "labels/cells").damaged] == ["0/c/0/1/1"]


@pytest.mark.parametrize(
    ("factor", "rounding"), [((1, 2, 2), "up"), ((2, 2, 2), "up"), ((1, 3, 3), "up"), ((1, 2, 2), "down")]
)
def test_the_levels_are_the_images(tmp_path, factor, rounding):
    small = tuple(-(-n // f) if rounding == "up" else n // f for n, f in zip((6, 21, 23), factor))
    steps = [[1.0, 0.5, 0.5], [f * s for f, s in zip(factor, (1.0, 0.5, 0.5))]]
    path = multiscale(tmp_path / "in.zarr", [scaled(*s) for s in steps], shapes=[(6, 21, 23), small])
    put_into(path)
    image, labels = (zarr.open_group(place, mode="r") for place in (path, path / "labels/cells"))
    if rounding == "up":
        assert labels["1"].shape == image["1"].shape
        told = labels.attrs["ome"]["multiscales"][0]["datasets"]
        assert told == image.attrs["ome"]["multiscales"][0]["datasets"]
    whole = labels["0"][...]
    taken = [round(n / m) for n, m in zip(whole.shape, labels["1"].shape)]
    np.testing.assert_array_equal(labels["1"][...], whole[tuple(slice(None, None, f) for f in taken)])


def test_a_name_that_is_taken(tmp_path):
    path = put_into(foreign(tmp_path / "in.zarr"))
    before = state(path)
    with pytest.raises(RunError, match=r"labels/cells: exists; choose another name, or pass overwrite=True"):
        put_into(path)
    assert state(path) == before
    put_into(path, "others")
    assert names_in(path, "0.5") == ["cells", "others"]
    labels = bigbia.measure.label(opened(path) > 700)
    bigbia.save(None, into=path, labels={"cells": labels}, chunks=8, overwrite=True)
    np.testing.assert_array_equal(opened(path / "labels/cells").values, labels.values)
    assert names_in(path, "0.5") == ["cells", "others"]
    assert bigbia.verify(path / "labels/cells").ok
    assert bigbia.verify(path / "labels/others").ok


def test_an_output_of_bigbia_stays_one(tmp_path):
    """Its own manifest says what its list of labels was."""
    image = hyperstack(voxels(), "zyx", "0.5, 0.2, 0.2 um")
    own = bigbia.measure.label(image > 700)
    path = bigbia.save(tmp_path / "in.zarr", image, labels={"own": own}, chunks=8)
    put_into(path)
    assert names_in(path, "0.5") == ["own", "cells"]
    assert bigbia.verify(path).ok
    assert bigbia.verify(path / "labels/cells").ok
    with pytest.raises(RunError, match="labels/own: was made by the run that wrote the image"):
        put_into(path, "own", overwrite=True)


def test_what_else_stands_in_the_list_stays(tmp_path):
    path = foreign(tmp_path / "in.zarr", "0.4")
    (path / "labels").mkdir()
    (path / "labels/.zattrs").write_text(json.dumps({"labels": ["theirs"], "note": 7}))
    put_into(path)
    assert json.loads((path / "labels/.zattrs").read_bytes()) == {"labels": ["theirs", "cells"], "note": 7}
    assert (path / "labels/.zgroup").exists()


def test_refused(tmp_path):
    path = foreign(tmp_path / "in.zarr", axes="tczyx")
    labels, _ = results(path)
    before = state(tmp_path)
    of_a_region = labels.isel(z=slice(0, 4))
    cases = [
        (
            {"labels": {"n": of_a_region}},
            ParameterError,
            r"labels/n: does not lie over .*in.zarr \(z 4, the image has 6\)",
        ),
        ({"labels": {"n": labels.isel(t=0)}}, ParameterError, "t none, the image has 2"),
        ({"images": {"n": opened(path)}}, ParameterError, "images/n: only labels and tables are written into an image"),
        ({"labels": {"n": labels}, "image": opened(path)}, ParameterError, "only labels and tables"),
        ({"labels": {"n": labels}, "reuse": "x.zarr"}, ParameterError, "reuse='x.zarr': is for outputs"),
        ({}, ParameterError, "nothing to save"),
    ]
    for words, kind, says in cases:
        with pytest.raises(kind, match=says):
            bigbia.save(None, into=path, **words)
    zarr.create_array(tmp_path / "bare.zarr", shape=(4, 5), chunks=(4, 5), dtype="u1")
    bare = state(tmp_path)
    places = [
        (path / "0", InputError, "is a single array and has no place for labels"),
        (tmp_path / "bare.zarr", InputError, "is a single array"),
        (tmp_path / "no.zarr", InputError, "there is nothing"),
        (7, ParameterError, "into=7"),
    ]
    for place, kind, says in places:
        with pytest.raises(kind, match=says):
            bigbia.save(None, into=place, labels={"n": labels})
    with pytest.raises(ParameterError, match="give one of them"):
        bigbia.save(tmp_path / "x.zarr", into=path, labels={"n": labels})
    with pytest.raises(ParameterError, match="give one of them"):
        bigbia.save(None, labels={"n": labels})
    assert state(tmp_path) == bare
    assert set(before) < set(bare)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(tmp_path):
    path = foreign(tmp_path / "in.zarr")
    path.chmod(0o555)
    with pytest.raises(StorageError, match="cannot be written to"):
        put_into(path)


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    path = foreign(tmp_path / "in.zarr")
    monkeypatch.setattr(into.os, "access", lambda place, how: False)
    with pytest.raises(StorageError, match=r"in.zarr: cannot be written to: write the labels to a place of their own"):
        put_into(path)
    assert os.listdir(tmp_path) == ["in.zarr"]


def test_consolidated_metadata_are_told_of(tmp_path):
    path = foreign(tmp_path / "in.zarr")
    zarr.consolidate_metadata(path)
    with pytest.warns(BigbiaWarning, match="consolidated metadata, which do not list"):
        put_into(path)


class Killed(BaseException):
    """As if the process had gone: nobody tidies up."""


def killed_at(monkeypatch, step):
    """Let the run die before the step of this number in which it moves something."""
    count = itertools.count()

    def counted(function):
        def called(*args, **words):
            asked_by = sys._getframe(1).f_code
            if asked_by.co_filename == into.__file__ and asked_by.co_name != "finish" and next(count) == step:
                raise Killed
            return function(*args, **words)

        return called

    monkeypatch.setattr(sessions, "_stop", lambda *_: None)
    for module, name in (
        *((os, n) for n in ("rename", "replace")),
        *((into, n) for n in ("exchange", "sign", "sync_folder")),
        *((shutil, n) for n in ("rmtree",)),
        *((into.durable, n) for n in ("replace",)),
    ):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))


@pytest.mark.parametrize(
    "case",
    [
        "new 0.5",
        "replaced",
        *(pytest.param(c, marks=pytest.mark.slow) for c in ("new 0.4", "of bigbia", "no exchange")),
    ],
)
def test_killed_between_any_two_steps(tmp_path, monkeypatch, case):
    version = "0.4" if case == "new 0.4" else "0.5"
    ready = tmp_path / "ready"
    ready.mkdir()
    image = hyperstack(voxels(), "zyx", "0.5, 0.2, 0.2 um")
    if case == "of bigbia":
        bigbia.save(ready / "in.zarr", image, labels={"own": bigbia.measure.label(image > 700)}, chunks=8, levels=1)
    else:
        foreign(ready / "in.zarr", version, levels=1)
    if case in ("replaced", "no exchange"):
        put_into(ready / "in.zarr")
    labels = bigbia.measure.label(opened(ready / "in.zarr") > 300)
    table = bigbia.measure.regionprops_table(labels, properties=["label", "area"])
    with monkeypatch.context() as patched:
        killed_at(patched, 0)
        with pytest.raises(Killed):
            bigbia.save(
                None,
                into=ready / "in.zarr",
                labels={"cells": labels},
                tables={"cells": table},
                chunks=8,
                overwrite=True,
            )
    before = state(ready / "in.zarr", "labels/", "tables/", "_bigbia/manifest.json")
    for step in itertools.count(1):
        path = tmp_path / str(step) / "in.zarr"
        shutil.copytree(ready, path.parent)
        target = into.target_of(path)
        with monkeypatch.context() as patched:
            if case == "no exchange":
                patched.setattr(into, "exchange", lambda *_: False)
            killed_at(patched, step)
            try:
                into.finish(target)
                whole = True
            except Killed:
                whole = False
        listed = path / "labels" / ("zarr.json" if version == "0.5" else ".zattrs")
        for name in names_in(path, version) if listed.exists() else []:
            if case != "no exchange":  # between two renames the old one is gone
                assert opened(path / "labels" / name).shape == SHAPE
        into.finish(into.target_of(path))
        assert state(path, "labels/", "tables/", "_bigbia/manifest.json") == before
        assert os.listdir(path.parent) == ["in.zarr"]
        np.testing.assert_array_equal(opened(path / "labels/cells").values > 0, voxels() > 300)
        assert bigbia.verify(path / "labels/cells").ok
        assert "cells" in names_in(path, version)
        assert len(read_table(path / "tables/cells.parquet")) == opened(path / "labels/cells").values.max()
        if case == "of bigbia":
            assert bigbia.verify(path).ok
        shutil.rmtree(path.parent)
        if whole:
            break
    assert step > 5


def killed_after(steps, function):
    """A function that dies when it is called once more than so often."""
    count = itertools.count()

    def counted(*args, **words):
        if next(count) == steps:
            raise Killed
        return function(*args, **words)

    return counted


def test_killed_while_it_is_made_ready(tmp_path, monkeypatch):
    for step in itertools.count(0, 3):
        path = foreign(tmp_path / f"{step}.zarr", levels=1)
        whole = True
        with monkeypatch.context() as patched:
            patched.setattr(sessions, "_stop", lambda *_: None)
            patched.setattr(outfit, "put", killed_after(step, outfit.put))
            try:
                put_into(path)
            except Killed:
                whole = False
                assert not (path / "labels").exists()
        if whole:
            break
        put_into(path)
        assert bigbia.verify(path / "labels/cells").ok
    assert step > 2


def test_another_run_stopped_there_is_finished_first(tmp_path, monkeypatch):
    path = foreign(tmp_path / "in.zarr")
    with monkeypatch.context() as patched:
        killed_at(patched, 1)
        with pytest.raises(Killed):
            put_into(path)
    put_into(path, "others")
    assert names_in(path, "0.5") == ["cells", "others"]
    assert bigbia.verify(path / "labels/cells").ok
    assert bigbia.verify(path / "labels/others").ok


def test_what_was_computed_is_not_computed_again(tmp_path, monkeypatch):
    path = foreign(tmp_path / "in.zarr")
    with monkeypatch.context() as patched:
        patched.setattr(into, "_get_ready", lambda *_: (_ for _ in ()).throw(Killed()))
        patched.setattr(sessions, "_stop", lambda *_: None)
        with pytest.raises(Killed):
            put_into(path)
    monkeypatch.setattr("bigbia.run.save.carry_out", lambda *_: pytest.fail("computed again"))
    put_into(path)
    assert bigbia.verify(path / "labels/cells").ok


def test_damage_of_what_is_ready_is_found(tmp_path, monkeypatch):
    """A file that changed after it was written is not signed as if it were right."""
    path = foreign(tmp_path / "in.zarr")
    real = into.outfit

    def damaged(run, manifest, place, image):
        file = run.root / place / "0/c/0/0/0"
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        real(run, manifest, place, image)

    with monkeypatch.context() as patched:
        patched.setattr(into, "outfit", damaged)
        with pytest.raises(RunError, match="is not what was written any more: run again"):
            put_into(path)
    assert not (path / "labels").exists()
    put_into(path)
    assert bigbia.verify(path / "labels/cells").ok


def test_one_run_at_a_time(tmp_path):
    path = foreign(tmp_path / "in.zarr")
    with led(partial_of(into.target_of(path).run)), pytest.raises(RunError, match="another run is writing here"):
        put_into(path)
    assert not (path / "labels").exists()
    put_into(path)
    assert names_in(path, "0.5") == ["cells"]


def test_what_was_stopped_is_gone_on_with_or_thrown_away(tmp_path):
    path = foreign(tmp_path / "in.zarr")
    labels, _ = results(path)

    first = voxels()[0, 16, 16]

    def fails(block):
        if block.flat[0] == first:
            raise ValueError("this block")
        return block.astype("u4")

    broken = bigbia.window(fails, opened(path, block=8), halo=0, dtype="u4")
    with pytest.raises(BlockError, match="this block"):
        bigbia.save(None, into=path, labels={"cells": broken}, chunks=8)
    assert not (path / "labels").exists()
    assert sorted(os.listdir(tmp_path)) == ["in.zarr", "in.zarr.into.partial"]
    with pytest.raises(RunError, match="holds another run that was stopped"):
        bigbia.save(None, into=path, labels={"cells": labels}, chunks=8)
    bigbia.save(None, into=path, labels={"cells": labels}, chunks=8, restart=True)
    assert os.listdir(tmp_path) == ["in.zarr"]
    np.testing.assert_array_equal(opened(path / "labels/cells").values, labels.values)


def test_a_repair_of_labels_alone_is_refused(tmp_path):
    path = put_into(foreign(tmp_path / "in.zarr"))
    (path / "labels/cells/0/c/0/1/1").unlink()
    before = state(path)
    with pytest.raises(RunError, match="overwrite=True"):
        bigbia.repair(path / "labels/cells")
    assert state(path) == before


def test_what_is_there_is_known_to_be_the_same(tmp_path):
    """For many images in one run: those that are done are passed over."""
    path = foreign(tmp_path / "in.zarr")
    target = into.target_of(path)

    def job(threshold):
        image = bigbia.open(path)
        labels = bigbia.measure.label(image > threshold)
        table = bigbia.measure.regionprops_table(labels, properties=["label"])
        return job_of({"labels": {"cells": labels}, "tables": {"cells": table}}, {**DEFAULT_LAYOUT, "chunks": 8})

    assert not into.is_done(job(450), target)
    into.run_into(job(450), target)
    assert into.is_done(job(450), target)
    assert not into.is_done(job(460), target)
    (path / "tables/cells.parquet").unlink()
    assert not into.is_done(job(450), target)


def test_a_tiff_file_holds_one_image(tmp_path):
    image = opened(foreign(tmp_path / "in.zarr"))
    labels = bigbia.measure.label(image > 450)
    table = bigbia.measure.regionprops_table(labels, properties=["label"])
    cases = [
        ({"image": image, "labels": {"n": labels}}, r"holds one image, 2 are given \(image, labels/n\)"),
        ({"image": image, "tables": {"n": table}}, r"holds no tables \(n\)"),
        ({}, "0 are given"),
        ({"image": image, "chunks": 8}, "chunks=8: a TIFF file has no such thing"),
        ({"image": image, "version": "0.4"}, "version='0.4': a TIFF file has no such thing"),
    ]
    for words, says in cases:
        with pytest.raises(ParameterError, match=says):
            bigbia.save(tmp_path / "x.tif", **words)
    assert os.listdir(tmp_path) == ["in.zarr"]
    assert bigbia.save(tmp_path / "x.tif", labels={"n": labels}) == tmp_path / "x.tif"
    np.testing.assert_array_equal(opened(tmp_path / "x.tif").values, labels.values)
