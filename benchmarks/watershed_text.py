"""The results of watershed.py in words and tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

import main_job
import report
from labels import shown

TITLES = {"bigbia": "bigbia", "skimage": "scikit-image", "scipy": "SciPy", "edt": "edt"}
TASKS = {
    "distance": "distance transform of the mask of touching nuclei",
    "smooth": "watershed of smooth float32 noise, from minima",
    "inside": "watershed of minus the distance, in the mask",
    "peaks": "peak_local_max of the distance",
    "level": "flood level of the smooth noise (reconstruction by erosion)",
}
REFERENCE = {  # % of 96^3, by 6 and by 26 neighbours: of the definition's prototype (docs/design/004-watershed.md)
    "smooth float noise, minima": ("100", "100"),
    "rough float noise, random markers": ("100", "100"),
    "smooth uint8, minima": ("99.1", "99.2"),
    "8 grey levels, random markers": ("99.0", "95.6"),
    "constant, random markers": ("97.8", "94.5"),
    "minus distance, peaks": ("99.1", "99.5"),
    "minus distance, regions": ("99.7", "99.9"),
}


def written(results: dict[str, Any]) -> list[str]:
    asked = results["settings"]
    lines = ["# The watershed", ""]
    lines.append(
        f"Every measurement in a fresh process; median (smallest..largest) of {asked['repeats']}, the peers in turn; "
        "the large run is one run. Made by `python benchmarks/watershed.py`."
    )
    if results["wrong"]:
        lines += ["", "**WRONG:**", "", *(f"- {text}" for text in results["wrong"])]
    for part, tell in (
        ("agreement", agreement),
        ("alone", alone),
        ("whole", whole),
        ("split", split),
        ("real", real),
        ("large", large),
    ):
        if part in results:
            lines += ["", *tell(results[part], asked)]
    return [*lines, "", *report.machine_lines(results["machine"])]


def nanoseconds(clocks: Iterable[dict[str, float]], voxels: int, what: str = "cpu") -> list[float]:
    return [1e9 * c[what] / voxels for c in clocks]


def ratios(clocks: dict[str, list[dict[str, float]]], peer: str) -> list[float]:
    """Of each turn: the peer's CPU time over bigbia's."""
    return [p["cpu"] / b["cpu"] for p, b in zip(clocks[peer], clocks["bigbia"])]


# ---- agreement -----------------------------------------------------------------------------------------------------
def agreement(found: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    head = ["image", "neighbours", "bigbia = scikit-image, %", "reference at 96^3, %"]
    head += ["scikit-image = itself turned, %", "bigbia = itself turned, %"]
    head += ["bigbia, ns/voxel", "scikit-image, ns/voxel", "times faster"]
    rows = []
    for i, (connectivity, r) in enumerate(found.items()):
        for one in r["told"] or []:
            rows.append(agreement_row(one, {"1": "6", "3": "26"}[connectivity], REFERENCE[one["name"]][i]))
    return [
        "## Agreement with scikit-image",
        "",
        f"Images of {asked['agreement_size']}^3; shares of the flooded voxels that have the same label. Turned: the image "
        "flipped along all axes, flooded, and the labels flipped back, which is how much each depends on the order in which it "
        "looks at voxels of equal values. NumPy arrays, one block, one thread, warm: CPU time a voxel of the whole image, "
        "flooded or not. The reference is the prototype of the definition, on images made alike from other random numbers.",
        "",
        *report.table(head, rows),
    ]


def agreement_row(one: dict[str, Any], neighbours: str, reference: str) -> list[str]:
    times = {p: shown(nanoseconds(c, one["voxels"]), "{:.0f}") for p, c in one["clocks"].items()}
    faster = shown(ratios(one["clocks"], "skimage"), "{:.2f}")
    same, itself = percent(one["agreement"]), [percent(one["itself"][peer]) for peer in ("skimage", "bigbia")]
    return [one["name"], neighbours, same, reference, *itself, times["bigbia"], times["skimage"], faster]


def percent(share: float, digits: int = 2) -> str:
    """Rounded, but never up to 100."""
    text = f"{100 * share:.{digits}f}"
    return "< 100" if share < 1 and float(text) == 100 else text


# ---- one block -----------------------------------------------------------------------------------------------------
def alone(found: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    head = ["", "by", "CPU, ns/voxel", "wall, ns/voxel", "times bigbia's CPU", "voxels as bigbia's, %"]
    rows = []
    for task, r in found.items():
        told = r["told"]
        for peer, clocks in told.get("clocks", {}).items():
            times = [shown(nanoseconds(clocks, told["voxels"], what)) for what in ("cpu", "wall")]
            same = percent(told["same"][peer], 3) if peer in told["same"] else "-"
            rows.append([TASKS[task], TITLES[peer], *times, shown(ratios(told["clocks"], peer), "{:.2f}"), same])
    return [
        "## One block",
        "",
        f"{asked['alone_size']}^3 voxels in memory, warm, one thread: NumPy in, NumPy out. Ratios are those within each turn.",
        "",
        *report.table(head, rows),
    ]


# ---- whole images --------------------------------------------------------------------------------------------------
def whole(found: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    head = ["image", "", "wall, s", "times faster than scikit-image", "CPU, s", "peak memory, GiB", "labels"]
    size, chunk = asked["size"], min(asked["size"], asked["chunk"])
    out = [
        f"## Whole images, {size}^3",
        "",
        f"Image (float32), markers (uint32) and mask (bool) in chunks of {chunk}^3 (OME-Zarr, zstd), labels to Zarr (uint32, "
        "the same chunks, zstd level 1), 6 neighbours. scikit-image reads all, floods, writes. Imports included. bigbia: "
        f"{asked['threads']} threads, memory setting {asked['memory']}. "
        + "; ".join(f"{kind}: {one['what']}" for kind, one in found.items())
        + ".",
        "",
        *report.table(head, [whole_row(kind, peer, one, asked) for kind, one in found.items() for peer in one["runs"]]),
    ]
    for kind, one in found.items():
        out += ["", *whole_lines(kind, one)]
    return out


def whole_row(kind: str, peer: str, one: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    several, equal = one["runs"][peer], one["equal"]
    least = "" if several[-1]["finished"] else ">= "
    text = "the reference"
    if peer == "bigbia":
        text = "not compared"
        if equal:
            text = f"{percent(equal['equal'], 3)} % of the flooded equal" if equal["differ"] else "equal"
    return [
        kind,
        TITLES[peer],
        main_job.outcome(several, asked["limit"]),
        shown(one["faster"], "{:.2f}") if peer == "bigbia" else "-",
        least + report.spread([r["cpu"] for r in several]),
        least + report.spread([r["peak"] / 2**30 for r in several], "{:.2f}"),
        text,
    ]


def whole_lines(kind: str, one: dict[str, Any]) -> list[str]:
    """Rounds, scratch and steps, a paragraph each."""
    out = []
    if one["equal"]:
        share = percent(one["equal"]["flooded"] / one["equal"]["voxels"], 1)
        out.append(f"{kind}: {one['equal']['objects']:,} markers; {share} % of the voxels are flooded.")
    for peer, several in one["runs"].items():
        done = [r for r in several if r["finished"]]
        if done and peer == "bigbia":
            told = done[0]["told"]
            block = " x ".join(map(str, told["block"]))
            out.append(f"{kind}, blocks of {block}: {rounds(told)}. Left in scratch: {scratch(told['traffic'])}.")
        if done:
            times = zip(*([s[1] for s in r["steps"]] for r in done))
            steps = [f"{s[0]} {statistics.median(t):.2f}" for s, t in zip(done[0]["steps"], times)]
            out.append(f"{kind}, {TITLES[peer]}, seconds of wall time: {', '.join(steps)}.")
    return [line for text in out for line in (text, "")][:-1]


def rounds(told: dict[str, Any]) -> str:
    """How often a block was looked at, and in how many rounds."""
    parts = []
    for name, several in told["rounds"].items():
        listed = ", ".join(map(str, several)) if len(several) <= 12 else f"{', '.join(map(str, several[:12]))}, ..."
        visits = f"{sum(several) / told['blocks']:.1f} visits a block" + (f": {listed}" if listed else "")
        parts.append(f"{name} {len(several)} rounds over {told['blocks']:,} blocks ({visits})")
    return "; ".join(parts)


def scratch(traffic: dict[str, int]) -> str:
    return ", ".join(f"{name} {size / 2**20:,.1f} MiB" for name, size in traffic.items())


# ---- objects -------------------------------------------------------------------------------------------------------
def split(found: list[dict[str, Any]], asked: dict[str, Any]) -> list[str]:
    head = [
        "min_distance",
        "blocks",
        "wall, s",
        "Mvoxel/s",
        "peak memory, GiB",
        "objects",
        "nuclei",
        "precision",
        "recall",
    ]
    head += ["F1", "mean IoU", "labels"]
    return [
        f"## Touching nuclei split, {asked['size']}^3",
        "",
        "`split_touching` of the mask of synthetic touching nuclei that are read from their formula, compared with the exact "
        f"truth by `metrics.matching` at an overlap of 0.5. {asked['min_distance']} voxels finds every nucleus of 128^3, as all "
        f"distances from 5 to 12 do; it was looked for with the truth at hand. {asked['harder']} splits too much: what a "
        "chunking could change. `none`: the mask only labelled, which is what splitting has to improve upon. Wall time from "
        "the lazy arrays to the table. Labels: a fingerprint of all of them and their places.",
        "",
        *report.table(head, [split_row(one, asked) for one in found]),
    ]


def split_row(one: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    done = [r for r in one["runs"] if r["finished"]]
    start = [one["min_distance"], one["block"].replace(",", " x ")]
    if not done:
        return [*start, main_job.outcome(one["runs"], asked["limit"]), *9 * ["-"]]
    told = done[0]["told"]
    rate = [r["told"]["voxels"] / r["told"]["wall"] / 1e6 for r in done]
    times = report.spread([r["told"]["wall"] for r in done]), report.spread(rate)
    peak = report.spread([r["peak"] / 2**30 for r in done], "{:.2f}")
    return [*start, *times, peak, *scores(told["table"]), f"`{told['fingerprint'][:8]}`"]


def scores(table: dict[str, float]) -> list[str]:
    counts = [f"{table[k]:,}" for k in ("n_test", "n_true")]
    return counts + [f"{table[k]:.3f}" for k in ("precision", "recall", "f1", "mean_matched_iou")]


def real(found: dict[str, Any] | None, asked: dict[str, Any]) -> list[str]:
    start = ["### Real images", ""]
    if not found or not found["told"]:
        return [*start, "The real images were not here: set BIGBIA_TEST_DATA to their folder."]
    head = ["labels", "min_distance", "smooth", "objects", "true", "precision", "recall", "F1", "mean IoU"]
    head += ["F1 only labelled", "in blocks"]
    rows = []
    for one in found["told"]:
        words, same = [one["min_distance"], one["smooth"]], "equal" if one["blocks_equal"] else "DIFFERENT"
        rows.append([one["name"], *words, *scores(one["split"]), f"{one['labelled']['f1']:.3f}", same])
    return [
        *start,
        "The labels' own masks, split again. The mask is the true one, and the parameters are among the best of a few that were "
        "looked for with the truth at hand: how well it can do, not how well it does on an image nobody has labelled.",
        "",
        *report.table(head, rows),
    ]


# ---- at scale ------------------------------------------------------------------------------------------------------
def large(r: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    what = {
        "distance": "minus the distance in the mask of touching nuclei (float32), from its peaks 8 voxels apart, all from "
        "the formula of the nuclei on",
        "smooth": f"random voxels smoothed with sigma 3 (float32), from voxels evenly spread, {asked['spacing']} apart, "
        "whose water stands below all",
    }[asked["large_kind"]]
    told, least = r["told"], "" if r["finished"] else ">= "
    row = [f"{asked['large']}^3", main_job.outcome([r], 60 * asked["minutes"]), f"{least}{r['cpu']:.1f}"]
    row += [f"{told['voxels'] / told['wall'] / 1e6:.1f}" if told else "-", least + report.gib(r["peak"])]
    row += [f"{told[k]:,}" if told else "-" for k in ("basins", "last")]
    row += [f"{report.gib(told['scratch'])} ({told['scratch'] / told['voxels']:.2f} bytes a voxel)" if told else "-"]
    head = ["voxels", "wall, s", "CPU, s", "Mvoxel/s", "peak memory", "labels found", "markers", "scratch at most"]
    out = [
        f"## {asked['large']}^3",
        "",
        f"{what[0].upper()}{what[1:]}. Blocks of {asked['large_block']}^3, {asked['threads']} threads, memory setting "
        f"{asked['memory']}. Every block of labels is painted and counted, none stored.",
        "",
        *report.table(head, [row]),
    ]
    if r["memory"]:
        first, last = (report.gib(r["memory"][k]) for k in ("first", "last"))
        quarters = ", ".join(f"{q / 2**30:.2f}" for q in r["memory"]["quarters"])
        out += [
            "",
            f"Resident memory: {first} at first, {last} at last; at most {quarters} GiB in the quarters of the time.",
        ]
    if told:
        drawn = f"; {told['drawn']:,} nuclei were drawn" if told["drawn"] is not None else ""
        share = f"{100 * told['flooded'] / told['voxels']:.1f} % of the voxels are flooded"
        out += ["", f"{share}, a basin has {told['median']:,.0f} (median){drawn}. {rounds(told)}."]
        out += ["", f"Left in scratch: {scratch(told['traffic'])}."]
    return out
