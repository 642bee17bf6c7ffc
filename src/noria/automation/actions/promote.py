"""Promote a version through its gate.

    {promote = "digits"}
    {promote = "digits", version = "{steps.1.version}", to = "Production", gate = "/srv/digits/gate.toml", on = "slurm"}

version: a number, a stage or @alias; left out, it is the one that a step before has made or measured. The model's own gate decides
(`noria models gate digits --set gate.toml`); for a model without one `gate` or `held_out` says by what, and one of the three there must be, unless
`ungated = true`. What the gate has to know and nobody has measured is measured first, by jobs: on, gpus, cpus, mem, time and their like, and `task`, `seed`
and `allow_pickle` of `noria models evaluate`. reason: what the registry's log says besides.

Gives model, version, champion and archived. If the gate says no, the chain stops here, with its reasons; both ways the evidence is in
`noria models history digits`. If another version takes the stage meanwhile, the gate judges again against that one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noria.automation import steps, unattended
from noria.automation.actions import Act, Acted, Causes
from noria.automation.evaluations import How
from noria.automation.gate import Gate
from noria.automation.promote import Decision, champion_of, chosen, decide, unsettled
from noria.automation.steps import Measured, Text
from noria.errors import Conflict, Invalid
from noria.types import Change, JobSpec, ModelVersion
from noria.wire import registry
from noria.wire.stages import stage_of

_TRIES = 5


class Settings(Measured, frozen=True, kw_only=True):
    promote: str
    version: Text = ""
    to: str = "Production"
    gate: str = ""
    held_out: str = ""
    ungated: bool = False
    reason: str = ""


SETTINGS = steps.names(Settings, "promote")


def check(settings: dict[str, Any]) -> None:
    wanted = steps.check(Settings, settings, "promote")
    if steps.is_filled(wanted.to):
        stage_of(wanted.to)
    for name in ("gate", "held_out"):
        if text := getattr(wanted, name):
            steps.path(text, name, "promote")
    if wanted.ungated and (wanted.gate or wanted.held_out):
        raise Invalid("The step 'promote' has ungated, and something to judge by too.", "Write one of them.")


def causes(settings: dict[str, Any]) -> list[Causes]:
    name = str(settings["promote"])
    moved = Causes("model_version", {"name": name, "stage": str(settings.get("to", "Production"))})
    return [moved, Causes("job_ended", {"name": f"evaluate-{name}-"})]


def act(ask: Act) -> Acted:
    wanted = steps.read(Settings, ask.settings, "promote")
    version = steps.version(ask, wanted.promote, ask.result.get("version", wanted.version))
    if decided := _decided(ask, version):
        return decided
    gate = _gate(ask, wanted)
    try:
        return _judge(ask, wanted, version, gate) if gate else _said(ask, wanted, version, None, None)
    except Conflict as error:
        tries = ask.result.get("tries", 0) + 1
        if tries >= _TRIES:
            raise unsettled(wanted.promote, version.version, stage_of(wanted.to), tries) from None
        return Acted("waiting", {"version": version.version, "tries": tries}, f"{error.message} It is judged again.")


def _gate(ask: Act, wanted: Settings) -> Gate | None:
    paths = [Path(text).expanduser() if text else None for text in (wanted.gate, wanted.held_out)]
    found = chosen(ask.client, wanted.promote, *paths)
    if found is None and not wanted.ungated:
        raise Invalid(f"Nothing says when a version of {wanted.promote} may be promoted.",
                      f"Set a gate with `noria models gate {wanted.promote} --set gate.toml`, or write gate, held_out or ungated = true.")  # fmt: skip
    return found


def _judge(ask: Act, wanted: Settings, version: ModelVersion, gate: Gate) -> Acted:
    """One look: measure what is not known yet, or decide."""
    stage, tries = stage_of(wanted.to), ask.result.get("tries", 0)
    begun = unattended.of(ask.result)
    if waits := unattended.under_way(ask.client, begun):
        return Acted("waiting", ask.result, f"{len(waits)} of {len(begun)} evaluations are under way: job {waits[0][:8]}")
    unattended.finish(ask.client, version.name, begun)
    champion = champion_of(ask.client, version, stage)
    both = [version, *([champion] if champion else [])]
    needed = [Path(gate.held_out[name]) for name in dict.fromkeys(rule.held_out for rule in gate.rules) if name in gate.held_out]
    how = wanted.how() if needed else How(JobSpec)
    begun = unattended.begin(ask.client, both, needed, how, f"{ask.key}/{tries}")
    if begun:
        said = {"version": version.version, "tries": tries, "begun": unattended.told(begun)}
        return Acted("waiting", said, f"evaluating {version.name} for the gate, in job {begun[0].job_id[:8]}")
    return _said(ask, wanted, version, gate, how, champion.version if champion else "")


def _said(
    ask: Act, wanted: Settings, version: ModelVersion, gate: Gate | None, how: How | None, against: str | None = None
) -> Acted:
    why = f"{wanted.reason} (rule {ask.rule})".strip() if ask.rule else wanted.reason
    decision = decide(ask.client, version.name, version.version, stage_of(wanted.to), gate, how or How(JobSpec), why,
                      key=ask.key, against=against)  # fmt: skip
    return _acted(version, decision)


def _acted(version: ModelVersion, decision: Decision) -> Acted:
    conditions = [
        {"name": each.rule.name, "passed": each.verdict.passed, "sentence": each.verdict.sentence} for each in decision.conditions
    ]
    result = {"model": version.name, "version": version.version, "promoted": decision.passed, "champion": decision.champion,
              "archived": decision.archived, "conditions": conditions}  # fmt: skip
    return Acted("done" if decision.passed else "stopped", result, decision.sentence)


def _decided(ask: Act, version: ModelVersion) -> Acted | None:
    """What this very step has decided before its engine died."""
    for action in ("promoted", "refused"):
        asked = registry.History(version.name, version.version, action, 100)
        for change in ask.client.call(registry.HISTORY, asked).changes:
            if change.evidence.get("key") == ask.key:
                return _again(change)
    return None


def _again(change: Change) -> Acted:
    conditions = [
        {name: each.get(name) for name in ("name", "passed", "sentence")} for each in change.evidence.get("conditions", [])
    ]
    passed = change.action == "promoted"
    champion = change.evidence.get("champion", "")
    result = {"model": change.name, "version": change.version, "promoted": passed, "champion": champion,
              "archived": [champion] if passed and champion else [], "conditions": conditions}  # fmt: skip
    return Acted("done" if passed else "stopped", result, change.reason)
