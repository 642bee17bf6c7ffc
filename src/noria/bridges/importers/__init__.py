"""One file for each format that runs can come from. The contract is in `source.py`."""
