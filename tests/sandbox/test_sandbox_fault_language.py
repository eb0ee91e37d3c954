"""The language of --fault."""

from __future__ import annotations

import pytest

from flux_lora_cli.sandbox.fault_kinds import KINDS
from flux_lora_cli.sandbox.faults import FaultBook, fault_help, parse_fault

READ = [
    ("submit:503", {"endpoint": "submit", "kind": "status", "value": "503", "before": True}),
    ("submit:503-after:2", {"kind": "status", "before": False, "first": 2}),
    ("submit:reset-after:5%", {"kind": "reset", "before": False, "rate": 0.05}),
    ("look:500:every=3:after=4", {"value": "500", "every": 3, "after": 4}),
    ("download:cut:first=1", {"kind": "cut", "before": False, "first": 1}),
    ("any:stall=0.5:nth=7", {"kind": "stall", "number": 0.5, "nth": 7}),
    ("submit:429:retry-after=7", {"retry_after": "7"}),
    ("submit:redirect=307:location=http://h:1/x:y", {"value": "307", "location": "http://h:1/x:y"}),
    ("submit:400:2:message=no: more", {"first": 2, "message": "no: more"}),
    ("download:kill=half:pid=77", {"kind": "kill", "value": "half", "pid": 77}),
    ("look:ended=timeout", {"value": "timeout"}),
]


@pytest.mark.parametrize(("spec", "fields"), READ, ids=[spec for spec, _ in READ])
def test_a_spec_is_read(spec: str, fields: dict[str, object]) -> None:
    fault = parse_fault(spec)
    assert {name: getattr(fault, name) for name in fields} == fields


WRONG = [
    ("", "ENDPOINT:KIND"),
    ("submit", "ENDPOINT:KIND"),
    ("sumbit:503", "submit, look"),
    ("submit:boom", "trickle"),
    ("submit:99", "100 to 599"),
    ("submit:600", "100 to 599"),
    ("submit:no-outputs", "look only"),
    ("download:cut-after", "-before"),
    ("look:stall=soon", "number"),
    ("look:ended=maybe", "cancelled, timeout, deleted"),
    ("submit:kill=later", "received, accepted, half, answered"),
    ("submit:500:101%", "0% to 100%"),
    ("submit:500:x%", "0% to 100%"),
    ("submit:500:every=0", "from 1"),
    ("submit:500:often", "every"),
    ("submit:500:nth=²", "from 1"),
]


@pytest.mark.parametrize(("spec", "allowed"), WRONG, ids=[spec for spec, _ in WRONG])
def test_a_wrong_spec_says_what_is_allowed(spec: str, allowed: str) -> None:
    with pytest.raises(ValueError, match="fault") as caught:
        parse_fault(spec)
    assert repr(spec) in str(caught.value) and allowed in str(caught.value)


@pytest.mark.parametrize(
    ("often", "met"),
    [
        ("", [1, 2, 3, 4, 5, 6, 7, 8]),
        (":2", [1, 2]),
        (":nth=3", [3]),
        (":every=3", [3, 6]),
        (":after=5", [6, 7, 8]),
        (":after=2:first=2", [3, 4]),
        (":after=1:every=2:first=4", [3, 5]),
        (":0%", []),
        (":100%", [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_how_often(often: str, met: list[int]) -> None:
    book = FaultBook([f"look:500{often}"], seed=0)
    assert [place for place in range(1, 9) if book.meeting("look")] == met


def test_chance_repeats_with_the_seed() -> None:
    def drawn(seed: int) -> list[bool]:
        book = FaultBook(["submit:500:30%"], seed)
        return [book.meeting("submit") is not None for _ in range(200)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 40 <= sum(drawn(1)) <= 80


def test_the_first_of_several_wins_and_all_count() -> None:
    book = FaultBook(["submit:500:1", "any:503:2"], seed=0)
    met = [book.meeting(endpoint) for endpoint in ("submit", "submit", "look", "stats")]
    assert [fault.value if fault else "" for fault in met] == ["500", "503", "", ""]


def test_the_help_names_every_kind_and_fits_a_terminal() -> None:
    assert all(f"\n  {name}" in fault_help() for name in KINDS if name != "status")
    assert max(map(len, fault_help().splitlines())) <= 80
