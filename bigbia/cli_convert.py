"""`bigbia convert`: one format into another."""

from __future__ import annotations

import time
from typing import Any

import click

from bigbia.cli_options import (
    HELP,
    debug_option,
    given,
    opening_options,
    resource_options,
    scheduler_option,
    shown_options,
)


@click.command(context_settings=HELP, short_help="Write an image, or a table, in another format.")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option("--version", type=click.Choice(["0.5", "0.4"]), default="0.5", show_default=True, help="Of OME-Zarr.")
@click.option("--chunks", metavar="N or Z,Y,X", help="Voxels of a chunk.")
@click.option("--shards", metavar="N or Z,Y,X or auto", help="Voxels of a shard, which holds chunks in one file.")
@click.option("--levels", type=click.IntRange(min=1), help="Of the pyramid; by default until it is small.")
@click.option("--labels", is_flag=True, help="They are labels: written to OUT/labels/NAME, levels by nearest voxel.")
@given(*opening_options, scheduler_option)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--restart", is_flag=True, help="Throw away what a conversion that was stopped there has done.")
@given(*resource_options, *shown_options, debug_option)
def convert(source: str, target: str, quiet: bool, verbose: bool, **options: Any) -> None:
    """Write the image IN to OUT, in the format that OUT ends in: .zarr, .tif or .ome.tif; a table to .csv or .parquet.

    Voxels, axes, voxel size, units, channel names and colours stay what they are. A .tif is an ImageJ hyperstack where
    ImageJ has such voxels, else OME-TIFF, and BigTIFF above 4 GiB. A conversion to .zarr that was stopped goes on where it
    was when the same command is typed again.

    \b
    Examples:
      bigbia convert stack.tif stack.zarr --shards auto
      bigbia convert cells.czi cells.zarr --scene 0 --version 0.4
      bigbia convert result.zarr/labels/nuclei nuclei.tif
      bigbia convert labels.tif labels.zarr --labels
      bigbia convert cells.zarr crop.ome.tif --region z=0:64,y=0:512 --channels DAPI
      bigbia convert result.zarr/tables/nuclei.parquet nuclei.csv
    """
    from bigbia.run.convert import Layout
    from bigbia.run.convert import convert as converted
    from bigbia.run.inputs import OPENING
    from bigbia.run.pipeline_run import settings
    from bigbia.run.progress import progress

    start = time.perf_counter()
    layout = Layout(**{k: options[k] for k in ("version", "chunks", "shards", "levels", "labels")})
    opening = {k: options[k] for k in OPENING}
    how = {k: options[k] for k in ("overwrite", "restart", "scheduler")}
    with settings(options), progress(quiet=quiet, verbose=verbose) as shown:
        path = converted(source, target, opening=opening, layout=layout, progress=shown, **how)
    if not quiet:
        click.echo(f"{path}: written in {time.perf_counter() - start:.1f} s")


COMMANDS = (convert,)
