"""`bigbia try`: one parameter, several values."""

from __future__ import annotations

from typing import Any

import click

from bigbia.cli_options import HELP, debug_option, given, opening_options, resource_options, settings_option


@click.command("try", context_settings=HELP, short_help="Try several values of one parameter: which sigma?")
@click.argument("pipeline")
@click.argument("image", metavar="INPUT")
@click.argument("parameter", metavar="STEP.PARAMETER")
@click.argument("values", metavar="VALUE...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="FOLDER", help="For tried.png, a panel a value, and tried.csv.")
@click.option("--overwrite", is_flag=True, help="Replace these two files.")
@given(settings_option, *opening_options, *resource_options, debug_option)
@click.pass_context
def try_(
    ctx: click.Context, pipeline: str, image: str, parameter: str, values: tuple[str, ...], **options: Any
) -> None:
    """Run PIPELINE on INPUT once for each VALUE of STEP.PARAMETER, and say how many objects there are.

    What the runs have in common is computed once. Nothing is written but a table and a picture, the middle slice for
    each value, into FOLDER. A value that fails is a line with its error; the others go on. A VALUE that begins with a
    minus stands behind --.

    \b
    Examples:
      bigbia try nuclei.yaml cells.zarr smooth.sigma "0.3 um" "0.5 um" "1 um" -o tried
      bigbia try nuclei.yaml cells.zarr nuclei.min_distance 3um 5um 8um --region z=20:40,y=0:512,x=0:512
      bigbia try nuclei.yaml cells.zarr mask "smooth > cut" "smooth > 1.2 * cut"
    """
    from bigbia.run.pipeline import Pipeline
    from bigbia.run.trying import try_values

    found = try_values(Pipeline.load(pipeline), parameter, values, image, **options)
    click.echo(str(found))
    for path in found.written:
        click.echo(f"  {path}")
    if len(found.failed) == len(found.rows):
        ctx.exit(4)
    step, _, word = parameter.partition(".")
    chosen = next(row.value for row in found.rows if not row.error)
    click.echo(f'Take one, for instance this: --set {step}{"." if word else ""}{word}="{chosen}"')


COMMANDS = (try_,)
