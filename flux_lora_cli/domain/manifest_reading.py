"""A manifest read back into records. It may come from anywhere: every type, size and path is checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from flux_lora_cli.domain.manifest import VERSION
from flux_lora_cli.domain.records import JobRecord, OutputRecord, State

MAX_JOBS = 1_000_000
#: A job has at most 4 images (``num_images``); a task of another tool may have more.
MAX_OUTPUTS = 1_000
#: Names and messages; a prompt lies in ``input``, which is kept whole.
MAX_TEXT = 65_536
_MAX_COST = Decimal(1_000_000)
_MAX_WHOLE = 2**63 - 1

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
#: What the tool uses itself; an image is never one of them.
_RESERVED = re.compile(r"manifest\.json|index\.html|ledger\.sqlite3.*|inputs/[0-9a-f]{64}\..*", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')


class ManifestError(ValueError):
    """The document is no manifest, or one that contradicts itself. The text says where."""


class ManifestNewerError(ManifestError):
    """The document was written by a later version of the tool."""


def service_of(document: object) -> str:
    """Return whom the folder belongs to. Raises ManifestError."""
    top = _mapping(document, "the document")
    version = top.get("version")
    if type(version) is not int or version < 1:
        raise ManifestError("it has no version")
    if version > VERSION:
        raise ManifestNewerError(f"it has version {version}, this flux-lora reads {VERSION}")
    service = _text(top.get("service"), "service", 2048)
    if not service:
        raise ManifestError("service is missing")
    return service


def parse(document: object) -> list[JobRecord]:
    """Return the records of a manifest, as ``parse_entries`` does. Raises ManifestError."""
    service_of(document)
    return list(parse_entries(_list(_mapping(document, "the document").get("jobs"), "jobs", MAX_JOBS)))


def parse_entries(entries: Iterable[object]) -> Iterator[JobRecord]:
    """Yield the records of a manifest's ``jobs``, in their order.

    What a manifest does not hold (times of intents and of files) is None; the key is the fingerprint,
    or ``task:ID`` without one, or where two entries have the same. Paths lie inside the folder, as far as
    their text tells; links are the reader's to check, and so are the hashes.

    Raises:
        ManifestError: something is not as the format says. Nothing is left out: a job that is not read
            would be paid for again.
    """
    keys: set[str] = set()
    for number, value in enumerate(entries):
        at = f"jobs[{number}]"
        if number == MAX_JOBS:
            raise ManifestError(f"jobs is not a list of at most {MAX_JOBS:,}")
        record = _job(_mapping(value, at), at, number, keys)
        keys.add(record.key)
        yield record


def safe_path(path: str) -> bool:
    """Whether a path, relative with ``/``, stays inside the folder and names no file of the tool's own."""
    parts = path.split("/")
    if not path or len(path.encode("utf-8", "surrogatepass")) > 4096 or _FORBIDDEN.search(path):
        return False
    if any(part in {"", "."} or part.startswith(".") or part[-1] in " ." for part in parts):
        return False
    return not _RESERVED.fullmatch(path)


def _job(entry: Mapping[str, Any], at: str, order: int, taken: set[str]) -> JobRecord:
    request = _mapping(entry.get("request"), f"{at}.request")
    task = _mapping(entry.get("task"), f"{at}.task")
    sent = request.get("input")
    outputs = _list(entry.get("outputs"), f"{at}.outputs", MAX_OUTPUTS)
    aliases = _list(entry.get("aliases"), f"{at}.aliases", MAX_JOBS)
    fingerprint = _matching(entry.get("fingerprint"), f"{at}.fingerprint", _FINGERPRINT)
    task_id = _matching(task.get("id"), f"{at}.task.id", _TASK_ID)
    record = JobRecord(
        key=_key(fingerprint, task_id, at, taken),
        id=_text(entry.get("id"), f"{at}.id"),
        order=order,
        aliases=tuple(_text(alias, f"{at}.aliases") or "" for alias in aliases),
        preset=_text(entry.get("preset"), f"{at}.preset"),
        fingerprint=fingerprint,
        state=_state(entry.get("state"), at),
        model=_text(request.get("model"), f"{at}.request.model"),
        input=None if sent is None else dict(_mapping(sent, f"{at}.request.input")),
        task_id=task_id,
        task_model=_text(task.get("model"), f"{at}.task.model"),
        task_status=_text(task.get("status"), f"{at}.task.status"),
        task_created_at=_text(task.get("created_at"), f"{at}.task.created_at"),
        task_error=_text(task.get("error"), f"{at}.task.error") or "",
        execution_ms=_whole(task.get("execution_ms"), f"{at}.task.execution_ms"),
        matched_by=_text(task.get("matched_by"), f"{at}.task.matched_by"),
        attempts=_whole(entry.get("attempts"), f"{at}.attempts") or 0,
        error=_text(entry.get("error"), f"{at}.error"),
        outputs=[_output(output, f"{at}.outputs[{number}]") for number, output in enumerate(outputs)],
    )
    if len({output.index for output in record.outputs}) != len(record.outputs):
        raise ManifestError(f"{at}.outputs has one index twice")
    cost = _money(entry.get("cost_usd"), f"{at}.cost_usd")
    record.price = cost if record.attempts else None
    return record


def _key(fingerprint: str | None, task_id: str | None, at: str, taken: set[str]) -> str:
    if fingerprint is not None and fingerprint not in taken:
        return fingerprint
    if task_id is None:
        raise ManifestError(f"{at} has " + ("the fingerprint of another" if fingerprint else "no fingerprint"))
    if f"task:{task_id}" in taken:
        raise ManifestError(f"{at} has the task of another")
    return f"task:{task_id}"


def _output(value: object, at: str) -> OutputRecord:
    entry = _mapping(value, at)
    file = _text(entry.get("file"), f"{at}.file")
    if file is not None and not safe_path(file):
        raise ManifestError(f"{at}.file leads out of the folder, or to a file of another kind")
    nsfw = entry.get("nsfw")
    if nsfw is not None and not isinstance(nsfw, bool):
        raise ManifestError(f"{at}.nsfw is not true, false or null")
    index = _whole(entry.get("index"), f"{at}.index")
    if index is None:
        raise ManifestError(f"{at}.index is missing")
    return OutputRecord(
        index=index,
        url=_text(entry.get("url"), f"{at}.url"),
        nsfw=nsfw,
        file=file,
        sha256=_matching(entry.get("sha256"), f"{at}.sha256", _FINGERPRINT),
        bytes=_whole(entry.get("bytes"), f"{at}.bytes"),
        width=_whole(entry.get("width"), f"{at}.width"),
        height=_whole(entry.get("height"), f"{at}.height"),
        media_type=_text(entry.get("media_type"), f"{at}.media_type", 200),
        saved_at=_text(entry.get("saved_at"), f"{at}.saved_at", 64),
        error=_text(entry.get("error"), f"{at}.error"),
    )


def _state(value: object, at: str) -> State:
    try:
        return State(value)
    except ValueError:
        raise ManifestError(f"{at}.state is none of {', '.join(state.value for state in State)}") from None


def _mapping(value: object, at: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ManifestError(f"{at} is not an object")
    return value


def _list(value: object, at: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ManifestError(f"{at} is not a list of at most {most:,}")
    return value


def _text(value: object, at: str, most: int = MAX_TEXT) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) > most):
        raise ManifestError(f"{at} is not a text of at most {most:,} characters")
    return value


def _matching(value: object, at: str, pattern: re.Pattern[str]) -> str | None:
    text = _text(value, at)
    if text is not None and not pattern.fullmatch(text):
        raise ManifestError(f"{at} is not of its form")
    return text


def _whole(value: object, at: str) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value <= _MAX_WHOLE):
        raise ManifestError(f"{at} is not a whole number")
    return value


def _money(value: object, at: str) -> Decimal | None:
    text = _text(value, at, 64)
    if text is None:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ManifestError(f"{at} is not an amount") from None
    if not amount.is_finite() or not 0 <= amount <= _MAX_COST:
        raise ManifestError(f"{at} is not an amount")
    return amount
