"""Compares what the ledger says of images with what is on disk, and finishes what a kill interrupted."""

from __future__ import annotations

from flux_lora_cli.domain.records import JobRecord, OutputRecord
from flux_lora_cli.errors import FolderError
from flux_lora_cli.workflow.collector import DAMAGED, mark_saved
from flux_lora_cli.workflow.ports import Store


def recover(record: JobRecord, store: Store, now: str, *, every_byte: bool = False) -> bool:
    """Bring the outputs of one record in line with the disk; True where the record changed.

    An image whose size or modification time differs from what the ledger saw is read whole; where its bytes are
    still the ones that were saved, it counts. Else it is marked to be fetched again.
    """
    changed = False
    for output in record.outputs:
        if output.writing is not None:
            changed = True
            _finish_writing(output, store, now)
        elif output.file is not None:
            changed = _check_saved(output, store, every_byte) or changed
    return changed


def _finish_writing(output: OutputRecord, store: Store, now: str) -> None:
    """A kill came between the record of a name and the record that the image has it."""
    final, temp = output.writing, output.temp
    replacing = (output.error or "").startswith(DAMAGED)
    assert final is not None
    if output.sha256 is not None and store.hash(final) == output.sha256:
        _seal(output, store, now)
        if temp is not None:
            store.discard(temp)
        return
    if temp is not None and output.sha256 is not None and store.hash(temp) == output.sha256:
        try:
            if replacing:
                store.replace(temp, final)
            else:
                store.publish(temp, final)
            _seal(output, store, now)
        except FileExistsError:
            # Somebody else's file has the name now: the image gets another when it is fetched again.
            store.discard(temp)
        else:
            return
    output.temp = None
    if not replacing:
        output.writing = None


def _seal(output: OutputRecord, store: Store, now: str) -> None:
    assert output.writing is not None
    store.sync_dirs([output.writing])
    mark_saved(output, store.stat(output.writing), now)


def _check_saved(output: OutputRecord, store: Store, every_byte: bool) -> bool:
    assert output.file is not None
    stat = store.stat(output.file)
    if stat is not None and not every_byte and stat == (output.bytes, output.mtime_ns):
        return False
    if stat is None:
        output.file = None
        return True
    try:
        same = stat[0] == output.bytes and store.hash(output.file) == output.sha256
    except FolderError:
        same = False
    if same:
        moved = output.mtime_ns != stat[1]
        output.mtime_ns = stat[1]
        return moved
    # Ours, and no longer what was saved: it may be replaced, under its own name.
    output.writing, output.file = output.file, None
    output.error = f"{DAMAGED}: {output.writing} was altered after it was saved"
    return True
