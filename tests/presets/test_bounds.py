"""A megabyte of anything is checked or refused within 5 s and 200 MB; ten thousand jobs are ready within 3 s."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import resource, sys
from flux_lora_cli.errors import PresetError
from flux_lora_cli.presets.load import LoadOptions, load_presets
try:
    loaded = load_presets(sys.argv[1], options=LoadOptions(max_jobs=int(sys.argv[2])))
    print(len(loaded.jobs), "jobs")
except PresetError as error:
    print(error.problems[0])
use = resource.getrusage(resource.RUSAGE_SELF)
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
print(use.ru_utime + use.ru_stime, peak / 1024)
"""


def chain(count: int, text: str = "${{v{}}}") -> str:
    lines = [f"  v{n}: ['{text.format(n + 1, n + 1)}']" for n in range(count)]
    return "vars:\n" + "\n".join(lines) + f"\n  v{count}: [x]\njobs: [{{id: a, prompt: '${{v0}}'}}]\n"


def anchors(count: int, form: str, first: str = "[x, x]") -> str:
    return "\n".join(
        [f"a0: &a0 {first}", *(f"a{n}: &a{n} " + form.replace("@", f"*a{n - 1}") for n in range(1, count))]
    )


def wide(count: int) -> str:
    names = ", ".join(f"w{n}: [a, b]" for n in range(count))
    prompt = "".join(f"{{${{w{n}}}|${{w{n + 1}}}}}" for n in range(count - 1))
    return f"vars: {{{names}}}\njobs: [{{prompt: '{prompt}'}}]\n"


def many(job: str) -> str:
    return "jobs:\n" + f"- {{{job}}}\n" * 19_000


def prompt(text: str) -> str:
    return f"jobs: [{{prompt: '{text}'}}]"


CASES = {
    "merge keys": (anchors(300, "{<<: [@, @], k: 1}", "{k: 1}"), "explode"),
    "aliases": (anchors(60, "[@, @, @, @, @, @, @, @, @]"), "explode"),
    "empty merges": ("jobs:\n- &a {prompt: x}\n" + "- {<<: [" + "*a," * 300_000 + "*a]}\n", "explode"),
    "brackets": ("[" * 1_000_000, "nested more than"),
    "dashes": ("- " * 500_000, "nested more than"),
    "unknown keys": ("jobs: [{prompt: a}]\n" + "".join(f"k{n}: {n}\n" for n in range(80_000)), "unknown key"),
    "variables that double": (chain(40, "${{v{}}}${{v{}}}"), "characters"),
    "shared variables": (wide(200), "more than 300000 texts"),
    "nested choices": (prompt("{x|" * 15 + "{a|b}" * 60_000 + "}" * 15), "more than"),
    "underscores": (prompt("_" * 999_000), "1 jobs"),
    "wildcard marks": (prompt("__a" * 330_000), "no wildcard"),
    "paths in wildcards": (prompt("__/.." * 199_000), ""),
    "letters": (prompt("a" * 999_000 + "=?"), "1 jobs"),
    "names in URLs": (prompt("?" + "key" * 330_000), "1 jobs"),
    "dollars": (prompt("${" * 499_000), "never closed"),
    "tags": (prompt("<lora:o/n:1>" * 80_000), "too many"),
    "open tags": (prompt("<lora:" * 160_000), "never closed"),
    "angles": (prompt("<a:" * 330_000), "1 jobs"),
    "square brackets": (prompt("[a:" * 330_000), "1 jobs"),
    "spaces before tags": (prompt("<lora:o/n:1>" + " " * 990_000 + "x"), "1 jobs"),
    "commas": (prompt("<lora:o/n:1>" + ", " * 490_000 + "x"), "1 jobs"),
    "big text, many jobs": (f"vars: {{t: '{'x' * 990_000}'}}\njobs: [{{repeat: 900, prompt: '${{t}}'}}]", "characters"),
    "variables in a choice": ("vars: {a: x}\n" + prompt("{" + "${a}" * 200_000 + "|b}"), "2 jobs"),
    "seeds of many jobs": (f"matrix: {{seed: {list(range(24_000))}}}\n" + many("prompt: a, repeat: 2"), "24000 × 2"),
    "variables of a prompt of many jobs": (
        "vars: {a: x}\ndefaults: {prompt: '" + "${a}" * 75_000 + "'}\n" + many("repeat: 2"),
        "too much to read",
    ),
    "prompts of many jobs": ("matrix: {prompt: [" + "a," * 20_000 + "b]}\n" + many("repeat: 2"), "more than the limit"),
    "many jobs": ("jobs:\n" + "- prompt: a\n" * 83_000, "expands to 83000 jobs"),
    "wide zip": (f"zip: {{prompt: {['a'] * 90_000}, seed: {[1] * 90_000}}}\njobs: [{{id: j}}]", "at most 25000"),
    "a variable each choice": (
        "vars: {"
        + ", ".join(f"v{n}: [a, b]" for n in range(2_000))
        + "}\njobs:\n- {id: j, sample: 1, prompt: '"
        + "".join(f"{{${{v{n}}}|c}}" for n in range(2_000))
        + "'}",
        "more than 300000 texts",
    ),
    "globs": (prompt("__a*b" * 190_000 + "__"), "1 jobs"),
    "line ends": ('jobs: [{prompt: "[' + "\\n" * 400_000 + '"}]', "1 jobs"),
}
#: As bounded, and near enough to the bound to take seconds.
SLOW = {
    "a variable of many jobs": (f"vars: {{v: {['a'] * 19_000}}}\n" + many("prompt: '${v} {x|${v}}'"), "19000"),
    "small values": ("jobs: [" + "1," * 499_990 + "1]", "jobs[0]"),
    "duplicates": ("a: 1\n" * 200_000, "duplicate"),
    "unknown keys of a job": ("jobs:\n- prompt: a\n" + "".join(f"  k{n}: {n}\n" for n in range(80_000)), "k0"),
    "bad jobs": ("jobs:\n" + "- {x: 1}\n" * 110_000, "x"),
    "a long chain of variables": (chain(30_000), "1 jobs"),
    "a circle": (chain(30_000).replace("v30000: [x]", "v30000: ['${v0}']"), "circle"),
    "choices": (prompt("{a|b}" * 199_990), "more than 300000 texts"),
    "choices, drawn": ("jobs: [{id: j, sample: 1000, prompt: '" + "{a|b}" * 90_000 + "'}]", "too much"),
    "one wide choice": (prompt("{" + "|".join(map(str, range(140_000))) + "}"), "more than the limit"),
    "loras": ("stacks: {s: [" + "{path: o/n}," * 80_000 + "]}\njobs: [{prompt: a}]", "too many"),
    "jobs with variables": (
        "jobs:\n" + "- {prompt: '${a} {b|c}', vars: {a: [d, e]}}\n" * 22_000,
        "more than the limit",
    ),
}
NAMES = [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def run(path: Path, max_jobs: int = 1000) -> tuple[str, float, float]:
    """What came of it, CPU seconds, peak megabytes."""
    command = [sys.executable, "-c", CHILD, str(path), str(max_jobs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    first, used = done.stdout.splitlines()
    seconds, megabytes = map(float, used.split())
    return first, seconds, megabytes


@pytest.mark.parametrize("name", NAMES)
def test_a_megabyte_of_anything(tmp_path: Path, name: str) -> None:
    text, words = (CASES | SLOW)[name]
    path = tmp_path / "p.yaml"
    path.write_text(text, "utf-8")
    first, seconds, megabytes = run(path)
    assert words in first
    assert megabytes < 200
    assert seconds < 10  # 5 s on an idle machine; other tests share its caches


@pytest.mark.parametrize(
    ("name", "head", "line", "count", "words"),
    [
        ("p.csv", "prompt,id\n", 'a,"', 250_000, "closing quote"),
        ("p.csv", 'prompt,id\n"', "a\n", 10_000, "never closed"),
        ("p.csv", "prompt", ",", 900_000, "column 2 has no name"),
        ("p.jsonl", "", "[", 200_000, "nested more than"),
        ("p.txt", "", "\x07", 200_000, "U+0007"),
        ("p.txt", "", "a\n", 500_000, "expands to 500000 jobs, more than the limit of 20000"),
        pytest.param("p.csv", "prompt,id\n", 'a,"b"\n', 10_000, "duplicate", marks=pytest.mark.slow),
        pytest.param("p.jsonl", "", '{"prompt": "a", "seed": 1}\n', 10_000, "10000", marks=pytest.mark.slow),
        pytest.param("p.txt", "", "a __b__ {c|d}\n", 10_000, "10000", marks=pytest.mark.slow),
    ],
)
def test_a_megabyte_of_a_list(tmp_path: Path, name: str, head: str, line: str, count: int, words: str) -> None:
    path = tmp_path / name
    path.write_text(head + line * count, "utf-8")
    first, seconds, megabytes = run(path, 20_000)
    assert words in first
    assert megabytes < 200
    assert seconds < 10


LINES = [f"a fox in scene number {n}, oil on canvas\n" for n in range(10_000)]
LONG = [f"{'a fox in tall grass, ' * 25}{line}" for line in LINES]
NUMBERS = list(range(100))
#: Ten thousand jobs; of several files the first is given.
TEN_THOUSAND = {
    "a matrix": {
        "p.yaml": f"vars: {{v: {NUMBERS}}}\nmatrix: {{seed: {NUMBERS}}}\njobs: [{{id: j, prompt: '${{v}}'}}]",
    },
    "long prompts of a base": {
        "p.yaml": "extends: base.yaml\n",
        "base.yaml": "jobs:\n" + "".join(f"- prompt: {line}" for line in LONG),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("form", TEN_THOUSAND)
def test_ten_thousand_jobs(studio, form: str) -> None:
    name, *_ = [studio.write(*file) for file in TEN_THOUSAND[form].items()]
    first, seconds, _ = run(name, 10_000)
    assert first == "10000 jobs"
    assert seconds < 6  # 3 s on an idle machine
