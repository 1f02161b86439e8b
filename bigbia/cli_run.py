"""`bigbia run` and `bigbia explain`: a pipeline on an image, or on many."""

from __future__ import annotations

import time
from typing import Any

import click

from bigbia import cli_show
from bigbia.cli_options import (
    HELP,
    debug_option,
    given,
    opening_options,
    resource_options,
    scheduler_option,
    settings_option,
    shown_options,
)


@click.command(context_settings=HELP, short_help="Run a pipeline on an image, or on many.")
@click.argument("pipeline")
@click.argument("images", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "-o", "--output", metavar="OUTPUT", help="The OME-Zarr folder to write; of many images the folder that holds them."
)
@click.option("--into-input", is_flag=True, help="Write labels and tables into the input's own OME-Zarr.")
@given(scheduler_option)
@click.option("--overwrite", is_flag=True, help="Replace OUTPUT if it exists; what is the same is taken over.")
@click.option("--restart", is_flag=True, help="Throw away what a run that was stopped there has done.")
@click.option("--allow-missing", is_flag=True, help="Publish with zeros where blocks failed.")
@click.option("--integrity", type=click.Choice(["hash", "full"]), help="full: read back every file as well.")
@click.option("--keep", type=click.Choice(["auto", "all", "none"]), help="Which intermediate results to keep.")
@click.option("--insecure", is_flag=True, help="Allow a tcp:// scheduler elsewhere on the network.")
@given(*shown_options, settings_option, *opening_options, *resource_options, debug_option)
def run(
    pipeline: str,
    images: tuple[str, ...],
    output: str | None,
    into_input: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Run PIPELINE on the image INPUT and write OUTPUT; on many images, OUTPUT/NAME.zarr for each.

    OUTPUT is one OME-Zarr folder that napari and Fiji open: an image at its root, labels/NAME, images/NAME,
    tables/NAME.parquet, and the pipeline as it was run in pipeline.yaml. With --into-input instead of -o, labels and tables go
    into the image's own OME-Zarr.

    INPUT may also be a plate, a folder of images, or a quoted pattern: an output an image, one failed image does not stop
    the others, their tables are joined in OUTPUT/tables, and OUTPUT/summary.html says what became of each.

    \b
    Examples:
      bigbia run nuclei.yaml cells.tif -o result.zarr
      bigbia run nuclei.yaml cells.zarr -o result.zarr --set smooth.sigma=0.8um --set mask="smooth > 500"
      bigbia run nuclei.yaml stack.tif -o result.zarr --axes zyx --voxel-size "0.29, 0.26, 0.26 um"
      bigbia run nuclei.yaml cells.zarr -o try.zarr --region z=0:64,y=0:512 --memory "2 GiB"
      bigbia run nuclei.yaml plate.zarr -o results
      bigbia run nuclei.yaml plate.zarr -o B03.zarr --well B03
      bigbia run nuclei.yaml "day1/**/*.tif" -o results
      bigbia run nuclei.yaml cells.zarr --into-input
      bigbia run nuclei.yaml cells.zarr -o result.zarr --scheduler tls://10.0.0.1:8786

    \b
    A pipeline file:
      bigbia: 1
      steps:
        smooth: {op: filters.gaussian, image: input, sigma: 0.5 um}
        cut:    {op: filters.threshold_otsu, image: smooth}
        mask:   smooth > cut
        nuclei: {op: segmentation.split_touching, mask: mask, min_distance: 5 um}
        table:  {op: measure.regionprops_table, label_image: nuclei, intensity_image: input}
      save:
        labels: {nuclei: nuclei}
        tables: {nuclei: table}

    A run that was stopped, by whatever, goes on where it was when the same command is typed again.

    Exit codes: 0 done, 2 pipeline or option, 3 input, 4 run stopped, 5 disk, 6 package missing, 130 interrupted.
    """
    from bigbia.errors import ParameterError
    from bigbia.run import pipeline_run
    from bigbia.run.batch_inputs import is_many
    from bigbia.run.pipeline import Pipeline
    from bigbia.run.progress import progress
    from bigbia.run.recipe import run_many

    if (output is None) != into_input:
        raise ParameterError("run: say where the result goes: either -o OUTPUT or --into-input")
    start = time.perf_counter()
    plan = Pipeline.load(pipeline)
    with progress(quiet=quiet, verbose=verbose) as shown:
        if is_many(images, options):
            batch = run_many(plan, images, output, progress=shown, **options)
            if not quiet or batch.failed:
                click.echo(str(batch))
            if batch.failed:
                click.get_current_context().exit(4)
            return
        path, outputs = pipeline_run.carried_out(plan, images[0], output, progress=shown, **options)
    if not quiet:
        click.echo(cli_show.written(str(path), outputs, time.perf_counter() - start))


@click.command(context_settings=HELP, short_help="Say what a run would take; computes nothing.")
@click.argument("pipeline")
@click.argument("image", metavar="INPUT")
@given(settings_option, *opening_options, *resource_options, debug_option)
def explain(pipeline: str, image: str, **options: Any) -> None:
    """Say what PIPELINE would do to INPUT: stages, tasks, bytes, memory. Computes nothing.

    \b
    Examples:
      bigbia explain nuclei.yaml cells.zarr
      bigbia explain nuclei.yaml cells.zarr --block 128 --memory "2 GiB" --threads 4
    """
    from bigbia.run import pipeline_run
    from bigbia.run.pipeline import Pipeline

    click.echo(str(pipeline_run.explained(Pipeline.load(pipeline), image, **options)))


COMMANDS = (run, explain)
