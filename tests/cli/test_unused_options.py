"""Options that do nothing are told of."""

from __future__ import annotations

from tests.conftest import Cli


def test_submit_tells_that_without_wait_nothing_is_saved(cli: Cli) -> None:
    done = cli("submit", "--sandbox", "a cat", "-o", "pets", "--nsfw", "skip")
    assert (done.code, len(done.lines)) == (0, 1)
    assert done.err == "warning: without --wait no image is saved, so there is no use in --output, --nsfw\n"
    assert cli("submit", "--sandbox", "a cat", "--concurrency", "2").err == ""
