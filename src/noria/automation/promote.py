"""Promotion through a gate: a version takes a stage only if it is not worse than the one that stands there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from noria import models
from noria.automation.conditions import CONDITIONS, Evidence, Verdict
from noria.client.http import Server
from noria.errors import Invalid
from noria.types import ModelVersion
from noria.wire import registry


def promote(server: Server, name: str, version: str, stage: str = "Production", held_out: str | Path | None = None) -> Verdict:
    """Move a version to a stage if the gate lets it; the versions that stood there are archived.

    held_out: an .npz with `x`, [n, ...], and `y`, [n], that neither model was trained on; without it there is no gate, and
    the verdict says so. The verdict is kept as tags of the version, whether it passed or not.
    """
    candidate = server.call(registry.GET_VERSION, registry.VersionKey(name, version)).model_version
    champion = _champion(server, name, stage, candidate)
    verdict = _judge(server, candidate, champion, held_out)
    for key, value in {"noria.gate": "passed" if verdict.passed else "refused", "noria.gate.verdict": verdict.sentence}.items():
        server.call(registry.SET_VERSION_TAG, registry.SetVersionTag(name, version, key, value))
    if verdict.passed:
        active = stage.lower() in ("staging", "production")
        server.call(registry.TRANSITION, registry.Transition(name, version, stage, archive_existing_versions=active))
        return replace(verdict, sentence=f"{verdict.sentence} {name} {version} is in {stage} now.")
    stays = f"{name} {champion.version} stays in {stage}." if champion else f"Nothing changed in {stage}."
    return replace(verdict, sentence=f"{verdict.sentence} {stays}")


def _champion(server: Server, name: str, stage: str, candidate: ModelVersion) -> ModelVersion | None:
    standing = server.call(registry.LATEST, registry.Latest(name, [stage])).model_versions
    return next((version for version in standing if version.version != candidate.version), None)


def _judge(server: Server, candidate: ModelVersion, champion: ModelVersion | None, held_out: str | Path | None) -> Verdict:
    if held_out is None:
        return Verdict(True, "No held-out data was given, so no gate was applied.")
    x, y = _load(Path(held_out))
    right = _right(server, candidate, x, y)
    before = _right(server, champion, x, y) if champion else None
    return CONDITIONS.get("not_worse").judge(Evidence(candidate=right, champion=before))


def _load(path: Path) -> tuple[Any, Any]:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        if not {"x", "y"} <= set(arrays.files) or len(arrays["x"]) != len(arrays["y"]) or not len(arrays["y"]):
            raise Invalid(f"{path} does not hold arrays x and y of one length.", "Write it with numpy.savez(path, x=..., y=...).")
        return arrays["x"], arrays["y"]


def _right(server: Server, version: ModelVersion, x: Any, y: Any) -> list[bool]:
    """Whether each example was classified right."""
    predictor = models.load(f"models:/{version.name}/{version.version}", server=server)
    return [bool(right) for right in predictor.predict(x).argmax(1) == y]
