"""What every command that runs tasks shares: settings, what is shown meanwhile, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.options import SaveOptions, ServiceOptions, SpendOptions
from flux_lora_cli.errors import PRECEDENCE, ExitCode, FluxLoraError
from flux_lora_cli.text import counted

if TYPE_CHECKING:
    from flux_lora_cli.commands.reporter import Reporter
    from flux_lora_cli.engine.assemble import Result
    from flux_lora_cli.engine.settings import Settings, Stop
    from flux_lora_cli.service.client import Client

#: Seconds between two Progress events: on a terminal they are drawn, elsewhere each is a line.
_LIVE, _PLAIN = 0.5, 30.0
#: More images than this are asked about, where somebody can answer. [CONTRACT: command line]
ASK_ABOVE = 100


def run_settings(
    spend: SpendOptions | None, save: SaveOptions, console: Console, parts: int = 1, several_presets: bool = False
) -> Settings:
    """The settings of a run; one of several parts takes its share of rate, concurrency and budget.

    Raises:
        UsageError: the template of ``--filename`` is not valid.
    """
    from flux_lora_cli.engine.settings import Settings
    from flux_lora_cli.folder.names import Template

    if save.filename is not None:
        Template.parse(save.filename, several_presets=several_presets)
    spend = spend or SpendOptions()
    return Settings(
        concurrency=max(1, save.concurrency // parts),
        poll_interval=save.poll_interval,
        timeout=save.timeout,
        task_timeout=save.task_timeout,
        rate=None if spend.rate is None else spend.rate / parts,
        max_cost=None if spend.max_cost is None else spend.max_cost / parts,
        max_month=spend.max_month,
        price=spend.price,
        on_unknown=spend.on_unknown,
        nsfw=save.nsfw,
        fail_on_nsfw=save.fail_on_nsfw,
        download=not save.no_download,
        filename=save.filename,
        progress_every=_LIVE if console.live else _PLAIN,
        explain=console.verbose,
    )


@dataclass
class Running:
    """What a run is handed: the client and whom it talks to, who watches, and how it is stopped."""

    client: Client
    service: str
    observer: Reporter
    stop: Stop


@contextmanager
def running(
    service: ServiceOptions,
    console: Console,
    *,
    resume: str,
    what: str = "jobs",
    shown: bool = True,
    github: bool = False,
) -> Iterator[Running]:
    """Connect, and show what happens until the context ends.

    Args:
        resume: the command that goes on after an interrupt.
        what: is counted by the live display; ``shown``: whether there is one, on a terminal.
        github: failures as annotations, too.
    """
    from flux_lora_cli.commands.connection import connected
    from flux_lora_cli.commands.reporter import Reporter

    with ExitStack() as stack:
        stop = stack.enter_context(console.signals.stopping(console, resume))
        connection = stack.enter_context(connected(service, console))
        display = None
        if shown and console.live:
            from flux_lora_cli.commands.progress import LiveDisplay

            display = stack.enter_context(LiveDisplay(console, what, sandbox=service.sandbox))
        reporter = Reporter(console, display, github=github, sandbox=service.sandbox)
        yield Running(connection.client, connection.service, reporter, stop)


def tell_end(result: Result, console: Console, *, also: Callable[[FluxLoraError], None] = lambda error: None) -> int:
    """Say every reason why the exit code is not 0, the deciding one first; returns the code.

    Args:
        also: is told of each, too (annotations).
    """
    from flux_lora_cli.folder.manifest import summary

    console.summary.update(summary(result.records))
    cut_off = result.exit_code >= ExitCode.INTERRUPTED
    for code in sorted(result.reasons, key=PRECEDENCE.index):
        error = result.reasons[code]
        if code is ExitCode.CLOSED_OUTPUT and not error.tasks:
            continue  # as `| head` wants it
        if cut_off and code in (ExitCode.INCOMPLETE, ExitCode.DEADLINE):
            continue  # that something is left goes without saying
        if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
            error.message += _standing(result, sandbox=bool(console.summary.get("sandbox")))
        console.error(error)
        also(error)
    return int(result.exit_code)


def _standing(result: Result, *, sandbox: bool) -> str:
    """How many tasks are running, and how many jobs were never sent, for the message of an interrupt."""
    from flux_lora_cli.engine.ending import Left

    left = Left.of(result.records)
    running = f"{counted(left.running, 'task')} {'submitted' if sandbox else 'paid'} and still running"
    parts = [running if left.running else "no task is running"]
    if left.held:
        parts.append(f"{counted(len(left.held), 'submission')} of unknown outcome")
    parts.append(f"{counted(left.pending, 'job')} never sent" if left.pending else "")
    return "; " + ", ".join(filter(None, parts))


def money_words(result: Result, *, sandbox: bool) -> str:
    """What a run cost. The sandbox charges nobody."""
    from flux_lora_cli.engine.budget import dollars

    if result.charged is None:
        return "" if sandbox else "charged at a price that is not known"
    if not result.submitted and not result.charged:
        return "" if sandbox else "nothing charged"
    estimated = result.estimated if result.submitted else None
    estimate = f" (estimated {dollars(estimated)})" if estimated not in (None, result.charged) else ""
    return f"would have cost {dollars(result.charged)}" if sandbox else f"charged {dollars(result.charged)}{estimate}"


def confirmed(images: int, cost: Decimal | None, spend: SpendOptions, console: Console, how: str = "") -> bool:
    """Whether a submission may go ahead: a large one, or one at an unknown price, is asked about at a terminal.

    Args:
        how: how the number of images comes about (``2 × 40 × 12 = 960 images``).
    """
    from flux_lora_cli.engine.budget import dollars

    if spend.yes or not console.interactive or (images <= ASK_ABOVE and cost is not None):
        return True
    price = dollars(cost) if cost is not None else "at an unknown price"
    return console.ask(f"To submit: {how or counted(images, 'image')}, {price}. Submit?")
