"""The command `bigbia`.

Everything that is slow to import is imported inside the command that needs it: `bigbia --help` answers at once.
"""

from __future__ import annotations

import signal
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bigbia import cli_convert, cli_info, cli_ops, cli_run, cli_runs, cli_show, cli_try
from bigbia.cli_options import HELP, debug_option, given, resource_options
from bigbia.errors import BigbiaError, BigbiaWarning


class Commands(click.Group):
    """A group that turns our errors into one line and their exit code, and notes into one line each."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _terminable(), _notes(ctx):
                return super().invoke(ctx)
        except BigbiaError as error:
            if ctx.meta.get("bigbia.debug"):
                raise
            click.echo(f"bigbia: error: {_one_line(error)}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("bigbia: stopped", err=True)
            ctx.exit(130)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of the file, not of the alphabet

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            from bigbia.errors import nearest

            ctx.fail(f"there is no command {args[0]!r}: {nearest(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


@contextmanager
def _terminable() -> Any:
    """SIGTERM (a cluster's scancel, a shell's kill) stops as Ctrl-C does, so that nothing half-written is left."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: a test, another program
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


@contextmanager
def _notes(ctx: click.Context) -> Any:
    """Show a warning as one line, each text once; those of other packages only with --debug."""
    seen: set[str] = set()

    def show(message: Any, category: type, *_: Any, **__: Any) -> None:
        ours = issubclass(category, BigbiaWarning)
        quiet = issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning)
        text = _one_line(message) if ours else f"{category.__name__}: {_one_line(message)}"
        if text in seen or (quiet and not ctx.meta.get("bigbia.debug")):
            return
        seen.add(text)
        click.echo(f"bigbia: note: {text}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", BigbiaWarning)
        warnings.showwarning = show
        yield


def _version(ctx: click.Context, _: Any, value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"bigbia {version('bigbia')}")
        except PackageNotFoundError:
            click.echo("bigbia (not installed: running from its folder)")
        ctx.exit()


@click.group(cls=Commands, context_settings=HELP, no_args_is_help=True)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
@debug_option
def main() -> None:
    """Image analysis for volumes that do not fit in memory.

    A pipeline file says what to do, in scikit-image's words; bigbia does it block by block.

    \b
    Try it:
      bigbia demo                                          3D nuclei: segmented, measured, drawn
    Then with your own image:
      bigbia info cells.tif                                what is in the file
      bigbia run nuclei.yaml cells.tif -o result.zarr      do it
      bigbia explain nuclei.yaml cells.tif                 what it would take, computing nothing
      bigbia try nuclei.yaml cells.tif smooth.sigma 1 2 4  which sigma?
      bigbia convert cells.czi cells.zarr                  another format
      bigbia ops filters.gaussian                          what an operator does
    """


for _first in (cli_run, cli_try, cli_info, cli_ops):
    for _command in _first.COMMANDS:
        main.add_command(_command)


@main.command(context_settings=HELP, short_help="Write a synthetic volume with its exact answer.")
@click.argument("output")
@click.option(
    "--kind",
    default="nuclei",
    show_default=True,
    help="nuclei, touching, percolation, spiral, shells, plateau, checkerboard.",
)
@click.option("--shape", default="256,256,256", show_default=True, metavar="Z,Y,X", help="Size in voxels.")
@click.option("--seed", type=int, help="Another seed, another volume.")
@click.option("--touch", is_flag=True, help="Nuclei that touch each other.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Another parameter of the kind.")
@click.option("--voxel-size", metavar='"Z, Y, X UNIT"', help='"0.5, 0.2, 0.2 um"; without it, voxels have no size.')
@click.option("--block", metavar="N or Z,Y,X", default="128", show_default=True, help="Voxels a block.")
@given(*resource_options)
@click.option("--overwrite", is_flag=True, help="Replace OUTPUT if it exists.")
@click.option("--quiet", "-q", is_flag=True, help="No progress, no summary.")
@debug_option
def synth(output: str, overwrite: bool, quiet: bool, **options: Any) -> None:
    """Write a synthetic volume of any size, with its exact answer as labels/truth.

    \b
    Examples:
      bigbia synth nuclei.zarr --shape 512,512,512
      bigbia synth touching.zarr --shape 256,256,256 --touch --seed 3
      bigbia synth noise.zarr --kind percolation --set p=0.31
    """
    import bigbia
    from bigbia.cli_arguments import synthetic
    from bigbia.run.pipeline_run import settings
    from bigbia.run.progress import progress

    start = time.perf_counter()
    with settings(options), progress(quiet=quiet) as shown:
        outputs = synthetic(**options)
        bigbia.save(output, **outputs, overwrite=overwrite, progress=shown)
    if not quiet:
        click.echo(cli_show.written(output, outputs, time.perf_counter() - start))


@main.command(context_settings=HELP, short_help="Segment, measure and draw a real 3D image.")
@click.argument("folder", default="bigbia-demo")
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier demo.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@debug_option
def demo(folder: str, overwrite: bool, quiet: bool) -> None:
    """Segment, measure and draw the nuclei of a real 3D image, into FOLDER (bigbia-demo).

    \b
    Examples:
      bigbia demo
      bigbia demo /tmp/nuclei --overwrite
    """
    from bigbia import demo as the_demo
    from bigbia.run.progress import progress

    with progress(quiet=quiet) as shown:
        found = the_demo.run(Path(folder), overwrite=overwrite, progress=shown)
    click.echo(found.text())


for _several in (cli_runs, cli_convert):
    for _command in _several.COMMANDS:
        main.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())
