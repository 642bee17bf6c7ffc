"""One file for each format that runs can go to. The contract is in `send.py`."""
