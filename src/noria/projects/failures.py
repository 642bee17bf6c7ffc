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
    (r"No matching distribution|was not found in the (?:package registry|provided)|there (?:is|are) no versions? of|PackagesNotFoundError"
     r"|nothing provides|does not exist \(perhaps", Invalid, "there is no such package or version", "Mend its name or version."),
    (r"ResolutionImpossible|conflicting dependencies|are incompatible|No solution found|LibMambaUnsatisfiableError|UnsatisfiableError",
     Invalid, "what is asked for does not go together", "Loosen one of the versions."),
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
    """What a tool says of its failure, on one line: the first of uv's errors with the last of its causes, or the last of others' errors."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not _NOISE.match(line)]
    own = next((index for index, line in enumerate(lines) if line.startswith("error: ")), None)
    if own is not None:
        # What a compiler said is between: uv's own causes come first.
        causes = [line.strip().removeprefix("cause: ") for line in lines[own + 1 :] if line.startswith("  cause: ")]
        head = lines[own].removeprefix("error: ").rstrip(" .")
        return _short(causes[-1] if causes and head.startswith("No solution found") else ": ".join([head, *causes[-1:]]))
    # pip's last error but one says which versions, and its last where to read about such things.
    errors = [
        line
        for line in lines
        if "ResolutionImpossible" not in line and re.match(r"(?:\w*Error|ERROR|critical|fatal)\b:?\s", line)
    ]
    return _short((errors or lines[-1:] or [""])[-1])


def _short(line: str) -> str:
    bare = re.sub(r"^(?:ERROR:|critical|fatal:)\s*", "", line.strip()).rstrip(" .")
    return bare if len(bare) <= 300 else bare[:299] + "…"
