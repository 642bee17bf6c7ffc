"""Which parameters next: pure. Values in, values out; no clock, no process, no randomness but the seed that is handed in."""
