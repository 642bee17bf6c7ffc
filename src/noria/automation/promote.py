"""Promotion through a gate: a version takes a stage only if it meets all conditions, measured against the one that stands there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from noria.automation import gate as gates
from noria.automation.conditions import CONDITIONS, Evidence, Verdict
from noria.automation.evaluations import Answered, How, evaluate
from noria.automation.gate import Gate, Rule
from noria.client.http import Server
from noria.errors import Conflict, Invalid, NotFound
from noria.process import whoami
from noria.types import Change, ModelVersion, number
from noria.wire import registry, runs
from noria.wire.stages import stage_of

_TRIES = 5
_REASON = 4000
"""Characters of the audit log's reason."""


class Judged(Struct, frozen=True):
    """One condition of a gate, and what came of it."""

    rule: Rule
    verdict: Verdict


class Decision(Struct, frozen=True):
    """What a gate decided, all of it in one sentence after the other, the last of which is the `outcome`. `champion` is the version that it
    was judged against, "" for none; `archived` are those that left the stage."""

    passed: bool
    sentence: str
    outcome: str
    conditions: list[Judged] = []
    champion: str = ""
    archived: list[str] = []
    change: Change | None = None


def of_model(server: Server, name: str) -> Gate | None:
    """The gate that is kept with a registered model, if there is one. Raises Invalid if it cannot be understood."""
    tags = {tag.key: tag.value for tag in server.call(registry.GET, registry.Name(name)).registered_model.tags}
    text = tags.get(gates.TAG)
    return gates.parse(text, f"the gate of {name}", Path("/")) if text else None


def chosen(server: Server, name: str, given: Path | None, held_out: Path | None) -> Gate | None:
    """The gate that decides: the model's own, or the one that was given; `held_out` takes the place of its usual examples.

    Raises Invalid for another one than the model's own: a gate that whoever promotes may choose is none.
    """
    own = of_model(server, name)
    if own is not None and given is not None:
        raise Invalid(
            f"{name} has a gate of its own, so --gate is not taken.",
            f"`noria models gate {name}` shows it, and changes it with --set.",
        )
    found = own or (gates.load(given) if given is not None else None)
    if found is None:
        return gates.usual(str(held_out.absolute())) if held_out is not None else None
    if held_out is None:
        return found
    usual = next(iter(found.held_out), gates.USUAL)
    return msgspec.structs.replace(found, held_out={**found.held_out, usual: str(held_out.absolute())})


def promote(
    server: Server, name: str, version: str, stage: str = "Production", *, gate: Gate | None, how: How, reason: str = ""
) -> Decision:
    """Move a version to a stage if the gate lets it; the versions that stood there are archived in the same transaction.

    Whatever came of it is in the registry's log with its evidence. If another version took the stage meanwhile, the gate judges again against
    that one. Raises Invalid for a condition that cannot be judged: then nothing was decided, and nothing is changed.
    """
    stage = stage_of(stage)
    for _ in range(_TRIES):
        try:
            return decide(server, name, version, stage, gate, how, reason)
        except Conflict as error:
            how.tell(f"somebody was faster: {error.message} Judging again.")
    raise unsettled(name, version, stage, _TRIES)


def unsettled(name: str, version: str, stage: str, tries: int) -> Conflict:
    return Conflict(
        f"{stage} of {name} changed {tries} times while {name} {version} was judged.", "Promote it again when it is quiet."
    )


def decide(
    server: Server, name: str, version: str, stage: str, gate: Gate | None, how: How, reason: str = "", *, key: str = "", against: str | None = None
) -> Decision:  # fmt: skip
    """Judge once. Raises Conflict if another version took the stage meanwhile, or stands there instead of `against`; then nothing is changed.

    key: kept with the evidence, by which whoever decides finds that it was decided.
    """
    candidate = server.call(registry.GET_VERSION, registry.VersionKey(name, version)).model_version
    champion = champion_of(server, candidate, stage) if gate else None
    found = champion.version if champion else ""
    if against not in (None, found):
        raise Conflict(
            f"{name} {found} stands in {stage} by now, and not {against}." if found else f"{stage} of {name} is empty by now."
        )
    known = _Known(server, candidate, champion, stage, gate, how) if gate else None
    judged = _judge(gate, known) if gate and known else []
    evidence = _evidence(gate, judged, known) if gate and known else {}
    return _decide(server, candidate, champion, stage, judged, evidence, reason, key)


def _decide(
    server: Server, candidate: ModelVersion, champion: ModelVersion | None, stage: str, judged: list[Judged], evidence: dict[str, Any], reason: str, key: str
) -> Decision:  # fmt: skip
    name, version, before = candidate.name, candidate.version, champion.version if champion else ""
    said = " ".join(each.verdict.sentence for each in judged) or "No held-out data was given, so no gate was applied."
    told = f"{reason} {said}".strip()[:_REASON]
    kept = {**evidence, "key": key} if key else evidence
    if not all(each.verdict.passed for each in judged):
        change = server.call(registry.REFUSE, registry.Refuse(name, version, stage, whoami(), told, kept))
        stays = f"{name} {before} stays in {stage}." if before else f"Nothing changed in {stage}."
        return Decision(False, f"{said} {stays}", stays, judged, before, [], change)
    asked = registry.Promote(name, version, stage, before if evidence else UNSET, whoami(), told, kept)
    done = server.call(registry.PROMOTE, asked)
    there = f"{name} {version} is in {stage} now."
    return Decision(True, f"{said} {there}", there, judged, before, done.archived, done.change)


def champion_of(server: Server, candidate: ModelVersion, stage: str) -> ModelVersion | None:
    """The newest version in the stage but for the candidate."""
    standing = server.call(registry.LATEST, registry.Latest(candidate.name, [stage])).model_versions
    if not any(each.version == candidate.version for each in standing):
        return standing[0] if standing else None
    quoted = candidate.name.replace("'", "\\'")
    known = server.call(registry.SEARCH_VERSIONS, registry.SearchVersions(f"name='{quoted}'")).model_versions
    others = [each for each in known if each.current_stage == stage and each.version != candidate.version]
    return max(others, key=lambda each: int(each.version), default=None)


def _judge(gate: Gate, known: _Known) -> list[Judged]:
    """Every condition is judged, so that a refusal tells all that is missing; the first that cannot be is raised in the end."""
    judged, broken = [], []
    for rule in gate.rules:
        try:
            judged.append(Judged(rule, CONDITIONS.get(rule.name).judge(known.evidence(rule.held_out), **rule.settings)))
        except Invalid as error:
            broken.append(error)
    if broken:
        raise broken[0]
    return judged


class _Known:
    """What the conditions of one gate look at, each part found out once and only if it is asked for."""

    def __init__(
        self, server: Server, candidate: ModelVersion, champion: ModelVersion | None, stage: str, gate: Gate, how: How
    ) -> None:  # fmt: skip
        self._versions = [candidate, *([champion] if champion else [])]
        logged, unlogged, maker = _logged(server, candidate)
        self._logged, self._unlogged = logged, unlogged
        self._authors = sorted({user for user in (candidate.user_id, *maker) if user})
        self._approvals = list(_approvals(server, candidate, stage))
        self.champion = champion.version if champion else ""
        self.answers = {
            name: evaluate(server, self._versions, Path(gate.held_out[name]), how)
            for name in dict.fromkeys(rule.held_out for rule in gate.rules)
            if name in gate.held_out
        }

    def evidence(self, held_out: str) -> Evidence:
        common: dict[str, Any] = {"unlogged": self._unlogged, "authors": self._authors, "approvals": self._approvals}
        answers = self.answers.get(held_out)
        if answers is None:
            return Evidence(metrics=self._logged, **common)
        own = answers[0]
        theirs = answers[1] if len(answers) > 1 else None
        return Evidence(
            metrics={**self._logged, **{key: float(value) for key, value in own.evaluation.metrics.items()}},
            candidate=_right(own) or [], champion=_right(theirs) if theirs else None, examples=own.examples,
            standing=theirs.examples if theirs else None, slices=own.slices, cost=own.evaluation.cost, **common)  # fmt: skip


def _measured(answered: Answered) -> dict[str, Any]:
    """By which an evaluation is found again, and known to be the one that was judged."""
    found = answered.evaluation
    return {"of": found.of, "run_id": found.run_id, "held_out_sha256": found.held_out_sha256, "model_sha256": found.model_sha256,
            "predictions_sha256": found.predictions_sha256, "metrics": found.metrics, **found.cost, "hardware": found.hardware}  # fmt: skip


def _right(answered: Answered) -> Sequence[bool] | None:
    right = answered.examples.get("right")
    return right.tolist() if right is not None else None


def _logged(server: Server, version: ModelVersion) -> tuple[Mapping[str, float], str, list[str]]:
    """The metrics of a version's run, why there are none, and who made the run."""
    if not version.run_id:
        return {}, f"{version.name} {version.version} has no run, so nothing was logged for it. ", []
    try:
        run = server.call(runs.GET, runs.Get(version.run_id)).run
    except NotFound:
        return {}, f"The run of {version.name} {version.version} is gone, and what it logged with it. ", []
    tags = {tag.key: tag.value for tag in run.data.tags}
    return {metric.key: float(metric.value) for metric in run.data.metrics}, "", [run.info.user_id, tags.get("mlflow.user", "")]


def authors(server: Server, version: ModelVersion) -> list[str]:
    """Who made a version: whoever registered it, and whose run it is from."""
    return sorted({user for user in (version.user_id, *_logged(server, version)[2]) if user})


def _approvals(server: Server, version: ModelVersion, stage: str) -> Iterator[str]:
    asked = registry.History(version.name, version.version, "approved", 1000)
    for change in server.call(registry.HISTORY, asked).changes:
        if change.evidence.get("stage") == stage and change.user:
            yield change.user


def _evidence(gate: Gate, judged: Sequence[Judged], known: _Known) -> dict[str, Any]:
    """What the log keeps: each condition with its settings and figures, and by their digests what it was measured on."""
    conditions = [
        {"name": each.rule.name, "settings": each.rule.settings, "held_out": each.rule.held_out, "passed": each.verdict.passed,
         "sentence": each.verdict.sentence, "figures": {key: number(value) for key, value in each.verdict.figures.items()}}
        for each in judged
    ]  # fmt: skip
    measured = {name: [_measured(each) for each in answers] for name, answers in known.answers.items()}
    return {
        "gate": {"from": gate.origin, "sha256": gate.digest},
        "champion": known.champion,
        "conditions": conditions,
        "evaluations": measured,
    }
