"""Times, sizes, GPUs and arrays as people write them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime, timedelta

from noria.errors import Invalid

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_BYTES = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def seconds(text: str) -> int:
    """`90s`, `30m`, `2h`, `1d`, `1h30m`, `HH:MM:SS` or `D-HH:MM:SS`, in seconds."""
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text)
    if clock:
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        return days * 86_400 + hours * 3600 + minutes * 60 + rest
    parts = re.findall(r"(\d+)(min|[smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Invalid(f"'{text}' is not a time.", "Write 90s, 30m, 2h, 1d12h or 12:00:00.")
    return sum(int(number) * _SECONDS[unit] for number, unit in parts)


def size(text: str) -> int:
    """`500M`, `8G`, `8GiB`, in bytes; K, M, G and T are powers of 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt])(?:i?b)?", text.strip().lower())
    if not match:
        raise Invalid(f"'{text}' is not a size of memory.", "Write 500M or 8G.")
    return int(float(match[1]) * _BYTES[match[2]])


def nodes(text: str) -> list[str]:
    """`n1,n[3-5,07]` as names, in that order. What is no such list stays as it is, and the dialect refuses it."""
    return [name for part in re.findall(r"(?:[^,\[]|\[[^\]]*\]?)+", text) for name in _spans(part)]


def _spans(part: str) -> list[str]:
    found = re.fullmatch(r"([^\[]*)\[(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)\](.*)", part)
    if not found:
        return [part]
    spans = [(first, last or first) for first, _, last in (each.partition("-") for each in found[2].split(","))]
    numbers = [f"{n:0{len(first)}}" for first, last in spans for n in range(int(first), min(int(last), int(first) + 9999) + 1)]
    return [f"{found[1]}{number}{rest}" for number in numbers for rest in _spans(found[3])]


def moment(text: str, now: float | None = None) -> int:
    """`2h` from now, `16:30` today or tomorrow, `2026-12-01` or `2026-12-01T16:30`, in milliseconds since 1970.

    Without a zone it is this machine's time. now: seconds since 1970.
    """
    today = datetime.fromtimestamp(time.time() if now is None else now)
    clock = re.fullmatch(r"(\d{1,2}):(\d\d)", text)
    try:
        if clock:
            found = today.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
            found += timedelta(days=found < today)
        elif re.match(r"\d{4}-", text):
            found = datetime.fromisoformat(text)
        else:
            found = today + timedelta(seconds=seconds(text))
        return int(found.timestamp() * 1000)
    except (ValueError, OverflowError, Invalid):
        raise Invalid(f"--begin: '{text}' is no time.", "Write 2h, 16:30, 2026-12-01 or 2026-12-01T16:30.") from None


def gpus(text: str, memory: Mapping[str, str]) -> tuple[int, str]:
    """`4`, `a100:4`, `80GB:4` or `24GB..80GB:4`, as a count and a type, which is empty where any will do.

    memory: the types that a cluster has, and how much memory each has. Of those in the range the smallest is taken.
    """
    found = re.fullmatch(r"(?:(.+?):)?(\d+)", text)
    what, count = (found[1] or "", int(found[2])) if found else (text, 1)
    if what and not count:
        raise Invalid(f"--gpus {text} asks for none.", "Leave it out, or ask for one.")
    bounds = re.fullmatch(r"(\d[\d.]*?[a-zA-Z]+)?(\.\.)?(\d[\d.]*[a-zA-Z]+)?", what)
    if not what or not bounds:
        return count, what
    low, high = size(bounds[1] or "0M"), size(bounds[3]) if bounds[3] else float("inf")
    if not memory:
        raise Invalid(
            f"--gpus {text}: how much memory this cluster's GPUs have is not known.",
            'Name a type, as in --gpus a100:2, or list them in noria.toml: [profiles.slurm.gpus], a100 = "80GB".',
        )
    fits = sorted((size(has), name) for name, has in memory.items() if low <= size(has) <= high)
    if not fits:
        has = ", ".join(f"{name} {has}" for name, has in memory.items())
        raise Invalid(f"--gpus {text}: no GPU of this cluster has that much memory.", f"It has: {has}.")
    return count, fits[0][1]


def array(text: str) -> tuple[list[int], int]:
    """`0-199`, `1,3,10-20:5` and either with `%20`, as the members' numbers and how many run at once, 0 for all."""
    found = re.fullmatch(r"([\d,:-]+)(?:%(\d+))?", text)
    parts = [re.fullmatch(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?", part) for part in found[1].split(",")] if found else [None]
    members: list[int] = []
    for part in parts:
        if part is None or part[3] in ("0", "00"):
            raise Invalid(f"--array {text} is no array.", "Write 0-199, 0-199%20 to have 20 run at once, or 1,3,10-20:5.")
        members += range(int(part[1]), int(part[2] or part[1]) + 1, int(part[3] or 1))
        if len(members) > 100_000:
            raise Invalid(f"--array {text} has too many members.", "Split it up.")
    if not members or len(set(members)) < len(members):
        raise Invalid(f"--array {text} has {'a member twice' if members else 'no member'}.", "Write it as in 0-199 or 1,3,5.")
    return members, int(found[2] or 0) if found else 0
