"""What a person sees: the live display at any width, in tmux, in the background; and plain lines elsewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flux_lora_cli.sandbox import Sandbox
from tests.commands.conftest import Terminal
from tests.conftest import Cli, require_tool

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def steady(service: Callable[..., Sandbox], tmp_path: Path) -> Sandbox:
    """A service at 1 s per task, and ``many.jsonl`` of 6 jobs with long names."""
    jobs = [{"id": f"a-job-with-a-long-name-{number}", "prompt": f"cat {number}"} for number in range(6)]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    return service(service_time=1.0)


BATCH = ("batch", "many.jsonl", "-o", "out", "--concurrency", "3", "--poll-interval", "0.2")


@pytest.mark.parametrize("columns", [40, 100])
def test_the_display_fits_and_keeps_the_time_left(
    steady: Sandbox, terminal: Callable[..., Terminal], columns: int
) -> None:
    code, text = terminal(*BATCH, columns=columns).finish()
    assert code == 0
    lines = [_CONTROL.sub("", line) for line in text.replace("\r", "").split("\n")]
    drawn = [line for line in lines if " in flight" in line or line.startswith(("jobs ", "longest: "))]
    assert all(len(line) < columns for line in drawn)
    assert [line for line in drawn if line.endswith(" left")]
    assert [line for line in drawn if "a-job-with-a-long-name" in line]
    assert lines.index("out/manifest.json".rjust(19)) > 0
    paths = [line for line in lines if line.endswith(".png")]
    assert len(paths) == 6
    assert "\x1b[?25l" not in text, "the cursor is never hidden"


def test_colors_only_where_they_are_wanted(steady: Sandbox, terminal: Callable[..., Terminal]) -> None:
    colored = re.compile(r"\x1b\[[0-9;]*(3[0-9]|9[0-7])[0-9;]*m")
    assert colored.search(terminal("batch", "none.jsonl").finish()[1])
    for words, env in ((["--no-color"], {}), ([], {"NO_COLOR": "1"})):
        assert not colored.search(terminal("batch", "none.jsonl", *words, env=env).finish()[1])


@pytest.mark.parametrize("env", [{"CI": "true"}, {"TERM": "dumb"}])
def test_plain_lines_on_a_terminal_of_a_ci_service(
    steady: Sandbox, terminal: Callable[..., Terminal], env: dict[str, str]
) -> None:
    code, text = terminal(*BATCH, env=env).finish()
    assert code == 0
    assert len(text) < 4000
    for words in (["batch", "none.jsonl"], ["--help"], ["batch", "--help"], ["status"]):
        text += terminal(*words, env=env).finish()[1]
    assert "\x1b" not in text


def test_progress_lines_in_a_file(steady: Sandbox, cli: Cli, tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv[0] = 'flux-lora'\n"
        "from flux_lora_cli.commands import running; running._PLAIN = 0.3\n"
        "from flux_lora_cli.__main__ import main; sys.exit(main())"
    )
    ended = cli(*BATCH, program=(sys.executable, "-c", script))
    assert ended.code == 0
    assert re.search(r"\d+ of 6 jobs done, .*in flight, \$0\.\d+", ended.err)
    assert "\x1b" not in ended.err
    ended = cli("submit", "-", "--rate", "2/s", stdin="a cat\n" * 4, program=(sys.executable, "-c", script))
    assert re.search(r"[1-3] of 4 tasks submitted, \d+ in flight, \$0\.\d+, about", ended.err)


def test_submissions_are_counted_at_a_terminal(steady: Sandbox, terminal: Callable[..., Terminal]) -> None:
    words = [word for number in range(4) for word in ("-p", f"cat {number}")]
    code, text = terminal("submit", *words, "--rate", "1/s").finish()
    assert code == 0
    assert re.search(r"submitted .*[1-3]/4 (25|50|75)%", text)


def test_in_tmux_a_resize_leaves_no_debris_and_the_background_is_left_alone(steady: Sandbox, tmp_path: Path) -> None:
    tmux = [require_tool("tmux"), "-S", str(tmp_path / "socket"), "-f", "/dev/null"]

    def screen() -> str:
        return subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True).stdout

    def keys(*words: str) -> None:
        subprocess.run([*tmux, "send-keys", *words], check=True)

    def until(condition: Callable[[str], object], seconds: float = 20.0) -> str:
        end = time.monotonic() + seconds
        while not condition(text := screen()):
            assert time.monotonic() < end, text
            time.sleep(0.1)
        return text

    lines = "".join(json.dumps({"prompt": f"a cat of number {number}"}) + "\n" for number in range(60))
    (tmp_path / "more.jsonl").write_text(lines)
    program = f"{shlex.quote(sys.executable)} -m flux_lora_cli batch more.jsonl -o out --concurrency 1 > paths"
    env = {**os.environ, "TERM": "xterm-256color", "PS1": "$ "}
    start = ["new-session", "-d", "-x", "100", "-y", "24", f"cd {tmp_path}; exec bash --norc"]
    subprocess.run([*tmux, *start], check=True, env=env)
    try:
        keys(program, "Enter")
        until(lambda text: "in flight" in text)
        for width in ("50", "100", "40"):
            subprocess.run([*tmux, "resize-window", "-x", width, "-y", "24"], check=True)
            time.sleep(0.6)
            text = until(lambda text: "longest:" in text)
            assert len(re.findall(r"(?m)^jobs \S+ .*/60 ", text)) == text.count("longest:") == 1, text
        keys("C-z")
        until(lambda text: "Stopped" in text)
        keys("clear; bg", "Enter")
        time.sleep(0.8)
        assert "in flight" not in screen()
        keys("fg", "Enter")
        until(lambda text: text.count("longest:") == 1)
        keys("C-c")
        text = until(lambda text: "To resume:" in text)
        assert "longest:" not in text
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_keep_their_columns(terminal: Callable[..., Terminal], columns: int) -> None:
    lines = terminal("models", "flux-dev-lora", columns=columns).finish()[1].replace("\r", "").splitlines()
    assert max(map(len, lines)) <= columns
    head = next(line for line in lines if line.startswith("PARAMETER"))
    rows = [line for line in lines if re.match(r"[a-z_]+ +(number|size|integer|loras) ", line)]
    assert len(rows) == 7
    assert {line[head.index("DEFAULT") - 2 :][:2] + line[head.index("DESCRIPTION") - 2 :][:2] for line in rows} == {
        "    "
    }
    assert all(line[head.index("DEFAULT")].strip() and line[head.index("DESCRIPTION")].strip() for line in rows)
