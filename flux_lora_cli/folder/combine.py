"""Two records of one job become one: the better result stays, and every charge counts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flux_lora_cli.folder.entries import is_masked
from flux_lora_cli.folder.records import JobRecord, PastTask, State

#: From least to most worth keeping. What may still turn out paid for is kept over what was not.
_WORTH = (
    State.PLANNED, State.SKIPPED, State.FAILED, State.SUBMITTING, State.UNKNOWN, State.SUBMITTED, State.COMPLETED,
)  # fmt: skip


def worth(record: JobRecord) -> tuple[int, int]:
    """A measure to choose between two records of one job: by state, then by images saved."""
    return _WORTH.index(record.state), sum(output.file is not None for output in record.outputs)


def newer(shown: JobRecord, mine: JobRecord) -> bool:
    """Whether ``shown`` (of a manifest) knows of a purchase, or of a result of it, that ``mine`` does not."""
    if not _tasks(shown) <= _tasks(mine):
        return True
    if shown.task_id == mine.task_id and worth(shown) > worth(mine):
        return bool(shown.attempts or shown.task_id)
    return shown.attempts > mine.attempts


def caught_up(mine: JobRecord, shown: JobRecord) -> JobRecord:
    """The record of an older copy of a ledger, brought to where the manifest beside it shows the job (``newer``)."""
    if mine.task_id is None or mine.task_id in _tasks(shown):
        return _joined(mine, shown, mine, lesser_counts=False)
    return join(mine, shown)


def join(kept: JobRecord, other: JobRecord) -> JobRecord:
    """The one record of a job that two folders have; ``kept`` keeps its place and name.

    Tasks of either that are not the present one of the result become history: each was charged.
    """
    if worth(other) > worth(kept):
        return _joined(kept, other, kept, lesser_counts=True)
    return _joined(kept, kept, other, lesser_counts=True)


def _joined(kept: JobRecord, better: JobRecord, lesser: JobRecord, *, lesser_counts: bool) -> JobRecord:
    other = lesser if better is kept else better
    same = _same_task(better, lesser)
    history = list(better.history)
    known = {_charge(past) for past in history} | {_charge(_as_past(better))}
    charged = bool(lesser.attempts or lesser.task_id) and lesser_counts and not same
    for past in (*lesser.history, *((_as_past(lesser),) if charged else ())):
        if _charge(past) not in known:
            known.add(_charge(past))
            history.append(past)
    names = dict.fromkeys(name for name in (kept.id, *kept.aliases, other.id, *other.aliases) if name)
    first = next(iter(names), None)
    return replace(
        better,
        key=kept.key,
        order=kept.order,
        id=first,
        aliases=tuple(name for name in names if name != first),
        attempts=max(kept.attempts, other.attempts, len(history) + bool(better.attempts)),
        history=tuple(history),
        price=lesser.price if same and better.price is None else better.price,
        refunded=max(better.refunded, lesser.refunded) if same else better.refunded,
        intent_at=better.intent_at or (None if charged else lesser.intent_at),
        api_version=better.api_version or lesser.api_version,
        input=_fuller(better.input, lesser.input),
    )


def _tasks(record: JobRecord) -> set[str]:
    return {task for task in (record.task_id, *(past.task_id for past in record.history)) if task is not None}


def _same_task(one: JobRecord, other: JobRecord) -> bool:
    """Whether two records tell of one submission, perhaps at different times."""
    if one.task_id is not None and other.task_id is not None:
        return one.task_id == other.task_id
    return one.intent_at == other.intent_at


def _charge(past: PastTask) -> str:
    """What tells one charge for a job from another."""
    return past.task_id or f"intent {past.intent_at}"


def _as_past(record: JobRecord) -> PastTask:
    """The present task of a record, as the history of another has it."""
    return PastTask(record.task_id, record.error, record.price, record.refunded, record.intent_at)


def _fuller(better: Mapping[str, Any] | None, lesser: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The request in which no secret is masked, where both are of one seed."""
    if better is None or lesser is None or not is_masked(better) or is_masked(lesser):
        return better
    return lesser if better.get("seed") == lesser.get("seed") else better
