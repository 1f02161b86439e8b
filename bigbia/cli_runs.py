"""The commands about runs that were: how far they are, whether their files are intact, the same again."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import click

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.command(context_settings=_HELP, short_help="Say how far a run is.")
@click.argument("output")
def status(output: str) -> None:
    """Say how far the run to OUTPUT is: published, running, or stopped, and at which stage.

    \b
    Examples:
      bigbia status result.zarr
    """
    from bigbia.run.state import status as found

    click.echo(str(found(output)))


@click.command(context_settings=_HELP, short_help="Check that an output is what was written.")
@click.argument("output")
@click.pass_context
def verify(ctx: click.Context, output: str) -> None:
    """Read every file of OUTPUT and compare it with the hash that was taken when it was written.

    Files that are gone, cut short, changed or swapped are named, with the block they belong to. Exit code 3 if there are
    any.

    \b
    Examples:
      bigbia verify result.zarr
    """
    from bigbia.run.verify import verify as found

    checked = found(output)
    click.echo(str(checked))
    if not checked.ok:
        ctx.exit(3)


@click.command(context_settings=_HELP, short_help="Make the damaged files of an output again.")
@click.argument("output")
@click.option("--scheduler", default="threads", show_default=True, metavar="NAME", help="As for run.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def repair(output: str, scheduler: str, quiet: bool) -> None:
    """Make the damaged files of OUTPUT again, and no others. Needs its input as it was.

    \b
    Examples:
      bigbia repair result.zarr
    """
    from bigbia.run.again import repair as done

    with _shown(quiet) as progress:
        checked = done(output, scheduler=scheduler, progress=progress)
    click.echo(str(checked))


@click.command(context_settings=_HELP, short_help="Run what made an output again, and compare.")
@click.argument("output")
@click.option("--keep", is_flag=True, help="Leave the second output at OUTPUT.rerun.")
@click.option("--scheduler", default="threads", show_default=True, metavar="NAME", help="As for run.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.pass_context
def rerun(ctx: click.Context, output: str, keep: bool, scheduler: str, quiet: bool) -> None:
    """Run what made OUTPUT again, from its input to every file, and compare all bytes. Exit code 4 if some differ.

    \b
    Examples:
      bigbia rerun result.zarr
    """
    from bigbia.run.again import rerun as done

    with _shown(quiet) as progress:
        comparison = done(output, keep=keep, scheduler=scheduler, progress=progress)
    click.echo(str(comparison))
    if not comparison.same:
        ctx.exit(4)


@click.command(context_settings=_HELP, short_help="Describe an output as an RO-Crate.")
@click.argument("output")
@click.option("--license", "license_", metavar="URL", help="Under which the results are given on.")
def crate(output: str, license_: str | None) -> None:
    """Write OUTPUT/ro-crate-metadata.json: what is in OUTPUT, what made it of what, and when, as an RO-Crate.

    \b
    Examples:
      bigbia crate result.zarr --license https://creativecommons.org/licenses/by/4.0/
    """
    from pathlib import Path

    from bigbia.run.crate import crate as written

    click.echo(str(written(Path(output), license=license_)))


def _shown(quiet: bool) -> AbstractContextManager[Any]:
    from bigbia.run.progress import progress

    return progress(quiet=quiet)


COMMANDS = (status, verify, repair, rerun, crate)
