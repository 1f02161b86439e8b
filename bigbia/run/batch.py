"""One pipeline over many images: one run, an output an image, in one folder.

    <folder>/<name>.zarr           an output an image, named by the image
    <folder>/tables/<name>.parquet the tables of all images, joined (`run/batch_tables.py`)
    <folder>/summary.html          what became of each image (`run/batch_page.py`)
    <folder>/_bigbia/batch.json    the same as data
    <folder>/_bigbia/new/          outputs that are not published yet
    <folder>/_bigbia/lock          who leads it

An image that fits into a block is one task, run whole in one thread (`run/small.py`); as many as there are threads at a
time, some of them brought to the disk and published together. A larger one is a run of its own on all threads. Either
way an output is whole or absent, and a batch that was stopped goes on: what is published and the same is not computed
again. An image that fails does not stop the others, unless the first ones all fail.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from bigbia import config
from bigbia.errors import BigbiaError, BigbiaWarning, BlockError, RunError
from bigbia.graph.regions import Store
from bigbia.io.durable import storage_errors, sync_folder, sync_tree
from bigbia.run.batch_inputs import Input
from bigbia.run.fingerprint import every_node, without_tokens
from bigbia.run.inputs import absolute
from bigbia.run.job import Job
from bigbia.run.ledger import FOLDER, read_json, write_json
from bigbia.run.partial import check_target, exchange, led, partial_of
from bigbia.run.publishing import read_manifest
from bigbia.run.recipe import Recipe
from bigbia.run.save import run_job
from bigbia.run.small import Kind, Made, kind_of

FIRST = 5  # images that fail, none having succeeded: something is fundamentally wrong
TOGETHER, SECONDS = 64, 2.0  # outputs that are published at once, and how long the first of them waits for the others
RECORD = f"{FOLDER}/batch.json"
NEW = f"{FOLDER}/new"
QUEUED = 32  # images that wait for each thread, while others are brought to the disk
KINDS = 64  # kinds of images that are remembered
NOTES = 3  # images that are named for a note that many have


@dataclass
class Image:
    """One image of a batch.

    state : "waiting", "done", "done before", "failed"
    rows : of its tables
    """

    input: str
    output: str
    columns: dict[str, Any] = field(default_factory=dict)
    state: str = "waiting"
    error: str = ""
    seconds: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return Path(self.output).name.removesuffix(".zarr")


@dataclass
class Batch:
    """What became of the images."""

    folder: Path
    images: list[Image] = field(default_factory=list)
    tables: dict[str, int] = field(default_factory=dict)  # rows of the joined tables
    seconds: float = 0.0

    @property
    def failed(self) -> list[Image]:
        return [image for image in self.images if image.state == "failed"]

    def __str__(self) -> str:
        count = {
            state: sum(i.state == state for i in self.images) for state in ("done", "done before", "failed", "waiting")
        }
        where = str(self.folder) if self.folder != Path() else "into the images"
        lines = [f"{where}: " + ", ".join(f"{n} {state}" for state, n in count.items() if n)]
        lines += [f"  {image.input}: {image.error}" for image in self.failed]
        lines += [f"  tables/{name}: {rows} rows" for name, rows in self.tables.items()]
        return "\n".join(lines)


def run_batch(
    folder: str | Path, inputs: Sequence[Input], recipe: Recipe, how: Mapping[str, Any], progress: Any = None
) -> Batch:
    """Run a recipe on each image.

    Parameters
    ----------
    folder : where the outputs go; made where there is none
    inputs : the images (`batch_inputs.inputs_of`)
    recipe : what is done to each
    how : overwrite, restart, allow_missing: as for `bigbia.save`
    progress : object with ``begin(stage, total, voxels)``, ``advance(n)``, ``end()``, optional

    Returns
    -------
    Batch : what became of each image

    Raises
    ------
    RunError : another batch is at work there; the first images all failed
    """
    from bigbia.run.batch_page import write_page
    from bigbia.run.batch_tables import Joined

    folder, began = Path(folder), time.time()
    batch = Batch(folder, [Image(i.path, str(folder / f"{i.name}.zarr"), dict(i.columns)) for i in inputs])
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with led(folder), gathered_notes(), Joined(folder) as joined:
        shutil.rmtree(folder / NEW, ignore_errors=True)
        work = _Work(batch, recipe, dict(how), joined, began)
        with storage_errors(folder):
            (folder / NEW).mkdir()
        work.note()
        if progress:
            progress.begin("images", len(batch.images), 0)
        try:
            work.all(progress)
        finally:
            shutil.rmtree(folder / NEW, ignore_errors=True)
            work.note()
        if progress:
            progress.end()
        batch.tables = joined.write([image for image in batch.images if image.state in ("done", "done before")])
        batch.seconds = time.time() - began
        work.note()
        write_page(batch)
    return batch


class _Work:
    """A batch under way, led by one thread."""

    def __init__(self, batch: Batch, recipe: Recipe, how: dict[str, Any], joined: Any, began: float) -> None:
        self.batch, self.recipe, self.how, self.joined, self.began = batch, recipe, how, joined, began
        self.kinds: dict[tuple, Kind | None] = {}
        self.lock = threading.Lock()
        self.ready: list[tuple[Image, Made]] = []  # written, not published
        self.since = 0.0

    def note(self) -> None:
        batch = self.batch
        record = {
            "format": 2,
            "began": self.began,
            "now": time.time(),
            "images": [asdict(image) for image in batch.images],
            "tables": batch.tables,
        }
        write_json(batch.folder / RECORD, record)

    def all(self, progress: Any) -> None:
        large: list[Image] = []
        done = self._small(large) if self.recipe.threads else iter(())
        if not self.recipe.threads:
            large = list(self.batch.images)
        for _ in done:
            if progress:
                progress.advance(1)
        for image in large:
            self._alone(image)
            self.note()
            self._check_first()
            if progress:
                progress.advance(1)

    def _small(self, large: list[Image]) -> Iterator[Image]:
        """The images that are worked on whole, as they end; the others are left in `large`."""
        threads = config.threads()
        stop = threading.Event()

        def one(image: Image) -> Made | bool | None:
            return None if stop.is_set() else self._whole(image)

        pool = ThreadPoolExecutor(threads, thread_name_prefix="bigbia-image")
        waiting = iter(self.batch.images)
        pending: dict[Future, Image] = {}
        try:
            while True:
                for image in islice(waiting, QUEUED * threads - len(pending)):
                    pending[pool.submit(one, image)] = image
                if not pending:
                    break
                ended, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in ended:
                    image = pending.pop(future)
                    if not self._settled(image, future):
                        large.append(image)
                        continue
                    self._check_first()
                    yield image
                if self.ready and (len(self.ready) >= TOGETHER or time.monotonic() - self.since > SECONDS):
                    self.publish()
            self.publish()
        except BaseException:
            stop.set()
            with suppress(BigbiaError):
                self.publish()  # what is whole is not done again
            raise
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _settled(self, image: Image, future: Future) -> bool:
        """Note what became of an image; False of one that is to be worked on by all threads."""
        try:
            made = future.result()
        except BigbiaError as error:
            image.state, image.error = "failed", str(error)
        except (MemoryError, Exception) as error:
            image.state = "failed"
            image.error = str(BlockError(f"{image.input}: {type(error).__name__}: {' '.join(str(error).split())}"))
        else:
            if made is None:
                return False
            if made is True:
                image.state = "done before"
            elif isinstance(made, Made):
                if not self.ready:
                    self.since = time.monotonic()
                self.ready.append((image, made))
        return True

    def _whole(self, image: Image) -> Made | bool | None:
        """Compute an image as one task: True where its output is there already, None where it is no small image."""
        start = time.perf_counter()
        final = Path(image.output)
        if partial_of(final).exists():  # a run of its own was stopped there
            return None
        opened = self.recipe.opened(image.input)
        source = _only_source(opened)
        kind = self._kind(opened, source, image)
        if kind is None:
            return None
        parts = kind.parts_for(source)
        if final.exists():
            if not self.how.get("restart") and _is_the_same(final, parts):
                return True
            if not self.how.get("overwrite"):
                raise RunError(f"{final}: exists, made in another way; choose another place, or pass --overwrite")
            check_target(final, True)
        new = self.batch.folder / NEW / final.name
        made = kind.make(source, parts, {**kind.job.origin, "input": absolute(image.input)}, final.name, new)
        image.seconds = round(time.perf_counter() - start, 4)
        return made

    def _kind(self, opened: Any, source: Any, image: Image) -> Kind | None:
        """The kind of a small image; None of a large one, and of one whose pipeline cannot be planted."""
        key = kind_of(opened, source)
        with self.lock:
            if key not in self.kinds:
                if len(self.kinds) >= KINDS:
                    self.kinds.pop(next(iter(self.kinds)))
                found = Kind.of(self.recipe.job(opened, image.input), Path(image.output))
                fits = found is not None and found.fits(config.threads(), config.memory())
                self.kinds[key] = found if fits else None
            return self.kinds[key]

    def publish(self) -> None:
        """Give the outputs that are ready their names, once they are on the disk."""
        ready, self.ready = self.ready, []
        if not ready:
            return
        with storage_errors(self.batch.folder):
            _to_the_disk([made.folder for _, made in ready], self.batch.folder)
            for image, made in ready:
                final = Path(image.output)
                if final.exists() and exchange(made.folder, final):
                    shutil.rmtree(made.folder)  # what was replaced
                    continue
                if final.exists():
                    shutil.rmtree(final)
                os.rename(made.folder, final)
            sync_folder(self.batch.folder)
        for image, made in ready:
            image.state, image.rows = "done", made.rows
            self.joined.add(image, made.tables)
        self.note()

    def _alone(self, image: Image) -> None:
        """A run of its own, on all threads."""
        start, final = time.perf_counter(), Path(image.output)
        try:
            job = self.recipe.alone(image.input, final)
            if final.exists() and not self.how.get("restart") and _is_the_same(final, _parts_of(job, final)):
                image.state = "done before"
            else:
                run_job(job, final, **self.how)
                image.state = "done"
        except BigbiaError as error:
            image.state, image.error = "failed", str(error)
        image.seconds = round(time.perf_counter() - start, 2)

    def _check_first(self) -> None:
        failed = self.batch.failed
        if len(failed) >= FIRST and all(i.state in ("failed", "waiting") for i in self.batch.images) and not self.ready:
            raise RunError(
                f"{self.batch.folder}: the first {len(failed)} images all failed, the last: {failed[-1].error}; stopped"
            )


def _only_source(image: Any) -> Any:
    """The store that an opened image is read from."""
    from bigbia.graph.lazy import lazy

    return next(n.source for n in every_node([lazy(image, "input").node]) if isinstance(n, Store))


def _parts_of(job: Job, output: Path) -> dict[str, Any]:
    with job.described(output):
        return without_tokens(job.fingerprint())


def _is_the_same(output: Path, parts: Mapping[str, Any]) -> bool:
    """Whether an output was made in this way: of the same input, by the same pipeline and versions."""
    try:
        record = read_json(output / FOLDER / "run.json") if read_manifest(output) is not None else None
        return record is not None and without_tokens(record["parts"]) == _plain(parts)
    except (BigbiaError, KeyError, TypeError, AttributeError):
        return False


def _plain(parts: Mapping[str, Any]) -> Any:
    """As it is read back from JSON."""
    import json

    return json.loads(json.dumps(parts, default=str))


def _to_the_disk(folders: Sequence[Path], root: Path) -> None:
    """Bring all files of some folders to the disk: by one call where the system has it, else file by file."""
    try:
        sync = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        sync = None
    if sync is not None:
        handle = os.open(root, os.O_RDONLY)
        try:
            if sync(handle) == 0:
                return
        finally:
            os.close(handle)
    for folder in folders:
        for place, _, files in os.walk(folder):
            for name in files:
                with open(os.path.join(place, name), "rb") as file:
                    os.fsync(file.fileno())
        sync_tree(folder)


@contextmanager
def gathered_notes() -> Iterator[None]:
    """Say at the end what was noted of the images, and of many once, with how many: a thousand lines are read by nobody.

    Python's filters of warnings belong to the process: threads that change them for a moment, as libraries do, leave each
    other's behind. So notes do not pass them before the threads have ended, and the filters are put back.
    """
    seen: dict[str, dict[str, None]] = {}  # what is said, without the image that it is said of -> the whole texts
    warn = warnings.warn

    def gathered(message: Any, category: Any = None, stacklevel: int = 1, *more: Any, **words: Any) -> None:
        if not (isinstance(category, type) and issubclass(category, BigbiaWarning)):
            warn(message, category, stacklevel + 1, *more, **words)
            return
        image, colon, said = str(message).partition(": ")
        seen.setdefault(said if colon and os.sep in image else str(message), {})[str(message)] = None

    try:
        with warnings.catch_warnings():
            warnings.warn = gathered  # type: ignore[assignment]
            yield
    finally:
        warnings.warn = warn
        for said, texts in seen.items():
            for text in list(texts)[:NOTES]:
                warnings.warn(text, BigbiaWarning, stacklevel=3)
            if len(texts) > NOTES:
                warnings.warn(f"and {len(texts) - NOTES} more images: {said}", BigbiaWarning, stacklevel=3)
