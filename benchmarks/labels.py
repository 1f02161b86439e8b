"""Labelling against its peers: wall time, CPU time, peak memory; and labelling alone, without codecs.

    python benchmarks/labels.py --size 512 --repeats 3

A mask stored as OME-Zarr in, its connected components out as Zarr. Two masks: noise at the threshold of percolation,
whose components are of every size, and nuclei. Every run is a fresh process measured from outside; the peers take
turns. Then the labelling alone, of the mask in memory, warm. It exits with 1 if bigbia's labels are not those of
scikit-image, number for number. README.md says how to read the result.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import main_job
import report
from measure import measure, python

HERE = Path(__file__).resolve().parent
KINDS = ("percolation", "nuclei")
PEERS = {
    "bigbia": ["jobs/label_bigbia.py"],
    "skimage": ["jobs/label_memory.py", "skimage"],
    "cc3d": ["jobs/label_memory.py", "cc3d"],
    "dask-image": ["jobs/label_dask_image.py"],
}
TITLES = {"bigbia": "bigbia", "skimage": "scikit-image", "cc3d": "cc3d", "dask-image": "dask-image"}
ALONE = {  # peer -> the labelling alone: title -> job and its last word
    "bigbia": {"bigbia, its own blocks": ("bigbia", "auto"), "bigbia, blocks of one chunk": ("bigbia", "chunk")},
    "skimage": {"scikit-image": ("memory", "skimage")},
    "cc3d": {"cc3d": ("memory", "cc3d")},
}
MODULES = {"skimage": "skimage", "cc3d": "cc3d", "dask-image": "dask_image"}
PACKAGES = {"cc3d": "connected-components-3d", "skimage": "scikit-image"}
WARM_UP = 64


def main(argv: list[str] | None = None) -> int:
    given = arguments(argv)
    given.data.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": machine(), "settings": settings(given), "kinds": {}}
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=given.data))
    made: list[Path] = []
    try:
        warm_up(given, folder, made)
        for kind in given.kinds:
            results["kinds"][kind] = compared(given, kind, folder, made)
    finally:
        main_job.cleaned(given, folder, made)
    lines = written(results)
    report.write(given.out, "labels", lines, results)
    print("\n".join(lines))
    return 0 if passed(results) else 1


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="voxels along each axis (512)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each peer (3)")
    parser.add_argument("--peers", help=f"among {','.join(PEERS)} (all that are installed)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="masks, among " + ",".join(KINDS))
    parser.add_argument("--limit", type=float, default=150, help="seconds after which a peer is stopped (150)")
    parser.add_argument("--memory", default="1 GiB", help='memory setting of bigbia ("1 GiB")')
    parser.add_argument("--threads", type=int, default=2, help="threads of bigbia (2)")
    parser.add_argument("--chunk", type=int, default=128, help="voxels along each axis of a stored chunk (128)")
    parser.add_argument("--block", type=int, help="voxels along each axis of bigbia's blocks (it chooses)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--data", type=Path, default=HERE / "data", help="folder of the masks, removed at the end")
    parser.add_argument("--keep", action="store_true", help="keep the masks")
    given = parser.parse_args(argv)
    given.peers = [p for p in PEERS if installed(p)] if given.peers is None else words_of(given.peers)
    given.kinds = words_of(given.kinds)
    for name, known in (("peers", PEERS), ("kinds", KINDS)):
        for word in getattr(given, name):
            if word not in known:
                parser.error(f"--{name}: there is no {word!r}: choose among {', '.join(known)}")
    for peer in given.peers:
        if not installed(peer):
            parser.error(f"--peers: {peer} is not installed: pip install {PACKAGES.get(peer, peer)}")
    if min(given.repeats, given.size, given.chunk, given.threads) < 1 or given.limit <= 0:
        parser.error("--repeats, --size, --chunk, --threads and --limit must be positive")
    return given


def words_of(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def installed(peer: str) -> bool:
    return peer not in MODULES or importlib.util.find_spec(MODULES[peer]) is not None


def settings(given: argparse.Namespace) -> dict[str, Any]:
    names = ("size", "repeats", "peers", "kinds", "limit", "memory", "threads", "chunk", "block")
    return {name: getattr(given, name) for name in names}


def machine() -> dict[str, Any]:
    about = report.machine()
    about["versions"]["connected-components-3d"] = report.version("connected-components-3d")
    return about


# ---- running -------------------------------------------------------------------------------------------------------
def prepared(given: argparse.Namespace, kind: str, size: int, made: list[Path]) -> dict[str, Any]:
    """The mask of that size, made in a process of its own."""
    run = measure(python("jobs/label_data.py", given.data, kind, size, given.chunk), limit=3600)
    if not run["finished"]:
        raise SystemExit("the mask could not be made: see the message above")
    mask = json.loads(run["output"])
    if mask["made"]:
        made.append(Path(mask["path"]))
    return mask


def warm_up(given: argparse.Namespace, folder: Path, made: list[Path]) -> None:
    """Every peer once on small masks: Numba compiles, the system reads the libraries from disk."""
    if given.size <= WARM_UP:
        return
    for kind in given.kinds:
        mask = prepared(given, kind, WARM_UP, made)
        for peer in given.peers:
            job(given, peer, mask, folder)
            for how, word in ALONE.get(peer, {}).values():
                alone(given, how, word, mask, folder)


def words(given: argparse.Namespace, folder: Path) -> dict[str, str]:
    """bigbia's settings, as Dask takes them from the environment; what it leaves in scratch goes with the folder."""
    own = {"DASK_BIGBIA__THREADS": str(given.threads), "DASK_BIGBIA__SCRATCH": str(folder / "scratch")}
    return main_job.words(given) | own


def job(given: argparse.Namespace, peer: str, mask: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One run of a peer, Zarr to Zarr; its result is in the folder afterwards."""
    script, *rest = PEERS[peer]
    target = folder / peer
    return timed(given, python(script, mask["path"], target, given.chunk, mask["connectivity"], *rest), folder, target)


def alone(given: argparse.Namespace, how: str, word: str, mask: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One labelling of the mask in memory."""
    word = str(given.chunk) if word == "chunk" else word
    return timed(
        given, python(f"jobs/label_cpu_{how}.py", mask["path"], given.chunk, mask["connectivity"], word), folder
    )


def timed(given: argparse.Namespace, command: list[str], folder: Path, target: Path | None = None) -> dict[str, Any]:
    for path in (folder / "scratch", *([target] if target else [])):
        shutil.rmtree(path, ignore_errors=True)
    os.sync()  # what the run before wrote is not to be waited for in this one
    load = os.getloadavg()[0]
    run = measure(command, given.limit, words(given, folder))
    output = run.pop("output")
    return run | {"told": json.loads(output) if output and run["finished"] else {}, "load_before": load}


def compared(given: argparse.Namespace, kind: str, folder: Path, made: list[Path]) -> dict[str, Any]:
    """The peers in turn, as often as asked for; the first results are compared. Who fails is not asked again."""
    mask = prepared(given, kind, given.size, made)
    runs: main_job.Runs = {peer: [] for peer in given.peers}
    singles: main_job.Runs = {title: [] for peer in given.peers for title in ALONE.get(peer, {})}
    equal: dict[str, Any] = {}
    for turn in range(given.repeats):
        for peer in given.peers:  # first: they warm up on this very mask, and Numba compiles what only it needs
            for title, (how, word) in ALONE.get(peer, {}).items():
                if all(r["finished"] for r in singles[title]):
                    run = alone(given, how, word, mask, folder)
                    singles[title].append(run)
                    print(f"{kind}, alone, {title}: {shown(nanoseconds([run]))} ns/voxel", file=sys.stderr)
        for peer in given.peers:
            if all(r["finished"] for r in runs[peer]):
                run = job(given, peer, mask, folder)
                runs[peer].append(run)
                print(f"{kind}, {peer}: {main_job.outcome([run], given.limit)} s", file=sys.stderr)
        if turn == 0:
            equal = agreements(runs, folder)
    return {
        "what": mask["what"],
        "connectivity": mask["connectivity"],
        "runs": runs,
        "alone": singles,
        "equal": equal,
        "summary": main_job.summary(runs),
        "cpu_ns_per_voxel": {title: nanoseconds(several) for title, several in singles.items()},
        "times_cc3d": {title: ratios(several, singles.get("cc3d", [])) for title, several in singles.items()},
    }


def agreements(runs: main_job.Runs, folder: Path) -> dict[str, Any]:
    """Every peer's first labels against scikit-image's."""
    done = [peer for peer, several in runs.items() if several[0]["finished"]]
    out = {}
    for peer in done:
        if peer != "skimage" and "skimage" in done:
            run = measure(python("jobs/label_check.py", folder / "skimage", folder / peer), limit=3600)
            out[peer] = json.loads(run["output"]) if run["finished"] else {"failed": True}
    return out


def nanoseconds(several: list[dict[str, Any]], what: str = "cpu") -> list[float]:
    return [1e9 * r["told"][what] / r["told"]["voxels"] for r in several if r["finished"]]


def ratios(several: list[dict[str, Any]], cc3d: list[dict[str, Any]], what: str = "cpu") -> list[float]:
    """Of each turn: seconds here over seconds of cc3d."""
    pairs = [(r, c) for r, c in zip(several, cc3d) if r["finished"] and c["finished"]]
    return [r["told"][what] / c["told"][what] for r, c in pairs]


def passed(results: dict[str, Any]) -> bool:
    """bigbia finished, its labels are scikit-image's if both were asked for, and all find as many objects alone."""
    for found in results["kinds"].values():
        mine = [found["runs"].get("bigbia", []), *(r for t, r in found["alone"].items() if t in ALONE["bigbia"])]
        if not all(r["finished"] for several in mine for r in several):
            return False
        both = {"bigbia", "skimage"} <= set(found["runs"])
        if both and not found["equal"].get("bigbia", {}).get("labels_equal"):
            return False
        if len({r["told"]["objects"] for several in found["alone"].values() for r in several if r["finished"]}) > 1:
            return False
    return True


# ---- telling -------------------------------------------------------------------------------------------------------
def written(results: dict[str, Any]) -> list[str]:
    asked, kinds = results["settings"], results["kinds"]
    size, chunk = asked["size"], min(asked["size"], asked["chunk"])
    head = [
        "mask",
        "",
        "wall, s",
        "CPU, s",
        "labelling alone, CPU ns/voxel",
        "times cc3d's",
        "peak memory, GiB",
        "labels",
    ]
    alone_head = ["mask", "", "CPU, ns/voxel", "times cc3d's CPU", "wall, ns/voxel", "times cc3d's wall", "objects"]
    whats = [f"{kind}: {found['what']}" for kind, found in kinds.items()]
    return [
        f"# Labelling at {size}^3",
        "",
        f"Masks of {size}^3 voxels of bool in chunks of {chunk}^3 (OME-Zarr, zstd); {'; '.join(whats)}. Labels to Zarr "
        "(uint32, the same chunks, zstd level 1). The others but dask-image read the whole mask, label it, and write; "
        "dask-image has eight large blocks. Every run is a fresh process, imports included; median (smallest..largest) "
        f"of {asked['repeats']}, the peers in turn. bigbia: {asked['threads']} threads, memory setting "
        f"{asked['memory']}. Made by `python benchmarks/labels.py`.",
        "",
        *report.table(head, [row(kind, peer, results) for kind, found in kinds.items() for peer in found["runs"]]),
        "",
        *unfinished(results),
        *differences(results),
        "## Labelling alone",
        "",
        "Of the mask in memory, in a process that has labelled a part of it before: no codec, no import, no compiler. "
        f"bigbia's is the whole distributed labelling with {asked['threads']} threads: the lazy array, its stages with "
        "all that they write to scratch, every block of labels painted; CPU time is that of all threads together. "
        "Ratios are those within each turn.",
        "",
        *report.table(alone_head, [alone_row(k, t, found) for k, found in kinds.items() for t in found["alone"]]),
        "",
        *splits(results),
        "## Where the time goes",
        "",
        "Seconds of wall time, medians.",
        "",
        *(
            f"- {kind}, {TITLES[peer]}: {main_job.steps(found['summary'][peer])}"
            for kind, found in kinds.items()
            for peer in found["runs"]
        ),
        "",
        *report.machine_lines(results["machine"]),
    ]


def row(kind: str, peer: str, results: dict[str, Any]) -> list[str]:
    found, limit = results["kinds"][kind], results["settings"]["limit"]
    several = found["runs"][peer]
    least = "" if several[-1]["finished"] else ">= "
    title = next(iter(ALONE.get(peer, {})), "")
    return [
        kind,
        TITLES[peer],
        main_job.outcome(several, limit),
        least + report.spread([r["cpu"] for r in several]),
        shown(found["cpu_ns_per_voxel"].get(title, [])),
        shown(found["times_cc3d"].get(title, []), "{:.2f}"),
        least + report.spread([r["peak"] / 2**30 for r in several], "{:.2f}"),
        equality(peer, found),
    ]


def alone_row(kind: str, title: str, found: dict[str, Any]) -> list[str]:
    several, cc3d = found["alone"][title], found["alone"].get("cc3d", [])
    objects = [r["told"]["objects"] for r in several if r["finished"]]
    return [
        kind,
        title,
        shown(nanoseconds(several)),
        shown(ratios(several, cc3d), "{:.2f}"),
        shown(nanoseconds(several, "wall")),
        shown(ratios(several, cc3d, "wall"), "{:.2f}"),
        f"{objects[0]:,}" if objects else "-",
    ]


def shown(values: list[float], form: str = "{:.1f}") -> str:
    return report.spread(values, form) if values else "-"


def equality(peer: str, found: dict[str, Any]) -> str:
    if peer == "skimage":
        return "the reference"
    c = found["equal"].get(peer)
    if c is None:
        return "not compared"
    if "failed" in c:
        return "the comparison failed"
    return "equal" if c["labels_equal"] else "equal but for their numbers" if c["objects_equal"] else "DIFFER"


def differences(results: dict[str, Any]) -> list[str]:
    out = []
    for kind, found in results["kinds"].items():
        for peer, c in found["equal"].items():
            if not c.get("objects_equal", True):
                out += [f"{kind}: {TITLES[peer]} differs in {c['voxels_differ']:,} of {c['voxels']:,} voxels.", ""]
    return out


def unfinished(results: dict[str, Any]) -> list[str]:
    out = []
    for kind, found in results["kinds"].items():
        named = [(TITLES[peer], several) for peer, several in found["runs"].items()]
        for title, several in [*named, *((f"{t}, alone", several) for t, several in found["alone"].items())]:
            last = several[-1]
            if not last["finished"]:
                what = f"stopped after {results['settings']['limit']:g} s" if last["timed_out"] else "failed"
                out += [f'{kind}, {title}: {what}, at the step "{last["steps"][-1][0]}", and was not asked again.', ""]
    return out


def splits(results: dict[str, Any]) -> list[str]:
    """What of bigbia's CPU time is finding and numbering, what painting."""
    out = []
    for kind, found in results["kinds"].items():
        for title in ALONE["bigbia"]:
            told = [r["told"] for r in found["alone"].get(title, []) if r["finished"]]
            if told:
                parts = [
                    statistics.median(1e9 * t[p]["cpu"] / t["voxels"] for t in told) for p in ("finding", "painting")
                ]
                block = " x ".join(map(str, told[0]["block"]))
                out += [
                    f"{kind}, {title} ({block}): {parts[0]:.1f} ns/voxel to find and number, {parts[1]:.1f} to paint.",
                    "",
                ]
    return out


if __name__ == "__main__":
    sys.exit(main())
