"""The watershed against its peers: agreement, speed of a block, whole images from Zarr to Zarr, objects split, and at scale.

    python benchmarks/watershed.py                                 all but the large run
    python benchmarks/watershed.py --parts whole --size 256        only that, smaller
    python benchmarks/watershed.py --parts large --large 2000      a volume that is a formula

Every measurement is a fresh process; peers take turns. It exits with 1 if something did not finish, if bigbia's labels of
an image without equal values are not scikit-image's, if the chunking changes what is split, or if a marker of the large run
has no voxels. README.md says how to read the result.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import labels
import main_job
import report
import watershed_text
from label_scale import resident
from measure import measure, python

HERE = Path(__file__).resolve().parent
PARTS = ("agreement", "alone", "whole", "split", "large")
TASKS = ("distance", "smooth", "inside", "peaks", "level")
KINDS = ("distance", "smooth")
PEERS = {"bigbia": "jobs/watershed_bigbia.py", "skimage": "jobs/watershed_memory.py"}
EXACT = ("smooth",)  # kinds whose voxels all differ: the result must be scikit-image's
MIN_DISTANCE = "8"  # finds every nucleus at 128^3, as all from 5 to 12 do (pitch 24)
HARDER = "2"  # splits too much: labels that a chunking could change
WARM_UP = 64


def main(argv: list[str] | None = None) -> int:
    given = arguments(argv)
    given.data.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": report.machine(), "settings": settings(given)}
    results["machine"]["versions"]["edt"] = report.version("edt")
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=given.data))
    made: list[Path] = []
    try:
        if "agreement" in given.parts:
            results["agreement"] = {str(c): agreement(given, folder, c) for c in (1, 3)}
        if "alone" in given.parts:
            results["alone"] = {task: alone(given, folder, task) for task in TASKS}
        if "whole" in given.parts:
            results["whole"] = {kind: whole(given, folder, made, kind) for kind in KINDS}
        if "split" in given.parts:
            results["split"] = split(given, folder)
            results["real"] = real(given, folder)
        if "large" in given.parts and given.large:
            results["large"] = large(given, folder)
    finally:
        main_job.cleaned(given, folder, made)
    results["wrong"] = wrong(results)
    lines = watershed_text.written(results)
    report.write(given.out, "watershed", lines, results)
    print("\n".join(lines))
    return 1 if results["wrong"] else 0


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parts", type=labels.words_of, default=list(PARTS), help="among " + ",".join(PARTS) + " (all)"
    )
    parser.add_argument("--agreement-size", type=int, default=96, help="voxels along each axis, agreement (96)")
    parser.add_argument("--alone-size", type=int, default=256, help="the same for one block (256)")
    parser.add_argument("--size", type=int, default=512, help="the same for whole images and for the split (512)")
    parser.add_argument("--large", type=int, help="the same for the large run; without it there is none")
    parser.add_argument("--large-kind", choices=KINDS, default="distance", help="what it floods (distance)")
    parser.add_argument("--large-block", type=int, default=128, help="voxels along each axis of its blocks (128)")
    parser.add_argument("--spacing", type=int, default=24, help="voxels from marker to marker of its smooth kind (24)")
    parser.add_argument("--repeats", type=int, default=3, help="turns (3)")
    parser.add_argument("--limit", type=float, default=1200, help="seconds after which a process is stopped (1200)")
    parser.add_argument("--minutes", type=float, default=90, help="after which the large run is stopped (90)")
    parser.add_argument("--memory", default="2 GiB", help='memory setting of bigbia ("2 GiB")')
    parser.add_argument("--threads", type=int, default=2, help="threads of bigbia (2)")
    parser.add_argument("--chunk", type=int, default=128, help="voxels along each axis of a stored chunk (128)")
    parser.add_argument("--block", type=int, help="the same of bigbia's blocks of whole images (it chooses)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--data", type=Path, default=HERE / "data", help="folder of the images, removed at the end")
    parser.add_argument("--keep", action="store_true", help="keep the images")
    given = parser.parse_args(argv)
    for word in given.parts:
        if word not in PARTS:
            parser.error(f"--parts: there is no {word!r}: choose among {', '.join(PARTS)}")
    if given.parts == ["large"] and not given.large:
        parser.error("--parts large: say how large, --large 2000")
    numbers = [given.agreement_size, given.alone_size, given.size, given.chunk, given.large_block, given.spacing]
    if min(*numbers, given.repeats, given.threads) < 1 or min(given.limit, given.minutes) <= 0:
        parser.error("sizes, blocks, --spacing, --repeats, --threads, --limit and --minutes must be positive")
    return given


def settings(given: argparse.Namespace) -> dict[str, Any]:
    out = {name: value for name, value in vars(given).items() if name not in ("out", "data", "keep")}
    return out | {"min_distance": MIN_DISTANCE, "harder": HARDER}


# ---- running -------------------------------------------------------------------------------------------------------
def run(
    given: argparse.Namespace, folder: Path, title: str, *command: Any, target: Path | None = None
) -> dict[str, Any]:
    found = labels.timed(given, python(*command), folder, target)
    print(f"{title}: {main_job.outcome([found], given.limit)} s", file=sys.stderr)
    return found


def agreement(given: argparse.Namespace, folder: Path, connectivity: int) -> dict[str, Any]:
    words = given.agreement_size, connectivity, given.repeats
    return run(given, folder, f"agreement, connectivity {connectivity}", "jobs/watershed_agreement.py", *words)


def alone(given: argparse.Namespace, folder: Path, task: str) -> dict[str, Any]:
    words = task, given.alone_size, given.repeats
    return run(given, folder, f"alone, {task}", "jobs/watershed_alone.py", *words)


def whole(given: argparse.Namespace, folder: Path, made: list[Path], kind: str) -> dict[str, Any]:
    """The peers in turn; the first results are compared. Who fails is not asked again."""
    if given.size > WARM_UP:
        warm = prepared(given, kind, WARM_UP, made)
        for peer in PEERS:
            flooded(given, folder, peer, warm, f"whole, {kind}, {peer}, warm-up")
    image = prepared(given, kind, given.size, made)
    runs: main_job.Runs = {peer: [] for peer in PEERS}
    equal = None
    for turn in range(given.repeats):
        for peer in PEERS:
            if all(r["finished"] for r in runs[peer]):
                runs[peer].append(flooded(given, folder, peer, image, f"whole, {kind}, {peer}"))
        if turn == 0 and all(several[0]["finished"] for several in runs.values()):
            check = measure(python("jobs/watershed_check.py", folder / "skimage", folder / "bigbia"), limit=3600)
            equal = json.loads(check["output"]) if check["finished"] else None
    return {
        "what": image["what"],
        "runs": runs,
        "equal": equal,
        "faster": main_job.ratios(runs["bigbia"], runs["skimage"]),
    }


def prepared(given: argparse.Namespace, kind: str, size: int, made: list[Path]) -> dict[str, Any]:
    """The images of that size, made in a process of its own."""
    found = measure(python("jobs/watershed_data.py", given.data, kind, size, given.chunk), limit=3600)
    if not found["finished"]:
        raise SystemExit("the images could not be made: see the message above")
    image = json.loads(found["output"])
    if image["made"]:
        made.append(Path(image["path"]))
    return image


def flooded(given: argparse.Namespace, folder: Path, peer: str, image: dict[str, Any], title: str) -> dict[str, Any]:
    words = image["path"], folder / peer, given.chunk, 1
    return run(given, folder, title, PEERS[peer], *words, target=folder / peer)


def split(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Touching nuclei: several chunkings in turn, a harder distance once, and only labelled."""
    n = given.size
    blocks = [str(max(1, n // 4)), str(max(1, n // 2)), f"{max(1, n // 8)},{n},{max(1, round(n * 200 / 512))}"]
    script = "jobs/watershed_split.py"
    if n > WARM_UP:
        run(given, folder, "split, warm-up", script, WARM_UP, WARM_UP // 2, MIN_DISTANCE)
    asked = [(b, MIN_DISTANCE, given.repeats) for b in blocks] + [(b, HARDER, 1) for b in blocks]
    out = [{"block": b, "min_distance": d, "times": t, "runs": []} for b, d, t in [*asked, (blocks[1], "none", 1)]]
    for turn in range(given.repeats):
        for one in out:
            if turn < one["times"] and all(r["finished"] for r in one["runs"]):
                b, d = one["block"], one["min_distance"]
                one["runs"].append(run(given, folder, f"split, blocks {b}, min_distance {d}", script, n, b, d))
    return out


def real(given: argparse.Namespace, folder: Path) -> dict[str, Any] | None:
    place = Path(os.environ.get("BIGBIA_TEST_DATA", HERE.parents[1] / "shared" / "data"))
    if not place.is_dir():
        print("split, real images: they are not here (BIGBIA_TEST_DATA)", file=sys.stderr)
        return None
    return run(given, folder, "split, real images", "jobs/watershed_real.py", place)


def large(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    def job(size: int, minutes: float) -> dict[str, Any]:
        command = python("jobs/watershed_large.py", given.large_kind, size, given.large_block, given.spacing)
        (load, *_), settings = os.getloadavg(), labels.words(given, folder)
        settings.pop("DASK_BIGBIA__BLOCK", None)
        return measure(command, 60 * minutes, settings) | {"load_before": load}

    if given.large > 2 * given.large_block:
        job(2 * given.large_block, 10)
    found = job(given.large, given.minutes)
    lines = [json.loads(line) for line in found.pop("output").splitlines()]
    print(f"large: {main_job.outcome([found], 60 * given.minutes)} s", file=sys.stderr)
    told = lines.pop() if found["finished"] else {}
    return found | {"memory": resident(lines), "last": lines[-1] if lines else None, "told": told}


# ---- judging -------------------------------------------------------------------------------------------------------
def wrong(results: dict[str, Any]) -> list[str]:
    """What must not be, a sentence each."""
    out = [f"{title}: did not finish" for title, r in everything(results) if not r["finished"]]
    for c, found in results.get("agreement", {}).items():
        bad = [one["name"] for one in found["told"] or [] if not one["same_extent"]]
        out += [f"agreement, connectivity {c}, {name}: other voxels are flooded" for name in bad]
    for kind, found in results.get("whole", {}).items():
        if found["equal"] is None:
            out.append(f"whole, {kind}: not compared")
        elif kind in EXACT and found["equal"]["differ"]:
            out.append(f"whole, {kind}: {found['equal']['differ']:,} voxels differ, though no two have one value")
    for d in (MIN_DISTANCE, HARDER):
        told = [r["told"] for one in results.get("split", []) if one["min_distance"] == d for r in one["runs"]]
        for what in ("table", "fingerprint"):
            if len({json.dumps(t[what]) for t in told if t}) > 1:
                out.append(f"split, min_distance {d}: the {what} depends on the chunking")
    bad = [one["name"] for one in (results.get("real") or {}).get("told", []) if not one["blocks_equal"]]
    out += [f"split, {name}: the labels depend on the chunking" for name in bad]
    told = results.get("large", {}).get("told")
    if told and told["basins"] != told["last"]:
        out.append(f"large: {told['last'] - told['basins']:,} of {told['last']:,} markers have no voxels")
    if told and results["settings"]["large_kind"] == "smooth" and told["dry"]:
        out.append(f"large: {told['dry']:,} voxels are not flooded")
    return out


def everything(results: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """All runs, by title."""
    out = [(f"agreement, connectivity {c}", r) for c, r in results.get("agreement", {}).items()]
    out += [(f"alone, {task}", r) for task, r in results.get("alone", {}).items()]
    for kind, found in results.get("whole", {}).items():
        out += [(f"whole, {kind}, {peer}", r) for peer, several in found["runs"].items() for r in several]
    for one in results.get("split", []):
        out += [(f"split, {one['block']}, min_distance {one['min_distance']}", r) for r in one["runs"]]
    return out + [(name, results[name]) for name in ("real", "large") if results.get(name)]


if __name__ == "__main__":
    sys.exit(main())
