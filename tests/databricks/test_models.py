"""Registered models from and to Databricks: every version once, with what the other side has a place for."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.types import Tag
from noria.wire import logged_models, registry
from tests.conftest import Running
from tests.databricks_fake import Databricks

pytestmark = [pytest.mark.mlflow, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
Noria = Callable[..., subprocess.CompletedProcess[str]]
FILES = {"MLmodel": b"flavors: {}\nsignature:\n  inputs: '[]'\n", "deep/weights.bin": bytes(range(256)) * 90}


def fill(server: Running, name: str, files: dict[str, bytes] = FILES) -> None:
    """Two versions, of which one has a stage and one an alias."""
    call = server.client.call
    call(registry.CREATE, registry.CreateModel(name, [Tag("owner", "ada")], "about it"))
    for number in (1, 2):
        info = call(logged_models.CREATE, logged_models.Create("0", f"m{number}")).model.info
        for path, content in files.items():
            (server.folder / "put").write_bytes(content + (b"" if path == "MLmodel" else bytes([number])))
            server.client.upload(info.artifact_uri, path, server.folder / "put")
        call(logged_models.FINALIZE, logged_models.Finalize(info.model_id, "LOGGED_MODEL_READY"))
        call(registry.CREATE_VERSION, registry.CreateVersion(name, f"models:/{info.model_id}", "", [Tag("n", str(number))], "", f"the {number}.", info.model_id))  # fmt: skip
    call(registry.TRANSITION, registry.Transition(name, "1", "Production"))
    call(registry.SET_ALIAS, registry.SetAlias(name, "champion", "2"))


def contents(server: Running, name: str, version: str, folder: Path) -> dict[str, bytes]:
    from noria.models import fetch

    fetch.copy(server.client, name, version, folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("scheme", "there"), [("databricks", "net"), ("databricks-uc", "main.ml.net")])
def test_a_model_goes_there_and_comes_back_once(
    own_server: Running, workspace: Databricks, noria: Noria, tmp_path: Path, scheme: str, there: str
) -> None:
    fill(own_server, "net")
    sent = noria("models", "copy", "models:/net", there, "--to", f"{scheme}://")
    assert sent.stdout.split() == ["1", "2"]
    left = "Stages stayed behind" if scheme.endswith("uc") else "Aliases stayed behind"
    assert left in sent.stderr
    workspace.order("calm")
    again = json.loads(noria("models", "copy", "models:/net", there, "--to", f"{scheme}://", "--json").stdout)
    assert [(each["version"], each["known"]) for each in again["versions"]] == [("1", True), ("2", True)]
    assert not workspace.calls("model-versions/create")

    back = noria("models", "copy", f"{scheme}:///{there}", "back")
    assert back.stdout.split() == ["1", "2"] and noria("models", "copy", f"{scheme}:///{there}", "back").stdout.split() == [
        "1",
        "2",
    ]
    found = json.loads(noria("models", "show", "back", "--json").stdout)
    assert found["model"]["description"] == "about it" and {"key": "owner", "value": "ada"} in found["model"]["tags"]
    newest, oldest = found["versions"]
    assert (newest["description"], oldest["description"]) == ("the 2.", "the 1.") and {"key": "n", "value": "2"} in newest["tags"]
    if scheme.endswith("uc"):
        assert newest["aliases"] == ["champion"] and oldest["current_stage"] == "None"
        one = noria("models", "copy", f"{scheme}:///{there}@champion", "one")
    else:
        assert newest["aliases"] == [] and oldest["current_stage"] == "Production"
        one = noria("models", "copy", f"{scheme}:///{there}/Production", "one")
    assert one.stdout.split() == ["1"]
    for version in ("1", "2"):
        mine = contents(own_server, "net", version, tmp_path / f"mine{version}")
        assert contents(own_server, "back", version, tmp_path / f"back{version}") == mine
        assert mine["deep/weights.bin"][-1] == int(version)


def test_a_copy_that_was_cut_short_leaves_nothing_half_done(own_server: Running, workspace: Databricks, noria: Noria) -> None:
    fill(own_server, "cut")
    workspace.fault("PUT /api/2.0/fs/files/Models/main/ml/cut/2/deep", "401")
    failed = noria("models", "copy", "models:/cut", "main.ml.cut", "--to", "databricks-uc://", check=False)
    assert failed.returncode == 1 and "does not let this token in" in failed.stderr and "Traceback" not in failed.stderr
    for path in ("model-versions/create", "model-versions/finalize"):
        workspace.fault(path, "lost")
    workspace.fault("PUT /api/2.0/fs/files", "429")
    done = json.loads(noria("models", "copy", "models:/cut", "main.ml.cut", "--to", "databricks-uc://", "--json").stdout)
    assert [(each["version"], each["known"]) for each in done["versions"]] == [("1", True), ("2", False)]


def test_what_cannot_be_copied_is_told_in_a_sentence(own_server: Running, workspace: Databricks, noria: Noria) -> None:
    fill(own_server, "bare", {"MLmodel": b"flavors: {}\n"})
    for words, says in (
        (
            ("models:/bare/1", "net", "--to", "databricks-uc://"),
            "'net' is no name of a model in Unity Catalog. Write CATALOG.SCHEMA.MODEL.",
        ),
        (("models:/bare/1", "main.ml.bare", "--to", "databricks-uc://"), "takes no model without a signature. Log it with one"),
        (("models:/bare/1", "other.ml.bare", "--to", "databricks-uc://"), "may not do that at"),
        (("databricks:///nosuch/1", "x"), "nosuch"),
        (("databricks:///a/b/c", "x"), "is no model. Write databricks://PROFILE/NAME/3"),
        (("databricks:///bare/1", "x", "--to", "databricks-uc://"), "Between two other places"),
        (("models:/nosuch", "x", "--to", "databricks://"), "There is no model 'nosuch'"),
        (("databricks://team/net/1", "x"), "so no profile 'team'"),
    ):
        done = noria("models", "copy", *words, check=False)
        assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr, (words, done.stderr)
