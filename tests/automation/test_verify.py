"""An evaluation that is made again finds what was changed since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noria.types import Metric
from noria.wire import registry, runs
from tests.automation import tiny
from tests.automation.conftest import Ask, Registered, said


@pytest.fixture
def evaluated(ask: Ask, model: Registered, data: Path) -> str:
    version = model.version()
    ask("models", "evaluate", model.name, version, "--held-out", str(data))
    return version


def found(ask: Ask, model: Registered, version: str) -> dict[str, list[str]]:
    """The sentences of the findings, by what they are about."""
    done = ask("models", "verify", f"{model.name}/{version}", "--json", check=False)
    assert done.returncode == 3, done.stderr
    result: dict[str, list[str]] = {}
    for each in said(done)["findings"]:
        result.setdefault(each["what"], []).append(each["sentence"])
    (note,) = model.history(version, "verified")
    assert note.evidence["equal"] is False
    return result


def stored(server: Any, model: Registered, version: str) -> Path:
    """Where the server keeps the model's folder."""
    run = server.client.call(registry.GET_VERSION, registry.VersionKey(model.name, version)).model_version.run_id
    (file,) = (each for each in (server.folder / "artifacts").rglob("weights.npy") if run in each.parts)
    return Path(file)


def test_what_was_not_changed_is_equal(ask: Ask, model: Registered, evaluated: str) -> None:
    done = ask("models", "verify", model.name, evaluated)
    assert done.stderr.splitlines()[-1].endswith("the predictions are equal bit for bit.")
    (note,) = model.history(evaluated, "verified")
    assert note.evidence["equal"] is True


def test_a_changed_weight(ask: Ask, model: Registered, evaluated: str, server: Any) -> None:
    np.save(stored(server, model, evaluated), np.add(tiny.GOOD, [[0.4, 0], [0, 0], [0, 0]]))
    sentences = found(ask, model, evaluated)
    assert sentences["model"] == ["The model's folder is not the one that was evaluated: data/weights.npy has other bytes."]
    assert sentences["predictions"][0].startswith("The predictions are not those that were recorded for ")
    assert (
        any(each.startswith("accuracy was recorded as 1 and is 0.9") for each in sentences["metric"]) and "data" not in sentences
    )


def test_a_changed_row(ask: Ask, model: Registered, evaluated: str, data: Path) -> None:
    with np.load(data) as arrays:
        changed = dict(arrays)
    changed["y"][17] = 1 - changed["y"][17]
    np.savez(data, **changed)
    sentences = found(ask, model, evaluated)
    assert sentences["data"] == [f"Example 17 of {data} (counted from 0) is not what it was when it was evaluated."]
    assert (
        "model" not in sentences
        and "accuracy was recorded as 1 and is 0.9975 now, beyond the tolerance of 1e-06." in sentences["metric"]
    )


def test_a_changed_metric(ask: Ask, model: Registered, evaluated: str, server: Any) -> None:
    (note,) = model.history(evaluated, "evaluated")
    run_id = note.evidence["run_id"]
    server.client.call(runs.LOG_BATCH, runs.LogBatch(run_id, [Metric("accuracy", 0.5, 2_000_000_000_000, 1)]))
    sentences = found(ask, model, evaluated)
    assert sentences == {"metric": [f"accuracy is 0.5 in run {run_id[:8]}, while 1 was recorded when it was evaluated."]}


def test_a_changed_record(ask: Ask, model: Registered, evaluated: str, server: Any) -> None:
    (note,) = model.history(evaluated, "evaluated")
    (file,) = (each for each in (server.folder / "artifacts").rglob("evaluation.json") if note.evidence["run_id"] in each.parts)
    record = json.loads(file.read_text())
    record["metrics"]["f1"] = 0.25
    file.write_text(json.dumps(record))
    sentences = found(ask, model, evaluated)
    assert sentences["metric"] == [
        f"f1 is 0.25 in the record of run {note.evidence['run_id'][:8]}, while 1 was recorded when it was evaluated."
    ]


def test_what_cannot_be_verified(ask: Ask, model: Registered, evaluated: str, data: Path) -> None:
    never = model.version()
    data.unlink()
    for version, says in (
        (never, f"{model.name} {never} was never evaluated. Evaluate it with: "),
        (evaluated, "is gone. Say where it lies now with --held-out."),
    ):
        done = ask("models", "verify", f"{model.name}/{version}", check=False)
        assert done.returncode == 1 and says in done.stderr and done.stderr.count("\n") == 1
    assert ask("models", "verify", model.name, check=False).returncode == 2
