"""The run report as one HTML file: no network, no scripts, for the screen and for paper.

Every text comes from outside (file names, parameters, error messages) and goes through `safe`.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bigbia.run.explain import size
from bigbia.run.report_drawings import NODES, block_map, graph, legend, safe, seconds
from bigbia.run.report_pictures import IMAGES, Picture, pictures
from bigbia.run.report_style import STYLE

SMALL = 0.01  # of the time: steps between those on blocks that took less are told in one line
APART, ROWS, TOLD = 24, 80, 200  # rows of steps before they are joined, and after; missing blocks told one by one
WIDTHS = (320.0, 235.0)  # of a picture: three in a row, or four
FEW = 8  # blocks of which a map says nothing, unless something went wrong
WORDS = {
    "published": "Finished: every block is there, and the output was published.",
    "stopped": "Stopped before the end. What was done is kept; run the same command again to go on.",
    "failed": "Failed. What was done is kept; mend what went wrong and run the same command again to go on.",
}


WHEN = {"earlier": "in an earlier session", "kept": "taken over from an earlier output", "later": "not finished"}


def page(report: Mapping[str, Any], root: Path) -> str:
    """The report as HTML.

    Parameters
    ----------
    report : from `report_of`
    root : the folder of the run, whose images and labels are drawn

    Returns
    -------
    str, one document that loads nothing

    Examples
    --------
    >>> Path("report.html").write_text(page(report, Path("nuclei.zarr")))  # doctest: +SKIP
    """
    name = safe(report["output"])
    sections = [
        _header(report),
        _wrong(report),
        _pictures(report, root),
        _stages(report["stages"]),
        _maps(report["maps"]),
        _memory(report["memory"]),
        _pipeline(report),
        _sessions(report["sessions"]),
        _origin(report),
        _next(report),
    ]
    return document(f"{name}: run report", sections)


def document(title: str, sections: Iterable[str]) -> str:
    """A page of some sections, which loads nothing. The title is safe."""
    body = "\n".join(filter(None, sections))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, content: str, note: str = "") -> str:
    note = f'<p class="note">{note}</p>' if note else ""
    return f"<section>\n<h2>{title}</h2>\n{note}{content}\n</section>"


def table_of(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Cells are HTML. A heading that begins with # is of figures, to the right."""
    right = [h.startswith("#") for h in head]
    tags = [' class="n"' if r else "" for r in right]
    top = "".join(f"<th{t}>{h.lstrip('#')}</th>" for h, t in zip(head, tags))
    lines = "\n".join("<tr>" + "".join(f"<td{t}>{c}</td>" for c, t in zip(row, tags)) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{top}</tr></thead>\n<tbody>{lines}</tbody></table></div>'
    )


def _bar(share: float, text: str, kind: str = "") -> str:
    return f'<div class="bar {kind}"><i style="width:{100 * min(1.0, max(0.0, share)):.1f}%"></i><b>{text}</b></div>'


# ---- what, when, how -------------------------------------------------------------------------------------------------
def _header(report: Mapping[str, Any]) -> str:
    state, times, machine = report["state"], report["times"], report["machine"]
    wrong = len(report["missing"])
    said = WORDS[state]
    if wrong and state == "published":
        said = f"Finished, but {wrong} blocks are missing: zeros stand for them."
    elif report["sessions"] and report["sessions"][-1]["error"] and state == "failed":
        said += f"<br>{_error(report['sessions'][-1]['error'])}"
    memory, tasks = report["memory"], report["tasks"]
    tiles = [
        ("time", seconds(times["seconds"]), f"in {times['sessions']} sessions" if times["sessions"] > 1 else ""),
        ("tasks done", f"{tasks['done']:,}", f"{tasks['now']:,} in this session" if times["sessions"] > 1 else ""),
        ("tried again", f"{tasks['retries']:,}", ""),
        ("peak memory", size(memory["measured"]), f"of {size(memory['limit'])}" if memory["limit"] else ""),
    ]
    if files := report["files"]:
        tiles.append(("written", size(files["bytes"]), f"{files['files']:,} files"))
    shown = "".join(f"<div><span>{k}</span><b>{v}</b><small>{note}</small></div>" for k, v, note in tiles)
    where = [_when(times["began"]), f"on {safe(machine['host'])}", f"bigbia {safe(report['versions'].get('bigbia'))}"]
    mood = "warned" if wrong and state == "published" else state
    return (
        f'<header><p class="kind">bigbia run report</p><h1>{safe(report["output"])} <span class="state {mood}">{state}</span></h1>'
        f'<p class="note">{" · ".join(where)}</p><p>{said}</p><div class="tiles">{shown}</div></header>'
    )


def _when(stamp: str | None) -> str:
    return safe(stamp[:19].replace("T", " ")) + " UTC" if stamp else "?"


def _wrong(report: Mapping[str, Any]) -> str:
    """What failed and what is missing."""
    content = ""
    if report["failures"]:
        failures = [
            (
                f"{safe(f['stage'])}, {safe(f['step'])}",
                safe(f["region"] or tuple(f["block"])),
                safe(f["why"]),
                str(f["attempts"]),
                safe(f["worker"]),
                size(f["peak"]),
                _error(f["error"]),
            )
            for f in report["failures"]
        ]
        head = ("Stage", "Voxels", "Why", "#Attempts", "Worker", "#Its peak", "Error")
        content += section("Failures", table_of(head, failures), _more(report["failed"] - len(failures)))
    if lacking := report["missing"]:
        missing = [
            (safe(m.get("stage")), safe(m.get("region") or m.get("block")), _error(m["error"])) for m in lacking[:TOLD]
        ]
        note = "These could not be computed, and the run was told to do without: zeros stand for them."
        table = table_of(("Stage", "Block", "Error"), missing)
        content += section("Missing blocks", table, f"{note} {_more(len(lacking) - TOLD)}")
    if absent := report.get("missing_chunks"):
        note = "Chunks that the input does not have: they were read as its fill value."
        found = absent.items() if isinstance(absent, Mapping) else [("", absent)]
        content += section(
            "Missing in the input", table_of(("Input", "Chunks"), [(safe(k), safe(v)) for k, v in found]), note
        )
    return content


def _error(text: object) -> str:
    return f'<code class="error">{safe(text)}</code>'


def _more(n: int) -> str:
    return f"and {n:,} more" if n > 0 else ""


# ---- the result ------------------------------------------------------------------------------------------------------
def _pictures(report: Mapping[str, Any], root: Path) -> str:
    groups = []
    for place, layout in list(report["outputs"].items())[:IMAGES]:
        try:
            some = list(pictures(root, {place: layout}))
            wide = WIDTHS[len(some) > 3]
            figures = "".join(figure(picture, wide) for picture in some)
        except Exception as error:  # a damaged file, say: the rest of the report is worth having all the same
            figures = f'<p class="note">cannot be drawn: {safe(type(error).__name__)}: {safe(error)}</p>'
        shape = ", ".join(f"{a} {n:,}" for a, n in zip(layout["axes"], layout["shape"]))
        figures = (
            figures or '<p class="note">not drawn: nothing is written yet, or its chunks are larger than 64 MiB</p>'
        )
        groups.append(
            f'<h3>{safe(place)} <small>{safe(shape)} · {safe(layout["dtype"])}</small></h3><div class="row">{figures}</div>'
        )
    if not groups:
        return ""
    if (more := len(report["outputs"]) - IMAGES) > 0:
        groups.append(f'<p class="note">and {more} more</p>')
    note = "" if report["state"] == "published" else "Unfinished: where nothing has been written yet, it is black."
    return section("Result", "".join(groups), note)


def figure(picture: Picture, wide: float) -> str:
    width = min(wide, wide * max(picture.aspect, 0.15))
    data = base64.b64encode(picture.png).decode()
    crisp = ' class="crisp"' if picture.labels else ""
    what = safe(picture.what)
    return (
        f'<figure style="max-width:{wide:.0f}px"><div class="shot" style="width:{width:.0f}px">'
        f'<img{crisp} src="data:image/png;base64,{data}" alt="{safe(picture.place)} {what}" '
        f'width="{width:.0f}" height="{width / picture.aspect:.0f}">{_scale(picture)}</div>'
        f"<figcaption>{what}<small>{safe(picture.note)}</small></figcaption></figure>"
    )


def _scale(picture: Picture) -> str:
    """A scale bar of 1, 2 or 5 times a power of ten, about a fifth of the width."""
    if not picture.across or not picture.unit:
        return ""
    from math import floor, log10

    wanted = picture.across / 5
    power = 10.0 ** floor(log10(wanted))
    length = max(k * power for k in (1, 2, 5) if k * power <= wanted)
    unit = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm"}.get(picture.unit, picture.unit)
    return f'<span class="scalebar" style="width:{100 * length / picture.across:.1f}%">{length:g} {safe(unit)}</span>'


# ---- the work --------------------------------------------------------------------------------------------------------
def _stages(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    total = sum(r["seconds"] for r in rows) or 1.0
    told = [r for r in rows if r["by_block"] or r["retries"] or r["seconds"] >= SMALL * total]
    rest = [r for r in rows if r not in told]
    if len(told) > APART:
        told = _together(told)
    told.sort(key=lambda r: r["when"] == "later")
    most = {k: max([r[k] or 0 for r in told], default=0) or 1 for k in ("seconds", "rate", "peak")}
    lines = [_step(r, most) for r in told[:ROWS]]
    if rest:
        spent, done = sum(r["seconds"] for r in rest), sum(r["done"] for r in rest)
        bar = _bar(spent / most["seconds"], seconds(spent))
        lines.append((f"<small>{len(rest)} small steps between</small>", f"{done:,}", "", "", bar, "", ""))
    head = ("Step", "#Tasks", "#Done before", "#Tried again", "Time", "Voxels a second", "Peak memory")
    note = "In the order in which they ran. Peak memory: the most that a process had taken by the end of the step."
    return section("Steps", table_of(head, lines, "stages") + f"<p>{_more(len(told) - ROWS)}</p>", note)


def _together(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The same step of many stages, one a time and channel, as one row."""
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for r in rows:
        groups.setdefault((r["stage"], r["title"], r["when"]), []).append(r)
    found: list[Mapping[str, Any]] = []
    for some in groups.values():
        sums = {k: sum(r[k] for r in some) for k in ("total", "done", "skipped", "retries", "seconds")}
        voxels = sum((r["rate"] or 0) * r["seconds"] for r in some)
        rate = round(voxels / sums["seconds"]) if voxels and sums["seconds"] else None
        title = some[0]["title"] + (f" ({len(some):,} times)" if len(some) > 1 else "")
        found.append({**some[0], **sums, "rate": rate, "peak": max(r["peak"] for r in some), "title": title})
    return found


def _step(r: Mapping[str, Any], most: Mapping[str, float]) -> tuple[str, ...]:
    """A row of the table of steps."""
    name = safe(r["title"]) if r["by_block"] else f"{safe(r['stage'])}: {safe(r['step'])}"
    before = f" <small>{WHEN[r['when']]}</small>" if r["when"] != "now" else ""
    of = f" <small>of {r['total']:,}</small>" if r["done"] + r["skipped"] < r["total"] else ""
    timed = r["done"] and r["when"] != "kept"
    return (
        name + before,
        f"{r['done']:,}{of}",
        f"{r['skipped']:,}" if r["skipped"] else "",
        f"<mark>{r['retries']:,}</mark>" if r["retries"] else "",
        _bar(r["seconds"] / most["seconds"], seconds(r["seconds"])) if timed else "",
        _bar(r["rate"] / most["rate"], _rate(r["rate"]), "rate") if r["rate"] else "",
        _bar(r["peak"] / most["peak"], size(r["peak"]), "peak") if r["peak"] else "",
    )


def _rate(n: float) -> str:
    for unit in ("", "k", "M", "G"):
        if n < 1000 or unit == "G":
            return f"{n:.3g} {unit}".rstrip()
        n /= 1000
    raise AssertionError


def _maps(maps: Sequence[Mapping[str, Any]]) -> str:
    drawn = []
    for m in maps:
        if m["total"] < FEW and not (m["failed"] or m["missing"] or m["retries"]):
            continue
        many = " x ".join(map(str, m["numblocks"]))
        head = f"<h3>{safe(m['title'])} <small>{many} blocks of {' x '.join(map(str, m['block']))} voxels</small></h3>"
        words = {"retries": "tried again", "failed": "failed", "missing": "missing"}
        facts = [f"{m['done']:,} of {m['total']:,} done", *(f"{m[k]:,} {word}" for k, word in words.items() if m[k])]
        if m["along"]:
            facts.append(f"looked at along {safe(', '.join(m['along']))}")
        if m["slowest"]:
            slow = m["slowest"][0]
            facts.append(f"the slowest {safe(slow.get('region') or slow['block'])} in {seconds(slow['seconds'])}")
        drawing = f'<div class="row">{block_map(m)}</div>{legend(m)}'
        drawn.append(f'{head}{drawing}<p class="note">{"; ".join(facts)}</p>')
    note = "Of the steps that wrote the output and of those with trouble."
    return section("Blocks", "".join(drawn), note) if drawn else ""


def _memory(memory: Mapping[str, Any]) -> str:
    measured, predicted, limit = memory["measured"], memory["predicted"], memory["limit"]
    if not measured:
        return ""
    top = max(measured, predicted or 0, limit or 0)
    rows = [("measured", _bar(measured / top, size(measured), "peak"), "the most that one process had taken")]
    if predicted:
        parts, of = memory["parts"] or {}, []
        if task := parts.get("largest"):
            of.append(f"{parts['threads']} x {size(task['bytes'])} of {safe(task['stage'])}")
        if "cache" in parts:
            of.append(f"chunks {size(parts['cache'])}, Python and libraries {size(parts['reserved'])}")
        rows.insert(0, ("predicted", _bar(predicted / top, size(predicted), "peak"), ", ".join(of)))
        rows.append(("measured / predicted", f"{measured / predicted:.2f}", ""))
    if limit:
        rows.append(("may be used", _bar(limit / top, size(limit), "rate"), "bigbia.memory"))
    return section("Memory", table_of(("", "", ""), rows, "memory"))


def _pipeline(report: Mapping[str, Any]) -> str:
    found = report["graph"]
    if found is None:
        return ""
    if found["problem"]:
        note = f"What was kept as pipeline.yaml is no pipeline: {safe(found['problem'])}"
        return section("Pipeline", "", note)
    if len(found["nodes"]) > NODES:
        drawn = f'<p class="note">{len(found["nodes"]):,} steps are too many to draw.</p>'
    else:
        drawn = f'<div class="wide">{graph(found)}</div>'
    from bigbia.run.pipeline_file import dumps

    text = f"<details><summary>pipeline.yaml, as it was run</summary><pre>{safe(dumps(report['pipeline']))}</pre></details>"
    return section("Pipeline", drawn + text)


def _sessions(sessions: Sequence[Mapping[str, Any]]) -> str:
    if len(sessions) < 2 and not any(s["error"] for s in sessions):
        return ""
    rows = [
        (
            _when(s["began"]),
            _when(s["ended"]) if s["ended"] else "<mark>killed</mark>",
            seconds(s["seconds"]) if s["seconds"] is not None else "",
            safe(s["host"]),
            safe(s["threads"]),
            size(s["memory"]) if s["memory"] else "",
            safe(s["integrity"]),
            _error(s["error"]) if s["error"] else "",
        )
        for s in sessions
    ]
    head = ("Began", "Ended", "#Time", "Host", "#Threads", "#Memory", "Integrity", "Ended by")
    return section("Sessions", table_of(head, rows))


# ---- where it comes from ---------------------------------------------------------------------------------------------
def _origin(report: Mapping[str, Any]) -> str:
    machine, session = report["machine"], (report["sessions"] or [{}])[-1]
    rows = [(f"input {safe(place)}", f"<code>{safe(digest)}</code>") for place, digest in report["inputs"].items()]
    options = {k: v for k, v in ((report.get("origin") or {}).get("options") or {}).items() if v not in (None, "", [])}
    rows.append(("opened with", safe(", ".join(f"{k} {v}" for k, v in options.items()))))
    for place, layout in report["outputs"].items():
        shards = f" in shards of {layout['shards']}" if layout.get("shards") else ""
        text = f"OME-Zarr {layout['version']}, {layout['axes']} {layout['shape']} {layout['dtype']}, "
        text += f"chunks of {layout['chunks']}{shards}"
        rows.append((f"output {safe(place)}", safe(text)))
    tables = report["tables"]
    rows += [("output " + safe(f"tables/{name}.{tables['format']}"), "table") for name in tables["names"]]
    rows += [
        ("machine", safe(f"{machine['host']}: {machine['cpu']}, {machine['cpus']} cores, {size(machine['memory'])}")),
        ("system", safe(f"{machine['platform']}, {machine['python']}")),
        ("settings", safe(f"threads {session.get('threads')}, memory {size(session.get('memory') or 0)}, integrity {session.get('integrity')}")),
        ("versions", safe(", ".join(f"{k} {v}" for k, v in report["versions"].items()))),
        ("workers", safe(", ".join(f"{w['worker']} (peak {size(w['peak'])})" for w in report["workers"][:32]))),
        ("fingerprint", f"<code>{safe(report['fingerprint'])}</code>"),
        ("hash of all files", f"<code>{safe(report['files']['root'])}</code>" if report["files"] else "not published"),
        ("run", f"<code>{safe(report['run'])}</code>"),
    ]  # fmt: skip
    return section("Where it comes from", table_of(("", ""), [r for r in rows if r[1]], "facts"))


def _next(report: Mapping[str, Any]) -> str:
    name = shlex.quote(report["output"])
    if report["state"] != "published":
        return section(
            "What to do with it", "<p>Run the same command again: blocks that are done are not done again.</p>"
        )
    rows = [
        (f"<code>bigbia verify {safe(name)}</code>", "reads every file again and compares it with its hash"),
        (f"<code>bigbia rerun {safe(name)}</code>", "makes it again from its input and compares"),
    ]
    return section("What to do with it", table_of(("", ""), rows, "facts"))
