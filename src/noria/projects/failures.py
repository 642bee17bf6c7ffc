"""What tools say when they cannot build an environment, what it means, and what helps."""

from __future__ import annotations

import re

from noria.errors import Invalid, NoriaError, Unavailable

_SIGNS: list[tuple[str, type[NoriaError], str, str]] = [
    (r"No space left on device|Disk quota exceeded", Unavailable, "the disk is full", "Make room, or name another folder in NORIA_ENVIRONMENTS."),
    (r"Name or service not known|name resolution|dns error|Network is unreachable|Connection refused|No route to host|NewConnectionError"
     r"|Could not resolve host|CondaHTTPError|Download error|connection timed out|ConnectTimeout|operation timed out|Max retries exceeded",
     Unavailable, "this machine does not reach the index of packages",
     "Build it where there is a network, such as a login node, or name a mirror in PIP_INDEX_URL."),
    (r"SSL|CERTIFICATE|certificate", Unavailable, "the index is not trusted", "Name the site's certificates in PIP_CERT."),
    (r"\b401\b|\b403\b|Unauthorized|Forbidden|could not read Username|Authentication failed|Permission denied \(publickey",
     Invalid, "the index or repository does not let you in", "Log in there first; for pip's indexes ~/.netrc holds passwords."),
    (r"requires a different Python|Requires-Python|does not satisfy Python|the requested Python version|not compatible with .*Python",
     Invalid, "a package is not for this version of Python", "Name another version of Python, or of that package."),
    (r"ResolutionImpossible|conflicting dependencies|are incompatible|depends? on .* and .*(?:unsatisfiable|conflict)",
     Invalid, "what is asked for does not go together", "Loosen one of the versions."),
    (r"No matching distribution|was not found in the package registry|there (?:is|are) no versions? of|PackagesNotFoundError"
     r"|nothing provides|does not exist \(perhaps|No solution found", Invalid, "there is no such package or version", "Mend its name or version."),
    (r"Failed building wheel|Failed to build|error: command .* failed|subprocess-exited-with-error|metadata-generation-failed|build backend",
     Invalid, "a package cannot be compiled here", "Name a version that has a wheel, or load a compiler first."),
    (r"needs to be updated|lockfile .*outdated|out of date", Invalid, "the lock does not fit its pyproject.toml", "Run: uv lock"),
    (r"Hash mismatch|THESE PACKAGES DO NOT MATCH|hash.*mismatch", Invalid, "a package is not what its hash says", "Find out why, before you change the hash."),
]  # fmt: skip
_NOISE = re.compile(r"^\s*(\[notice\]|hint:|warning:|WARNING:|note:|╰─>\s*$|\[end of output\])", re.IGNORECASE)


def of(what: str, tool: str, code: int, text: str, log: str) -> NoriaError:
    """The error for a command that failed. what: the file. text: all that was said. log: where that is kept."""
    words = last_words(text) or f"it ended with {code}"
    for pattern, kind, meaning, cure in _SIGNS:
        if re.search(pattern, text):
            return kind(
                f"The environment of {what} cannot be built: {meaning} ({tool}: {words}).", f"{cure} All it said is in {log}."
            )
    return Invalid(f"The environment of {what} cannot be built ({tool}: {words}).", f"All it said is in {log}.")


def last_words(text: str) -> str:
    """What a tool says of its failure: its last lines that say `error`, with what follows in its sentence, on one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _NOISE.match(line)]
    errors = [
        index for index, line in enumerate(lines) if re.match(r"(?:[×x]\s|.*?\b(?:error|fatal|critical)\b)", line, re.IGNORECASE)
    ]
    if not errors:
        return _short(lines[-1:])
    first = errors[-1]
    chosen = [lines[first]]
    for line in lines[first + 1 :]:
        if not re.match(r"cause:|[╰├]─▶|Caused by", line):
            break
        chosen.append(line)
    return _short(chosen if len(chosen) < 3 else [chosen[0], chosen[-1]])


def _short(lines: list[str]) -> str:
    joined = " ".join(re.sub(r"^(?:ERROR:|error:|cause:|[×╰├]─?▶?)\s*", "", line) for line in lines).rstrip(" .")
    return joined if len(joined) <= 300 else joined[:299] + "…"
