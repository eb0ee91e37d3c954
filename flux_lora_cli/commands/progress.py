"""A run in words: its plan, its events, how it stands (drawn live at a terminal), what it cost."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from decimal import Decimal
from typing import TYPE_CHECKING

from flux_lora_cli.commands.console import Console, counts_text, cut, draw, plain, some
from flux_lora_cli.engine import events
from flux_lora_cli.engine.budget import dollars, sum_prices
from flux_lora_cli.folder.manifest import summary
from flux_lora_cli.text import counted

if TYPE_CHECKING:
    from flux_lora_cli.engine.assemble import Result
    from flux_lora_cli.engine.plan import BatchPlan, Work
    from flux_lora_cli.presets.load import Loaded

#: Sums and duplicates that are named one by one.
_MAX_NAMED = 5
_CYAN, _DIM = "36", "2"
_DOT = " · "
#: Of a terminal that does not tell.
_COLUMNS = 80


# ---- the plan --------------------------------------------------------------------------------


def plan_lines(event: events.Plan, plan: BatchPlan, loaded: Loaded, console: Console) -> list[str]:
    """The plan, one fact per line."""
    part = f" of {loaded.total:,}" if event.jobs < loaded.total else ""
    states = {
        "done": event.done,
        "in flight": event.in_flight,
        "of unknown outcome": event.unknown,
        "failed (--retry-failed submits them again)": event.failed,
    }
    standing = filter(None, [counts_text(states), f"{event.to_submit:,} to submit"])
    facts = [*loaded.sums[:_MAX_NAMED], ", ".join(standing), *duplicates(plan)]
    if event.to_submit:
        facts.append(f"{counted(event.images, 'image')}, {cost_words(plan.to_submit)}")
    if event.charged_usd not in (None, "0") and not console.sandbox:
        facts.append(f"charged so far: {dollars(Decimal(event.charged_usd or 0))}")
    if event.expected_seconds:
        facts.append(f"about {clock_text(event.expected_seconds)}")
    head = f"{counted(event.jobs, 'job')}{part}{loaded.how}" if event.jobs else "no jobs"
    return [head, *(f"  {fact}" for fact in (*facts, f"folder: {event.folder}"))]


def cost_words(works: Sequence[Work]) -> str:
    """What submissions are to cost, and who says so."""
    total = sum_prices(work.unit_price for work in works)
    if total is None:
        return "price not known (name it with --price)"
    sources = {work.price_source for work in works}
    if sources == {"documented"}:
        floor = "from " if any(work.price_is_floor for work in works) else ""
        return f"{floor}{dollars(total)} (at the documented price; the service may charge another)"
    return f"{dollars(total)} (at --price)" if sources == {"--price"} else dollars(total)


def multiplied(event: events.Plan, loaded: Loaded) -> str:
    """How the number of images comes about: ``2 × 40 × 12 = 960 images``; the bare number where it does not show."""
    images = counted(event.images, "image")
    factors, equals, _ = loaded.multiplication.partition(" = ")
    each, rest = divmod(event.images, max(1, loaded.total))
    if not equals or rest or event.to_submit != loaded.total:
        return images
    if each > 1:
        factors = f"({factors}) × {each}" if "+" in factors else f"{factors} × {each}"
    return f"{factors} = {images}"


def duplicates(plan: BatchPlan) -> list[str]:
    """How many jobs were asked for more than once, and which, where there are any."""
    if not plan.duplicates:
        return []
    names = some(list(dict.fromkeys(original for _, original in plan.duplicates)), _MAX_NAMED)
    return [f"{counted(len(plan.duplicates), 'duplicate')} of {names}; use repeat to make more of the same"]


# ---- while it runs ---------------------------------------------------------------------------


class Reporter:
    """An observer that writes to the console what happens, and how many ``what`` are ``end``.

    At a terminal that is a bar, how the run stands, and what has been running longest; messages and paths scroll above.
    Where it is drawn is decided here and not by rich, so that a resize leaves no debris, nothing is drawn in the
    background, and the cursor is never hidden.
    """

    def __init__(self, console: Console, what: str, end: str) -> None:
        self._console, self._what, self._end, self._live = console, what, end, console.live
        self._lock = threading.RLock()
        self._lines: list[tuple[str, str]] = []  # none before the run has begun: it may ask first
        self._drawn: list[int] = []  # widths

    def __enter__(self) -> Reporter:
        if self._live:
            if hasattr(signal, "SIGCONT"):  # after Ctrl-Z and fg, what the shell wrote stands below the old lines
                signal.signal(signal.SIGCONT, lambda number, frame: self._drawn.clear())
            self._console.lifted = self._lifted
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._console.lifted = nullcontext
            if self._live:
                self._replace([])

    def __call__(self, event: events.Event) -> None:
        """Show one event."""
        console = self._console
        match event:
            case events.Explained():
                return console.explain(event.message)
            case events.Warned():
                return console.warn(event.message, event.code)
        console.event(event)
        match event:
            case events.Image():
                console.result(event.path)
            case events.Progress() if self._live:
                with self._lock:
                    self._lines = self._made(event)
                    self._replace(self._lines)
            case events.Progress():
                done = f"{event.done:,} of {counted(event.jobs, self._what)} {self._end}"
                left = "" if event.remaining_seconds is None else f"about {clock_text(event.remaining_seconds)} left"
                console.info(", ".join(filter(None, [done, *_standing(event, console), left])))
            case events.Failed() | events.Overdue() | events.PollFailed() | events.Missing():
                console.complain(_trouble(event))
            case events.Held():
                names = f"; candidates: {', '.join(event.candidates)}" if event.candidates else ""
                console.complain(f"{event.message}{names}")
            case events.Unknown() | events.Waiting():
                console.info(event.message)
            case events.Adopted():
                console.info(f"{event.job or 'a submission'}: found as task {event.task} ({event.matched_by})")
            case events.Submitted() if console.verbose:
                console.info(f"{event.job}: submitted as {event.task}, seed {event.seed}")
        return None

    @contextmanager
    def _lifted(self) -> Iterator[None]:
        """The lines are gone while something else is written."""
        with self._lock:
            self._replace([])
            yield
            self._replace(self._lines)

    def _replace(self, lines: list[tuple[str, str]]) -> None:
        """Draw lines in the place of those drawn before; nothing in the background."""
        from rich.cells import cell_len

        if not _in_foreground():
            self._drawn.clear()
            return
        columns = _columns()  # a terminal that became narrower has wrapped the lines since
        rows = sum(max(1, -(-width // columns)) for width in self._drawn)
        self._drawn[:] = [cell_len(text) for text, _ in lines]
        text = f"\r\033[{rows}A\033[J" if rows else ""
        draw(text + "".join(f"{self._console.styled(line, color)}\n" for line, color in lines))

    def _made(self, now: events.Progress) -> list[tuple[str, str]]:
        """Each line with its color, none wider than the terminal."""
        width = max(20, _columns()) - 1
        ended, jobs = now.done + now.failed, max(1, now.jobs)
        head = f"{self._what}s" if self._end == "done" else self._end
        tail = f" {ended:,}/{now.jobs:,} {100 * ended // jobs}%"
        room = max(0, width - len(head) - 1 - len(tail))
        bar = ("━" * (room * ended // jobs)).ljust(room, "─")
        facts = [*_standing(now, self._console), f"{now.images:,} images", clock_text(now.elapsed_seconds)]
        facts += [] if now.remaining_seconds is None else [f"{clock_text(now.remaining_seconds)} left"]
        while len(_DOT.join(facts)) > width and len(facts) > 1:
            del facts[-2]
        lines = [(f"{head} {bar}{tail}", _CYAN), (_DOT.join(facts), _DIM)]
        if now.oldest:
            longest = f"longest: {_DOT.join(f'{plain(name)} {clock_text(seconds)}' for name, seconds in now.oldest)}"
            lines.append((cut(longest, width).rstrip(), _DIM))
        return lines


def _trouble(event: events.Failed | events.Overdue | events.PollFailed | events.Missing) -> str:
    what = "lost" if getattr(event, "code", "") == "lost" else event.event
    image = f"image {event.index} " if isinstance(event, events.Missing) else ""
    earlier = " in an earlier run" if getattr(event, "earlier", False) else ""
    task = f" (task {event.task})" if event.task else ""
    return f"{event.job or event.task}: {image}{what}{earlier}{task}: {event.message}"


def _standing(event: events.Progress, console: Console) -> list[str]:
    """How a run stands, but for what is done and what is left."""
    money = [] if event.cost_usd is None or console.sandbox else [f"${event.cost_usd}"]
    counts = counts_text({"failed": event.failed, "being saved": event.saving})
    return [f"{event.in_flight:,} in flight", *money, *filter(None, [counts])]


def clock_text(seconds: float) -> str:
    """A duration as people read it: 45 s, 3:20, 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if minutes else f"{rest} s"


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except (OSError, ValueError, AttributeError):
        return _COLUMNS


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # not this process's terminal, or no such thing here
        return True


# ---- the end ---------------------------------------------------------------------------------


def summary_line(result: Result, console: Console) -> str:
    """How a batch ended, in one line."""
    counts = summary(result.records)
    asked = counts["jobs"] - counts["skipped"]
    marks = {name: counts[name] for name in ("failed", "unknown", "pending", "missing")}
    done = f"{counts['completed']:,} of {counted(asked, 'job')} done, {counted(counts['images'], 'image')}"
    standing = ", ".join(filter(None, [done, counts_text({**marks, "flagged NSFW": counts["nsfw"]})]))
    again = f"{counted(result.resubmitted, 'job')} submitted once more, as asked" if result.resubmitted else ""
    return "; ".join(filter(None, [standing, money_words(result, console), again]))


def money_words(result: Result, console: Console) -> str:
    """What a run cost. The sandbox charges nobody."""
    if result.charged is None:
        return "charged at a price that is not known" if result.submitted and not console.sandbox else ""
    if not result.submitted and not result.charged:
        return "" if console.sandbox else "nothing charged"
    return f"{'would have cost' if console.sandbox else 'charged'} {dollars(result.charged)}"
