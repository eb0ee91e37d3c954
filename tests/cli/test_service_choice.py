"""Which service is talked to: what is typed wins over the environment."""

from __future__ import annotations

from tests.conftest import Cli

#: Nobody listens here.
NOBODY = "http://127.0.0.1:9"


def test_a_typed_base_url_wins_over_the_sandbox_of_the_environment(cli: Cli) -> None:
    done = cli("submit", "a cat", "--base-url", NOBODY, env={"FLUX_LORA_SANDBOX": "1"})
    assert (done.code, done.out) == (4, "")
    assert "FLUX_LORA_SANDBOX is set, and --base-url wins" in done.err
    plan = cli("batch", "-", "--dry-run", "--base-url", NOBODY, stdin='{"prompt": "x"}', env={"FLUX_LORA_SANDBOX": "1"})
    assert "folder: flux-lora-output/stdin\n" in plan.out


def test_the_sandbox_wins_over_a_base_url_of_the_environment(cli: Cli) -> None:
    typed = cli("submit", "a cat", "--sandbox", env={"WAVESPEED_BASE_URL": NOBODY})
    assert (typed.code, typed.err) == (0, "")
    both = cli("submit", "a cat", env={"WAVESPEED_BASE_URL": NOBODY, "FLUX_LORA_SANDBOX": "1"})
    assert both.code == 0
    assert both.err == "warning: FLUX_LORA_SANDBOX is set: images come from the offline sandbox\n"


def test_sandbox_and_base_url_exclude_each_other(cli: Cli) -> None:
    done = cli("submit", "a cat", "--sandbox", "--base-url", NOBODY)
    assert (done.code, done.out) == (2, "")
