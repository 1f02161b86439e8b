"""From the words of `run` and `explain` to a pipeline on its input, with the settings that were asked for."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bigbia.errors import BigbiaError, ParameterError


def origin(path: str, image: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Where the input is and how it was opened: the block too, which is chosen by the memory of this moment."""
    from bigbia.run.inputs import OPENING

    place = path if "://" in path else str(Path(path).resolve())
    return {"input": place, "options": {**{k: options[k] for k in OPENING}, "block": image.encoding["block"]}}


def block_of_stopped(output: str, options: dict[str, Any]) -> str:
    """The block of the run that was stopped at the output, where none is asked for: another would be another run."""
    from bigbia.run.ledger import FOLDER, read_json
    from bigbia.run.partial import partial_of

    if options["block"] != "auto" or options["restart"] or "://" in output:
        return options["block"]
    try:
        record = read_json(partial_of(Path(output)) / FOLDER / "run.json") or {}
    except BigbiaError:
        return options["block"]
    return ((record.get("origin") or {}).get("options") or {}).get("block", options["block"])


def build(pipeline: str, path: str, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The checked pipeline and its lazy steps on the input; a bad pipeline is refused before the image is touched."""
    from bigbia.run.inputs import OPENING, open_input
    from bigbia.run.pipeline import Pipeline

    plan = Pipeline.load(pipeline).override(options["settings"])
    opening = {k: options[k] for k in OPENING}
    results = plan.build(open_input(path, **opening))
    if options["block"] == "auto" and not plan.unused:
        from bigbia.run.execute import memory_of
        from bigbia.run.fitting import fitted

        again = fitted(
            plan,
            results,
            lambda block: open_input(path, **{**opening, "block": block}),
            memory_of(options.get("scheduler", "threads")),
        )
        results = results if again is None else again
    return plan, results


@contextmanager
def settings(options: dict[str, Any]) -> Any:
    """The command's --memory, --threads and their like as settings of bigbia, while it works."""
    import dask

    names = ("memory", "threads", "integrity", "keep", "insecure")
    given = {f"bigbia.{key}": options[key] for key in names if options.get(key)}
    with dask.config.set(given):
        if "bigbia.memory" in given:
            from bigbia import config

            config.memory()  # a size that cannot be read is refused here, before a file is opened
        yield


def keep_input(path: str, output: str) -> None:
    """--overwrite must never remove what is being read."""
    if "://" in path or "://" in output:
        inside = output.rstrip("/") == path.rstrip("/")
    else:
        there, here = Path(output).resolve(), Path(path).resolve()
        inside = there == here or there in here.parents
        if here in there.parents and here.is_dir():
            raise ParameterError(f"-o {output}: lies in the input {path}: choose another place")
    if inside:
        raise ParameterError(f"-o {output}: is the input or holds it: choose another place")
