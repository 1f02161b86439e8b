"""Where an output comes from: the pipeline, its input and libraries, the machine, the times, the hash of all files.

`<output>/_bigbia/provenance.json`; `run/crate.py` tells the same as an RO-Crate, `run/report.py` shows it.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bigbia.errors import InputError, StorageError
from bigbia.graph.journal import Written
from bigbia.io.durable import put
from bigbia.run.contract import Run
from bigbia.run.fingerprint import _version
from bigbia.run.ledger import FOLDER, read_json

FORMAT = 1
PROVENANCE = f"{FOLDER}/provenance.json"
ALSO = ("dask", "distributed", "xarray", "pandas", "tifffile", "ome-zarr")  # no voxel depends on their version
NOT_PLACES = ("tables", "table_format", "blocks", "whole")  # of what a run says of its output


def provenance(
    run: Run, manifest: Mapping[str, Any] | None, *, prediction: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Where the output of a run comes from, as plain values.

    Parameters
    ----------
    run : the run, led by this process or read back from its record
    manifest : what `seal` returned; None for a run that has published nothing
    prediction : the memory that was foretold, as `Admission.record` gives it

    Returns
    -------
    dict
        format, run, fingerprint, output, versions, pipeline, save, origin (how the input was opened), layout, inputs
        (name -> digest), outputs (place -> layout), tables, machine, sessions, times, files (the root of all hashes
        and how many), missing, missing_chunks, prediction

    Examples
    --------
    >>> provenance(run, manifest)["files"]["root"]  # doctest: +SKIP
    '5026a3d0de74cb67...'
    """
    parts = run.parts
    document = parts.get("pipeline")
    output = dict(parts.get("output", {}))
    sessions = sessions_of(run, manifest)
    return {
        "format": FORMAT,
        "run": run.record.get("id", ""),
        "fingerprint": run.record.get("fingerprint", ""),
        "output": run.final.name,
        "versions": {**parts.get("versions", {}), **{name: _version(name) for name in ALSO}},
        "pipeline": document,
        "save": document.get("save") if isinstance(document, Mapping) else None,
        "origin": run.record.get("origin"),
        "layout": run.record.get("layout"),
        "inputs": dict(parts.get("input", {})),
        "outputs": {place: layout for place, layout in output.items() if place not in NOT_PLACES},
        "tables": {"names": sorted(output.get("tables", {})), "format": output.get("table_format")},
        "machine": machine(),
        "sessions": sessions,
        "times": times(sessions),
        "files": files_of(manifest) if manifest else None,
        "missing": list(manifest["missing"] if manifest else run.missing),
        "missing_chunks": parts.get("missing_chunks"),
        "prediction": dict(prediction) if prediction else None,
    }


def write_provenance(root: Path, found: Mapping[str, Any]) -> list[Written]:
    """Put what `provenance` gave into the folder of a run, before it is published."""
    return [put(root, PROVENANCE, as_json(found))]


def read_provenance(output: str | os.PathLike[str]) -> dict[str, Any]:
    """Where an output comes from, read back.

    Parameters
    ----------
    output : the OME-Zarr folder that a run has written

    Returns
    -------
    dict, as `provenance` gives it

    Raises
    ------
    InputError : there is no such folder, it holds no provenance, or that of a newer bigbia
    StorageError : the document is damaged or cannot be read

    Examples
    --------
    >>> read_provenance("nuclei.zarr")["pipeline"]  # doctest: +SKIP
    """
    output = Path(output)
    if not output.is_dir():
        raise InputError(f"{output}: there is no such folder: name the OME-Zarr folder that a run has written")
    path = output / PROVENANCE
    found = read_json(path)
    if found is None:
        raise InputError(
            f"{output}: says nothing of where it comes from ({PROVENANCE} is missing): bigbia run and bigbia.save write it, "
            "write it again with them"
        )
    if not isinstance(found, dict) or not isinstance(found.get("format"), int):
        raise StorageError(f"{path}: is damaged: it does not say its format; restore it, or write the output again")
    if found["format"] > FORMAT:
        raise InputError(
            f"{path}: is of format {found['format']}, this bigbia reads {FORMAT}: pip install --upgrade bigbia"
        )
    lacking = [k for k in ("fingerprint", "versions", "inputs", "outputs", "times", "files") if k not in found]
    if lacking:
        raise StorageError(f"{path}: is damaged: {', '.join(lacking)} missing; restore it, or write the output again")
    return found


def as_json(found: Mapping[str, Any]) -> bytes:
    import json

    return json.dumps(found, indent=1, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace") + b"\n"


# ---- its parts -------------------------------------------------------------------------------------------------------
def files_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a manifest: the hash of all files, how many, how large."""
    return {key: manifest[key] for key in ("root", "files", "bytes", "arrays")}


def machine() -> dict[str, Any]:
    """The computer of this process."""
    import psutil

    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": int(psutil.virtual_memory().total),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _cpu() -> str:
    """The model of the processor, as the system names it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() in ("model name", "Model", "cpu model") and value.strip():
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def sessions_of(run: Run, manifest: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The times the run was worked on. `ended` is None for one that was killed: it could not say so."""
    known: Sequence[Mapping[str, Any]] = run.record.get("sessions", [])
    found: list[dict[str, Any]] = []
    for at, session in enumerate(known):
        last = at == len(known) - 1
        ended = session.get("ended", manifest["made"] if last and manifest else None)
        began = float(session["began"])
        found.append(
            {
                "began": stamp(began),
                "ended": stamp(ended) if ended is not None else None,
                "seconds": round(max(0.0, ended - began), 3) if ended is not None else None,
                **{key: session.get(key) for key in ("host", "pid", "threads", "memory", "integrity")},
                "error": without_folders(str(session["error"]), run) if session.get("error") else None,
            }
        )
    return found


def times(sessions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """From the first beginning to the last end, and the seconds worked, without those of sessions that were killed."""
    ends = [s["ended"] for s in sessions if s["ended"] is not None]
    return {
        "began": sessions[0]["began"] if sessions else None,
        "ended": ends[-1] if ends else None,
        "seconds": round(sum(s["seconds"] or 0.0 for s in sessions), 3),
        "sessions": len(sessions),
        "killed": sum(s["ended"] is None for s in sessions),
    }


def without_folders(text: str, run: Run) -> str:
    """A message without the folder that the output lies in and without the user's home: neither is part of a result."""
    folder = str(run.final.parent.absolute())
    if len(folder) > 1:
        text = text.replace(folder + os.sep, "")
    home = os.path.expanduser("~")
    return text.replace(home + os.sep, "~" + os.sep) if len(home) > 1 else text


def stamp(seconds: float) -> str:
    """A moment as ISO 8601, in UTC, to the millisecond."""
    return datetime.fromtimestamp(float(seconds), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
