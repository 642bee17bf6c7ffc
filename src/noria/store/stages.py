"""Who stands where: stages, promotions and the way back. What moves, who moved it and why are one transaction.

Transactions that change a model wait for each other at its row.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET
from sqlalchemy import Connection, func, select, update

from noria.errors import Conflict, Invalid, NotFound
from noria.store import at_once, changes, database, events, registry
from noria.store.experiments import now
from noria.store.registry import VersionRow
from noria.store.schema import model_version, registry_change
from noria.types import Change, ModelVersion, Stage
from noria.wire import registry as wire
from noria.wire.stages import stage_of

_version, _log = model_version, registry_change
_ACTIVE: tuple[Stage, ...] = ("Staging", "Production")
_OURS = frozenset(
    [
        "created",
        "renamed",
        "deleted",
        "description",
        "tag",
        "alias",
        "stage",
        "archived",
        "promoted",
        "refused",
        "approved",
        "rolled_back",
    ]
)
_DEEP = 10_000
"""How many lines of the log are looked at for the way back."""


def transition(conn: Connection, request: wire.Transition, user: str = "") -> wire.Version:
    stage, time = stage_of(request.stage), now()
    if database.shared(conn.engine) and not request.archive_existing_versions:
        return wire.Version(at_once.move(conn, request.name, request.version, stage, time, user))
    found = registry.version_row(conn, request.name, request.version, lock=True)
    if request.archive_existing_versions:
        if stage not in _ACTIVE:
            raise Invalid(
                f"Model version transition cannot archive existing model versions because '{request.stage}' is not an Active stage. "
                "Valid stages are ['Staging', 'Production']"
            )
        _archive(conn, found, stage, time, user)
    return wire.Version(_move(conn, found, stage, time, "stage", user)[0])


def _move(
    conn: Connection,
    found: VersionRow,
    stage: Stage,
    time: int,
    action: str,
    user: str,
    reason: str = "",
    evidence: Mapping[str, Any] = {},
) -> tuple[ModelVersion, Change]:
    """A version and its line."""
    name, number = found.name, str(found.version)
    line = changes.statement(
        action, name, number, user=user, before=found.stage, after=stage, reason=reason, evidence=evidence
    )  # fmt: skip
    *_, written, said = database.run_all(
        conn,
        ("UPDATE model_version SET stage = ?, last_update_time = ? WHERE id = ?", (stage, time, found.id)),
        ("UPDATE registered_model SET last_update_time = ? WHERE id = ?", (time, found.model)),
        line,
        registry.said_of(conn, found),
    )
    moved = registry.with_said(found._replace(stage=stage, last_update_time=time), said)
    told = changes.written(written, line[1], evidence)
    events.of_change(conn, told)
    return moved, told


def _standing(conn: Connection, model: int, stage: Stage) -> list[int]:
    query = select(_version.c.version).where(_version.c.model == model, _version.c.stage == stage)
    return list(conn.execute(query.order_by(_version.c.version)).scalars())


def _archive(conn: Connection, found: VersionRow, stage: Stage, time: int, user: str) -> list[str]:
    """Move whatever else stands in the stage that this version takes; which versions those were."""
    others = [number for number in _standing(conn, found.model, stage) if number != found.version]
    moved = update(_version).where(_version.c.model == found.model, _version.c.version.in_(others))
    if others:
        conn.execute(moved.values(stage="Archived", last_update_time=time))
    for number in others:
        reason = f"Version {found.version} took its place."
        changes.add(conn, "archived", found.name, str(number), user=user, before=stage, after="Archived", reason=reason)
    return [str(number) for number in others]


def promote(conn: Connection, request: wire.Promote, user: str = "") -> wire.Promoted:
    """Put a version into a stage, in place of those that stand there. Raises Conflict if the champion is another one by now."""
    found, stage = registry.version_row(conn, request.name, request.version, lock=True), stage_of(request.stage)
    if request.champion is not UNSET:
        _check_champion(_standing(conn, found.model, stage), found, stage, str(request.champion))
    return _put(conn, found, stage, "promoted", request.user or user, request.reason, request.evidence)


def _check_champion(standing: Sequence[int], found: VersionRow, stage: Stage, expected: str) -> None:
    others = [number for number in standing if number != found.version]
    now_there = str(others[-1]) if others else ""
    if expected == now_there or (expected == str(found.version) and found.version in standing):
        return
    who = f"{found.name} {now_there} stands" if now_there else f"no version of {found.name} stands"
    than = f"version {expected}" if expected else "an empty stage"
    raise Conflict(f"{found.name} {found.version} was measured against {than}, and {who} in {stage} by now.",
                   "Nothing was changed; evaluate it against what stands there.")  # fmt: skip


def _put(
    conn: Connection, found: VersionRow, stage: Stage, action: str, user: str, reason: str, evidence: dict[str, Any]
) -> wire.Promoted:
    time = now()
    archived = _archive(conn, found, stage, time, user) if stage in _ACTIVE else []
    moved, line = _move(conn, found, stage, time, action, user, reason, evidence)
    return wire.Promoted(moved, archived, line)


def rollback(conn: Connection, request: wire.Rollback, user: str = "") -> wire.Promoted:
    """Put back the version that stood in a stage before the one that stands there now, or before the stage was left empty.

    Raises NotFound if the log knows of none that is still there.
    """
    model, stage = registry.row(conn, request.name, lock=True), stage_of(request.stage)
    if stage not in _ACTIVE:
        raise Invalid(f"{stage} is no stage that a version stands in alone.", "Roll back Production or Staging.")
    standing = {str(number) for number in _standing(conn, model.id, stage)}
    there = {str(number) for number in conn.execute(select(_version.c.version).where(_version.c.model == model.id)).scalars()}
    entered = _entered(conn, request.name, stage)
    present = next((number for number, _ in entered if number in standing), max(standing, key=int, default=""))
    wanted = _before(entered, present, there)
    if wanted is None:
        raise NotFound(
            f"No version of {request.name} stood in {stage} before.", f"`noria models show {request.name}` lists them."
        )
    found = registry.version_row(conn, request.name, wanted, lock=True)
    evidence = {**request.evidence, **({"from": present} if present else {})}
    return _put(conn, found, stage, "rolled_back", request.user or user, request.reason, evidence)


def _entered(conn: Connection, name: str, stage: Stage) -> list[tuple[str, str]]:
    """Which versions entered a stage and by which action, the last first; not those of a model of this name that was deleted."""
    made = select(func.max(_log.c.id)).where(_log.c.name == name, _log.c.version == "", _log.c.action == "created")
    since = conn.execute(made).scalar() or 0
    query = select(_log.c.version, _log.c.action).where(_log.c.name == name, _log.c.id > since, _log.c.after == stage)
    query = query.where(_log.c.action.in_(("stage", "promoted", "rolled_back")))
    return [(number, action) for number, action in conn.execute(query.order_by(_log.c.id.desc()).limit(_DEEP))]


def _before(entered: Iterable[tuple[str, str]], present: str, there: Container[str]) -> str | None:
    """The version before `present`. What was rolled back is passed over: going back twice leads two versions back, not forth again."""
    back_to = ""
    for number, action in entered:
        if back_to and number != back_to:
            continue
        back_to = number if action == "rolled_back" else ""
        if not back_to and number != present and number in there:
            return number
    return None


def refuse(conn: Connection, request: wire.Refuse, user: str = "") -> Change:
    """A gate said no: nothing changes but the log."""
    return _said(conn, "refused", request, request.stage, user, request.evidence)


def approve(conn: Connection, request: wire.Approve, user: str = "") -> Change:
    """A person says yes."""
    return _said(conn, "approved", request, request.stage, user, {})


def note(conn: Connection, request: wire.Note, user: str = "") -> Change:
    """What else is to be known of a version. Invalid for an action that tells of a change: those lines are written with the change."""
    if request.action in _OURS:
        raise Invalid(f"A line '{request.action}' is written by what it tells of.", "Give the note another action.")
    return _said(conn, request.action, request, "", user, request.evidence)


def _said(
    conn: Connection,
    action: str,
    request: wire.Refuse | wire.Approve | wire.Note,
    stage: str,
    user: str,
    evidence: dict[str, Any],
) -> Change:
    found = registry.version_row(conn, request.name, request.version, lock=True)
    whose = request.user or user
    after = stage_of(stage) if stage else ""
    said = {**evidence, "stage": after} if after else evidence
    return changes.add(conn, action, found.name, str(found.version), user=whose, reason=request.reason, evidence=said)
