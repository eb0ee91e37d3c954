"""``--log-file``: a line a request, however the request ended."""

from __future__ import annotations

from pathlib import Path

from stage import Stage


def test_every_request_has_a_line(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 50.0)
    try:
        stage.jobs(6)
        for fault in ("503:nth=1", "cut:nth=2", "404:nth=4", "damaged:nth=5", "html:nth=6"):
            stage.sandbox.faults.add(f"download:{fault}")
        stage.sandbox.faults.add("look:503:nth=2")
        ended = stage.run("batch jobs.jsonl -o out --log-file log.txt")
        lines = (tmp_path / "log.txt").read_text().splitlines()
        requests = stage.requests()
    finally:
        stage.close()
    assert ended.code == 0, ended.err
    assert len(lines) == requests, lines
    downloads = [line.split(" ", 3)[-1] for line in lines if "/outputs/" in line]
    assert len(downloads) == 6 + 5
    for words in ("503 uncertain ", "404 output_expired ", "200 not wanted ", "200 uncertain "):
        assert any(line.startswith(words) for line in downloads), downloads
