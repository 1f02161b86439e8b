"""The run report tells what happened: every block counted once, every failure named, and nothing that comes from outside is markup."""

from __future__ import annotations

import base64
import errno
import io
import json
import re
import time
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from PIL import Image

import bigbia
from bigbia.errors import BlockError
from bigbia.graph.journal import Written
from bigbia.hyperstack import hyperstack
from bigbia.io.durable import intact
from bigbia.run import tasks
from bigbia.run.contract import Run
from bigbia.run.ledger import FOLDER, Entry, read_json
from bigbia.run.pipeline import Pipeline
from bigbia.run.publishing import read_manifest
from bigbia.run.report import graph_of, report_of, state_of, with_manifest, write_report
from bigbia.run.report_blocks import SIDE, Plane, Tally
from bigbia.run.report_page import page
from bigbia.run.report_pictures import colours, painted, pictures, png, stretched
from bigbia.run.writing import Write

SHAPE, BLOCK = (16, 48, 40), 16  # 1 x 3 x 3 blocks
PIPELINE = """\
bigbia: 1
steps:
  smooth: {op: filters.gaussian, image: input, sigma: 1.5}
  cut:    {op: filters.threshold_otsu, image: smooth}
  mask:   smooth > cut
  nuclei: {op: measure.label, label_image: mask}
  table:  {op: measure.regionprops_table, label_image: nuclei, intensity_image: input}
save:
  image: input
  labels: {nuclei: nuclei}
  tables: {nuclei: table}
"""
PREDICTION = {
    "predicted_peak": 600 << 20, "limit": 4 << 30, "reserved": 200 << 20, "cache": 100 << 20, "threads": 2,
    "largest": {"stage": "write", "step": "write", "block": [16, 16, 16], "bytes": 150 << 20},
}  # fmt: skip


@pytest.fixture
def runs(monkeypatch) -> list[Run]:
    """The runs that are made in a test, as they are when they end."""
    found: list[Run] = []
    look = Run.look

    def noted(self, stages):
        found.append(self)
        return look(self, stages)

    monkeypatch.setattr(Run, "look", noted)
    monkeypatch.setattr(tasks, "PAUSE", 0.0)
    return found


@pytest.fixture
def breaking(monkeypatch):
    """Block -> the errors that writing it meets, one after the other."""
    table: dict[tuple, list[Exception]] = {}
    run = Write.run

    def broken(self, step, index, blocks=None):
        if table.get(index):
            raise table[index].pop(0)
        return run(self, step, index, blocks)

    monkeypatch.setattr(Write, "run", broken)
    return table


def cells(shape=SHAPE) -> np.ndarray:
    """Bright balls on a dark ground."""
    grid = np.indices(shape)
    return sum((1000 * np.exp(-sum((g % 16 - 8) ** 2 for g in grid) / 16) for _ in range(1)), np.zeros(shape)).astype("u2")  # fmt: skip


def image(array: np.ndarray | None = None, axes="zyx"):
    array = cells() if array is None else array
    chunks = tuple(1 if a in "tc" else BLOCK for a in axes)
    sizes = {"z": 2.0, "y": 0.5, "x": 0.5}
    return hyperstack(da.from_array(array, chunks=chunks), axes, voxel_size=sizes, unit="um")


def saved(out: Path, text: str = PIPELINE, **options) -> Path:
    plan = Pipeline.parse(text)
    return bigbia.save(out, **plan.outputs(plan.build(image())), pipeline=plan.text, chunks=BLOCK, **options)


def ended(run: Run) -> Run:
    """A run whose folder has got its name."""
    run.root = run.root if run.root.exists() else run.final
    return run


def published(run: Run, **options) -> dict:
    return report_of(ended(run), read_manifest(run.final), state="published", **options)


# ---- the page --------------------------------------------------------------------------------------------------------
class Checked(HTMLParser):
    """Tags that open and close in order, the loads, the text."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            assert not name.startswith("on"), f"{tag} has {name}"
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                self.loads.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes {self.open[-1]}"
        self.open.pop()

    def handle_data(self, data):
        self.text += data


def check(text: str) -> Checked:
    """A page that is well made, runs nothing and loads nothing."""
    found = Checked(text)
    assert text.startswith("<!DOCTYPE html>")
    assert "script" not in found.tags
    assert all(load.startswith("data:image/png;base64,") for load in found.loads)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style
    assert style.count("{") == style.count("}")
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {"#tip"}
    assert "default-src 'none'" in text
    return found


def test_a_page_for_a_run(runs, tmp_path):
    out = saved(tmp_path / "out.zarr")
    report = published(runs[-1], prediction=PREDICTION)
    text = check(page(report, out)).text
    manifest = read_manifest(out)
    for said in ("out.zarr", "published", manifest["root"], manifest["fingerprint"], "bigbia verify out.zarr", "bigbia rerun out.zarr"):  # fmt: skip
        assert said in text
    for said in ("smooth", "filters.gaussian", "sigma: 1.5", "smooth > cut", "save labels/nuclei", "save tables/nuclei"):  # fmt: skip
        assert said in text, "the pipeline's graph"
    assert "measured / predicted" in text
    assert "600 MiB" in text
    assert "Failures" not in text


def test_what_is_written_is_hashed_and_reads_back(runs, tmp_path):
    out = saved(tmp_path / "out.zarr")
    report = published(runs[-1])
    written = write_report(out, report)
    assert [w.name for w in written] == ["_bigbia/report.json", "_bigbia/report.html"]
    assert all(intact(out, w) for w in written)
    assert read_json(out / "_bigbia/report.json") == json.loads(json.dumps(report, default=str))
    check((out / "_bigbia/report.html").read_text())


def test_it_is_quick_and_small(runs, tmp_path):
    out = saved(tmp_path / "out.zarr")
    start = time.process_time()
    write_report(out, published(runs[-1]))
    assert time.process_time() - start < 2
    assert (out / "_bigbia/report.html").stat().st_size < 300_000


def test_a_run_without_a_pipeline(runs, tmp_path):
    bigbia.save(tmp_path / "out.zarr", image(), chunks=BLOCK)
    report = published(runs[-1])
    assert report["graph"] is None
    assert "pipeline.yaml" not in check(page(report, tmp_path / "out.zarr")).text


# ---- what happened ---------------------------------------------------------------------------------------------------
def test_every_step_and_every_block_is_counted(runs, tmp_path):
    saved(tmp_path / "out.zarr")
    report = published(runs[-1])
    rows = {(r["stage"], r["step"]): r for r in report["stages"]}
    assert len(report["stages"]) == len(runs[-1].worked)
    write = rows["write", "write"]
    assert (write["done"], write["total"], write["skipped"], write["retries"]) == (9, 9, 0, 0)
    assert write["rate"] == pytest.approx(np.prod(SHAPE) / write["seconds"], rel=0.01)
    assert write["peak"] > 1 << 20
    (drawn,) = [m for m in report["maps"] if m["step"] == "write"]
    assert (drawn["total"], drawn["done"], drawn["failed"], drawn["missing"]) == (9, 9, 0, 0)
    assert (drawn["rows"], drawn["columns"], drawn["along"]) == ("y", "x", [])
    assert np.array(drawn["panels"][0]["seconds"], float).shape == (3, 3)
    assert report["tasks"] == {"done": report["tasks"]["now"], "now": sum(r["done"] for r in report["stages"]), "retries": 0}  # fmt: skip
    assert report["memory"]["measured"] >= write["peak"]


def test_a_block_that_was_tried_again_is_marked(runs, breaking, tmp_path):
    breaking[0, 2, 1] = [OSError(errno.EIO, "bad cable"), OSError(errno.EIO, "bad cable")]
    out = saved(tmp_path / "out.zarr")
    report = published(runs[-1])
    (drawn,) = [m for m in report["maps"] if m["step"] == "write"]
    assert drawn["retries"] == report["tasks"]["retries"] == 2
    assert drawn["panels"][0]["retried"] == [[2, 1, 1]]
    text = page(report, out)
    check(text)
    assert len(re.findall('<circle class="again"', text)) == 1
    assert re.search(r"<title>block y 2, x 1: [^<]*1 tried again</title>", text)


def test_a_failure_is_told_with_all_that_is_known(runs, breaking, tmp_path):
    breaking[0, 1, 2] = [ValueError('no <i>good</i> & "bad"')] * 9
    with pytest.raises(BlockError):
        saved(tmp_path / "out.zarr")
    run = runs[-1]
    assert run.root.name == "out.zarr.partial"
    report = report_of(run, None, state="failed", prediction=PREDICTION)
    (failure,) = report["failures"]
    assert (failure["stage"], failure["step"], failure["block"]) == ("write", "write", [0, 1, 2])
    assert (failure["region"], failure["why"], failure["attempts"]) == ("z=0..15, y=16..31, x=32..39", "error", 1)
    assert re.fullmatch(r".+:\d+", failure["worker"])
    assert failure["peak"] > 1 << 20
    assert "ValueError: no <i>good</i>" in failure["error"]
    (drawn,) = [m for m in report["maps"] if m["step"] == "write"]
    assert (drawn["done"], drawn["failed"]) == (8, 1)
    assert drawn["panels"][0]["failed"] == [[1, 2, 1]]
    assert report["sessions"][-1]["error"].startswith("BlockError: write")
    written = write_report(run.root, report)
    assert all(intact(run.root, w) for w in written)
    text = (run.root / "_bigbia/report.html").read_text()
    said = check(text).text
    for word in ("failed", failure["region"], failure["worker"], 'ValueError: no <i>good</i> & "bad"', "Unfinished"):
        assert word in said
    assert "run the same command again" in said
    assert "<i>good</i>" not in text
    assert text.count('class="cross"') == 1
    assert "not published" in said


def test_a_failure_is_marked_in_the_pass_that_failed(runs, monkeypatch, tmp_path):
    run = Write.run

    def broken(self, step, index, blocks=None):
        if self.outputs[0].place == "images/b" and index == (0, 1, 2):
            raise ValueError("no")
        return run(self, step, index, blocks)

    monkeypatch.setattr(Write, "run", broken)
    with pytest.raises(BlockError):
        bigbia.save(tmp_path / "out.zarr", images={"a": image(), "b": image(cells((16, 48, 41)))}, chunks=BLOCK)
    report = report_of(runs[-1], None, state="failed")
    assert [(m["done"], m["failed"]) for m in report["maps"]] == [(9, 0), (8, 1)]


def test_what_a_failed_run_had_not_begun(runs, breaking, tmp_path):
    breaking[0, 1, 2] = [ValueError("no")]
    with pytest.raises(BlockError):
        bigbia.save(tmp_path / "out.zarr", image(), images={"small": image(cells((16, 16, 16)))}, chunks=BLOCK)
    report = report_of(runs[-1], None, state="failed")
    assert [(r["stage"], r["when"], r["done"], r["total"]) for r in report["stages"] if r["step"] != "done"] == [
        ("write", "later", 0, 2),
        ("write", "now", 8, 9),
    ]
    assert "not finished" in check(page(report, runs[-1].root)).text
    assert [p.place for p in pictures(runs[-1].root, report["outputs"])] == ["image"] * 2


def test_a_run_that_was_gone_on_with(runs, breaking, tmp_path):
    breaking[0, 1, 2] = [ValueError("once")]
    with pytest.raises(BlockError):
        saved(tmp_path / "out.zarr")
    write_report(runs[0].root, report_of(runs[0], None, state="failed"))
    out = saved(tmp_path / "out.zarr")
    report = published(runs[-1])
    write = next(r for r in report["stages"] if r["step"] == "write")
    assert (write["when"], write["done"], write["skipped"]) == ("now", 1, 8)
    before = [r for r in report["stages"] if r["when"] == "earlier"]
    assert "threshold_otsu" in {r["stage"] for r in before}
    assert len({(r["token"], r["step"]) for r in report["stages"]}) == len(report["stages"])
    assert [bool(s["error"]) for s in report["sessions"]] == [True, False]
    (drawn,) = [m for m in report["maps"] if m["step"] == "write"]
    assert (drawn["total"], drawn["done"]) == (9, 9)
    text = check(page(report, out)).text
    assert "in an earlier session" in text
    assert "Sessions" in text


def test_a_session_that_could_not_tell_is_read_off_the_ledger(runs, breaking, tmp_path):
    """Killed: no report of its own. What it did is in the plan and the ledger, until `seal` forgets it."""
    breaking[0, 1, 2] = [ValueError("once")]
    with pytest.raises(BlockError):
        saved(tmp_path / "out.zarr")
    run = runs[0]
    run.worked, run.failures = [], []
    (run.root / FOLDER / "report.json").unlink()
    report = report_of(run, None, state="failed")
    rows = {r["stage"]: r for r in report["stages"]}
    assert rows["threshold_otsu"]["when"] == "earlier"
    assert rows["threshold_otsu"]["done"] == rows["threshold_otsu"]["total"] >= 9
    assert rows["write"]["when"] == "later"
    assert rows["write"]["done"] == 8
    check(page(report, run.root))


def test_missing_blocks_are_listed_also_those_of_an_earlier_session(runs, breaking, tmp_path):
    breaking[0, 0, 1] = [ValueError("gone")]
    out = saved(tmp_path / "out.zarr", allow_missing=True)
    run = runs[-1]
    report = published(run)
    assert [(m["stage"], m["block"]) for m in report["missing"]] == [("write", [0, 0, 1])]
    (drawn,) = [m for m in report["maps"] if m["step"] == "write"]
    assert drawn["panels"][0]["missing"] == [[0, 1, 1]]
    text = check(page(report, out)).text
    assert "Missing blocks" in text
    assert "1 blocks are missing: zeros stand for them" in text
    run.missing = []  # as in a session after the one that gave the block up
    later = report_of(run, {**read_manifest(out), "missing": []}, state="published")
    assert [m["region"] for m in later["missing"]] == ["z=0..15, y=0..15, x=16..31"]


def test_made_before_the_manifest_is(runs, tmp_path):
    saved(tmp_path / "out.zarr")
    run, manifest = ended(runs[-1]), read_manifest(tmp_path / "out.zarr")
    run.record["sessions"][-1].pop("ended", None)
    before = report_of(run, None, state="published")
    assert before["files"] is None
    assert before["times"]["ended"] is None
    found = with_manifest(before, manifest)
    assert found["files"] == report_of(run, manifest, state="published")["files"]
    assert found["times"]["seconds"] == pytest.approx(manifest["made"] - run.record["sessions"][0]["began"], abs=0.01)
    assert before["files"] is None, "the first is left as it is"


def test_how_a_run_ended():
    assert state_of(None) == "published"
    assert state_of(BlockError("x")) == state_of(MemoryError()) == "failed"
    assert state_of(KeyboardInterrupt()) == state_of(SystemExit(1)) == "stopped"


def test_very_many_stages_are_told_together(runs, tmp_path):
    out = saved(tmp_path / "out.zarr")
    report = published(runs[-1])
    row = next(r for r in report["stages"] if r["step"] == "write")
    report["stages"] += [{**row, "stage": "edges", "title": "edges", "retries": 1, "token": str(i)} for i in range(500)]
    found = check(page(report, out))
    assert "edges (500 times)" in found.text
    assert "4,500" in found.text
    assert found.tags.count("tr") < 120


# ---- hostile text ----------------------------------------------------------------------------------------------------
HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'\u202e\x00&amp;"


def test_text_from_outside_is_text(runs, tmp_path):
    """In the output's name, an image's name, parameters, errors, the host, the input's place."""
    name = "a'\"><script>alert(1)<" + "\u202e.zarr"
    out = bigbia.save(tmp_path / name, labels={HOSTILE.replace("/", "").replace("\x00", ""): cells()}, chunks=BLOCK)
    report = published(runs[-1])
    node = {"name": HOSTILE, "kind": "call", "op": HOSTILE, "parameters": {HOSTILE: HOSTILE}}
    report["graph"] = {"nodes": [node], "edges": [], "problem": None}
    report["pipeline"] = {"steps": {"mask": HOSTILE.replace("\x00", "")}}
    report["inputs"] = {HOSTILE: HOSTILE}
    report["machine"]["host"] = report["sessions"][0]["error"] = HOSTILE
    report["versions"]["bigbia"] = report["stages"][0]["title"] = HOSTILE
    report["missing"] = [{"stage": HOSTILE, "block": [0], "region": HOSTILE, "error": HOSTILE}]
    words = ("stage", "step", "region", "why", "worker", "error")
    failure = {**dict.fromkeys(words, HOSTILE), "block": [0], "attempts": 1, "peak": 1}
    report |= {"failures": [failure], "failed": 1, "state": "failed", "missing_chunks": {HOSTILE: HOSTILE}}
    report["maps"][0] |= {"title": HOSTILE, "rows": HOSTILE, "along": [HOSTILE]}
    report["maps"][0]["panels"][0]["title"] = HOSTILE
    text = page(report, out)
    found = check(text)
    assert "<script" not in text
    assert "onerror=alert(2)>" not in text
    assert "\u202e" not in text
    assert "\x00" not in text
    assert found.text.count("<script>alert(1)</script>") > 10
    report["graph"] = {"nodes": [], "edges": [], "problem": HOSTILE}
    check(page(report, out))


def test_a_file_that_is_no_pipeline(runs, tmp_path):
    out = bigbia.save(tmp_path / "out.zarr", labels={"n": cells()}, chunks=BLOCK, pipeline="hello: <script>\n")
    report = published(runs[-1])
    assert "is not a pipeline file" in report["graph"]["problem"]
    assert "is no pipeline" in check(page(report, out)).text


# ---- blocks ----------------------------------------------------------------------------------------------------------
def tally(path: Path, numblocks, axes, entries) -> Tally:
    path.write_bytes(b"".join(entry.line() for entry in entries))
    return Tally(Plane(tuple(numblocks), tuple(axes)), (8,) * len(numblocks), None).read(path)


def entry(block, seconds=1.0, attempts=1, missing="") -> Entry:
    return Entry(tuple(block), (Written("0/c/0", 1, "00"),), seconds, attempts, "here:1", 7, 0.0, missing)


def test_many_blocks_become_few_cells(tmp_path):
    numblocks = (3, 100, 130)
    blocks = np.ndindex(numblocks)
    some = (entry(b, seconds=0.001 * b[1], attempts=2 if b == (1, 99, 129) else 1) for b in blocks if b != (2, 0, 0))
    (tmp_path / "l").write_bytes(b"".join(e.line() for e in some))
    tracemalloc.start()
    found = Tally(Plane(numblocks, ("z", "y", "x")), (8, 8, 8), None).read(tmp_path / "l")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000, "no list of blocks is held"
    drawn = found.map()
    (panel,) = drawn["panels"]
    assert (len(panel["seconds"]), len(panel["seconds"][0])) == (50, 44)
    assert max(len(panel["seconds"]), len(panel["seconds"][0])) <= SIDE
    assert drawn["cell"] == [2, 3]
    assert drawn["done"] == 3 * 100 * 130 - 1
    assert panel["left"] == [[0, 0, 1]]
    assert panel["retried"] == [[49, 43, 1]]
    assert panel["seconds"][10][0] == pytest.approx(0.0205), "rows 20 and 21"
    assert found.plane.blocks().sum() == 3 * 100 * 130


def test_a_block_with_two_lines_counts_once(tmp_path):
    found = tally(tmp_path / "l", (2, 2), "yx", [entry((0, 1)), entry((0, 1), 2.0), entry((1, 1))]).map()
    assert (found["done"], found["retries"]) == (2, 1)
    assert found["panels"][0]["left"] == [[0, 0, 1], [1, 0, 1]]


def test_lines_of_no_block_are_passed_over(tmp_path):
    found = tally(tmp_path / "l", (2, 2), "yx", [entry((5, 1)), entry((0,)), entry((0, 0))]).map()
    assert found["done"] == 1


@pytest.mark.parametrize(
    ("numblocks", "axes", "rows", "columns", "along", "panels"),
    [
        ((4, 8, 8), "zyx", "y", "x", ["z"], 1),
        ((64, 4, 5), "zyx", "z", "x", ["y"], 1),
        ((4, 4, 4), "zyx", "y", "x", ["z"], 1),
        ((8, 8), "yx", "y", "x", [], 1),
        ((3, 2, 4, 8, 8), "tczyx", "y", "x", ["z"], 6),
        ((50, 2, 1, 8, 8), "tczyx", "y", "x", ["t", "c"], 1),
        ((7,), "x", "", "x", [], 1),
        ((), "", "", "", [], 1),
    ],
)
def test_which_axes_are_drawn(numblocks, axes, rows, columns, along, panels):
    plane = Plane(numblocks, tuple(axes))
    assert (plane.name(plane.rows), plane.name(plane.columns)) == (rows, columns)
    assert [axes[a] for a in plane.along if numblocks[a] > 1] == along
    assert len(plane.titles()) == plane.shape[0] == panels
    assert plane.blocks().sum() == np.prod(numblocks)


def test_times_and_channels_side_by_side(runs, tmp_path):
    array = np.stack([[cells() for _ in range(2)] for _ in range(3)])
    bigbia.save(tmp_path / "out.zarr", image(array, "tczyx"), chunks=BLOCK)
    report = published(runs[-1])
    (drawn,) = [m for m in report["maps"] if m["step"] == "write"]
    assert [p["title"] for p in drawn["panels"]] == [f"t {t}, c {c}" for t in range(3) for c in range(2)]
    assert drawn["total"] == drawn["done"] == 54
    found = list(pictures(tmp_path / "out.zarr", report["outputs"]))
    assert [p.what for p in found] == [f"t 1, channel {c}, {w}" for c in range(2) for w in ("slice z 8 of 16", "maximum along z")]  # fmt: skip
    check(page(report, tmp_path / "out.zarr"))


# ---- the graph -------------------------------------------------------------------------------------------------------
def test_the_graph_of_a_pipeline():
    found = graph_of(Pipeline.parse(PIPELINE).document)
    assert [n["name"] for n in found["nodes"]] == [
        "input", "smooth", "cut", "mask", "nuclei", "table", "save image", "save labels/nuclei", "save tables/nuclei",
    ]  # fmt: skip
    assert next(n for n in found["nodes"] if n["name"] == "smooth")["parameters"] == {"sigma": 1.5}
    assert {(a, b) for a, b, _ in found["edges"]} == {
        ("input", "smooth"), ("smooth", "cut"), ("smooth", "mask"), ("cut", "mask"), ("mask", "nuclei"), ("nuclei", "table"),
        ("input", "table"), ("input", "save image"), ("nuclei", "save labels/nuclei"), ("table", "save tables/nuclei"),
    }  # fmt: skip


def test_boxes_stand_below_what_they_read_and_beside_each_other():
    from bigbia.run.report_drawings import graph

    steps = "".join(f"  s{i}: s{i - 1} + s{i // 2} + input\n" for i in range(2, 40))
    found = graph_of(Pipeline.parse(f"bigbia: 1\nsteps:\n  s0: input + 1\n  s1: s0 + 1\n{steps}save: {{images: {{a: s39}}}}").document)  # fmt: skip
    drawn = graph(found)
    Checked(drawn)
    number = r'="([-\d.]+)" '
    boxes = re.findall(rf'<rect x{number}y{number}width{number}height="([\d.]+)"', drawn)
    places = [tuple(map(float, box)) for box in boxes]
    assert len(places) == len(found["nodes"])
    at = dict(zip((n["name"] for n in found["nodes"]), places))
    assert all(at[a][1] + at[a][3] < at[b][1] for a, b, _ in found["edges"])
    for i, (x, y, w, h) in enumerate(places):
        for u, v, s, t in places[:i]:
            assert x + w <= u or u + s <= x or y + h <= v or v + t <= y, "two boxes overlap"
    assert drawn.count('class="edge"') == len({(a, b) for a, b, _ in found["edges"]})


# ---- pictures --------------------------------------------------------------------------------------------------------
def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_thumbnails_show_what_was_saved(runs, tmp_path):
    labels = np.zeros((20, 20, 30), "u4")  # three layers of chunks
    labels[:, 2:8, 3:9], labels[10, 10:15, 10:20], labels[19, 2:8, 5:9] = 7, 4_000_000_000, 9
    grey = np.linspace(1000, 0, labels.size).reshape(labels.shape).astype("f4")
    out = bigbia.save(tmp_path / "out.zarr", image(grey), labels={"n": image(labels)}, chunks=8, levels=1)
    text = page(published(runs[-1]), out)
    found = [decoded(base64.b64decode(u.partition(",")[2])) for u in check(text).loads]
    assert [p.shape for p in found] == [(20, 30), (20, 30), (20, 30, 3), (20, 30, 3)]
    assert (found[2] == painted(labels[10])).all()
    assert (found[3] == painted(labels.max(axis=0))).all()
    assert (found[2][3, 4] == colours(np.array([7]))[0]).all()
    assert (found[2][0, 0] == 0).all()
    assert len({tuple(found[2][y, x]) for y, x in ((0, 0), (3, 4), (12, 12))}) == 3
    assert (found[0] == stretched(grey[10])[0]).all()
    assert (found[1] == stretched(grey.max(axis=0))[0]).all()


def test_the_coarsest_level_with_enough_pixels_is_drawn(tmp_path, runs):
    big = np.arange(700 * 600, dtype="u4").reshape(700, 600)
    out = bigbia.save(tmp_path / "out.zarr", da.from_array(big, chunks=256), chunks=256, levels=4)
    (found,) = pictures(out, published(runs[-1])["outputs"])
    assert (found.width, found.height) == (300, 350)
    assert found.what == ""
    (other,) = pictures(
        bigbia.save(tmp_path / "two.zarr", da.from_array(big, chunks=256), chunks=256, levels=1),
        published(runs[-1])["outputs"],
    )
    assert (other.width, other.height) == (512, 512)
    assert "the middle of it" in other.note
    assert decoded(other.png).shape == (512, 512)


def test_a_tall_stack_is_looked_through_in_part(tmp_path, runs, monkeypatch):
    from bigbia.run import report_pictures

    stack = np.broadcast_to(np.arange(64, dtype="u1")[:, None, None], (64, 32, 32))
    out = bigbia.save(tmp_path / "out.zarr", da.from_array(np.array(stack), chunks=16), chunks=16)
    monkeypatch.setattr(report_pictures, "BUDGET", 32 * 32 * 32)
    _, over = pictures(out, published(runs[-1])["outputs"])
    assert over.what == "maximum along z, of 32 of 64 slices"


def test_an_image_that_cannot_be_read_does_not_take_the_report_with_it(tmp_path, runs):
    out = bigbia.save(tmp_path / "out.zarr", image(), labels={"n": cells()}, chunks=BLOCK)
    report = published(runs[-1])
    for path in (out / "labels/n/0/c").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-7])
    found = check(page(report, out))
    assert len(found.loads) == 2
    assert found.text.count("cannot be drawn") == 1


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4", "f8", "bool", "u8"])
def test_grey_values_of_any_kind(dtype):
    plane = np.arange(100).reshape(10, 10).astype(dtype)
    shown, note = stretched(plane)
    assert shown.dtype == np.uint8
    assert (shown.min(), shown.max()) == (0, 255)
    assert note.startswith("black")


def test_grey_values_that_are_none():
    plane = np.array([[np.nan, 1.0], [np.inf, 3.0]])
    assert stretched(plane)[0].tolist() == [[0, 0], [255, 255]]
    assert stretched(np.full((2, 2), np.nan))[1] == "no finite values"
    assert stretched(np.full((2, 2), 5))[1] == "all values 5"


def test_colours_of_labels_are_fixed_and_apart():
    some = colours(np.arange(1, 2000))
    assert (some == colours(np.arange(1, 2000, dtype="i4"))).all()
    assert len(np.unique(some, axis=0)) > 1950
    assert some.max(axis=1).min() > 150, "none is dark"
    assert colours(np.array([0, -1], "i2"))[0].tolist() == [0, 0, 0]
    assert colours(np.array([1, 2, 3])).tolist() == colours(np.array([1, 2, 3], "u8")).tolist()


def test_png_is_a_png():
    grey = np.random.default_rng(0).integers(0, 256, (7, 13), "u1")
    colour = np.random.default_rng(1).integers(0, 256, (9, 4, 3), "u1")
    assert (decoded(png(grey)) == grey).all()
    assert (decoded(png(colour)) == colour).all()
