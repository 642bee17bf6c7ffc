"""Times and sizes as people write them."""

from __future__ import annotations

import re

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
