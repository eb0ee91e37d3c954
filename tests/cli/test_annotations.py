"""What a command's parameters say of themselves reaches Typer on every Python."""

from __future__ import annotations

from typing import Annotated

import click
import pytest
import typer

from flux_lora_cli.cli.command import _annotated
from flux_lora_cli.cli.submit import command

PLAIN = Annotated[list[str], typer.Argument()]


@pytest.mark.parametrize("hint", [PLAIN, PLAIN | None])
def test_an_annotation_inside_an_optional_counts(hint: object) -> None:
    assert _annotated(hint) == PLAIN


@pytest.mark.parametrize("hint", [int, int | None, int | str, Annotated[int | None, 1]])
def test_other_hints_stay_as_they_are(hint: object) -> None:
    assert _annotated(hint) == hint


def test_no_name_of_an_option_is_given_twice_and_prompts_are_arguments() -> None:
    names = [name for parameter in command.params for name in parameter.opts]
    assert len(names) == len(set(names))
    (prompts,) = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    assert prompts.nargs == -1
