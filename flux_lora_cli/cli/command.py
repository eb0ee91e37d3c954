"""Build commands from functions whose parameters may be shared groups of options.

A group is a dataclass whose fields are annotated as Typer parameters. A command names the groups it takes;
``build`` spreads their fields over the command line and hands the function filled-in objects, so that an
option is written once for all commands that have it.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

import click
import typer
from typer.core import TyperCommand

from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.options import GeneralOptions

#: Help is laid out for the narrowest common terminal.
WIDTH = 80
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": WIDTH}


class GroupedHelp(TyperCommand):
    """A command whose help lists its options by group, without rich."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section for each group of options, in the order in which they first appear."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None:
                groups.setdefault(_section(parameter), []).append(row)
        groups["General"] = groups.pop("General", [])
        for title, rows in groups.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Leave arguments to ``format_options``: click from 8.4 on would list them here a second time."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they stand."""
        if self.epilog:
            formatter.write("\n" + self.epilog.rstrip() + "\n")


def _section(parameter: click.Parameter) -> str:
    if "--help" in parameter.opts:  # click's own option, which has no group
        return "General"
    title: str | None = getattr(parameter, "rich_help_panel", None)
    return title or ("Arguments" if parameter.param_type_name == "argument" else "Options")


def build(function: Callable[..., Any], name: str, *, examples: str = "", exit_codes: bool = False) -> click.Command:
    """Make a click command of ``function``; its docstring's first paragraph is the help.

    Parameters of ``function`` that are option groups are spread; one called ``console`` gets the Console.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    epilog = f"Examples:\n{examples.rstrip()}" if examples else ""
    if exit_codes:
        from flux_lora_cli.cli.exit_help import exit_code_lines

        epilog = "\n\n".join(part for part in (epilog, exit_code_lines()) if part)
    flat = spread(function)
    app.command(name, cls=GroupedHelp, help=inspect.getdoc(function), epilog=epilog, context_settings=SETTINGS)(flat)
    command = typer.main.get_command(app)
    command.name = name
    _restore_help(command, flat)
    return command


def _restore_help(command: click.Command, function: Callable[..., Any]) -> None:
    """Give arguments their help back: since 8.4 click's own Argument has one, and empties what Typer had set."""
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            hint = function.__annotations__.get(parameter.name or "")
            infos = [info for info in getattr(hint, "__metadata__", ()) if hasattr(info, "help")]
            parameter.help = infos[-1].help if infos else None


def spread(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with the fields of its option groups, and the general options, as parameters of its own."""
    hints = typing.get_type_hints(function, include_extras=True)
    groups: dict[str, type[Any]] = {}
    parameters: list[inspect.Parameter] = []
    wants_console = False
    for parameter in inspect.signature(function).parameters.values():
        hint = _annotated(hints[parameter.name])
        if hint is Console:
            wants_console = True
        elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
            groups[parameter.name] = hint
            parameters.extend(_fields(hint))
        else:
            parameters.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))
    parameters.extend(_fields(GeneralOptions))

    def run(**values: Any) -> Any:
        context = click.get_current_context()
        general = _gather(GeneralOptions, values)
        console: Console = context.find_root().obj
        console.configure(general)
        arguments = {name: _gather(group, values) for name, group in groups.items()}
        if wants_console:
            arguments["console"] = console
        return function(**values, **arguments)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # how Typer reads it
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__name__ = function.__name__
    run.__doc__ = function.__doc__
    return run


def _annotated(hint: Any) -> Any:
    """Undo what Python 3.10 does to a parameter whose default is None: it hides the annotation inside an Optional."""
    inside = [each for each in typing.get_args(hint) if hasattr(each, "__metadata__")]
    return inside[0] if typing.get_origin(hint) is typing.Union and len(inside) == 1 else hint


def _fields(group: type[Any]) -> Iterator[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        default = field.default
        if default is dataclasses.MISSING:
            default = field.default_factory() if callable(field.default_factory) else None
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
        )


def _gather(group: type[Any], values: dict[str, Any]) -> Any:
    return group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
