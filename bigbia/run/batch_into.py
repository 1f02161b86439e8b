"""A batch whose labels and tables go into the images themselves: `bigbia run PIPELINE plate.zarr --into-input`.

Each image is a run of its own into its own OME-Zarr; one that fails does not stop the others. There is no folder of
results, so there are no joined tables and no page.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bigbia.errors import BigbiaError, RunError
from bigbia.run import pipeline_run
from bigbia.run.batch import FIRST, Batch, Image, gathered_notes
from bigbia.run.batch_inputs import Input
from bigbia.run.pipeline import Pipeline


def run_batch_into(plan: Pipeline, inputs: Sequence[Input], options: Mapping[str, Any]) -> Batch:
    """Run a pipeline on each image, into it. `options` are those of `pipeline_run.run`."""
    batch = Batch(Path(), [Image(one.path, one.path, dict(one.columns)) for one in inputs])
    with gathered_notes():
        for image in batch.images:
            start = time.perf_counter()
            try:
                pipeline_run.carried_out(plan, image.input, None, **options)
                image.state = "done"
            except BigbiaError as error:
                image.state, image.error = "failed", str(error)
            image.seconds = round(time.perf_counter() - start, 2)
            if len(batch.failed) >= FIRST and all(i.state in ("failed", "waiting") for i in batch.images):
                raise RunError(f"the first {len(batch.failed)} images all failed, the last: {image.error}; stopped")
    return batch
