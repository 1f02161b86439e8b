"""`bigbia ops`: the operators, what one takes, and the schema of pipeline files."""

from __future__ import annotations

from typing import Any

import click

from bigbia.cli_options import HELP, debug_option


@click.command(context_settings=HELP, short_help="List the operators, or explain one.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.option("--schema", "as_schema", is_flag=True, help="The JSON schema of pipeline files, for editors.")
@debug_option
def ops(name: str | None, as_json: bool, as_schema: bool) -> None:
    """List the operators, or explain one: its parameters with what they take, their units and defaults.

    \b
    Examples:
      bigbia ops
      bigbia ops filters.gaussian
      bigbia ops label --json
      bigbia ops --schema > bigbia.schema.json
    In VS Code the first line of a pipeline file then says where the schema is:
      # yaml-language-server: $schema=bigbia.schema.json
    """
    from bigbia.errors import ParameterError
    from bigbia.run import operators

    if as_schema:
        if name or as_json:
            raise ParameterError("ops --schema: is that of all operators: leave out NAME and --json")
        from bigbia.run.schema import schema

        click.echo(_json(schema()))
    elif name:
        full, function = operators.search(name)
        click.echo(_json(_described(full)) if as_json else operators.manual(full, function))
    elif as_json:
        click.echo(_json([_described(full) for full in operators.operators()]))
    else:
        known = operators.operators()
        width = max(map(len, known), default=0)
        for full, function in known.items():
            click.echo(f"{full:<{width}}  {operators.summary(function)}".rstrip())
        click.echo("\n`bigbia ops NAME` explains one.")


def _json(value: Any) -> str:
    import json

    return json.dumps(value, indent=2, ensure_ascii=False)


def _described(name: str) -> dict[str, Any]:
    """An operator for programs."""
    from bigbia.run import operators
    from bigbia.run.parameters import parameters

    words = ("name", "takes", "unit", "default", "description")
    return {
        "name": name,
        "summary": operators.summary(operators.find(name)[1]),
        "parameters": [{word: getattr(p, word) for word in words} for p in parameters(name)],
    }


COMMANDS = (ops,)
