"""What is started in a box: its runners, and the scheduler's commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from noria.sandbox.box import FOLDER, Box, Runner, flavor


def main(argv: list[str]) -> int:
    if argv[0] == "run":
        Runner(Box(Path(argv[1])), argv[2]).run()
        return 0
    box = Box(Path(os.environ[FOLDER]))
    return flavor(box.look().flavor).COMMANDS[argv[0]](box, argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
