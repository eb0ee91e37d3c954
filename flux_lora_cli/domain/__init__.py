"""Pure: no clock, no files, no network, no printing."""
