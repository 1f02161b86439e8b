"""The main job, against its peers: wall time, CPU time, peak memory, tasks a block.

    python benchmarks/main_job.py --size 512 --repeats 3

An OME-Zarr of synthetic nuclei in; Gaussian of sigma 2 in float32 (edges: nearest), Otsu's threshold, objects by 26
neighbours, a table of area, box, centroid and mean intensity; labels to Zarr and the table to Parquet. Every run is a
fresh process measured from outside; the peers take turns. README.md says how to read the result.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import report
from measure import measure, python

HERE = Path(__file__).resolve().parent
PEERS = {"bigbia": "jobs/job_bigbia.py", "memory": "jobs/job_memory.py", "dask-image": "jobs/job_dask_image.py"}
TITLES = {"bigbia": "bigbia", "memory": "SciPy, scikit-image in memory", "dask-image": "dask-image"}
WARM_UP = 64

Runs = dict[str, list[dict[str, Any]]]


def main(argv: list[str] | None = None) -> int:
    given = arguments(argv)
    given.data.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": report.machine(), "settings": settings(given)}
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=given.data))
    made: list[Path] = []
    try:
        warm_up(given, folder, made)
        image = prepared(given, given.size, made)
        results["drawn"] = image["objects"]
        results["runs"], results["agreement"] = rounds(given, image["path"], folder)
        results["tasks"] = tasks(given, image["path"])
    finally:
        cleaned(given, folder, made)
    results["summary"] = summary(results["runs"])
    lines = written(results)
    report.write(given.out, "main_job", lines, results)
    picture(given.out / "main_job.png", results)
    print("\n".join(lines))
    return 0 if passed(results) else 1


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="voxels along each axis (512)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each peer (3)")
    parser.add_argument("--peers", default=",".join(PEERS), help="among " + ",".join(PEERS))
    parser.add_argument("--limit", type=float, default=300, help="seconds after which a peer is stopped (300)")
    parser.add_argument("--memory", default="1 GiB", help='memory setting of bigbia ("1 GiB")')
    parser.add_argument("--chunk", type=int, default=128, help="voxels along each axis of a stored chunk (128)")
    parser.add_argument("--block", type=int, help="voxels along each axis of bigbia's blocks (it chooses)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--data", type=Path, default=HERE / "data", help="folder of the images, removed at the end")
    parser.add_argument("--keep", action="store_true", help="keep the images")
    given = parser.parse_args(argv)
    given.peers = [p.strip() for p in given.peers.split(",")]
    for peer in given.peers:
        if peer not in PEERS:
            parser.error(f"--peers: no peer {peer!r}: choose among {', '.join(PEERS)}")
    if given.repeats < 1 or given.size < 1 or given.chunk < 1 or given.limit <= 0:
        parser.error("--repeats, --size, --chunk and --limit must be positive")
    return given


def settings(given: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(given, name) for name in ("size", "repeats", "peers", "limit", "memory", "chunk", "block")}


# ---- running -------------------------------------------------------------------------------------------------------
def prepared(given: argparse.Namespace, size: int, made: list[Path]) -> dict[str, Any]:
    """The image of that size, made in a process of its own."""
    run = measure(python("data.py", given.data, size, given.chunk), limit=3600)
    if not run["finished"]:
        raise SystemExit("the image could not be made: see the message above")
    image = json.loads(run["output"])
    if image["made"]:
        made.append(Path(image["path"]))
    return image


def warm_up(given: argparse.Namespace, folder: Path, made: list[Path]) -> None:
    """Every peer once on a small image: Numba compiles, the system reads the libraries from disk."""
    if given.size <= WARM_UP:
        return
    image = prepared(given, WARM_UP, made)
    for peer in given.peers:
        job(given, peer, image["path"], folder / "warm-up")


def cleaned(given: argparse.Namespace, folder: Path, made: list[Path]) -> None:
    """Remove the results, and the images that this run made."""
    for path in [folder] if given.keep else [folder, *made]:
        shutil.rmtree(path, ignore_errors=True)
    if not any(given.data.iterdir()):
        given.data.rmdir()


def job(given: argparse.Namespace, peer: str, source: str, target: Path) -> dict[str, Any]:
    """One run of a peer; its result is at `target` afterwards."""
    shutil.rmtree(target, ignore_errors=True)
    os.sync()  # what the run before wrote is not to be waited for in this one
    load = os.getloadavg()[0]
    return measure(python(PEERS[peer], source, target, given.chunk), given.limit, words(given)) | {"load_before": load}


def words(given: argparse.Namespace) -> dict[str, str]:
    """bigbia's settings, as Dask takes them from the environment."""
    block = {"DASK_BIGBIA__BLOCK": str(given.block)} if given.block else {}
    return {"DASK_BIGBIA__MEMORY": given.memory} | block


def rounds(given: argparse.Namespace, source: str, folder: Path) -> tuple[Runs, dict[str, Any]]:
    """The peers in turn, as often as asked for; the first results are compared. Who fails is not asked again."""
    runs: Runs = {peer: [] for peer in given.peers}
    for turn in range(given.repeats):
        for peer in given.peers:
            if all(r["finished"] for r in runs[peer]):
                run = job(given, peer, source, folder / peer)
                runs[peer].append(run)
                print(f"{peer}: {outcome([run], given.limit)} s, peak {report.gib(run['peak'])}", file=sys.stderr)
        if turn == 0:
            agreement = agreements(runs, folder)
    return runs, agreement


def agreements(runs: Runs, folder: Path) -> dict[str, Any]:
    """Every peer's first result against that of the script in memory."""
    done = [peer for peer, several in runs.items() if several[0]["finished"]]
    out = {}
    for peer in done:
        if peer != "memory" and "memory" in done:
            run = measure(python("agreement.py", folder / "memory", folder / peer), limit=3600)
            out[peer] = json.loads(run["output"]) if run["finished"] else {"failed": True}
    return out


def tasks(given: argparse.Namespace, source: str) -> dict[str, Any]:
    """Tasks of the labels' graph: bigbia over the image, dask-image over few blocks."""
    cases = {"bigbia": [("main_job", 1, source)], "dask-image": [("peer_main_job", 2, ""), ("peer_main_job", 3, "")]}
    out: dict[str, Any] = {}
    for peer in given.peers:
        counts = [measure(python("counting.py", *case), given.limit, words(given)) for case in cases.get(peer, [])]
        out[peer] = [json.loads(c["output"]) for c in counts if c["finished"]]
    return out


def passed(results: dict[str, Any]) -> bool:
    """bigbia finished, and where it was compared its labels and its table are those of the script in memory."""
    if "bigbia" not in results["runs"]:
        return True
    compared = results["agreement"].get("bigbia", {"labels_equal": True, "table_equal": True})
    equal = bool(compared.get("labels_equal") and compared.get("table_equal"))
    return equal and all(r["finished"] for r in results["runs"]["bigbia"])


# ---- telling -------------------------------------------------------------------------------------------------------
def summary(runs: Runs) -> dict[str, Any]:
    """By peer: median, smallest and largest of each figure, the ratio to the script in memory, seconds a step."""
    out: dict[str, Any] = {}
    for peer, several in runs.items():
        out[peer] = {"finished": all(r["finished"] for r in several), "runs": len(several)}
        for what in ("wall", "cpu", "peak"):
            values = [r[what] for r in several]
            out[peer][what] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
        out[peer]["times_faster_than_memory"] = ratios(several, runs.get("memory", []))
        steps = [[s[1] for s in r["steps"]] for r in several]
        names = [s[0] for s in several[0]["steps"]]
        out[peer]["steps"] = [[n, statistics.median(times)] for n, *times in zip(names, *steps)]
    return out


def ratios(several: list[dict[str, Any]], memory: list[dict[str, Any]]) -> list[float]:
    """Of each turn: wall time in memory over wall time here."""
    return [m["wall"] / r["wall"] for m, r in zip(memory, several) if m["finished"] and r["finished"]]


def outcome(several: list[dict[str, Any]], limit: float) -> str:
    """The wall time, or what became of the run."""
    if several[-1]["timed_out"]:
        return f"> {limit:g}"
    return report.spread([r["wall"] for r in several]) if several[-1]["finished"] else "failed"


def written(results: dict[str, Any]) -> list[str]:
    asked, runs = results["settings"], results["runs"]
    size = asked["size"]
    head = ["", "wall, s", "times faster than in memory", "CPU, s", "peak memory, GiB", "tasks a block"]
    rows = [row(peer, results) for peer in runs]
    return [
        f"# The main job at {size}^3",
        "",
        f"Synthetic nuclei, {size}^3 voxels of uint16 in chunks of {min(size, asked['chunk'])}^3: Gaussian (sigma 2, "
        "nearest, float32), Otsu, label (26 neighbours), table (area, box, centroid, mean intensity); labels to Zarr "
        "(uint32, the same chunks and codec), table to Parquet. "
        f"Every run is a fresh process, imports included; median (smallest..largest) of {asked['repeats']}, the peers "
        f"in turn. bigbia's memory setting: {asked['memory']}. Made by `python benchmarks/main_job.py`.",
        "",
        *report.table(head, rows),
        "",
        *unfinished(results),
        *equality(results),
        "",
        "Tasks a block are those of the labels' optimised graph, everything before them included: "
        f"{'; '.join(counted(results)) or 'not counted'}.",
        "",
        "## Where the time goes",
        "",
        "Seconds of wall time, medians.",
        "",
        *(f"- {TITLES[peer]}: {steps(results['summary'][peer])}" for peer in runs),
        "",
        "![Wall time and peak memory](main_job.png)",
        "",
        *report.machine_lines(results["machine"]),
    ]


def row(peer: str, results: dict[str, Any]) -> list[str]:
    several, limit = results["runs"][peer], results["settings"]["limit"]
    faster = results["summary"][peer]["times_faster_than_memory"]
    least = "" if several[-1]["finished"] else ">= "
    numbers = [f"{t['tasks'] / t['blocks']:.1f}" for t in results["tasks"].get(peer, [])]
    return [
        TITLES[peer],
        outcome(several, limit),
        report.spread(faster, "{:.2f}") if faster else "-",
        least + report.spread([r["cpu"] for r in several]),
        least + report.spread([r["peak"] / 2**30 for r in several], "{:.2f}"),
        ", ".join(numbers) or "-",
    ]


def unfinished(results: dict[str, Any]) -> list[str]:
    out = []
    for peer, several in results["runs"].items():
        last = several[-1]
        if not last["finished"]:
            what = f"stopped after {results['settings']['limit']:g} s" if last["timed_out"] else "failed"
            out += [f'{TITLES[peer]}: {what}, at the step "{last["steps"][-1][0]}", and was not asked again.', ""]
    return out


def equality(results: dict[str, Any]) -> list[str]:
    """What the comparisons say, a sentence each."""
    out = []
    for peer, c in results["agreement"].items():
        if "failed" in c:
            out.append(f"{TITLES[peer]}: the comparison failed.")
            continue
        whole = {n: d for n, d in c["columns"].items() if n.split("-")[0] in ("label", "area", "bbox")}
        away = max((d for n, d in c["columns"].items() if n not in whole), default=float("nan"))
        same = f"DIFFER in {c['voxels_differ']:,} of {c['voxels']:,} voxels"
        if c["labels_equal"]:
            same = "equal to the bit"
        elif c["objects_equal"]:
            same = "of the same objects under other numbers"
        columns = "do not match" if not whole else "are equal" if not any(whole.values()) else "DIFFER"
        exact = "equal to the bit" if away == 0 else f"different by at most {away:.1g} relative"
        out.append(
            f"{TITLES[peer]} against the script in memory: {c['objects']:,} objects ({results['drawn']:,} drawn), "
            f"labels {same}; the table's columns of whole numbers {columns}, the others {exact}."
        )
    return out or ["Nothing was compared: it takes the script in memory and another peer."]


def counted(results: dict[str, Any]) -> list[str]:
    return [
        f"{TITLES[peer]} {t['tasks']:,} over {t['blocks']} blocks, built in {t['build'] + t['optimise']:.2g} s"
        for peer, several in results["tasks"].items()
        for t in several
    ]


def steps(summed: dict[str, Any]) -> str:
    return ", ".join(f"{name} {seconds:.2f}" for name, seconds in summed["steps"])


def picture(path: Path, results: dict[str, Any]) -> None:
    asked, panels = results["settings"], []
    for what, name, unit, scale in (("wall", "Wall time", "seconds", 1), ("peak", "Peak memory", "GiB", 2**30)):
        rows = []
        for peer, several in results["runs"].items():
            values = [r[what] / scale for r in several]
            middle, cut = statistics.median(values), not several[-1]["finished"]
            text = f"{middle:.2f}" if scale > 1 else f"{middle:.1f}"
            text = f"> {asked['limit']:g}" if cut and scale == 1 else f"at least {text}" if cut else text
            row = {"name": "in memory" if peer == "memory" else peer, "text": text, "cut": cut}
            rows.append(row | {"value": middle, "low": min(values), "high": max(values)})
        panels.append((name, unit, rows))
    about = results["machine"]
    note = f"median and range of {asked['repeats']}; {about['cores']} cores, {about['date']}"
    note += "; hatched: stopped, not to scale" if any(r["cut"] for _, _, rows in panels for r in rows) else ""
    report.bars(path, f"Gaussian, Otsu, label, table at {asked['size']}³", panels, note)


if __name__ == "__main__":
    sys.exit(main())
