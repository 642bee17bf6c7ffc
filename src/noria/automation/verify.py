"""A recorded evaluation made again: what was found then must be found now, from the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from noria import models
from noria.automation import evaluations, held_out
from noria.automation.evaluations import Answered, How
from noria.automation.measure import Evaluation
from noria.client.http import Server
from noria.errors import Invalid, NoriaError, NotFound
from noria.models import digests
from noria.process import whoami
from noria.types import Change, ModelVersion, number
from noria.wire import registry, runs

TOLERANCE = 1e-6
_SHOWN = 3


class Finding(Struct, frozen=True):
    """Something that is not as it was: "model", "data", "predictions", "metric" or "record", and a sentence."""

    what: str
    sentence: str


class Verified(Struct, frozen=True):
    """`sentence` says what was compared, and how close it is. An evaluation is as it was if there are no findings."""

    of: str
    run_id: str
    sentence: str
    findings: list[Finding] = []
    rerun: str = ""

    @property
    def equal(self) -> bool:
        return not self.findings


def verify(server: Server, version: ModelVersion, how: How, path: Path | None = None, tolerance: float = TOLERANCE) -> Verified:
    """Make the newest evaluation of a version again and compare; the registry's log says that it was done, and what was found.

    path: where the held-out file lies by now. tolerance: by how much, relative to values above 1, numbers may differ from other hardware.
    Raises NotFound if the version was never evaluated, or its model or its held-out file is gone.
    """
    change, recorded = _recorded(server, version)
    where = path or Path(recorded.held_out)
    if not where.is_file():
        raise NotFound(f"The held-out file {where} of this evaluation is gone.", "Say where it lies now with --held-out.")
    kept, findings = _kept(server, change, recorded)
    how = replace(how, task=recorded.task, seed=recorded.seed, allow_pickle=how.allow_pickle or recorded.allow_pickle)
    made = _again(server, version, where, how, recorded, findings)
    findings += _data(where, recorded, kept.rows if kept else None)
    if made is not None:
        findings += _answers(recorded, kept, made, tolerance)
    said = _said(recorded, made, findings, tolerance)
    result = Verified(recorded.of, recorded.run_id, said, findings, made.evaluation.run_id if made else "")
    note = registry.Note(
        version.name, version.version, "verified", whoami(), said, {**msgspec.to_builtins(result), "equal": result.equal}
    )
    server.call(registry.NOTE, note)
    return result


def _recorded(server: Server, version: ModelVersion) -> tuple[Change, Evaluation]:
    for found in evaluations.noted(server, version):
        return found
    raise NotFound(f"{version.name} {version.version} was never evaluated.",
                   f"Evaluate it with: noria models evaluate {version.name} {version.version} --held-out FILE")  # fmt: skip


def _kept(server: Server, change: Change, recorded: Evaluation) -> tuple[Answered | None, list[Finding]]:
    """What the run of the evaluation has kept, compared with what the registry's log says of it."""
    short = recorded.run_id[:8]
    try:
        kept = evaluations.read(server, recorded.run_id)
        logged = {metric.key: float(metric.value) for metric in server.call(runs.GET, runs.Get(recorded.run_id)).run.data.metrics}
    except (NotFound, Invalid) as error:
        return None, [Finding("record", error.message)]
    findings = [
        *_edited(recorded.metrics, logged, f"run {short}"),
        *_edited(recorded.metrics, kept.evaluation.metrics, f"the record of run {short}"),
    ]
    if not findings and evaluations.fingerprint(kept.evaluation) != change.evidence.get("record_sha256"):
        findings.append(
            Finding("record", f"The record of run {short} is not the one that the registry's log knows by its digest.")
        )
    return kept, findings


def _edited(recorded: Mapping[str, Any], found: Mapping[str, Any], where: str) -> Iterator[Finding]:
    for name, value in recorded.items():
        if name in found and number(float(found[name])) != number(float(value)):
            yield Finding(
                "metric",
                f"{name} is {float(found[name]):.6g} in {where}, while {float(value):.6g} was recorded when it was evaluated.",
            )


def _again(
    server: Server, version: ModelVersion, path: Path, how: How, recorded: Evaluation, findings: list[Finding]
) -> Answered | None:  # fmt: skip
    """The evaluation made again; None, with a finding, if it cannot be: a model that was changed may not load any more."""

    def look(folder: Path) -> None:
        if models.digest(folder) != recorded.model_sha256:
            findings.append(Finding("model", _changed(digests.of_files(folder), recorded)))

    try:
        return evaluations.rerun(server, version, path, how, look)
    except Invalid as error:
        findings.append(Finding("predictions", f"The evaluation cannot be made again: {error.message}"))
        return None
    except NoriaError:
        if findings and findings[-1].what == "model":
            return None
        raise


def _changed(now: Mapping[str, str], recorded: Evaluation) -> str:
    was = recorded.files
    other = [name for name in sorted(now.keys() | was.keys()) if now.get(name) != was.get(name)] if was else []
    named = [
        f"{name} {'is new' if name not in was else 'is gone' if name not in now else 'has other bytes'}"
        for name in other[:_SHOWN]
    ]
    more = f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
    return f"The model's folder is not the one that was evaluated: {', '.join(named) or 'its digest differs'}{more}."


def _data(path: Path, recorded: Evaluation, rows: Any) -> Iterator[Finding]:
    """Which examples are not those that it was evaluated on."""
    import numpy as np

    if held_out.digest(path) == recorded.held_out_sha256:
        return
    if rows is None:
        yield Finding("data", f"{path} is not the file that it was evaluated on.")
        return
    now = held_out.rows(held_out.load(path))
    if len(now) != len(rows):
        yield Finding("data", f"{path} has {len(now)} examples, and {len(rows)} when it was evaluated.")
        return
    changed = np.flatnonzero(now != rows)
    if not len(changed):
        yield Finding("data", f"{path} has other bytes, while each of its {len(now)} examples is as it was.")
        return
    which = ", ".join(map(str, changed[:_SHOWN].tolist())) + (
        f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    )
    one = len(changed) == 1
    yield Finding(
        "data",
        f"{'Example' if one else 'Examples'} {which} of {path} (counted from 0) {'is not what it was' if one else 'are not what they were'} when it was evaluated.",
    )


def _answers(recorded: Evaluation, kept: Answered | None, made: Answered, tolerance: float) -> Iterator[Finding]:
    if made.evaluation.predictions_sha256 != recorded.predictions_sha256:
        worst, count = _apart(kept, made)
        if worst > tolerance:
            of = f" for {count} of {recorded.examples} examples" if count else ""
            yield Finding("predictions", f"The predictions are not those that were recorded{of}.")
    for name, value in recorded.metrics.items():
        again = float(made.evaluation.metrics.get(name, "NaN"))
        if number(again) != number(float(value)) and not abs(again - float(value)) <= tolerance * max(1.0, abs(float(value))):
            yield Finding(
                "metric",
                f"{name} was recorded as {float(value):.6g} and is {again:.6g} now, beyond the tolerance of {tolerance:g}.",
            )


def _apart(kept: Answered | None, made: Answered) -> tuple[float, int]:
    """How far the answers are apart at most, and for how many examples they are: by their losses or errors, and by their labels."""
    import numpy as np

    if kept is None or kept.examples.keys() != made.examples.keys():
        return float("inf"), 0
    apart = np.zeros(len(made.rows))
    for name, now in made.examples.items():
        was = kept.examples[name]
        if was.shape != now.shape or len(now) != len(apart):
            return float("inf"), 0
        if name in ("loss", "absolute", "squared"):
            apart = np.maximum(apart, np.nan_to_num(np.abs(was - now) / np.maximum(1.0, np.abs(was)), nan=np.inf))
        elif name == "predicted":
            apart = np.where(was != now, np.inf, apart)
    return float(apart.max()), int((apart > 0).sum())


def _said(recorded: Evaluation, made: Answered | None, findings: list[Finding], tolerance: float) -> str:
    if findings:
        return f"{recorded.of} is not what was evaluated in run {recorded.run_id[:8]}: " + " ".join(
            each.sentence for each in findings
        )
    bits = made is not None and made.evaluation.predictions_sha256 == recorded.predictions_sha256
    how = "bit for bit" if bits else f"within {tolerance:g}, on {made.evaluation.hardware.get('cpu', '') if made else ''}"
    return f"{recorded.of} is what was evaluated in run {recorded.run_id[:8]}: model and data have their digests, and the predictions are equal {how}."
