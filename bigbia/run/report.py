"""The run report: what a run did, how long it took, what went wrong and what came out, for people.

    _bigbia/report.json    the figures, from `report_of`
    _bigbia/report.html    one page that needs nothing else (`run/report_page.py`)

A run that was stopped or has failed has one too, in its `.partial` folder.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from bigbia.errors import BigbiaError, BigbiaWarning, StorageError
from bigbia.graph.journal import Written
from bigbia.graph.scratch import PREFIX
from bigbia.io.durable import put
from bigbia.run.contract import Run, Worked
from bigbia.run.ledger import FOLDER, entries_at, ledger_folder, read_json, stage_name
from bigbia.run.provenance import as_json, files_of, provenance, stamp, without_folders
from bigbia.run.provenance import times as told_times
from bigbia.run.report_blocks import Plane, Tally, axes_of
from bigbia.run.tasks import Failure

FORMAT = 1
REPORT, PAGE = f"{FOLDER}/report.json", f"{FOLDER}/report.html"
STATES = ("published", "stopped", "failed")
FAILURES = 200  # told one by one
MAPS = 24  # a pyramid of many images has more levels than anyone looks at


def state_of(error: BaseException | None) -> str:
    """How a run ended, by what ended it."""
    if error is None:
        return "published"
    return "failed" if isinstance(error, Exception) else "stopped"


def report_of(
    run: Run,
    manifest: Mapping[str, Any] | None,
    *,
    state: str,
    prediction: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a run did, as plain values: `report.json`.

    Parameters
    ----------
    run : the run
    manifest : what `seal` returned; None where it has not been called (see `with_manifest`)
    state : "published", "stopped" or "failed"
    prediction : the memory that was foretold, as `Admission.record` gives it

    Returns
    -------
    dict
        that of `provenance`, and: state, made, stages, maps, tasks, failures, memory, graph, workers

    Notes
    -----
    `seal` forgets what the stages left in the ledger that wrote no voxels. Called before it, the report knows how long
    they took in sessions that were killed; `with_manifest` adds what only the manifest says.

    Of the stages, `when` is "now" for those of this session, "earlier" for those of one before, "kept" for what an
    earlier output had, "later" for those that a run that did not end well had not begun or not finished.

    Examples
    --------
    >>> report_of(run, None, state="failed")["failures"][0]["region"]  # doctest: +SKIP
    'z=0..63, y=64..127, x=0..63'
    """
    assert state in STATES, state
    found = {**provenance(run, manifest, prediction=prediction), "format": FORMAT, "state": state}
    outputs = found["outputs"]
    maps, missing, workers = _maps(run, outputs)
    stages = [*_others(run, state), *(_row(w) for w in run.worked)]
    known = {(m.get("stage"), tuple(m.get("block", ()))) for m in found["missing"]}
    found["missing"] += [m for m in missing if (m["stage"], tuple(m["block"])) not in known]
    for lacking in found["missing"]:
        lacking["error"] = without_folders(str(lacking.get("error", "")), run)
    limit = (found["sessions"] or [{}])[-1].get("memory")
    return {
        **found,
        "made": stamp(time.time()),
        "stages": stages,
        "maps": maps,
        "tasks": _tasks(stages, maps),
        "failures": [_failure(f, run) for f in run.failures[:FAILURES]],
        "failed": len(run.failures),
        "memory": {
            "limit": limit,
            "predicted": (prediction or {}).get("predicted_peak"),
            "measured": max([0, *(s["peak"] for s in stages), *workers.values(), *(f.peak for f in run.failures)]),
            "parts": dict(prediction) if prediction else None,
        },
        "workers": [{"worker": name, "peak": peak} for name, peak in sorted(workers.items())],
        "graph": graph_of(found["pipeline"]),
    }


def with_manifest(report: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A report that was made before `seal`, with what the manifest says."""
    sessions = [dict(s) for s in report["sessions"]]
    times = dict(report["times"])
    if sessions and sessions[-1]["ended"] is None:
        began = _seconds(sessions[-1]["began"])
        sessions[-1] |= {"ended": stamp(manifest["made"]), "seconds": round(max(0.0, manifest["made"] - began), 3)}
        times = told_times(sessions)
    return {**report, "files": files_of(manifest), "sessions": sessions, "times": times}


@contextmanager
def harmless(run: Run) -> Iterator[None]:
    """A report that cannot be drawn is a warning: it does not spoil the run."""
    try:
        yield
    except Exception as error:
        warnings.warn(f"{run.final}: no report: {type(error).__name__}: {error}", BigbiaWarning, stacklevel=3)


def write_report(root: Path, report: Mapping[str, Any]) -> list[Written]:
    """Write `report.json` and `report.html` into the folder of a run; what was written, for the manifest.

    Parameters
    ----------
    root : the folder of the run: what has been written there is shown in the page
    report : from `report_of`

    Raises
    ------
    StorageError : the folder cannot be written to

    Examples
    --------
    >>> more = write_report(run.root, report_of(run, manifest, state="published"))  # doctest: +SKIP
    """
    from bigbia.run.report_page import page

    html = page(report, root).encode("utf-8", "backslashreplace")
    return [put(root, REPORT, as_json(report)), put(root, PAGE, html)]


# ---- stages ----------------------------------------------------------------------------------------------------------
def _row(worked: Worked) -> dict[str, Any]:
    """A step of a stage in this session."""
    total = math.prod(worked.numblocks) if worked.by_block else worked.done + worked.skipped
    voxels = worked.voxels * worked.done / total if worked.by_block and total else 0
    return {
        "stage": worked.stage,
        "token": worked.token,
        "step": worked.step,
        "title": worked.title,
        "by_block": worked.by_block,
        "total": total,
        "done": worked.done,
        "skipped": worked.skipped,
        "retries": worked.retries,
        "seconds": round(worked.seconds, 4),
        "rate": round(voxels / worked.seconds) if voxels and worked.seconds > 0 else None,
        "peak": worked.peak,
        "block": list(worked.block),
        "when": "now",
    }


def _others(run: Run, state: str) -> list[dict[str, Any]]:
    """The stages that this session did not work on.

    Those that earlier sessions did whole, as their report told them, else as the ledger does; those taken over from an
    earlier output; and in a run that did not end well those that had not begun.
    """
    now = {w.token for w in run.worked}
    try:
        before = read_json(run.root / REPORT)
    except StorageError:
        before = None
    mine = isinstance(before, dict) and (before.get("format"), before.get("run")) == (FORMAT, run.record.get("id"))
    told = [{**row, "when": "earlier"} for row in before["stages"] if row["when"] in ("now", "earlier")] if mine else []
    rows = [row for row in told if row["token"] not in now]
    names = {stage_name(w.stage, w.token) for w in run.worked} | {stage_name(r["stage"], r["token"]) for r in rows}
    for planned in run.record.get("plan", []):
        if planned["stage"] not in names:
            rows.append(_of_ledger(ledger_folder(run.root), planned, state))
    if run.carried:
        plan = {"stage": "", "kind": "images", "steps": {}}
        rows.insert(0, _of_files([ledger_folder(run.root) / name for name in run.carried], plan, "kept"))
    return rows


def _of_ledger(folder: Path, planned: Mapping[str, Any], state: str) -> dict[str, Any]:
    """A stage of which only the plan and the ledger are known."""
    files = sorted(folder.glob(f"{planned['stage']}.*.jsonl"))
    whole = state == "published" or (folder / f"{planned['stage']}.records").exists()
    return _of_files(files, planned, ("earlier" if files else "kept") if whole else "later")


def _of_files(ledgers: Sequence[Path], planned: Mapping[str, Any], when: str) -> dict[str, Any]:
    done = retries = peak = 0
    spent = 0.0
    for path in ledgers:
        first, last = math.inf, 0.0
        for _, entry in entries_at(path):
            done, retries, peak = done + 1, retries + entry.attempts - 1, max(peak, entry.peak)
            first, last = min(first, entry.at - entry.seconds), max(last, entry.at)
        spent += max(0.0, last - first)
    return {
        "stage": planned["kind"],
        "token": planned["stage"],
        "step": "",
        "title": planned["kind"],
        "by_block": True,
        "total": sum(planned["steps"].values()) or done,
        "done": done,
        "skipped": 0,
        "retries": retries,
        "seconds": round(spent, 4) if when == "earlier" else 0.0,
        "rate": None,
        "peak": peak if when == "earlier" else 0,
        "block": [],
        "when": when,
    }


def _tasks(stages: Sequence[Mapping[str, Any]], maps: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many tasks are done, how many of them in this session, and how often one was tried again.

    The ledger knows the blocks of all sessions, a row those of one.
    """
    mapped = {(m["token"], m["step"]): m["retries"] for m in maps}
    mine = [s for s in stages if s["when"] in ("now", "earlier")]
    return {
        "done": sum(s["done"] + s["skipped"] for s in mine),
        "now": sum(s["done"] for s in mine if s["when"] == "now"),
        "retries": sum(s["retries"] for s in mine if (s["token"], s["step"]) not in mapped) + sum(mapped.values()),
    }


# ---- blocks ----------------------------------------------------------------------------------------------------------
def _maps(run: Run, outputs: Mapping[str, Any]) -> tuple[list[dict], list[dict], dict[str, int]]:
    """The maps of the steps that wrote voxels and of those in which something went wrong; missing blocks; workers."""
    maps: list[dict[str, Any]] = []
    missing: list[dict[str, Any]] = []
    workers: dict[str, int] = {}
    last = {(w.stage, w.step): w for w in run.worked if w.by_block}
    latest = {(w.token, w.step): w for w in run.worked if w.by_block}
    for worked in latest.values():
        path = ledger_folder(run.root) / f"{stage_name(worked.stage, worked.token)}.{worked.step}.jsonl"
        # A failure tells the kind of its stage only: of several it is the one that ran last.
        mine = last[worked.stage, worked.step] is worked
        failed = [f for f in run.failures if mine and (f.stage, f.step) == (worked.stage, worked.step)]
        lost = any(m.get("stage") == worked.stage for m in run.missing)
        if not (failed or lost or worked.retries or _writes(path)):
            continue
        axes, shape = axes_of(worked.numblocks, worked.block, outputs)
        tally = Tally(Plane(worked.numblocks, axes), worked.block, shape).read(path).fail(failed)
        missing += [{"stage": worked.stage, **one} for one in tally.lacking]
        for name, peak in tally.workers.items():
            workers[name] = max(workers.get(name, 0), peak)
        if len(maps) < MAPS:
            head = {"stage": worked.stage, "step": worked.step, "title": worked.title, "token": worked.token}
            maps.append({**head, **tally.map()})
    return maps, missing, workers


def _writes(ledger: Path) -> bool:
    """Whether a step wrote files of the output: its first line shows it."""
    for _, entry in entries_at(ledger):
        return any(not file.name.startswith(PREFIX) for file in entry.files)
    return False


def _failure(failure: Failure, run: Run) -> dict[str, Any]:
    found = failure.record()
    return {**found, "error": without_folders(found["error"], run)}


# ---- the pipeline ----------------------------------------------------------------------------------------------------
def graph_of(document: Any) -> dict[str, Any] | None:
    """The steps of a pipeline and which of them each one reads.

    nodes : name, kind ("input", "call", "expression", "output"), op, parameters (without the steps it reads)
    edges : [from, to, by which word]; None for a run without a pipeline
    """
    if document is None:
        return None
    from bigbia.run.pipeline import INPUT, Call, Pipeline

    try:
        pipeline = Pipeline.of(document)
    except BigbiaError as error:
        return {"nodes": [], "edges": [], "problem": str(error)}
    nodes: list[dict[str, Any]] = [{"name": INPUT, "kind": "input", "op": "", "parameters": {}}]
    edges: list[list[str]] = []
    for name, step in pipeline.steps.items():
        if isinstance(step, Call):
            words = step.images | step.tables
            rest = {k: v for k, v in step.arguments.items() if k not in words or not step.named(frozenset({k}))}
            nodes.append({"name": name, "kind": "call", "op": step.op, "parameters": rest})
            edges += [[other, name, word] for word in step.arguments if word in words for other in step.named(frozenset({word}))]  # fmt: skip
        else:
            nodes.append({"name": name, "kind": "expression", "op": step.text, "parameters": {}})
            edges += [[other, name, ""] for other in dict.fromkeys(step.names)]
    for place, step_name in _saved(pipeline.save):
        shown = f"save {place}"  # no step has a space in its name
        nodes.append({"name": shown, "kind": "output", "op": "", "parameters": {}})
        edges.append([step_name, shown, ""])
    return {"nodes": nodes, "edges": edges, "problem": None}


def _saved(save: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is saved, by its place in the output, and the step it comes from."""
    for section, value in save.items():
        if isinstance(value, Mapping):
            yield from ((f"{section}/{name}", step) for name, step in value.items())
        else:
            yield section, value


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
