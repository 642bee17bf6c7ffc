"""The end of one log: its last exceptions and the lines around them, and what they say of why it ended."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct, structs

from noria.jobs.why.signs import ECHO, ENDINGS, HARMLESS, THAT, WHY, recognise
from noria.types import Cause


class Word(Struct, frozen=True):
    """What a log says of the end: `worth` as of a Sign. raised: by an uncaught exception. place: of the sign in its table."""

    cause: Cause
    says: str
    cure: str
    line: str
    worth: int
    raised: bool = False
    place: int = 0


class Raised(Struct, frozen=True):
    """An exception that ended with a traceback: its last lines. chained: it has the one before it as its cause or context."""

    lines: list[str]
    chained: bool


_LAST = 60
"""Lines at the end of a log in which a word outside of an exception counts."""
_MESSAGE = 8
"""Lines of an exception's message that are read."""
_LABEL = re.compile(
    r"^(?:\[(?:rank|default|trainer|worker)?:?\d+\]:?\s?|\[\d+,\d+\]<std(?:err|out)>:\s?|\d{1,5}: (?=Traceback|\s|\w+Error)|\s*[|+] |\(\w+ pid=\d+[^)]*\)\s?)+"
)
"""What launchers write before each line of a task."""
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)")
_CHAIN = re.compile(r"During handling of the above exception|was the direct cause of the following")
_IGNORED = re.compile(r"Exception ignored in|Logging error ---")
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?::\s|:$|$)")
_OWN = re.compile(
    r"^(?:\w+\.)*(?:Value|Type|Key|Index|Attribute|Name|Assertion|ZeroDivision|NotImplemented|UnboundLocal|Lookup|Unicode\w*|Overflow|"
    r"FloatingPoint|Recursion|JSONDecode|Validation|Config\w*|Arithmetic|Syntax|Indentation|Pickling|Unpickling|Usage|Argument)(?:Error|Exception)?\b"
)
"""Exceptions that the program's own lines raise; others, such as RuntimeError, are what libraries wrap anything in."""
SCHEDULERS: frozenset[Cause] = frozenset({"time_limit", "preempted", "node_failure", "cancelled"})
"""What a scheduler does to a job. Programs use these words too, of solvers and of servers, so in their logs they count only from it."""
_SCHEDULER = re.compile(
    r"slurmstepd|\bsrun\b|\bPBS\b|\b(?:JOB|STEP)\b|\bTERM_|qmaster|execd|sge_\w+|\bmom\b|(?:ORTE|PRTE|mpirun|prterun)\b"
)
_OWN_WORDS = re.compile(
    r"(?i)shapes?\b.*\b(?:cannot|mismatch|invalid)|size mismatch|must (?:match|be|have)\b|\bexpected\b.*\b(?:but|got|found|to)\b|same device|requires? grad|"
    r"backward through|out of (?:bounds|range)|not implemented for|state_dict|not (?:been )?initialized|inplace operation|view size|dtype|unexpected key"
)
"""Of other exceptions, what only the program's own lines can be to blame for."""
_WORSE: frozenset[Cause] = frozenset({"bad_node", "out_of_memory", "gpu_memory", "disk_full", "user_error"})
_FOREIGN: frozenset[Cause] = frozenset({*SCHEDULERS, "communication", "disk_full", "out_of_memory", "licence", "hang"})
"""What such an exception does not mean, whatever words its message has."""
_COMPLAINT = re.compile(
    r"(?i)\b(?:error|fail(?:ed|ure)?|fatal|invalid|cannot|can't|could not|couldn't|unable|unexpected|illegal|unsupported|refus\w+|must|wrong|bad|abort\w*|"
    r"exception|not (?:found|allowed|supported|implemented|enough)|missing|expected|giving up|usage:|panic|unknown|required|too (?:large|small|many|few)|no rule)\b"
)
_NEAR = 3
_STARTERS = re.compile(
    r"^[-=*]+$|^(?:mpi\w+|prte?run) (?:detected|noticed|has)|job to be terminated|^Process name:|^Exit code:|^Primary job|non-zero exit|^srun: error"
)
"""What those who started it say after it."""
_CODE = "Correct the program: the same would happen anywhere."


def read(text: str, last: int = 150) -> Word | None:
    """The best word on why this log ended; None if it says nothing of it. last: lines at its end that count; what is older was survived."""
    lines = [_LABEL.sub("", line.rstrip("\r")) for line in text.splitlines()][-last:]
    raised, plain = _raised(lines), list(_plain(lines))
    if raised is not None and raised.worth == THAT:  # It may be what a library made of something worse, which it said before.
        plain = [word for word in plain if word.cause in _WORSE]
    said = plain if raised is None else [raised, *plain]
    return max(said, key=lambda word: (word.worth, word.raised), default=None)


def told(line: str) -> Word | None:
    """What one sentence of a scheduler or a launcher means."""
    if found := recognise(line):
        place, sign, says = found
        return Word(sign.cause, says, sign.cure, line.strip(), sign.worth, False, place)
    return None


def complaint(text: str) -> str:
    """One of the last lines, if it sounds as if the program gave up by itself; else nothing."""
    lines = [line for line in map(str.strip, text.splitlines()) if line and not _STARTERS.search(line)]
    sound = (line for line in reversed(lines[-_NEAR:]) if _COMPLAINT.search(line) and not HARMLESS.search(line))
    return next(sound, "")


def _raised(lines: Sequence[str]) -> Word | None:
    """Of the last exception and those that led to it; of one before them if that only repeats another's end."""
    best: Word | None = None
    for chain in reversed(list(_chains(_exceptions(lines)))):
        word = _of_chain(chain)
        if best is None or word.worth > best.worth:
            best = word
        if best.worth > ECHO:
            return best
    return best


def _of_chain(chain: Sequence[Raised]) -> Word:
    """The last exception that says why; libraries wrap the one that does in others that do not."""
    words = [_of_exception(each.lines) for each in reversed(chain)]
    known = [word for word in words if word.worth == WHY and word.place < _UNKNOWN]
    return known[0] if known else max(words, key=lambda word: word.worth)


_UNKNOWN = 1000


def _of_exception(lines: Sequence[str]) -> Word:
    """What a message means: of all its lines, the sign that stands first in the table and says most."""
    own = _OWN.search(lines[0])
    unlike = _FOREIGN if own else SCHEDULERS
    known = [(line, found) for line in lines if (found := recognise(line)) and found[1].cause not in unlike]
    if not known:
        first = lines[0]
        worth = ECHO if ENDINGS.search(first) else WHY if own or _OWN_WORDS.search(first) else THAT
        return Word("user_error", f"It raised {_short(first)}", _CODE, first, worth, True, _UNKNOWN)
    line, (place, sign, says) = max(known, key=lambda pair: (pair[1][1].worth, -pair[1][0]))
    worth = ECHO if ENDINGS.search(lines[0]) else max(sign.worth, THAT if sign.cause != "communication" else ECHO)
    return Word(sign.cause, says, sign.cure, line, worth, True, place)


def _short(line: str) -> str:
    said = line if len(line) < 160 else line[:157] + "..."
    return said if said.endswith((".", "!", "?")) else said + "."


def _chains(found: Sequence[Raised]) -> Iterator[list[Raised]]:
    chain: list[Raised] = []
    for each in found:
        if chain and not each.chained:
            yield chain
            chain = []
        chain.append(each)
    if chain:
        yield chain


def _exceptions(lines: Sequence[str]) -> list[Raised]:
    """All that were printed with a traceback, and that nobody caught."""
    found = []
    for at, end in _tracebacks(lines):
        if _EXCEPTION.search(lines[end]) and not any(_IGNORED.search(before) for before in lines[max(0, at - 1) : at]):
            chained = any(_CHAIN.search(before) for before in lines[max(0, at - 3) : at])
            found.append(Raised(_message(lines, end), chained))
    return found


def _tracebacks(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where each begins, and where its exception stands."""
    for at, line in enumerate(lines):
        if _TRACEBACK.search(line):
            end = next((i for i in range(at + 1, len(lines)) if lines[i] and not lines[i][0].isspace()), None)
            if end is not None:
                yield at, end


def _message(lines: Sequence[str], start: int) -> list[str]:
    """An exception's line and those of its message that follow."""
    message = [lines[start]]
    for line in lines[start + 1 : start + _MESSAGE]:
        if _TRACEBACK.search(line) or _CHAIN.search(line):
            break
        message.append(line)
    return message


def _plain(lines: Sequence[str]) -> Iterator[Word]:
    """What is said outside of exceptions at the end; the last line first."""
    within = {i for at, end in _tracebacks(lines) for i in range(at, end + 1)}
    for at in range(len(lines) - 1, max(-1, len(lines) - _LAST - 1), -1):
        line = lines[at]
        if at in within or not line.strip() or HARMLESS.search(line):
            continue
        word = told(line)
        if word is not None and (word.cause not in SCHEDULERS or _SCHEDULER.search(line)):
            yield structs.replace(word, worth=ECHO) if ENDINGS.search(line) else word
