"""The command: what it passes on, what it prints, its exit codes; and the demo from end to end."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import textwrap
import warnings
from io import StringIO
from types import SimpleNamespace

import dask
import dask.array as da
import matplotlib.image
import numpy as np
import pandas
import pytest
import yaml
from click.testing import CliRunner

import bigbia
from bigbia import cli, cli_run, cli_show, demo
from bigbia.errors import (
    BigbiaWarning,
    BlockError,
    InputError,
    MissingExtraError,
    ParameterError,
    RunError,
    StorageError,
)
from bigbia.hyperstack import hyperstack
from bigbia.io import opening
from bigbia.run import inputs, operators
from bigbia.run.pipeline import Pipeline
from bigbia.run.progress import Bars, Lines, progress, speed

PIPELINE = """\
bigbia: 1
steps:
  bright: {op: filters.above, image: input, low: 10}
save:
  labels: {bright: bright}
"""


def above(image: bigbia.graph.kinds.Image, low: float = 0) -> object:
    """Brighter than a number."""
    if low < 0:
        raise ParameterError(f"low={low}: must not be negative: give 0 or more")
    return (image > low).astype(np.uint8)


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """The commands with their surroundings replaced: what they ask for is kept here."""
    calls = SimpleNamespace(open=None, save=None, explain=None, fail=None)
    image = hyperstack(da.from_array(np.arange(24, dtype=np.uint16).reshape(2, 3, 4), chunks=2), "zyx")

    def open_(path, level=0, **options):
        calls.open = {"path": path, "level": level, **options}
        if not (tmp_path / path).exists():
            raise InputError(f"{path}: there is no such file")
        return image

    def save(path, **options):
        calls.save = {"path": path, **options}
        if calls.fail:
            raise calls.fail
        warnings.warn("chunks are\n absent", BigbiaWarning, stacklevel=1)
        warnings.warn("chunks are absent", BigbiaWarning, stacklevel=1)
        return path

    monkeypatch.setattr(opening, "open", open_)
    monkeypatch.setitem(vars(bigbia), "save", save)  # before the next line, which would leave its own there
    monkeypatch.setattr("bigbia.run.save.save", save)
    monkeypatch.setattr("bigbia.run.explain.explain", lambda x: f"explained {sorted(x)}")
    monkeypatch.setattr(operators, "operators", lambda: {"filters.above": above})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    (tmp_path / "in.zarr").mkdir()
    calls.image = image
    return calls


def bigbia_command(line: str, code: int = 0):
    result = CliRunner().invoke(cli.main, shlex.split(line))
    assert result.exit_code == code, (result.output, result.exception)
    return result


# ---- run and explain -------------------------------------------------------------------------------------------------


def test_run_passes_everything_on(calls):
    line = (
        "run p.yaml in.zarr -o out.zarr --set bright.low=5 --axes zyx --level 1 --channels DAPI,1 --block 8,16,16 "
        "--voxel-size 0.29,0.26,0.26um --region z=0:1,y=1: --scheduler processes --overwrite"
    )
    result = bigbia_command(line)
    assert calls.open == {
        "path": "in.zarr",
        "level": 1,
        "axes": "zyx",
        "voxel_size": "0.29,0.26,0.26um",
        "channels": ["DAPI", 1],
        "block": (8, 16, 16),
        "on_missing": None,
        "scene": None,
        "well": None,
        "field": None,
    }
    saved = calls.save
    assert (saved["path"], saved["overwrite"], saved["scheduler"], saved["image"]) == (
        "out.zarr",
        True,
        "processes",
        None,
    )
    assert saved["source"].identical(calls.image[0:1, 1:])
    assert saved["labels"]["bright"].identical((calls.image[0:1, 1:] > 5).astype(np.uint8))
    assert saved["pipeline"] == PIPELINE.replace("low: 10", "low: 5")
    assert "out.zarr: written in" in result.stdout
    assert "labels/bright: 1 x 2 x 4 uint8" in result.stdout
    assert result.stderr == "bigbia: note: chunks are absent\n"


def test_run_quietly(calls):
    assert bigbia_command("run p.yaml in.zarr -o out.zarr -q").stdout == ""


def test_settings_hold_while_the_command_works(calls, monkeypatch):
    from bigbia import config

    seen = []
    monkeypatch.setattr("bigbia.run.save.save", lambda *a, **k: seen.append((config.memory(), config.threads())))
    bigbia_command("run p.yaml in.zarr -o out.zarr --memory '2 GiB' --threads 3")
    assert seen == [(2 << 30, 3)]
    assert config.threads() != 3


def test_explain(calls):
    assert bigbia_command("explain p.yaml in.zarr").stdout == "explained ['images', 'labels', 'tables']\n"
    assert calls.save is None


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ("run none.yaml in.zarr -o out", 3, "none.yaml: there is no such pipeline file"),
        ("run in.zarr p.yaml -o out", 2, "in.zarr is a folder, not a pipeline file"),
        ("run p.yaml none.zarr -o out", 3, "none.zarr: there is no such file"),
        ("run p.yaml in.zarr -o out --set brigt.low=1", 2, "did you mean 'bright'?"),
        ("run p.yaml in.zarr -o out --set bright.lo=1", 2, "did you mean 'low'?"),
        ("run p.yaml in.zarr -o out --set bright.low=-1", 2, "p.yaml: step 'bright': low=-1: must not be negative"),
        ("run p.yaml in.zarr -o in.zarr --overwrite", 2, "is the input or holds it"),
        ("run p.yaml in.zarr -o . --overwrite", 2, "is the input or holds it"),
        ("run p.yaml in.zarr -o out --region q=1:2", 2, "there is no axis 'q'"),
        ("run p.yaml in.zarr -o out --region z=0:9", 2, "z has 2 voxels, 0:2"),
        ("run p.yaml in.zarr -o out --region z=1:1", 2, "is outside or empty"),
        ("run p.yaml in.zarr -o out --region z=5", 2, "z runs from 0 to 1"),
        ("run p.yaml in.zarr -o out --region z=-1", 2, "z runs from 0 to 1"),
        ("run p.yaml in.zarr -o out --region z=0:2:2", 2, "is not a span"),
        ("run p.yaml in.zarr -o out --region z=0,z=1", 2, "stands there twice"),
        ("run p.yaml in.zarr -o out --block big", 2, "must be sizes in voxels"),
        ("run p.yaml in.zarr -o out --block 0", 2, "must be sizes in voxels"),
        ("run p.yaml in.zarr -o out --memory lots", 2, "is not a size"),
    ],
)
def test_refused_in_one_line_before_anything_is_written(calls, args, code, message):
    result = bigbia_command(args, code=code)
    assert result.stderr.startswith("bigbia: error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert calls.save is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("a\nb"), 3),
        (ParameterError("a b"), 2),
        (RunError("a b"), 4),
        (BlockError("a b"), 4),
        (StorageError("a b"), 5),
        (MissingExtraError("a b"), 6),
    ],
)
def test_exit_codes(calls, error, code):
    calls.fail = error
    assert bigbia_command("run p.yaml in.zarr -o out", code=code).stderr == "bigbia: error: a b\n"


def test_an_interrupt_is_130(calls):
    calls.fail = KeyboardInterrupt()
    assert bigbia_command("run p.yaml in.zarr -o out", code=130).stderr == "bigbia: stopped\n"


@pytest.mark.parametrize("args", ["--debug run p.yaml in.zarr -o out", "run p.yaml in.zarr -o out --debug"])
def test_debug_lets_the_error_through(calls, args):
    calls.fail = RunError("boom")
    assert CliRunner().invoke(cli.main, shlex.split(args)).exception is calls.fail


def test_a_bug_keeps_its_traceback(calls):
    calls.fail = ZeroDivisionError()
    assert CliRunner().invoke(cli.main, shlex.split("run p.yaml in.zarr -o out")).exception is calls.fail


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("rum p.yaml", "did you mean 'run'?"),
        ("run p.yaml in.zarr", "either -o OUTPUT or --into-input"),
        ("run p.yaml in.zarr -o out --into-input", "either -o OUTPUT or --into-input"),
        ("run p.yaml in.zarr -o out --levle 1", "--level"),
        ("run p.yaml in.zarr -o out --threads 0", "0 is not in the range"),
    ],
)
def test_usage_errors_are_2(calls, args, message):
    assert message in bigbia_command(args, code=2).stderr


# ---- the others ------------------------------------------------------------------------------------------------------


def test_info(tmp_path):
    import tifffile

    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((2, 5, 6), np.uint16), photometric="minisblack")
    found = json.loads(bigbia_command(f"info {path} --json").stdout)
    assert (found["shape"], found["dtype"], found["axes"]) == ([2, 5, 6], "uint16", "zyx")
    text = bigbia_command(f"info {path}").stdout
    assert text.splitlines()[0] == str(path)
    assert re.search(r"^  size +z 2, y 5, x 6$", text, re.M)
    assert re.search(r"^  voxel size +not known: --voxel-size", text, re.M)
    assert bigbia_command(f"info {tmp_path}/none.tif", code=3).stderr.startswith("bigbia: error: ")


def test_info_shows_what_is_there_and_nothing_else():
    levels = [{"shape": [2, 3, 9, 9]}, {"shape": [2, 3, 4, 4]}]
    found = {"path": "a.zarr", "kind": "OME-Zarr 0.5", "axes": "tcyx", "shape": [2, 3, 9, 9], "dtype": "uint8"}
    found |= {"voxel_size": {"y": 0.26, "x": 0.26}, "unit": "micrometer", "time_step": 2.0, "time_unit": "second"}
    found |= {"channels": ["DAPI", "GFP", "RFP"], "chunks": [1, 1, 3, 3], "shards": [1, 1, 9, 9], "levels": levels}
    found |= {"labels": ["nuclei"], "tables": [], "bytes": 1536, "bytes_in_memory": 486, "note": "odd"}
    found |= {"missing_chunks": {"absent": 3, "total": 9}}
    assert (
        cli_show.described(found)
        == """\
a.zarr
  kind        OME-Zarr 0.5
  size        t 2, c 3, y 9, x 9
  values      uint8
  voxel size  y 0.26, x 0.26 micrometer
  time step   2 second
  channels    DAPI, GFP, RFP
  chunks      1 x 1 x 3 x 3 in shards of 1 x 1 x 9 x 9
  level 0     2 x 3 x 9 x 9
  level 1     2 x 3 x 4 x 4
  labels      nuclei
  bytes       1.5 KiB stored, 486 B in memory
  missing     3 of 9 chunks; they read as the fill value
  note        odd"""
    )


def test_ops(calls):
    assert "filters.above  Brighter than a number.\n" in bigbia_command("ops").stdout
    for name in ("above", "filters.above", "bigbia.filters.above"):
        manual = bigbia_command(f"ops {name}").stdout
        assert manual.startswith("bigbia.filters.above(image, low=0)\n\nBrighter than a number.")
        assert "step: {op: filters.above, image: input}" in manual
    assert "did you mean 'filters.above'?" in bigbia_command("ops filters.abov", code=2).stderr


@pytest.mark.parametrize("command", ["", *cli.main.commands])
def test_help_teaches_by_example(command):
    text = bigbia_command(f"{command} --help").stdout
    assert "  bigbia " in text
    assert max(map(len, text.splitlines())) <= 110


def test_the_examples_in_the_help_are_commands():
    found = 0
    for command in cli.main.commands.values():
        for name, words in re.findall(r"^ *bigbia (\w+) ?(.*)$", command.help, re.M):
            cli.main.commands[name].make_context(name, shlex.split(re.sub(r" > \S+[.]json$", "", words)))
            found += 1
    assert found > 10


def test_the_pipeline_in_the_help_is_one():
    lines = textwrap.dedent(re.search(r"^ +bigbia: 1$.*?\n\n", cli_run.run.help, re.M | re.S).group())
    whole = yaml.safe_load(demo.PIPELINE)
    del whole["save"]["image"], whole["steps"]["table"]["spacing"]
    assert yaml.safe_load(lines) == whole


def test_help_and_version_are_quick():
    code = (
        "import sys, bigbia.cli; bigbia.cli.main(['--help'], standalone_mode=False);"
        "print([m for m in ('numpy', 'dask', 'xarray', 'zarr', 'pandas', 'rich', 'numba') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.rstrip().endswith("[]")
    assert bigbia_command("--version").stdout.startswith("bigbia ")


def test_synth(calls):
    bigbia_command(
        "synth s.zarr --shape 8,40,40 --seed 3 --touch --set fill=0.9 --block 8,20,20 -q --voxel-size '2 um'"
    )
    image, truth = calls.save["image"], calls.save["labels"]["truth"]
    assert image.shape == truth.shape == (8, 40, 40)
    assert image.dims == ("z", "y", "x")
    assert image.chunks == ((8,), (20, 20), (20, 20))
    assert float(image.x[1]) == 2
    bigbia_command("synth s.zarr --kind checkerboard --shape 4,4")
    assert calls.save["labels"] == {}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--kind nucleii", "'nuclei'"),
        ("--shape 8,8,x", "must be sizes"),
        ("--set fil=1", "'fill'"),
        ("--set fill", "write KEY=VALUE"),
        ("--kind shells --touch", "'touch'"),
    ],
)
def test_synth_refused(calls, args, message):
    result = bigbia_command(f"synth s.zarr {args}", code=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_regions():
    image = hyperstack(np.zeros((2, 3, 4, 5)), "czyx", channels=["a", "b"])
    assert inputs.cut(image, "c=1, z=1:, x=:3").shape == (2, 4, 3)


# ---- progress --------------------------------------------------------------------------------------------------------


class Terminal(StringIO):
    def isatty(self):
        return True


def drive(shown):
    shown.begin("label [1/2]", 4, 4_000_000)
    for _ in range(4):
        shown.advance()
    shown.end()
    shown.begin("table", 2, 0)
    shown.advance(2)
    shown.end()


def test_progress_fits_its_place():
    with progress(quiet=True, file=Terminal()) as shown:
        assert shown is None
    with progress(file=StringIO()) as shown:
        assert shown is None
    out = StringIO()
    with progress(verbose=True, file=out) as shown:
        assert isinstance(shown, Lines)
        drive(shown)
        shown.begin("write", 9, 9)
        shown.advance()
    first, second, third = out.getvalue().splitlines()
    assert re.fullmatch(r"label \[1/2\]: 4 blocks in \d+\.\d s, .*voxel/s", first)
    assert second.startswith("table: 2 blocks in")
    assert third == "write: stopped after 1 of 9 blocks"


def test_bars_on_a_terminal():
    out = Terminal()
    with progress(file=out) as shown:
        assert isinstance(shown, Bars)
        drive(shown)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "label [1/2]" in text
    assert "4/4 blocks" in text
    assert "voxel/s" in text


def test_speed():
    assert speed(41.9e6, 1) == "41.9 Mvoxel/s"
    assert speed(2e9, 1) == "2.0 Gvoxel/s"
    assert speed(10, 0) == ""


# ---- the demo --------------------------------------------------------------------------------------------------------


def test_demo_without_its_package(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "PACKAGE", "bigbia-there-is-no-such-package")
    result = bigbia_command(f"demo {tmp_path}", code=6)
    assert 'pip install "bigbia[demo]"' in result.stderr


def test_demo_keeps_what_is_there(tmp_path):
    (tmp_path / "nuclei.yaml").write_text("mine")
    assert "--overwrite" in bigbia_command(f"demo {tmp_path}", code=4).stderr
    (tmp_path / "file").write_text("")
    assert "cannot be made" in bigbia_command(f"demo {tmp_path}/file/sub", code=5).stderr


@pytest.fixture(scope="module")
def finished_demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, bigbia_command(f"demo {folder}").stdout


def test_demo_is_the_whole_array_reference(finished_demo):
    import scipy.ndimage as ndi
    import tifffile
    from scipy.ndimage import maximum_position
    from skimage.filters import threshold_otsu
    from skimage.measure import label, regionprops_table
    from skimage.segmentation import watershed

    folder, text = finished_demo
    image = tifffile.imread(demo.image_path())
    smooth = ndi.gaussian_filter(image, [0.5 / 0.29, 0.5 / 0.26, 0.5 / 0.26], mode="nearest", output=np.float32)
    cut = threshold_otsu(smooth)
    mask = smooth > cut
    stored = bigbia.open(folder / "nuclei.zarr" / "labels" / "nuclei")
    nuclei = stored.values
    whole = hyperstack(mask, "zyx", voxel_size=demo.VOXEL_SIZE)
    np.testing.assert_array_equal(nuclei, bigbia.segmentation.split_touching(whole.chunk(-1), "5 um"))
    np.testing.assert_array_equal(nuclei > 0, mask)
    depth = ndi.distance_transform_edt(mask, (0.29, 0.26, 0.26))
    deepest = np.zeros_like(nuclei)
    for place in maximum_position(depth, nuclei, range(1, nuclei.max() + 1)):
        deepest[place] = nuclei[place]
    assert (watershed(-depth, deepest, 3, mask=mask) == nuclei).mean() > 0.999
    assert float(stored.z[1]) == 0.29
    np.testing.assert_array_equal(bigbia.open(folder / "nuclei.zarr").values, image)
    table = pandas.read_parquet(folder / "nuclei.zarr" / "tables" / "nuclei.parquet")
    wanted = regionprops_table(nuclei, image, ["label", "area", "intensity_mean"], spacing=(0.29, 0.26, 0.26))
    for column, values in wanted.items():
        np.testing.assert_allclose(table[column], values, rtol=1e-9)
    assert f"{label(mask).max()} objects brighter than {cut:.0f}" in text
    assert f"{nuclei.max()} after" in text


def test_demo_leaves_a_picture_and_a_pipeline(finished_demo):
    folder, text = finished_demo
    picture = matplotlib.image.imread(folder / "nuclei.png")
    assert picture.shape[1] > 1500
    assert (
        len(np.unique((picture[..., :3] * 255).astype(np.uint8).reshape(-1, 3), axis=0)) > 500
    )  # colours, not a blank
    assert Pipeline.load(folder / "nuclei.yaml").text == (folder / "nuclei.zarr" / "pipeline.yaml").read_text()
    assert str(folder / "nuclei.png") in text
    assert "--overwrite" in bigbia_command(f"demo {folder}", code=4).stderr


# ---- everything together ---------------------------------------------------------------------------------------------


def test_synth_run_and_info_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bigbia_command("synth cells.zarr --shape 24,60,60 --seed 1 --block 16 --voxel-size '1, 0.5, 0.5 um' -q")
    (tmp_path / "p.yaml").write_text(demo.PIPELINE.replace("  image: input ", "  #"))
    command = "run p.yaml cells.zarr -o out.zarr --set smooth.sigma=1um --region y=0:50 --block 16 --threads 2"
    result = bigbia_command(command)
    assert "labels/nuclei: 24 x 50 x 60 uint32" in result.stdout
    image = bigbia.open("cells.zarr").isel(y=slice(50))
    smooth = bigbia.filters.gaussian(image, "1um")
    nuclei = bigbia.segmentation.split_touching(smooth > bigbia.filters.threshold_otsu(smooth), "5 um")
    np.testing.assert_array_equal(bigbia.open("out.zarr/labels/nuclei").values, nuclei.values)
    assert "sigma: 1um" in (tmp_path / "out.zarr" / "pipeline.yaml").read_text()
    found = json.loads(bigbia_command("info out.zarr --json").stdout)
    assert (found["labels"], found["tables"]) == (["nuclei"], ["nuclei.parquet"])
    found = json.loads(bigbia_command("info out.zarr/labels/nuclei --json").stdout)
    assert found["voxel_size"] == {"z": 1.0, "y": 0.5, "x": 0.5}
    before = (tmp_path / "out.zarr" / "pipeline.yaml").stat().st_mtime_ns
    assert "--overwrite" in bigbia_command(command, code=4).stderr
    assert (tmp_path / "out.zarr" / "pipeline.yaml").stat().st_mtime_ns == before
    bigbia_command(command + " --overwrite -q")


def test_explain_computes_nothing(tmp_path):
    pytest.importorskip("bigbia.run.explain")
    (tmp_path / "p.yaml").write_text(demo.PIPELINE)
    line = f"explain {tmp_path}/p.yaml {demo.image_path()} --axes zyx --voxel-size '{demo.VOXEL_SIZE}' --block 32"
    with dask.config.set(scheduler=refuse_to_compute):
        text = bigbia_command(line).stdout
    for word in ("threshold_otsu", "label", "task"):
        assert word in text


def refuse_to_compute(*args, **kwargs):
    raise AssertionError("computed")
