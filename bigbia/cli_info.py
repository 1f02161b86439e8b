"""The command that says what is in a file or a folder, and what would be wrong with it."""

from __future__ import annotations

from typing import Any

import click

from bigbia.cli_options import HELP, debug_option, given, which_options


@click.command(context_settings=HELP, short_help="Say what is in an image file or folder.")
@click.argument("path")
@given(*which_options, debug_option)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.pass_context
def info(ctx: click.Context, path: str, as_json: bool, **which: Any) -> None:
    """Say what is in an image file or folder: axes, sizes, channels, chunks, levels, wells; and what is wrong with it.

    Exit code 3 where it cannot be opened, also where its metadata can still be shown.

    \b
    Examples:
      bigbia info cells.tif
      bigbia info result.zarr --json
      bigbia info plate.zarr --well B03
      bigbia info "scan/img_t{t}_c{c}_z{z}.tif"
    """
    from bigbia.cli_show import described
    from bigbia.io.describing import describe

    found = describe(path, **which)
    if as_json:
        import json

        click.echo(json.dumps(found, indent=2, default=str))
    else:
        click.echo(described(found))
    if found.get("opens") is False:
        ctx.exit(3)


COMMANDS = (info,)
