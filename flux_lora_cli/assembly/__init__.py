"""Concrete objects put together: what commands and scripts share above adapters and workflow."""
