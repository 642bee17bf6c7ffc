"""Build the environment of a file, as whichever user runs this: `build_script.py FILE CACHE`."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from noria.errors import NoriaError
from noria.projects import built


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


try:
    file = Path(sys.argv[1])
    need = built.needed(file.parent, file.name)
    assert need is not None
    print(msgspec.json.encode(built.build(need, Path(sys.argv[2]), say)).decode())
except NoriaError as error:
    sys.exit(error.message)
