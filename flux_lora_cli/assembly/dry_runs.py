"""What a batch would do, without a connection, a lock or a trace: what ``batch --dry-run`` does, as functions."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.adapters.ledger import Ledger, other_service
from flux_lora_cli.adapters.rebuild import manifest_records, manifest_service
from flux_lora_cli.assembly.folder_part import check_part
from flux_lora_cli.assembly.world import typical_seconds
from flux_lora_cli.domain.events import Plan
from flux_lora_cli.domain.records import JobRecord
from flux_lora_cli.workflow.batch import expected_seconds, plan_event, price_documented, spent
from flux_lora_cli.workflow.context import Settings
from flux_lora_cli.workflow.planning import BatchPlan, make_plan
from flux_lora_cli.workflow.pricing import Priced

if TYPE_CHECKING:
    from flux_lora_cli.assembly.batches import BatchOptions
    from flux_lora_cli.domain.job import Job


def known_records(folder: Path, service: str, options: BatchOptions | None = None) -> dict[str, JobRecord]:
    """What a folder knows, read without a lock and without leaving a trace; empty where there is no folder.

    Raises:
        OtherService, LedgerDamaged, LedgerNewer, FolderError: it could not be used for a run either.
        UsageError: nor for the part that ``options`` ask for.
    """
    with Ledger.snapshot(folder) as ledger:
        if ledger is not None:
            if ledger.service != service:
                raise other_service(folder, ledger.service, service)
            if options is not None:
                check_part(folder, ledger, options.shard, options.engine)
            records = {record.key: record for record in ledger.jobs()}
            if records:
                return records
    owner = manifest_service(folder) if folder.is_dir() else None
    if owner is None:
        return {}
    if owner != service:
        raise other_service(folder, owner, service)
    return {record.key: record for record in manifest_records(folder)}


def plan_dry(
    jobs: Iterable[Job], folder: Path, service: str, settings: Settings, options: BatchOptions
) -> tuple[Plan, BatchPlan, Priced, Decimal]:
    """The plan of a batch without a connection, a lock or a trace; (event, plan, price, USD charged so far)."""
    records = known_records(folder, service, options)
    plan = make_plan(
        jobs,
        records,
        lambda: 0,
        api_version=options.api_version,
        retry_failed=options.retry_failed,
        shard=options.shard,
        collect_others=not options.only_some,
        skipped=options.skipped,
    )
    charged = spent(records.values())
    priced = price_documented(plan, options.price)
    typical = typical_seconds(service, plan.works)
    event = plan_event(plan, priced, charged, expected_seconds(plan, settings, typical), str(folder), True)
    return event, plan, priced, charged
