"""A run's capsule is made by a process of its own, so that the script does not wait: this starts it. It costs some milliseconds, once for each process."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path

from noria import process

_MAKER = "noria.projects.capsule_make"
"""By its name alone: it is of a room above this one."""
_CODE = f"import json, sys; ask = json.loads(sys.argv[1]); sys.path[:] = ask['path']; from {_MAKER} import script; script(ask)"
_LONGEST = 100_000
_WAIT = 3.0
"""Seconds that the end of a job's task waits at most: schedulers kill what a job leaves behind."""
made_for = ""
"""The run of this process whose capsule is made; later runs of it share that."""
_over = -1


def begin(run_id: str, job_id: str, folder: Path) -> None:
    """Have the capsule of this process made for a run. folder: where its spool is to lie."""
    global made_for, _over
    made_for = run_id
    torch = sys.modules.get("torch")
    seed, threads = getattr(torch, "initial_seed", None), getattr(torch, "get_num_threads", None)  # It may be half imported.
    ask = {
        "run_id": run_id, "job_id": job_id, "folder": str(folder), "command": _command(), "cwd": os.getcwd(), "began": time.time(), "seeds": {"torch": str(seed())} if seed else {}, "threads": threads() if threads else 0,
        "executable": sys.executable, "prefix": sys.prefix, "base": sys.base_prefix, "version": platform.python_version(),
        "implementation": platform.python_implementation(), "path": [each or os.getcwd() for each in sys.path if isinstance(each, str)],
    }  # fmt: skip
    text = json.dumps(ask)
    if sys.executable and len(text) < _LONGEST:
        _over = process.leave([sys.executable, "-I", "-S", "-c", _CODE, text])


def finish() -> None:
    """Let the capsule be made, if that is not done yet."""
    global _over
    process.left(_over, _WAIT)
    _over = -1


def _command() -> list[str]:
    """As it can be given again: the interpreter that runs, and what it was told."""
    return [sys.executable, *sys.orig_argv[1:]]
