"""The sessions of a run: begun anew or gone on with, led by one process, ended one way or another."""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bigbia import config
from bigbia.errors import RunError, StorageError
from bigbia.io.durable import TEMPORARY, storage_errors
from bigbia.run.contract import FORMAT, Run
from bigbia.run.failures import GO_ON
from bigbia.run.fingerprint import differences, fingerprint, told
from bigbia.run.ledger import FOLDER, ledger_folder, read_json, write_json
from bigbia.run.partial import check_target, holder_of, is_replaced, led, partial_of
from bigbia.run.tasks import FULL


@contextmanager
def running(
    final: Path, parts: Mapping[str, Any], *, overwrite: bool, restart: bool, resumable: bool, allow_missing: bool
) -> Iterator[Run]:
    """Lead the run to an output: a new one, or the one that was stopped there, if it is the same.

    RunError if another process leads it, or if what was stopped there is another run.
    """
    check_target(final, overwrite)
    root = partial_of(final).absolute()  # workers may be at home in other folders
    parts = dict(parts)
    known = _stopped(root, parts, restart, resumable)
    with led(root):
        if known is None:
            empty(root)
        _sweep(root)
        run = Run(root, final, parts, allow_missing, known or _new(parts, resumable))
        run.record["sessions"].append(session())
        run.restarted = _restarted(run.record["sessions"])
        write_json(root / FOLDER / "run.json", run.record)
        try:
            with storage_errors(root):
                yield run
        except BaseException as error:
            _stop(run, error)
            if isinstance(error, StorageError) and error.errno in FULL and GO_ON not in str(error):
                raised = StorageError(f"{error}; {GO_ON}")
                raised.errno = error.errno
                raise raised from None
            raise


def _new(parts: Mapping[str, Any], resumable: bool) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "id": uuid.uuid4().hex,
        "fingerprint": fingerprint(parts),
        "resumable": resumable,
        "parts": parts,
        "sessions": [],
    }


def session() -> dict[str, Any]:
    import socket

    return {
        "began": time.time(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot": _boot(),
        "threads": config.threads(),
        "memory": config.memory(),
        "integrity": config.integrity(),
    }


def _boot() -> str:
    """Which start of this computer this is; nothing where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _restarted(sessions: list[dict[str, Any]]) -> bool:
    """Whether the computer has started anew since the last session, so that what was not on the disk may be gone."""
    before, now = sessions[-2:] if len(sessions) > 1 else ({}, {})
    return before.get("host") == now.get("host") and before.get("boot") != now.get("boot")


def _stopped(root: Path, parts: Mapping[str, Any], restart: bool, resumable: bool) -> dict[str, Any] | None:
    """The record of the run that was stopped at a place, if it is to be gone on with; None for a new one."""
    if holder_of(root) is not None or is_replaced(root):
        return None  # `led` says who it is
    try:
        known = read_json(root / FOLDER / "run.json")
    except StorageError:
        known = None
    if restart or not is_record(known):
        return None
    if known["fingerprint"] == fingerprint(parts):
        return known
    if not (resumable and known["resumable"]):
        return None  # made of arrays that no other process can recognise
    raise RunError(
        f"{root}: holds another run that was stopped ({told(differences(known['parts'], parts))}); finish that one, or "
        "pass restart=True (--restart) to throw away what it has done"
    )


def is_record(known: Any) -> bool:
    """Whether this is the record of a run, and undamaged as far as it is relied on."""
    return (
        isinstance(known, dict)
        and known.get("format") == FORMAT
        and isinstance(known.get("sessions"), list)
        and isinstance(known.get("resumable"), bool)
        and re.fullmatch("[0-9a-f]{32}", str(known.get("id"))) is not None
        and isinstance(known.get("parts"), dict)
        and known.get("fingerprint") == fingerprint(known["parts"])
    )


def _stop(run: Run, error: BaseException) -> None:
    """The end of a session that did not publish: what is done stays, and nothing at all if nothing is."""
    with suppress(OSError):
        run.record["sessions"][-1] |= {"ended": time.time(), "error": f"{type(error).__name__}: {error}"}
        for lines in run._lines.values():
            lines.close()
        whole = (run.root / FOLDER / "manifest.json").exists()  # tables alone leave no ledger
        if whole or any(p.stat().st_size for p in ledger_folder(run.root).glob("*.jsonl")):
            write_json(run.root / FOLDER / "run.json", run.record)
            _report_stop(run, error)
        else:
            shutil.rmtree(run.home, ignore_errors=True)
            shutil.rmtree(run.root, ignore_errors=True)


def _report_stop(run: Run, error: BaseException) -> None:
    """What the run had done when it was stopped, and why, for people."""
    from bigbia.run.report import harmless, report_of, state_of, write_report

    with harmless(run):
        write_report(run.root, report_of(run, None, state=state_of(error), prediction=run.prediction))


def empty(root: Path) -> None:
    """Throw away a run, but for its lock."""
    old = read_id(root)
    if old:
        shutil.rmtree(config.scratch_folder() / f"run-{old}", ignore_errors=True)
    for entry in root.iterdir():
        if entry.name != FOLDER:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for entry in (root / FOLDER).iterdir():
        if entry.name != "lock":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def read_id(root: Path) -> str:
    try:
        found = str((read_json(root / FOLDER / "run.json") or {}).get("id", ""))
    except (StorageError, AttributeError):
        return ""
    return found if re.fullmatch("[0-9a-f]{32}", found) else ""  # a folder is removed by it


def _sweep(root: Path) -> None:
    """Remove what killed tasks were writing, and files of the ledger that can no longer be read or written."""
    for path in ledger_folder(root).glob("*"):
        try:
            open(path, "r+b").close()
        except IsADirectoryError:
            shutil.rmtree(path)
        except PermissionError:
            path.unlink()
    for place, _, files in os.walk(root):
        for name in files:
            if name.endswith(TEMPORARY) or (name.startswith(".") and name.endswith(".partial")):  # the latter: tables
                with suppress(OSError):
                    os.unlink(os.path.join(place, name))
