"""When changed records become durable, and what may run then."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone

import pytest

from flux_lora_cli.domain.records import JobRecord
from flux_lora_cli.workflow.book import LATER, LINGER, Book


class Clock:
    """Time that stands still."""

    def __init__(self) -> None:
        self.time = 100.0

    def monotonic(self) -> float:
        return self.time

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=timezone.utc)

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class Ledger:
    """Keeps the keys of each commit."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []

    def save(self, records: Iterable[JobRecord]) -> None:
        self.commits.append([record.key for record in records])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def book(clock: Clock, ledger: Ledger) -> Book:
    return Book(ledger, clock)


def test_an_urgent_change_is_committed_at_once_with_all_that_waits(book: Book, ledger: Ledger) -> None:
    book.change(JobRecord("a"))
    book.change(JobRecord("b"), urgent=True)
    assert book.flush() is None
    assert ledger.commits == [["a", "b"]]


def test_other_changes_wait_for_more(book: Book, ledger: Ledger, clock: Clock) -> None:
    book.change(JobRecord("a"))
    assert book.flush() == pytest.approx(LINGER)
    clock.sleep(LINGER)
    assert book.flush() is None
    assert ledger.commits == [["a"]]


def test_nothing_runs_before_its_record_is_durable(book: Book, ledger: Ledger) -> None:
    seen: list[int] = []
    book.change(JobRecord("a"), lambda: seen.append(len(ledger.commits)), urgent=True)
    assert seen == []
    book.flush()
    assert seen == [1]


def test_what_is_put_off_goes_with_the_records_next_change(book: Book, ledger: Ledger, clock: Clock) -> None:
    record = JobRecord("a")
    book.later(record)
    book.change(JobRecord("b"), urgent=True)
    assert book.flush() == pytest.approx(LATER)
    book.change(record, urgent=True)
    assert book.flush() is None
    clock.sleep(LATER)
    assert book.flush() is None
    assert ledger.commits == [["b"], ["a"]]


def test_what_is_put_off_is_not_put_off_for_ever(book: Book, ledger: Ledger, clock: Clock) -> None:
    for key in "abc":
        book.later(JobRecord(key))
        clock.sleep(0.5)
    clock.sleep(LATER - 1.0)
    assert book.flush() == pytest.approx(0.5)
    assert ledger.commits == [["a", "b"]]
    clock.sleep(0.5)
    assert book.flush() is None
    assert ledger.commits == [["a", "b"], ["c"]]


def test_at_the_end_everything_is_committed(book: Book, ledger: Ledger) -> None:
    book.change(JobRecord("a"))
    book.later(JobRecord("b"))
    book.later(JobRecord("c"))
    assert book.flush(everything=True) is None
    assert ledger.commits == [["a", "b", "c"]]
