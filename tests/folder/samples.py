"""Records, pictures and folders for the tests of this area."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from flux_lora_cli.folder.images import ImageStore
from flux_lora_cli.folder.output import OutputFolder
from flux_lora_cli.folder.records import JobRecord, OutputRecord, PastTask, State
from tests.support import fake

SERVICE = "https://api.wavespeed.ai"
NOW = "2025-11-28T12:00:00.000Z"


def fingerprint(number: int) -> str:
    return hashlib.sha256(f"job {number}".encode()).hexdigest()


def request(number: int) -> dict[str, Any]:
    return {"prompt": f"cat {number}, 猫", "seed": number, "num_images": 1, "loras": [{"path": "o/n", "scale": 0.9}]}


def planned(number: int, **more: Any) -> JobRecord:
    key = fingerprint(number)
    record = JobRecord(key=key, id=f"job-{number}", order=number, preset="p", fingerprint=key)
    record.model, record.input, record.api_version = "wavespeed-ai/flux-dev-lora", request(number), "v2"
    for name, value in more.items():
        setattr(record, name, value)
    return record


def submitted(number: int, **more: Any) -> JobRecord:
    task = {"task_id": f"t{number}", "task_model": "m", "task_status": "created", "task_created_at": NOW}
    paid = {"attempts": 1, "price": Decimal("0.015"), "intent_at": NOW, "service_clock": -0.5}
    return planned(number, **{"state": State.SUBMITTED, **task, **paid, **more})


def completed(number: int, name: str | None = None, data: bytes | None = None, **more: Any) -> JobRecord:
    output = OutputRecord(0, url=f"https://cdn/{number}.png", nsfw=False)
    if name is not None:
        data = data if data is not None else png(number)
        output.file, output.sha256, output.bytes = name, hashlib.sha256(data).hexdigest(), len(data)
        output.width, output.height, output.media_type, output.saved_at = 2, 2, "image/png", NOW
    return submitted(number, **{"state": State.COMPLETED, "task_status": "completed", "outputs": [output], **more})


def everything(number: int) -> JobRecord:
    """A record in which no field has its default."""
    past = PastTask("old-1", "failed: no", Decimal("0.02"), Decimal("0.02"), NOW)
    record = completed(
        number, "a/b.png", aliases=("twin", "other"), axes={"place": "moon", "seed": "1"}, execution_ms=12,
        matched_by="user", history=(past, PastTask(None, "uncertain: reset", None, Decimal(0), NOW)), attempts=3,
        refunded=Decimal("0.005"), task_error="odd", error="failed: x",
    )  # fmt: skip
    record.outputs[0].mtime_ns = 5
    record.outputs.append(OutputRecord(1, error="gone: late", writing="c.png", temp=".flux-lora-1.part", left_out=True))
    return record


def png(number: int) -> bytes:
    return fake.png(str(number), width=2, height=2)


def make_folder(path: Path, records: Iterable[JobRecord], service: str = SERVICE) -> Path:
    """A folder as a run that has ended leaves it."""
    with OutputFolder.open(path, service, exclusive=True) as folder:
        listed = list(records)
        for record in listed:
            for output in record.outputs:
                if output.file is not None:
                    target = path / output.file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(png(record.order))
                    output.mtime_ns = target.stat().st_mtime_ns
        folder.save(map(folder.row, listed))
        folder.write_manifest()
    return path


def reopened(path: Path, *, exclusive: bool = True) -> dict[str, JobRecord]:
    """The records of a folder, by job."""
    with OutputFolder.open(path, SERVICE, exclusive=exclusive) as folder:
        return {record.name: record for record in folder.records.values()}


def receive(store: ImageStore, data: bytes) -> Any:
    partial = store.begin()
    partial.write(data)
    return partial.finish()
