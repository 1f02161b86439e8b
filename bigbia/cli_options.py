"""Options that several commands have, with the same words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def debug(ctx: click.Context, _: Any, value: bool) -> None:
    if value:
        ctx.meta["bigbia.debug"] = True


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, is_eager=True, callback=debug, help="Show the traceback of an error."
)
settings_option = click.option(
    "--set", "settings", multiple=True, metavar="STEP.PARAMETER=VALUE", help="Change a parameter."
)
which_options = (
    click.option("--well", metavar="B03", help="Which well of a plate."),
    click.option("--field", metavar="N", help="Which field of a well that has several, by name or number from 0."),
    click.option("--scene", metavar="NAME", help="Which image of a file that holds several, by name or number from 0."),
)
opening_options = (
    click.option("--axes", metavar="TCZYX", help="The axes, where the file does not say: zyx, tczyx."),
    click.option("--voxel-size", metavar='"Z, Y, X UNIT"', help='Overrides the file: "0.29, 0.26, 0.26 um".'),
    click.option("--level", type=int, default=0, show_default=True, help="Pyramid level; 0 is full resolution."),
    click.option("--channels", metavar="NAME,...", help="Channels to read, by name or number from 0."),
    *which_options,
    click.option("--region", metavar="z=0:64,y=0:512", help="A part of the image, in voxels; c=0 takes one."),
    click.option("--block", metavar="N or Z,Y,X", default="auto", show_default=True, help="Voxels a block."),
    click.option(
        "--on-missing",
        type=click.Choice(["fill", "error"]),
        help="An absent chunk is its fill value, or an error. By default an error in what bigbia wrote.",
    ),
)
"""How an image is opened: the words of `run/inputs.py`."""
resource_options = (
    click.option("--memory", metavar="SIZE", help='Memory that may be used: "2 GiB".'),
    click.option("--threads", type=click.IntRange(min=1), help="Blocks worked on at once."),
)
scheduler_option = click.option(
    "--scheduler", default="threads", show_default=True, metavar="NAME", help="threads, processes or tcp://HOST:PORT."
)
shown_options = (
    click.option("--quiet", "-q", is_flag=True, help="No progress, no summary."),
    click.option("--verbose", "-v", is_flag=True, help="A line for each finished stage where there is no terminal."),
)


def given(*options: Callable) -> Callable:
    """A decorator that gives a command some options, in this order."""

    def decorate(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
