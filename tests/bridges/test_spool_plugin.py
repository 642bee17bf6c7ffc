"""The unmodified mlflow client on a node without a network: it writes to spools, and what arrives equals what HTTP brings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from noria.agent.relay import Relay
from tests.conftest import Running, require

SCRIPTS = Path(__file__).parent / "scripts"
pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]


def start(script: Path, *args: str, cwd: Path, **env: str) -> subprocess.Popen[str]:
    cwd.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(script), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "MLFLOW_DISABLE_TELEMETRY": "true", **env},
    )


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, error = process.communicate(timeout=110)
    assert process.returncode == 0, error
    return dict(json.loads(out.splitlines()[-1]))


def ship(server: Running, folder: Path) -> None:
    """What the agent does with the spools of a folder, to their end."""
    relay, paths = Relay(server.client), sorted(folder.glob("*.spool"))
    relay.ship(paths)
    assert all([relay.finish(path) for path in paths])


def comparable(tree: dict[str, Any]) -> dict[str, Any]:
    """A snapshot without what no two runs of a script share: ids, the clock, and files that name them."""
    runs, models = tree["runs"], tree["models"]
    names = {run_id: run["info"][0] for run_id, run in runs.items()} | dict.fromkeys(models, "model")

    def plain(value: object) -> object:
        text = str(value)
        for own_id, name in names.items():
            text = text.replace(own_id, name)
        return text

    def files(found: dict[str, str]) -> list[object]:
        return [
            (name, digest)
            for name, digest in found.items()
            if Path(name).name not in ("MLmodel", "estimator.html", "cv_results.csv")
        ]

    def run(each: dict[str, Any]) -> object:
        set_times = {key: points for key, points in each["history"].items() if points[0][0] < 1_750_000_000_000}
        return {
            "info": each["info"][:3] + each["info"][5:],
            "params": each["params"],
            "tags": {key: plain(value) for key, value in each["tags"].items()},
            "latest": each["latest"] if "score" not in str(each["latest"]) else sorted(each["latest"]),
            "steps": {key: [point[1:] for point in points] for key, points in each["history"].items() if "time" not in key},
            "set_times": set_times,
            "inputs": each["inputs"],
            "outputs": [step for _, step in each["outputs"]],
            "files": files(each["files"]),
        }

    def model(each: dict[str, Any]) -> object:
        return {**each, "info": plain(each["info"]), "files": files(each["files"])}

    return {
        "tags": tree["tags"],
        "runs": sorted((plain(run(each)) for each in runs.values()), key=str),
        "models": sorted((plain(model(each)) for each in models.values()), key=str),
    }


@pytest.mark.slow
@pytest.mark.parametrize("script", ["tracking", "autolog"])
def test_a_script_without_a_server_equals_the_same_script_with_one(
    server: Running, tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    from tests.bridges.snapshot import registry, snapshot

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.token)
    path, spools = SCRIPTS / f"{script}.py", tmp_path / "spools"
    offline = start(path, f"{script}-off", f"{script}-off", cwd=tmp_path / "a", MLFLOW_TRACKING_URI=f"noria-spool://{spools}")
    online = start(path, f"{script}-on", f"{script}-on", cwd=tmp_path / "b", MLFLOW_TRACKING_URI=server.url)
    run_id = result(offline)["run_id"]
    result(online)
    assert not any(each["runs"] for each in snapshot(server.url, [f"{script}-off"]).values())
    ship(server, spools)

    found = snapshot(server.url, [f"{script}-off", f"{script}-on"])
    assert run_id in found[f"{script}-off"]["runs"]
    assert comparable(found[f"{script}-off"]) == comparable(found[f"{script}-on"])
    versions = [
        (each["aliases"], {number: version[0] for number, version in each["versions"].items()})
        for name, each in sorted(registry(server.url).items())
        if name in (f"{script}-off", f"{script}-on")
    ]
    assert versions[:1] == versions[1:] if script == "tracking" else not versions
    assert not list((tmp_path / "a").iterdir())  # Nothing went to a folder of mlflow's own.
