"""The command `bigbia`.

Everything that is slow to import is imported inside the command that needs it: `bigbia --help` answers at once.
"""

from __future__ import annotations

import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bigbia import cli_building, cli_runs, cli_show
from bigbia.errors import BigbiaError, BigbiaWarning

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


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


def _debug(ctx: click.Context, _: Any, value: bool) -> None:
    if value:
        ctx.meta["bigbia.debug"] = True


def _version(ctx: click.Context, _: Any, value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"bigbia {version('bigbia')}")
        except PackageNotFoundError:
            click.echo("bigbia (not installed: running from its folder)")
        ctx.exit()


def _apply(options: list[Callable], command: Callable) -> Callable:
    for option in reversed(options):
        command = option(command)
    return command


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, is_eager=True, callback=_debug, help="Show the traceback of an error."
)


def input_options(command: Callable) -> Callable:
    """How the input is read, and the parameters changed: the same for `run` and `explain`."""
    return _apply(
        [
            click.option(
                "--set", "settings", multiple=True, metavar="STEP.PARAMETER=VALUE", help="Change a parameter."
            ),
            click.option("--axes", metavar="TCZYX", help="The axes, where the file does not say: zyx, tczyx."),
            click.option("--voxel-size", metavar='"Z, Y, X UNIT"', help='Overrides the file: "0.29, 0.26, 0.26 um".'),
            click.option(
                "--level", type=int, default=0, show_default=True, help="Pyramid level; 0 is full resolution."
            ),
            click.option("--channels", metavar="NAME,...", help="Channels to read, by name or number from 0."),
            click.option("--region", metavar="z=0:64,y=0:512", help="A part of the image, in voxels; c=0 takes one."),
            click.option("--block", metavar="N or Z,Y,X", default="auto", show_default=True, help="Voxels a block."),
            click.option(
                "--on-missing",
                type=click.Choice(["fill", "error"]),
                help="An absent chunk is its fill value, or an error. By default an error in what bigbia wrote.",
            ),
            click.option("--memory", metavar="SIZE", help='Memory that may be used: "2 GiB".'),
            click.option("--threads", type=click.IntRange(min=1), help="Blocks worked on at once."),
            debug_option,
        ],
        command,
    )


@click.group(cls=Commands, context_settings=_HELP, no_args_is_help=True)
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
      bigbia ops filters.gaussian                          what an operator does
    """


@main.command(context_settings=_HELP, short_help="Run a pipeline on an image.")
@click.argument("pipeline")
@click.argument("images", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUTPUT",
    help="The OME-Zarr folder to write; of several INPUT the folder that holds them.",
)
@click.option(
    "--scheduler", default="threads", show_default=True, metavar="NAME", help="threads, processes or tcp://HOST:PORT."
)
@click.option("--overwrite", is_flag=True, help="Replace OUTPUT if it exists; what is the same is taken over.")
@click.option("--restart", is_flag=True, help="Throw away what a run that was stopped there has done.")
@click.option("--allow-missing", is_flag=True, help="Publish with zeros where blocks failed.")
@click.option("--integrity", type=click.Choice(["hash", "full"]), help="full: read back every file as well.")
@click.option("--keep", type=click.Choice(["auto", "all", "none"]), help="Which intermediate results to keep.")
@click.option("--insecure", is_flag=True, help="Allow a tcp:// scheduler elsewhere on the network.")
@click.option("--quiet", "-q", is_flag=True, help="No progress, no summary.")
@click.option("--verbose", "-v", is_flag=True, help="A line for each finished stage where there is no terminal.")
@input_options
def run(pipeline: str, images: tuple[str, ...], output: str, quiet: bool, verbose: bool, **options: Any) -> None:
    """Run PIPELINE on the image INPUT and write OUTPUT; on several images, OUTPUT/NAME.zarr for each.

    OUTPUT is one OME-Zarr folder that napari and Fiji open: an image at its root, labels/NAME, images/NAME,
    tables/NAME.parquet, and the pipeline as it was run in pipeline.yaml.

    \b
    Examples:
      bigbia run nuclei.yaml cells.tif -o result.zarr
      bigbia run nuclei.yaml cells.zarr -o result.zarr --set smooth.sigma=0.8um --set mask="smooth > 500"
      bigbia run nuclei.yaml stack.tif -o result.zarr --axes zyx --voxel-size "0.29, 0.26, 0.26 um"
      bigbia run nuclei.yaml cells.zarr -o try.zarr --region z=0:64,y=0:512 --memory "2 GiB"
      bigbia run nuclei.yaml plate/*.tif -o results
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
    import bigbia
    from bigbia.run.progress import progress

    start = time.perf_counter()
    how = {k: options[k] for k in ("overwrite", "restart", "allow_missing")}
    with cli_building.settings(options):
        if len(images) > 1:
            with progress(quiet=quiet, verbose=verbose) as shown:
                _run_batch(pipeline, images, output, {**options, "progress": shown}, how, quiet)
            return
        (image,) = images
        cli_building.keep_input(image, output)
        options["block"] = cli_building.block_of_stopped(output, options)
        plan, results = cli_building.build(pipeline, image, options)
        outputs = plan.outputs(results)
        with progress(quiet=quiet, verbose=verbose) as shown:
            bigbia.save(
                output,
                **outputs,
                **how,
                scheduler=options["scheduler"],
                progress=shown,
                pipeline=plan.text,
                origin=cli_building.origin(image, results["input"], options),
            )
    if not quiet:
        click.echo(cli_show.written(output, outputs, time.perf_counter() - start))


def _run_batch(
    pipeline: str, images: tuple[str, ...], output: str, options: dict[str, Any], how: dict[str, bool], quiet: bool
) -> None:
    """Many images, one run."""
    from bigbia.run.batch import run_batch
    from bigbia.run.job import DEFAULT_LAYOUT, job_of

    def job(image: str, place: Path) -> Any:
        cli_building.keep_input(image, str(place))
        mine = {**options, "block": cli_building.block_of_stopped(str(place), options)}
        plan, results = cli_building.build(pipeline, image, mine)
        words = {k: options[k] for k in ("scheduler", "progress")}
        origin = cli_building.origin(image, results["input"], mine)
        return job_of(plan.outputs(results), DEFAULT_LAYOUT, pipeline=plan.text, origin=origin, **words)

    batch = run_batch(output, images, job, how)
    if not quiet or batch.failed:
        click.echo(str(batch))
    if batch.failed:
        click.get_current_context().exit(4)


@main.command(context_settings=_HELP, short_help="Say what a run would take; computes nothing.")
@click.argument("pipeline")
@click.argument("image", metavar="INPUT")
@input_options
def explain(pipeline: str, image: str, **options: Any) -> None:
    """Say what PIPELINE would do to INPUT: stages, tasks, bytes, memory. Computes nothing.

    \b
    Examples:
      bigbia explain nuclei.yaml cells.zarr
      bigbia explain nuclei.yaml cells.zarr --block 128 --memory "2 GiB" --threads 4
    """
    import bigbia

    with cli_building.settings(options):
        plan, results = cli_building.build(pipeline, image, options)
        outputs = plan.outputs(results)
        images = {**({"image": outputs["image"]} if outputs["image"] is not None else {}), **outputs["images"]}
        click.echo(str(bigbia.explain({"images": images, "labels": outputs["labels"], "tables": outputs["tables"]})))


@main.command(context_settings=_HELP, short_help="Say what is in an image file or folder.")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@debug_option
def info(path: str, as_json: bool) -> None:
    """Say what is in an image file or folder: shape, axes, voxel size, channels, chunks.

    \b
    Examples:
      bigbia info cells.tif
      bigbia info result.zarr --json
    """
    from bigbia.io.opening import describe

    found = describe(path)
    if as_json:
        import json

        click.echo(json.dumps(found, indent=2, default=str))
    else:
        click.echo(cli_show.described(found))


@main.command(context_settings=_HELP, short_help="List the operators, or explain one.")
@click.argument("name", required=False)
@debug_option
def ops(name: str | None) -> None:
    """List the operators, or explain one.

    \b
    Examples:
      bigbia ops
      bigbia ops filters.gaussian
      bigbia ops label
    """
    from bigbia.run import operators

    if name:
        click.echo(operators.manual(*operators.search(name)))
        return
    known = operators.operators()
    width = max(map(len, known), default=0)
    for full, function in known.items():
        click.echo(f"{full:<{width}}  {operators.summary(function)}".rstrip())
    click.echo("\n`bigbia ops NAME` explains one.")


@main.command(context_settings=_HELP, short_help="Write a synthetic volume with its exact answer.")
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
@click.option("--threads", type=click.IntRange(min=1), help="Blocks worked on at once.")
@click.option("--memory", metavar="SIZE", help='Memory that may be used: "2 GiB".')
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
    from bigbia.run.progress import progress

    start = time.perf_counter()
    with cli_building.settings(options), progress(quiet=quiet) as shown:
        outputs = synthetic(**options)
        bigbia.save(output, **outputs, overwrite=overwrite, progress=shown)
    if not quiet:
        click.echo(cli_show.written(output, outputs, time.perf_counter() - start))


@main.command(context_settings=_HELP, short_help="Segment, measure and draw a real 3D image.")
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


for _command in cli_runs.COMMANDS:
    main.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())
