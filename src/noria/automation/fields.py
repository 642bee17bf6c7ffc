"""Fields in the texts of steps: `{event.name}`, `{steps.0.run_id}`, `{rule}`. Braces that hold no such path stay as they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from noria.errors import Invalid
from noria.wire.rules import Event

_FIELD = re.compile(r"\{([a-z]+(?:\.[\w-]+)*)\}")
ROOTS = ("event", "steps", "rule", "firing", "failed")
OF_EVENT = ("id", "kind", "time")
"""What an event has besides its subject."""


def known(
    event: Event, *, steps: Sequence[Mapping[str, Any]] = (), rule: str = "", firing: str = "", failed: str = ""
) -> dict[str, Any]:
    """What fields may name."""
    own = {"id": event.id, "kind": event.kind, "time": event.time}
    return {"event": {**own, **event.subject}, "steps": list(steps), "rule": rule, "firing": firing, "failed": failed}


def fill(value: Any, context: Mapping[str, Any], *, missing: str | None = None) -> Any:
    """A setting with its fields filled in. A text that is one field alone becomes what that is, be it a number. missing: what stands for a
    field that is not there; None: Invalid, with those there are."""
    if isinstance(value, str):
        whole = _FIELD.fullmatch(value)
        if whole:
            return _look(context, whole[1], missing)
        return _FIELD.sub(lambda found: str(_look(context, found[1], missing)), value)
    return _each(value, lambda part: fill(part, context, missing=missing))


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: change(part) for key, part in value.items()}
    return [change(part) for part in value] if isinstance(value, list | tuple) else value


def _look(context: Mapping[str, Any], path: str, missing: str | None) -> Any:
    at: Any = context
    for part in path.split("."):
        try:
            at = at[int(part)] if isinstance(at, list) else at[part]
        except (KeyError, IndexError, ValueError, TypeError):
            if missing is not None:
                return missing
            raise Invalid(f"There is no {{{path}}} here.", _cure(at, part)) from None
    return at


def _cure(at: Any, part: str) -> str:
    names = [str(each) for each in (at if isinstance(at, Mapping) else range(len(at)) if isinstance(at, list) else ())]
    close = get_close_matches(part, names, 1)
    return f"Did you mean '{close[0]}'?" if close else f"There is: {', '.join(names) or 'nothing'}."


def paths(value: Any) -> Iterator[str]:
    """All fields that a setting names."""
    if isinstance(value, str):
        yield from (found[1] for found in _FIELD.finditer(value))
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from paths(part)


def check(value: Any, subject: Sequence[str], before: int) -> None:
    """Raises Invalid for a field that can never be there. subject: what the events of this rule have, () for anything. before: how many steps
    come before this one."""
    for path in paths(value):
        root, _, rest = path.partition(".")
        if root not in ROOTS:
            close = get_close_matches(root, ROOTS, 1) or ["event"]
            raise Invalid(f"{{{path}}} names nothing that a rule knows.", f"Did you mean {{{close[0]}…}}?")
        first = rest.partition(".")[0]
        if root == "steps" and first and not (first.isdigit() and int(first) < before):
            raise Invalid(
                f"{{{path}}}: only steps before this one have a result.",
                f"Name {{steps.0…}} to {{steps.{before - 1}…}}." if before else "This is the first one.",
            )
        names = [*OF_EVENT, *subject]
        if root == "event" and subject and first and first not in names:
            near = get_close_matches(first, names, 1)
            cure = f"Did you mean {{event.{near[0]}}}?" if near else f"It has: {', '.join(names)}."
            raise Invalid(f"{{{path}}}: an event of this kind has no '{first}'.", cure)
