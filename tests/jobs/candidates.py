"""Run by a user, where they work: registers candidates whose evaluation takes as many seconds as each argument says, and writes held_out.npz."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from noria.cli.local import connect
from tests.automation import tiny

NAME = "candidates"

if __name__ == "__main__":
    server = connect()
    print(*(tiny.register(server, NAME, loads=float(seconds)) for seconds in sys.argv[1:]))
    tiny.held_out(Path("held_out.npz"))
