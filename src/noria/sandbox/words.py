"""What the schedulers' commands share: times, sizes, lists of numbers and of hosts, and options that end where a command begins."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator


class Refused(Exception):
    """What a command prints before it ends with an error."""


def seconds(text: str) -> int:
    """minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]], as Slurm reads a time."""
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, secs = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, secs = parts
    else:
        hours, minutes, secs = 0, parts[0], parts[1] if len(parts) > 1 else 0
    return int(days or 0) * 86_400 + hours * 3600 + minutes * 60 + secs


def clock(text: str) -> int:
    """seconds, minutes:seconds or hours:minutes:seconds, as PBS and Grid Engine read a time."""
    total = 0
    for part in text.split(":"):
        total = total * 60 + int(part or 0)
    return total


def mebibytes(text: str) -> int:
    """512, 512M, 4G, 4gb, 100kb: MiB where nothing is said."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b|w)?", text.lower())
    if found is None:
        raise Refused(f"invalid memory: {text}")
    return int(float(found[1]) * {"k": 1 / 1024, "": 1, "m": 1, "g": 1024, "t": 1024**2}[found[2]])


def numbers(text: str) -> Iterator[int]:
    """0-9:2,12 and the like."""
    for part in filter(None, text.split(",")):
        span, _, step = part.partition(":")
        first, dash, last = span.partition("-")
        yield from range(int(first), int(last if dash else first) + 1, int(step or 1))


def expand(text: str) -> list[str]:
    """n[1-3,7],m as the names of hosts."""
    found = []
    for part in re.findall(r"[^,\[]+(?:\[[^\]]*\])?", text):
        name, _, rest = part.strip(",").partition("[")
        found += [f"{name}{number}" for number in numbers(rest.rstrip("]"))] if rest else [name]
    return found


def fold(hosts: list[str]) -> str:
    """Hosts n1 and n2 as n[1-2]. All begin alike."""
    name = re.sub(r"\d+$", "", hosts[0]) if hosts else ""
    known = sorted(int(host.removeprefix(name)) for host in hosts)
    if len(known) < 2:
        return hosts[0] if hosts else ""
    spans: list[list[int]] = []
    for number in known:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return f"{name}[{','.join(str(a) if a == b else f'{a}-{b}' for a, b in spans)}]"


def ends_with_words(parser: argparse.ArgumentParser, argv: list[str]) -> tuple[list[str], str, list[str]]:
    """Options, the first word that is none, and all after that: a script's own options are not the command's."""
    takes = {name: action.nargs != 0 for action in parser._actions for name in action.option_strings}
    at = 0
    while at < len(argv) and argv[at].startswith("-") and argv[at] != "--":
        alone = "=" not in argv[at] and takes.get(argv[at], False)
        at += (
            2 if alone and at + 1 < len(argv) and not (parser_optional(parser, argv[at]) and argv[at + 1].startswith("-")) else 1
        )
    rest = argv[at + 1 :] if at < len(argv) and argv[at] == "--" else argv[at:]
    return argv[:at], rest[0] if rest else "", rest[1:]


def parser_optional(parser: argparse.ArgumentParser, name: str) -> bool:
    return any(name in action.option_strings and action.nargs == "?" for action in parser._actions)
