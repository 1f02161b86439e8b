"""Labelling at scale: the graph of 64,000 blocks, a run larger than its memory, and the worst volumes.

    python benchmarks/label_scale.py                               a run of 1024^3
    python benchmarks/label_scale.py --run-size 1024,2048          and of 2048^3: about 30 GB of scratch meanwhile
    python benchmarks/label_scale.py --parts run --kind noise      only that

The volumes are formulas: nothing is stored but what the stages leave in scratch, under benchmarks/data/, removed at
the end. Every measurement is a fresh process measured from outside. It exits with 1 if something did not finish, or if
the number of objects is known and another one was found. README.md says how to read the result.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import main_job
import report
from measure import measure, python

HERE = Path(__file__).resolve().parent
PARTS = ("graph", "run", "pathological")
NOISE = {
    "percolation": "voxels set with probability 0.3116 (the threshold of percolation), 6 neighbours",
    "noise": "voxels set with probability 0.8, 26 neighbours",
}
WORST = {
    "spiral": "one corridor through every block, 6 neighbours",
    "shells": "boxes in boxes, 26 neighbours",
    "checkerboard-6": "checkerboard, 6 neighbours: every set voxel an object",
    "checkerboard-26": "checkerboard, 26 neighbours: one object, through every second voxel of every face",
    "rods-last": "rods along the last axis at every second position, 26 neighbours",
    "rods-first": "rods along the first axis at every second position, 26 neighbours",
    "percolation": "noise at the threshold of percolation, 6 neighbours",
    "noise": "noise of probability 0.8, 26 neighbours",
}
SAMPLES = 60  # of the memory, kept in the results


def main(argv: list[str] | None = None) -> int:
    given = arguments(argv)
    given.data.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=given.data))
    results: dict[str, Any] = {"machine": report.machine(), "settings": settings(given)}
    try:
        warm_up(given, folder)
        if "graph" in given.parts:
            results["graph"] = graph(given, folder)
        if "run" in given.parts:
            pairs = [(kind, size) for size in given.run_size for kind in given.kind]
            results["run"] = [run(given, folder, kind, size, given.block) for kind, size in pairs]
        if "pathological" in given.parts:
            size, block = given.pathological, given.pathological_block
            results["pathological"] = [run(given, folder, name, size, block) for name in given.worst]
    finally:
        main_job.cleaned(given, folder, [])
    lines = written(results)
    report.write(given.out, "label_scale", lines, results)
    print("\n".join(lines))
    return 0 if passed(results) else 1


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=words, default=PARTS, help="among " + ",".join(PARTS) + " (all)")
    parser.add_argument("--graph-size", type=int, default=5120, help="voxels along each axis for the graph (5120)")
    parser.add_argument("--run-size", type=sizes, default=[1024], help="the same for the run, one or more (1024)")
    parser.add_argument("--pathological", type=int, default=512, help="the same for the worst volumes (512)")
    parser.add_argument("--kind", type=words, default=["percolation"], help="of the run: among " + ",".join(NOISE))
    parser.add_argument("--worst", type=words, default=list(WORST), help="volumes, among " + ",".join(WORST) + " (all)")
    parser.add_argument("--minutes", type=float, default=60, help="after which a run is stopped (60)")
    parser.add_argument("--memory", default="2 GiB", help='memory setting ("2 GiB")')
    parser.add_argument("--threads", type=int, default=2, help="threads (2)")
    parser.add_argument("--block", type=int, default=128, help="voxels along each axis of a block (128)")
    parser.add_argument("--pathological-block", type=int, default=64, help="the same for the worst volumes (64)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--data", type=Path, default=HERE / "data", help="folder of the scratch, removed at the end")
    given = parser.parse_args(argv)
    given.keep = False
    for name, known in (("parts", PARTS), ("kind", NOISE), ("worst", WORST)):
        for word in getattr(given, name):
            if word not in known:
                parser.error(f"--{name}: there is no {word!r}: choose among {', '.join(known)}")
    numbers = [given.graph_size, *given.run_size, given.pathological, given.block, given.pathological_block]
    if min(*numbers, given.threads) < 1 or given.minutes <= 0:
        parser.error("sizes, blocks, --threads and --minutes must be positive")
    return given


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def sizes(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def settings(given: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(given).items() if name not in ("out", "data", "keep")}


# ---- running -------------------------------------------------------------------------------------------------------
def warm_up(given: argparse.Namespace, folder: Path) -> None:
    """Every volume once, two blocks along each axis: Numba compiles, the system reads the libraries from disk."""
    wanted = [(kind, max(given.run_size), given.block) for kind in given.kind if "run" in given.parts]
    small = given.pathological, given.pathological_block
    wanted += [(name, *small) for name in given.worst if "pathological" in given.parts]
    for name, size, block in wanted:
        if size > 2 * block:
            job(given, folder, python("jobs/label_run.py", name, 2 * block, block))


def job(given: argparse.Namespace, folder: Path, command: list[str]) -> dict[str, Any]:
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    os.sync()  # what the run before wrote is not to be waited for in this one
    settings = {"MEMORY": given.memory, "THREADS": str(given.threads), "SCRATCH": str(scratch)}
    load = os.getloadavg()[0]
    found = measure(command, 60 * given.minutes, {f"DASK_BIGBIA__{k}": v for k, v in settings.items()})
    shutil.rmtree(scratch, ignore_errors=True)  # of one that was stopped
    return found | {"load_before": load}


def graph(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    found = job(given, folder, python("jobs/label_graph.py", "noise", given.graph_size, given.block))
    output = found.pop("output")
    print(f"graph: {found['wall']:.1f} s, peak {report.gib(found['peak'])}", file=sys.stderr)
    return found | (json.loads(output) if found["finished"] else {})


def run(given: argparse.Namespace, folder: Path, name: str, size: int, block: int) -> dict[str, Any]:
    found = job(given, folder, python("jobs/label_run.py", name, size, block))
    lines = [json.loads(line) for line in found.pop("output").splitlines()]
    print(f"{name} {size}^3: {main_job.outcome([found], 60 * given.minutes)} s", file=sys.stderr)
    told = lines.pop() if found["finished"] else {}
    about = {"volume": name, "size": size, "block": block, "last": lines[-1] if lines else None}
    return found | about | {"memory": resident(lines), "told": told}


def resident(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """The memory over time: the first, the last and the largest of all samples, and some of them."""
    if not samples:
        return {}
    rss = [s["rss"] for s in samples]
    some = samples[:: max(1, len(samples) // SAMPLES)]
    quarters = [max(rss[len(rss) * q // 4 : max(len(rss) * q // 4 + 1, len(rss) * (q + 1) // 4)]) for q in range(4)]
    series = [[s["at"], s["rss"]] for s in some]
    return {"first": rss[0], "last": rss[-1], "peak": max(rss), "quarters": quarters, "series": series}


def passed(results: dict[str, Any]) -> bool:
    """All finished, and found as many objects as there are."""
    runs = results.get("run", []) + results.get("pathological", [])
    if not all(r["finished"] for r in [*runs, *([results["graph"]] if "graph" in results else [])]):
        return False
    return all(r["told"]["truth"] in (None, r["told"]["objects"]) for r in runs)


# ---- telling -------------------------------------------------------------------------------------------------------
def written(results: dict[str, Any]) -> list[str]:
    asked = results["settings"]
    lines = ["# Labelling at scale", "", "Volumes that are formulas; every measurement in a fresh process. "]
    lines[-1] += f"bigbia: {asked['threads']} threads, memory setting {asked['memory']}. Made by "
    lines[-1] += "`python benchmarks/label_scale.py`."
    for part, tell in (("graph", graph_lines), ("run", run_lines), ("pathological", worst_lines)):
        if part in results:
            lines += ["", *tell(results[part], asked)]
    return [*lines, "", *report.machine_lines(results["machine"])]


def graph_lines(found: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    head = ["blocks", "tasks", "tasks a block", "build, s", "optimise, s", "memory before", "after", "peak"]
    row = [f"{-((-asked['graph_size'] // asked['block']) ** 3):,}", *6 * "-", report.gib(found["peak"])]
    if found["finished"]:
        tasks = [f"{found['tasks']:,}", f"{found['tasks'] / found['blocks']:.2f}"]
        times = [f"{found['build']:.2f}", f"{found['optimise']:.2f}"]
        row = [f"{found['blocks']:,}", *tasks, *times, *(report.gib(found[k]) for k in ("before", "after", "peak"))]
    return [
        "## The graph",
        "",
        f"`measure.label` of {asked['graph_size']}^3 voxels, {NOISE['noise']}, in blocks of {asked['block']}^3; tasks "
        "of the optimised Dask graph. Nothing is computed. Memory is that of the process, libraries included: after "
        "the imports, with the optimised graph, and the largest.",
        "",
        *report.table(head, [row]),
        *unfinished([found], asked, "the graph"),
    ]


def run_lines(runs: list[dict[str, Any]], asked: dict[str, Any]) -> list[str]:
    head = ["volume", "voxels", "wall, s", "CPU, s", "Mvoxel/s", "objects", "peak memory", "scratch"]
    head += ["largest message of the merge", "largest of the counts"]
    used = [kind for kind in NOISE if any(r["volume"] == kind for r in runs)]
    return [
        "## A run",
        "",
        f"{'; '.join(f'{kind}: {NOISE[kind]}' for kind in used)}. Blocks of {asked['block']}^3. All stages of the "
        "labelling, without writing the labels; wall time, CPU time and peak memory are those of the process, "
        "libraries included, voxels a second those of the stages, the formula included. A message is a record that "
        "the tree of blocks hands on (`pairs`, `up`, `down`); counts are those along rows of blocks that number the "
        "objects.",
        "",
        *report.table(head, [run_row(r, asked) for r in runs]),
        *unfinished(runs, asked),
        *memory_lines(runs),
    ]


def run_row(r: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    told = r["told"]
    least = "" if r["finished"] else ">= "
    out = [r["volume"], f"{r['size']}^3", main_job.outcome([r], 60 * asked["minutes"]), f"{least}{r['cpu']:.1f}"]
    if not told:
        return [*out, "-", "-", least + report.gib(r["peak"]), *3 * "-"]
    rate, objects = f"{told['voxels'] / told['wall'] / 1e6:.1f}", f"{told['objects']:,}"
    bound = f"{told['message']['bytes'] / told['surface']:.2f} bytes a voxel of the surface"
    scratch = f"{report.gib(told['scratch'])} ({told['scratch'] / told['voxels']:.2f} bytes a voxel)"
    return [
        *out,
        rate,
        objects,
        report.gib(r["peak"]),
        scratch,
        f"{record(told['message'])}, {bound}",
        record(told["counts"]),
    ]


def record(largest: dict[str, Any]) -> str:
    return f"{largest['bytes'] / 1024:,.0f} KiB ({largest['kind']})" if largest["kind"] else "-"


def memory_lines(runs: list[dict[str, Any]]) -> list[str]:
    """How the memory went, a paragraph a run."""
    out = []
    for r in runs:
        if r["memory"]:
            first, last, peak = (report.gib(r["memory"][k]) for k in ("first", "last", "peak"))
            quarters = ", ".join(f"{q / 2**30:.2f}" for q in r["memory"]["quarters"])
            formula = (
                f" The formula alone takes {1e9 * r['told']['formula']:.1f} ns of CPU a voxel." if r["told"] else ""
            )
            out += [
                "",
                f"{r['volume']} {r['size']}^3, resident memory: {first} before the first block, {last} after the last, "
                f"{peak} at most; at most {quarters} GiB in the quarters of the time.{formula}",
            ]
    return out


def worst_lines(runs: list[dict[str, Any]], asked: dict[str, Any]) -> list[str]:
    head = ["volume", "wall, s", "objects", "peak memory", "scratch, bytes a voxel", "largest message of the merge"]
    head += ["its bytes / surface of the volume", "its bytes / surface of its own box"]
    return [
        "## The worst volumes",
        "",
        f"{asked['pathological']}^3 voxels in blocks of {asked['pathological_block']}^3. What a task of the merge is "
        "handed must be bounded by a surface: the largest record over the voxels on the surface of the whole volume, "
        "and over those on the surface of the node of the tree it belongs to.",
        "",
        *report.table(head, [worst_row(r, asked) for r in runs]),
        *unfinished(runs, asked),
    ]


def worst_row(r: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    told, wall = r["told"], main_job.outcome([r], 60 * asked["minutes"])
    if not told:
        return [WORST[r["volume"]], wall, "-", report.gib(r["peak"]), *4 * "-"]
    truth, message = told["truth"], told["message"]
    wrong = "" if truth in (None, told["objects"]) else f" (WRONG: there are {truth:,})"
    out = [WORST[r["volume"]], wall, f"{told['objects']:,}{wrong}", report.gib(r["peak"])]
    own = f"{message['bytes'] / message['surface']:.2f}" if message["surface"] else "-"
    ratios = [f"{message['bytes'] / told['surface']:.2f}", own]
    return [*out, f"{told['scratch'] / told['voxels']:.2f}", record(message), *ratios]


def unfinished(runs: list[dict[str, Any]], asked: dict[str, Any], name: str = "") -> list[str]:
    out = []
    for r in runs:
        if not r["finished"]:
            what = f"stopped after {asked['minutes']:g} min" if r["timed_out"] else "failed"
            blocks = (
                f", {r['last']['done']} of {r['last']['of']} blocks of it done"
                if r.get("last") and r["last"]["of"]
                else ""
            )
            title = name or f"{r['volume']} {r['size']}^3"
            out += ["", f'{title}: {what}, at the step "{r["steps"][-1][0]}"{blocks}.']
    return out


if __name__ == "__main__":
    sys.exit(main())
