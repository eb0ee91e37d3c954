"""``flux-lora audit``: folders against the service's bill."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from flux_lora_cli.commands.ci import Case, reporting
from flux_lora_cli.commands.console import Console, counts_text, plain, some
from flux_lora_cli.commands.options import Junit, ServiceOptions, argument, command, flag, option
from flux_lora_cli.commands.running import check, connected
from flux_lora_cli.commands.values import bad
from flux_lora_cli.engine.budget import ZERO, dollars
from flux_lora_cli.engine.budget import plain as decimal
from flux_lora_cli.errors import (
    Advice,
    ExitCode,
    FluxLoraError,
    FolderBusy,
    FolderError,
    HeldError,
    Incomplete,
    OtherService,
    UsageError,
)
from flux_lora_cli.text import counted

if TYPE_CHECKING:
    from flux_lora_cli.engine.audit import Report

EXAMPLES = """
flux-lora audit flux-lora-output/posters
flux-lora audit --all --since 2025-11-01
flux-lora audit out --junit audit.xml
"""


def _date(text: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text).strip())
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise bad(text, "a valid date", "write 2025-11-01") from None
    if moment > datetime.now(UTC):
        raise bad(text, "in the past", "write the first day to search (UTC)")
    return moment


@command
def audit(
    *,
    folders: Annotated[list[Path] | None, argument("DIR", "Output folders.", Path)] = None,
    since: Annotated[
        datetime | None, option("--since", "DATE", "Also find charges that no folder knows.", _date)
    ] = None,
    everything: Annotated[bool, flag("--all", "Check every folder ever used, and what submit made.")] = False,
    junit: Junit = None,
    service: ServiceOptions,
    console: Console,
) -> int:
    """Check folders against the service's bill: what was charged, twice, not refunded, or at another price.

    Prints one line per finding with the IDs that support asks for. Exits with 6 where something is wrong, 13 where an
    unknown submission has a candidate, and 5 where the bill cannot be read. Changes nothing but records refunds,
    which then no longer count against --max-cost.
    """
    from flux_lora_cli.engine.audit import Bill, compare, first_submission, read_books, record_refunds

    if not folders and not everything:
        raise UsageError("no folder was named", "Name output folders, or use --all for every one that you have used.")

    def left_out(error: FluxLoraError) -> None:
        (console.explain if isinstance(error, OtherService) else console.warn)(f"left out: {error.message}")

    check(service, console)
    name = service.name
    with reporting(junit, "audit", console) as write_junit:
        try:
            books = list(read_books(folders or [], name, everything, left_out))
        except OtherService as error:
            error.hint = "Audit the folders of one service at a time: with --sandbox, or --base-url URL."
            raise
        since = since or (first_submission(books) if everything else None)
        with connected(service, console) as (client, _):
            bill = Bill(client, lambda done: console.progress(f"{counted(done, 'task')} looked up"))
            now = datetime.now(UTC) + timedelta(seconds=client.clock_ahead or 0.0)
            report = compare(bill, books, name, now, since)
        recorded = 0
        for each in books:
            try:
                recorded += record_refunds(each, report.tasks, name)
            except (FolderError, FolderBusy) as error:
                console.warn(f"refunds were not recorded: {error.message}", "refunds")
        _tell(report, recorded, console)
        wrong = {
            id(found.claim.record): ("failure", found.kind, found.message)
            for found in report.findings
            if found.claim is not None and found.exit_code is not ExitCode.OK
        }
        write_junit(  # a folder is a test suite, for two may have jobs of one name
            Case(each.name, record.id or record.key, *wrong.get(id(record), ()))
            for each in books
            for record in each.records
        )
    return _conclude(report, service.words, console)


def _tell(report: Report, recorded: int, console: Console) -> None:
    from flux_lora_cli.engine.audit import KINDS

    for finding in report.findings:
        folder, job, where = None, None, ""
        task = f"task {finding.task}" if finding.task else "no task"
        if finding.claim is not None:
            books, job = finding.claim.books, finding.claim.record.name
            folder, where = books.path and str(books.path), f"{job} ({task}) in {books.name}"
        ids = f" [bill: {', '.join(finding.charges)}]" if finding.charges else ""
        console.result(plain(f"{finding.kind.replace('_', ' ')}: {where or task}: {finding.message}{ids}"))
        data = {"finding": finding.kind, "folder": folder, "job": job, "task": finding.task}
        console.record("finding", {**data, "message": finding.message, "charges": list(finding.charges)})
    for (name, model, month), sums in sorted(report.totals.items()):
        usd, words = _summed([sums])
        console.record("total", {"folder": name, "model": model, "month": month, **usd})
        console.info(plain(f"{name}, {model}, {month}: {words}"))
    if report.unread:
        entries = counted(report.unread, "entry", "entries")
        console.warn(f"not counted: {entries} of the bill that cannot be read", "bill")
    if recorded:
        console.info(f"{counted(recorded, 'refund')} recorded")
    counts = {kind: sum(finding.kind == kind for finding in report.findings) for kind in KINDS}
    sandbox = " (sandbox: no real money)" if console.sandbox else ""
    found = counts_text(counts, "all as it should be" if report.tasks else "nothing to compare")
    usd, words = _summed(report.totals.values())
    console.info(f"{counted(len(report.tasks), 'task')} checked, {words}: {found}{sandbox}")
    console.summary.update(tasks=len(report.tasks), **usd, refunds_recorded=recorded, **counts)


def _summed(parts: Iterable[dict[str, Decimal]]) -> tuple[dict[str, str], str]:
    """What was charged and refunded, for programs and in words."""
    charged, back = (sum((part.get(kind, ZERO) for part in parts), ZERO) for kind in ("deduct", "refund"))
    usd = {"charged_usd": decimal(charged), "refunded_usd": decimal(back)}
    return usd, f"{dollars(charged)} billed, {dollars(back)} refunded"


def _conclude(report: Report, reach: Sequence[str], console: Console) -> int:
    """Say what is to be done; a submission that may have been charged comes first."""
    maybe = [finding for finding in report.findings if finding.exit_code is ExitCode.UNKNOWN]
    wrong = [finding.task for finding in report.findings if finding.exit_code is ExitCode.INCOMPLETE and finding.task]
    errors: list[FluxLoraError] = []
    if maybe:
        claims = [(each.claim, each.task) for each in maybe if each.claim is not None]
        jobs = [f"--adopt {claim.record.name}={task}" for claim, task in claims if claim.books.path]
        tasks = [str(task) for claim, task in claims if not claim.books.path]
        ways = [f"flux-lora batch … {' '.join(jobs[:3])}"] if jobs else []
        ways += [shlex.join(["flux-lora", "wait", *reach, *tasks[:3]])] if tasks else []
        message = f"{counted(len(maybe), 'submission')} of unknown outcome may have been charged"
        errors.append(HeldError(message, f"If the task is the job's, take it: {'; '.join(ways)}"))
    if wrong:
        message = f"{counted(len(wrong), 'task')} not charged as expected"
        hint = f"Ask the service's support, naming the tasks: {some(wrong)}"
        errors.append(Incomplete(message, hint))
        errors[-1].advice = Advice.FIX  # a rerun alone changes nothing
    for error in errors:
        console.error(error)
    return errors[0].exit_code if errors else ExitCode.OK
