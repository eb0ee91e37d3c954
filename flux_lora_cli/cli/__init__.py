"""Words in, words out: commands, wiring, terminal. The only user of Typer and rich."""
