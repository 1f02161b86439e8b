"""Runs that are killed, damaged, starved of room and of power: how many come through, and what it costs.

    python benchmarks/faults.py                        60 kills on threads, 15 with worker processes
    python benchmarks/faults.py --kills 200            200 on threads: about 25 min
    python benchmarks/faults.py --parts kills --seed 7 only that, at other moments

A run is a process (forked from a warm one where it has no workers), ended with SIGKILL at a random moment, and started
again until it has published; its output is compared, byte by byte, with that of a run that nothing disturbed. It exits
with 1 if anything was lost, came out differently, or was not noticed. What is injected and what is not:
docs/design/007-faults.md.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import report

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

import fault_damage  # noqa: E402
import faults  # noqa: E402

PARTS = ("kills", "operations", "power", "room", "damage", "foreign")
KILLED = ("filter", "label", "distance", "pyramid")
KINDS = {  # name -> how the disk fails at a chosen operation
    "killed in the middle of an operation on a file": ("kill", {}),
    "power lost, with all that was not on the disk": ("power", {"keep": 0.0}),
    "power lost, with half of it": ("power", {"keep": 0.5}),
}
ERRORS = {
    "no space left, from an operation on": ("ENOSPC", True),
    "quota used up, from an operation on": ("EDQUOT", True),
    "one operation fails (EIO)": ("EIO", False),
    "the disk fails (EIO), from an operation on": ("EIO", True),
}


def main(argv: list[str] | None = None) -> int:
    given = arguments(argv)
    given.data.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=given.data))
    server = faults.Server()
    settings = {k: v for k, v in vars(given).items() if k not in ("data", "out")}
    results: dict[str, Any] = {"machine": report.machine(), "settings": settings}
    lines, fine = written(results)
    parts: dict[str, Callable[[], Any]] = {
        "kills": lambda: kills(given, server, folder),
        "operations": lambda: {name: operations(given, server, folder, *KINDS[name]) for name in list(KINDS)[:1]},
        "power": lambda: {name: operations(given, server, folder, *KINDS[name]) for name in list(KINDS)[1:]},
        "room": lambda: {name: errors(given, server, folder, *ERRORS[name]) for name in ERRORS},
        "damage": lambda: damage(given, server, folder),
        "foreign": lambda: foreign(given, folder),
    }
    try:
        for name in given.parts:
            began = time.perf_counter()
            results[name] = parts[name]()
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
            lines, fine = written(results)  # after each part: the whole takes long
            report.write(given.out, "faults", lines, results)
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(lines))
    return 0 if fine else 1


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="of runs on threads, over four operators (60)")
    parser.add_argument("--process-kills", type=int, default=15, help="of runs with worker processes (15)")
    parser.add_argument("--points", type=int, default=40, help="operations on files at which the disk fails, each (40)")
    parser.add_argument("--size", type=int, default=64, help="voxels along each axis of the image (64)")
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--layouts", type=words, default=list(fault_damage.LAYOUTS), help="of the damaged outputs")
    parser.add_argument("--parts", type=words, default=list(PARTS), help="among " + ",".join(PARTS) + " (all)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--data", type=Path, default=HERE / "data", help="folder of the images, removed at the end")
    given = parser.parse_args(argv)
    for name, known in (("parts", PARTS), ("layouts", fault_damage.LAYOUTS)):
        for word in getattr(given, name):
            if word not in known:
                parser.error(f"--{name}: there is no {word!r}: choose among {', '.join(known)}")
    if min(given.kills, given.process_kills, given.points) < 0 or given.size < 32:
        parser.error("--kills, --process-kills and --points must not be negative, --size at least 32")
    return given


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


# ---- running -------------------------------------------------------------------------------------------------------
def kills(given: argparse.Namespace, server: faults.Server, folder: Path) -> list[dict[str, Any]]:
    """Kills at random moments, until there were as many as asked for."""
    source = faults.make_source(folder / "kills.zarr", given.size)
    found = []
    for scheduler, count in (("threads", given.kills), ("processes", given.process_kills)):
        for k, job in enumerate(KILLED):
            share = count // len(KILLED) + (k < count % len(KILLED))
            if not share:
                continue
            here = folder / f"{job}-{scheduler}"
            here.mkdir()
            request = {"job": job, "source": source, "scheduler": scheduler}
            killing = faults.Killing(server if scheduler == "threads" else None, here, request, given.seed + k)
            seconds, stories = killing.undisturbed(), []
            while sum(s.kills for s in stories) < share:
                left = share - sum(s.kills for s in stories)
                stories.append(killing.story(len(stories), most=min(5, left)))
            found.append(told(job, scheduler, seconds, killing.tasks, stories))
            print(found[-1], file=sys.stderr, flush=True)
    return found


def told(job: str, scheduler: str, seconds: float, tasks: int, stories: list[faults.Story]) -> dict[str, Any]:
    return {
        "job": job,
        "scheduler": scheduler,
        "seconds": seconds,
        "tasks": tasks,
        "runs": len(stories),
        "kills": sum(s.kills for s in stories),
        "survived": sum(s.kills for s in stories if not (s.errors or s.differ)),
        "lost": sum(s.lost for s in stories),
        "early": sum(s.early for s in stories),
        "redone": [n for s in stories for n in s.redone],
        "small": [n for s in stories for n in s.small],
        "excess": sum(s.excess for s in stories),
        "repeated": sum(len(s.repeated) for s in stories),
        "problems": [e for s in stories for e in [*s.errors, *s.differ]],
    }


def points_of(given: argparse.Namespace, server: faults.Server, folder: Path, job: str) -> tuple[dict, Path, list[int]]:
    """A run, its undisturbed output, and some of its operations on files: the last ones, and others by lot."""
    here = folder / f"at-{job}"
    request = {"job": job, "source": here / "in.zarr", "chunks": 8}
    reference = here / "reference" / "out.zarr"
    if not here.exists():
        here.mkdir()
        faults.make_source(here / "in.zarr", 32, 8)
    shutil.rmtree(reference.parent, ignore_errors=True)
    reference.parent.mkdir()
    found = server.run(**request, output=reference, disk={"root": str(reference.parent)})
    if found["error"]:
        raise RuntimeError(f"{job}: {found}")
    total = found["operations"]
    lot = random.Random(given.seed)
    last = range(max(1, total - given.points // 4), total + 1)
    return request, reference, sorted({*last, *lot.sample(range(1, total + 1), min(given.points, total))})


def operations(given: argparse.Namespace, server: faults.Server, folder: Path, kind: str, more: dict) -> dict[str, Any]:
    """The process, or the power, goes at chosen operations; then the run goes on."""
    count, problems = 0, []
    for job in KILLED:
        request, reference, points = points_of(given, server, folder, job)
        for number in points:
            here = fresh(folder / "case")
            disk = {"root": str(here), kind: number, "seed": number, **more}
            found = server.run(**request, output=here / "out.zarr", disk=disk)
            count += 1
            published = (here / "out.zarr").exists()
            if not found["signal"] and not published:
                problems.append(f"{job} {number}: {found}")
                continue
            if not published:
                found = server.run(**request, output=here / "out.zarr")
            if not (here / "out.zarr").exists():
                problems.append(f"{job} {number}: {found['error']}: {found.get('text')}")
            elif different := faults.differences(here / "out.zarr", reference):
                problems.append(f"{job} {number}: {'published early' if published else 'differs'}: {different[:3]}")
    return {"cases": count, "problems": problems}


def errors(given: argparse.Namespace, server: faults.Server, folder: Path, error: str, lasting: bool) -> dict[str, Any]:
    """The disk refuses; with a disk that works the run goes on."""
    count, named, through, problems = 0, 0, 0, []
    for job in ("label", "pyramid"):
        request, reference, points = points_of(given, server, folder, job)
        for number in points:
            here = fresh(folder / "case")
            disk = {"root": str(here), "error": error, "first": number, "last": 10**9 if lasting else number}
            found = server.run(**request, output=here / "out.zarr", disk=disk)
            count, named, through = (
                count + 1,
                named + (found["error"] == "StorageError"),
                through + (not found["error"]),
            )
            if found["error"] not in (None, "StorageError") or found["signal"]:
                problems.append(f"{job} {number}: {found['error']}: {found.get('text')}")
            if not (here / "out.zarr").exists():
                found = server.run(**request, output=here / "out.zarr")
            if not (here / "out.zarr").exists():
                problems.append(f"{job} {number}: does not go on: {found['error']}: {found.get('text')}")
            elif faults.differences(here / "out.zarr", reference):
                problems.append(f"{job} {number}: differs")
    return {"cases": count, "named": named, "went through": through, "problems": problems}


def damage(given: argparse.Namespace, server: faults.Server, folder: Path) -> list[dict[str, Any]]:
    found = []
    for layout in given.layouts:
        here = folder / f"damage-{layout}"
        here.mkdir()
        matrix = fault_damage.Matrix(server, here, layout)
        for k, case in enumerate(fault_damage.cases((layout,))):
            one = matrix.case(*case[1:], seed=given.seed + k)
            found.append({"case": list(case), "seed": one.seed, "what": one.what, "text": one.text})
    return found


def foreign(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    found = []
    for codecs in fault_damage.FOREIGN:
        for what in fault_damage.AT_FOREIGN:
            tries = [fault_damage.foreign(folder / "foreign.zarr", codecs, what, given.seed + k) for k in range(8)]
            found.append({"codecs": codecs, "damage": what, "what": tries})
    return found


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(f"{folder}.lost", ignore_errors=True)
    folder.mkdir()
    return folder


# ---- writing -------------------------------------------------------------------------------------------------------
def written(results: dict[str, Any]) -> tuple[list[str], bool]:
    """The page, and whether everything came through."""
    lines = ["# Faults", "", *report.machine_lines(results["machine"])]
    lines += [f"Seed {results['settings']['seed']}. Read with docs/design/007-faults.md."]
    sections = {
        "kills": kills_lines,
        "operations": cases_lines,
        "power": cases_lines,
        "room": room_lines,
        "damage": damage_lines,
        "foreign": foreign_lines,
    }
    titles = {
        "kills": "Killed at random moments (SIGKILL)",
        "operations": "Killed at an operation on a file",
        "power": "Power lost at an operation on a file",
        "room": "A disk that refuses",
        "damage": "Files that were damaged",
        "foreign": "Damaged files that other programs wrote",
    }
    fine = True
    for name, section in sections.items():
        if name in results:
            more, good = section(results[name])
            lines += ["", f"## {titles[name]}", "", *more]
            fine &= good
    return lines, fine


def kills_lines(rows: list[dict[str, Any]]) -> tuple[list[str], bool]:
    def line(name: str, scheduler: str, some: list[dict[str, Any]]) -> list[Any]:
        redone = [n for r in some for n in r["redone"]] or [0]
        small = [n for r in some for n in r["small"]] or [0]
        total = {k: sum(r[k] for r in some) for k in ("runs", "kills", "survived", "lost", "early", "repeated")}
        return [
            *(name, scheduler, total["runs"], f"{total['survived']}/{total['kills']}", total["lost"], total["early"]),
            *(f"{statistics.median(redone):g}; {max(redone)}", f"{statistics.median(small):g}; {max(small)}"),
            total["repeated"],
        ]

    head = ["operator", "on", "runs", "kills survived", "voxels lost", "early publishes"]
    head += ["blocks redone a kill (median; most)", "small tasks", "done and repeated"]
    lines = report.table(head, [line(r["job"], r["scheduler"], [r]) for r in rows] + [line("all", "", rows)])
    lines += ["", *(f"- {r['job']}: {p}" for r in rows for p in r["problems"])]
    bound = max((max(r["redone"], default=0) for r in rows), default=0) <= faults.IN_FLIGHT * 2
    good = all(r["survived"] == r["kills"] and not (r["early"] or r["repeated"] or r["problems"]) for r in rows)
    return lines, good and bound


def cases_lines(found: dict[str, dict[str, Any]]) -> tuple[list[str], bool]:
    rows = [[name, f"{r['cases'] - len(r['problems'])}/{r['cases']}"] for name, r in found.items()]
    problems = [f"- {name}: {p}" for name, r in found.items() for p in r["problems"]]
    return [*report.table(["what", "the same bytes in the end"], rows), "", *problems], not problems


def room_lines(found: dict[str, dict[str, Any]]) -> tuple[list[str], bool]:
    rows = [
        [name, r["cases"], r["named"], r["went through"], f"{r['cases'] - len(r['problems'])}/{r['cases']}"]
        for name, r in found.items()
    ]
    head = ["what", "cases", "StorageError", "went through all the same", "the same bytes in the end"]
    problems = [f"- {name}: {p}" for name, r in found.items() for p in r["problems"]]
    return [*report.table(head, rows), "", *problems], not problems


def damage_lines(found: list[dict[str, Any]]) -> tuple[list[str], bool]:
    counts: dict[tuple[str, str, str], Counter] = {}
    for one in found:
        layout, place, _, target = one["case"]
        if one["what"] != "nothing to damage":
            counts.setdefault((layout, place, target), Counter())[one["what"]] += 1
    rows = []
    for (layout, place, target), kinds in counts.items():
        total = sum(kinds.values())
        good = kinds["named"] + kinds["same"] + kinds["verify"]
        rows.append([f"{place}: {target}", layout, f"{good}/{total}", *(kinds[k] for k in ("named", "same", "verify"))])
        rows[-1] += [kinds["SILENT"], total - good - kinds["SILENT"]]
    head = ["where", "layout", "detected or undone", "named", "same bytes", "only `bigbia verify` sees it", "silent"]
    lines = report.table([*head, "stuck or not by name"], rows)
    bad = [o for o in found if o["what"] not in ("named", "same", "verify", "nothing to damage")]
    only = [o for o in found if o["what"] == "verify"]
    lines += ["", *(f"- {', '.join(o['case'])} (seed {o['seed']}): {o['what']}: {o['text'][:200]}" for o in bad)]
    lines += [f"- only `bigbia verify` sees: {', '.join(o['case'])}" for o in only]
    return lines, not bad


def foreign_lines(found: list[dict[str, Any]]) -> tuple[list[str], bool]:
    codecs = list(dict.fromkeys(o["codecs"] for o in found))
    rows = []
    for damage in dict.fromkeys(o["damage"] for o in found):
        tries = {o["codecs"]: Counter(o["what"]) for o in found if o["damage"] == damage}
        rows.append([damage, *(f"{sum(t.values()) - t['UNSEEN']}/{sum(t.values())}" for t in map(tries.get, codecs))])
    lines = ["Refused by name or read right, of 8 tries; the rest are voxels that nobody can know to be wrong.", ""]
    unnamed = [o for o in found if "UNNAMED" in o["what"]]
    return [*lines, *report.table(["damage", *codecs], rows)], not unnamed


if __name__ == "__main__":
    sys.exit(main())
