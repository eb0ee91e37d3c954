"""An output folder: ledger, manifest, images."""
