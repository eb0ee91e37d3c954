"""What differs between shells when TAB is pressed on a word with ``=`` in it.

zsh and fish complete the whole word ``--only=la``, bash only what stands behind its last ``=`` or ``:``, at which it
breaks words unless the user has told it otherwise; and Typer's answer is always the bare value.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click.shell_completion
from typer import _completion_shared as scripts

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem
    from click.shell_completion import ShellComplete as _Base
else:
    _Base = object  # each is put before a class of Typer's

#: Of COMP_WORDBREAKS, what stands inside of words of ours. [bash manual: COMP_WORDBREAKS]
_BREAKS = frozenset("=:")
#: compopt came with bash 4; macOS has 3.2.
_NO_SPACE = "    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null\n"


def register() -> None:
    """Put these completions in the place of Typer's, once it has registered its own."""
    for shell, extra in (("bash", _Bash), ("zsh", _Zsh), ("fish", _WholeWords)):
        typers: Any = click.shell_completion.get_completion_class(shell)
        if typers is not None and not issubclass(typers, _WholeWords):
            click.shell_completion.add_completion_class(type(extra.__name__, (extra, typers), {}), shell)


def let_bash_wait_for_a_value() -> None:
    """bash adds a space behind what it completed, also behind ``KEY=``, unless its script forbids it."""
    known = scripts._completion_scripts  # Typer has no other way
    if _NO_SPACE not in known["bash"]:
        known["bash"] = known["bash"].replace("    return 0\n", f"{_NO_SPACE}    return 0\n")


def option_start(word: str) -> str:
    """``--only=`` of ``--only=la``: what click takes off before it looks for values; else nothing."""
    return word[: word.index("=") + 1] if word.startswith("-") and "=" in word else ""


def rejoined(pieces: Sequence[str]) -> list[list[str]]:
    """Words as they were typed, each still in the pieces into which bash broke it."""
    words: list[list[str]] = []
    open_ = False
    for piece in pieces:
        breaks = bool(piece) and _BREAKS.issuperset(piece)
        if words and (open_ or breaks):
            words[-1].append(piece)
        else:
            words.append([piece])
        open_ = breaks
    return words


class _WholeWords(_Base):
    """For shells that complete whole words."""

    #: What the shell keeps of the word, whatever it is answered.
    kept = ""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """As click, each value with what was typed before it."""
        start = option_start(incomplete)
        found = super().get_completions(args, incomplete)
        for item in found:
            # Behind --only=- click offers options, which stand for themselves.
            whole = item.value if item.value.startswith("-") else start + item.value
            item.value = whole.removeprefix(self.kept)
        return found


class _Bash(_WholeWords):
    """Words come in pieces, and only the last piece is completed."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor, whole, and the word at it."""
        pieces = click.shell_completion.split_arg_string(os.environ["COMP_WORDS"])
        current = int(os.environ["COMP_CWORD"])
        words = rejoined(pieces[1 : current + 1])
        at_cursor = words.pop() if len(pieces) > current and words else [""]
        self.kept = "".join(at_cursor if _BREAKS.issuperset(at_cursor[-1]) else at_cursor[:-1])
        return ["".join(word) for word in words], "".join(at_cursor)


class _Zsh(_WholeWords):
    """zsh runs what it is answered."""

    def complete(self) -> str:
        """As Typer; where only names of values are offered, without a space behind them."""
        args, incomplete = self.get_completion_args()
        values = [item.value for item in self.get_completions(args, incomplete)]
        if values and all(value.endswith("=") for value in values):
            return f"compadd -S '' -- {shlex.join(values)}"
        return super().complete()
