"""What an exit code or a signal means by itself, where no log says more."""

from __future__ import annotations

import signal

from noria.jobs.why.reading import complaint
from noria.types import Cause

Meaning = tuple[Cause, str, str]
"""Cause, reason and cure."""
_AGAIN = "Submit it again; if memory is tight, ask for more with --mem."
_CRASH = "Run it with PYTHONFAULTHANDLER=1 to see the line; native code that does not fit the node is a usual reason."

_CODES: dict[int, Meaning] = {
    126: ("cannot_start", "A program that it calls may not be run.", "Make it executable, and look at its first line."),
    127: ("missing_file", "A program that it calls is not there.", "Look for a wrong name in the command, or for its folder in PATH."),
    128 + signal.SIGKILL: ("killed", "It was ended by SIGKILL, and nobody says why.", _AGAIN),
    128 + signal.SIGTERM: ("killed", "It was ended by SIGTERM, and nobody says why.", _AGAIN),
    128 + signal.SIGBUS: ("disk_full", "It crashed with SIGBUS, as programs do when /dev/shm or the disk of a mapped file has no more room.",
                          "Use fewer or smaller loader workers, and look for a full disk."),
    128 + signal.SIGXCPU: ("time_limit", "It used more CPU time than a process may.", "Ask the site about its limit of CPU time."),
    128 + signal.SIGXFSZ: ("disk_full", "It wrote a larger file than a process may.", "Write several smaller files, or raise ulimit -f."),
    **{128 + number: ("user_error", f"It crashed with {number.name}.", _CRASH)
       for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSYS)},
}  # fmt: skip


def unsaid(code: int, log: str) -> Meaning:
    """Of a task that ended so, and whose log has no word that we know."""
    if code in _CODES:
        return _CODES[code]
    if 128 < code <= 128 + signal.SIGRTMAX:
        return "killed", f"It was ended by {_name(code - 128)}, and nobody says why.", _AGAIN
    if said := complaint(log):
        return "user_error", f"It gave up: {said}", "Correct what it names."
    return "unknown", f"It exited with code {code}, and said nothing of why.", "Look at its log before the end: noria logs."


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
