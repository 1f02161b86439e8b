"""The benchmark runs, measures, and finds that bigbia and the script in memory agree. No time is judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MAIN_JOB = Path(__file__).parents[1] / "benchmarks" / "main_job.py"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The main job at 64^3 in eight blocks, once: its folder of results, and what it left of its images."""
    folder = tmp_path_factory.mktemp("benchmark")
    words = ["--size=64", "--chunk=16", "--block=32", "--repeats=1", "--peers=bigbia,memory", "--limit=100"]
    places = ["--out", str(folder / "results"), "--data", str(folder / "data")]
    run = subprocess.run([sys.executable, str(MAIN_JOB), *words, *places], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr + run.stdout
    return folder


def results(folder):
    return json.loads((folder / "results" / "main_job.json").read_text())


def test_results_agree(small):
    agreement = results(small)["agreement"]["bigbia"]
    assert agreement["labels_equal"]
    assert agreement["table_equal"]
    assert agreement["objects"] == results(small)["drawn"] > 1
    names = {name.split("-")[0] for name in agreement["columns"]}
    assert names == {"label", "area", "bbox", "centroid", "intensity_mean"}


def test_runs_are_measured(small):
    found = results(small)
    for peer in ("bigbia", "memory"):
        (run,) = found["runs"][peer]
        assert run["finished"]
        assert 0 < run["wall"] < 100
        assert run["cpu"] > 0
        assert 20 << 20 < run["peak"] < 4 << 30
        assert sum(seconds for _, seconds in run["steps"]) == pytest.approx(run["wall"], abs=0.1)
    assert found["tasks"]["bigbia"][0]["blocks"] == 8
    assert found["settings"]["memory"] == "1 GiB"


def test_files(small):
    text = (small / "results" / "main_job.md").read_text()
    assert "labels equal to the bit" in text
    assert "| bigbia |" in text
    assert (small / "results" / "main_job.png").read_bytes().startswith(b"\x89PNG")
    for word in (str(small), str(MAIN_JOB.parents[1])):
        assert word not in text
        assert word not in (small / "results" / "main_job.json").read_text()
    assert not (small / "data").exists()


def test_a_peer_that_does_not_finish_is_stopped(monkeypatch):
    monkeypatch.syspath_prepend(MAIN_JOB.parent)
    from measure import measure

    script = "import time; print(time.time(), 'sleep', flush=True); time.sleep(60)"
    run = measure([sys.executable, "-c", script], limit=1)
    assert run["timed_out"]
    assert not run["finished"]
    assert run["steps"][-1][0] == "sleep"
    assert 1 <= run["wall"] < 30


def test_memory_is_that_of_the_measured_process_alone(monkeypatch):
    monkeypatch.syspath_prepend(MAIN_JOB.parent)
    from measure import measure

    held = bytearray(300 << 20)  # Linux would count it towards a process started from here
    assert measure([sys.executable, "-c", "pass"], limit=60)["peak"] < 100 << 20
    assert measure([sys.executable, "-c", "bytearray(150 << 20)"], limit=60)["peak"] > 150 << 20
    assert len(held)


@pytest.fixture(scope="module")
def small_labels(tmp_path_factory):
    """Both benchmarks of labelling, once, as small as they go: their folder of results."""
    folder = tmp_path_factory.mktemp("labels")
    places = ["--out", str(folder / "results"), "--data", str(folder / "data")]
    labels = "--size=48 --chunk=24 --repeats=1 --kinds=percolation --peers=bigbia,skimage --limit=60"
    scale = (
        "--graph-size=64 --run-size=48 --block=16 --pathological=32 --pathological-block=16 --worst=spiral,rods-last"
    )
    for script, words in (("labels", labels), ("label_scale", f"{scale} --minutes=1")):
        command = [sys.executable, str(MAIN_JOB.with_name(f"{script}.py")), *words.split(), *places]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr + run.stdout
    return folder


@pytest.mark.slow
def test_labels_are_equal_and_measured(small_labels):
    found = json.loads((small_labels / "results" / "labels.json").read_text())["kinds"]["percolation"]
    assert found["equal"]["bigbia"]["labels_equal"]
    assert found["equal"]["bigbia"]["voxels"] == 48**3
    for several in [*found["runs"].values(), *found["alone"].values()]:
        assert [r["finished"] for r in several] == [True]
    objects = {r["told"]["objects"] for several in found["alone"].values() for r in several}
    assert objects == {found["equal"]["bigbia"]["objects"]}
    assert len(found["alone"]) == 3
    assert all(n > 0 for several in found["cpu_ns_per_voxel"].values() for n in several)


def test_labels_at_scale(small_labels):
    found = json.loads((small_labels / "results" / "label_scale.json").read_text())
    assert found["graph"]["blocks"] == 64
    assert found["graph"]["tasks"] < 5 * 64
    (run,) = found["run"]
    assert run["told"]["voxels"] == 48**3
    assert run["told"]["objects"] > 100
    assert run["memory"]["first"] <= run["memory"]["peak"] <= run["peak"]
    kinds = run["told"]["kinds"]
    assert {"leaf", "pairs", "up1", "up2", "down1", "rows", "scan0", "numbers"} <= set(kinds)
    assert run["told"]["scratch"] == sum(k["bytes"] for k in kinds.values()) > 0
    assert run["told"]["message"]["bytes"] == max(
        kinds[k]["largest"] for k in ("pairs", "up1", "up2", "down1", "down2")
    )
    assert run["told"]["surface"] == 48**3 - 46**3
    assert [r["told"]["objects"] for r in found["pathological"]] == [1, 256]


def test_files_of_labelling(small_labels):
    texts = {p.name: p.read_text() for p in (small_labels / "results").iterdir()}
    assert sorted(texts) == ["label_scale.json", "label_scale.md", "labels.json", "labels.md"]
    for text in texts.values():
        for word in (str(small_labels), str(MAIN_JOB.parents[1])):
            assert word not in text
    assert "| percolation | bigbia |" in texts["labels.md"]
    assert not (small_labels / "data").exists()


@pytest.mark.slow
def test_the_watershed_is_compared(tmp_path):
    places = ["--out", str(tmp_path / "results"), "--data", str(tmp_path / "data")]
    words = "--size=48 --agreement-size=24 --alone-size=32 --chunk=24 --repeats=1 --large=48 --large-block=24"
    command = [sys.executable, str(MAIN_JOB.with_name("watershed.py")), *words.split(), *places]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr + run.stdout
    found = json.loads((tmp_path / "results" / "watershed.json").read_text())
    assert found["wrong"] == []
    assert {"agreement", "alone", "whole", "split", "large"} <= set(found)
