"""What mpirun starts in place of ssh: `python -m noria.jobs.remote FOLDER [-x ...] HOST COMMAND...`.

No site must let its nodes into each other for that, and what runs there stays in the job: the launcher of that node takes the order
from the job's folder, and leaves the exit code there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from noria import atomic

_TICK = 0.1


def orders(folder: Path) -> Path:
    return folder / "orders"


def order(folder: Path, attempt: str, host: str, command: str) -> int:
    """Have a command run on a node of the job by its launcher, in a shell; its exit code."""
    name = f"{attempt}-{uuid4().hex}"
    atomic.write(orders(folder) / f"{name}.json", json.dumps({"host": host, "command": command}).encode())
    answer = orders(folder) / f"{name}.exit"
    while not answer.exists():
        time.sleep(_TICK)
    return int(answer.read_text())


def main(argv: Sequence[str]) -> int:
    folder, words = Path(argv[0]), list(argv[1:])
    while words[0].startswith("-"):  # ssh's own options, such as -x.
        words.pop(0)
    return order(folder, os.environ["NORIA_ATTEMPT"], words[0], " ".join(words[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
