"""The only place that knows requests and urllib3."""

from flux_lora_cli.adapters.http.transport import Transport

__all__ = ["Transport"]
