"""Prompts that are taken as they stand, wherever they come from; and folders of the command line that are not there."""

from __future__ import annotations

import pytest

from flux_lora_cli.errors import NotFoundError
from tests.conftest import Cli


def test_the_prompts_file_of_a_literal_job_is_literal(studio):
    studio.write("more.txt", "# no prompt\na {b|c} __d__ <lora:o/n:1>\n")
    line = '{"prompts_file": "more.txt"}\n'
    jobs = studio.load("j.jsonl", line).jobs
    assert [(job.params["prompt"], job.params.get("loras")) for job in jobs] == [("a {b|c} __d__ <lora:o/n:1>", None)]
    studio.write("more.txt", "a {b|c}\n")
    assert [job.params["prompt"] for job in studio.load("j.jsonl", line, expand=True).jobs] == ["a b", "a c"]
    assert studio.prompts("jobs:\n- prompts_file: more.txt\n") == ["a b", "a c"]


@pytest.mark.parametrize("mark", ["\u2028", "\x0b", "\x0c", "\x85"])
def test_a_prompt_of_standard_input_ends_at_its_line_alone(cli: Cli, mark: str) -> None:
    done = cli("submit", "--sandbox", "-", "--dry-run", stdin=f"one{mark}piece\r\ntwo\n")
    assert done.out.startswith("2 tasks to submit")


def test_an_allowed_folder_that_is_not_there(studio, cli: Cli) -> None:
    studio.allow = [studio.folder / "gone"]
    with pytest.raises(NotFoundError, match="gone: no such folder"):
        studio.load("p.yaml", "jobs:\n- prompt: a\n")
    assert cli("preset", "check", "p.yaml", "--allow-path", "gone").code == 3
