"""Runs to and from Databricks: what MLflow's own client reads there is what it reads here, whatever happens on the way, and once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noria import bridges
from noria.errors import Invalid, NotFound
from noria.types import Metric, Param, Tag
from noria.wire import experiments, runs
from tests.conftest import Running
from tests.databricks_fake import CLIENT, SECRET, Databricks

SOURCE = Path(__file__).parent.parent / "bridges" / "scripts" / "source.py"
HOME = "/Users/ada@example.org"
pytestmark = [pytest.mark.mlflow, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
Noria = Callable[..., subprocess.CompletedProcess[str]]


def fill(workspace: Databricks, prefix: str, count: int = 4, uri: str = "databricks") -> None:
    """One of everything, by MLflow's own client."""
    env = {**os.environ, **workspace.env(), "PYTHONWARNINGS": "ignore", "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_REGISTRY_URI": "databricks"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(SOURCE), uri, str(count), prefix], env=env, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def filled(workspace: Databricks) -> Databricks:
    fill(workspace, f"{HOME}/")
    return workspace


def named(trees: dict[str, Any], folder: str = HOME) -> dict[str, Any]:
    """By the names that experiments have here, without those that are in nobody's way."""
    return {name.removeprefix(f"{folder}/"): tree for name, tree in trees.items() if tree["runs"] or name not in ("Default",)}


def test_a_workspace_is_imported_once_through_small_pages(
    own_server: Running, filled: Databricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.bridges.snapshot import registry, same, snapshot

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", own_server.token)
    first = bridges.run_import(own_server.client, "", "databricks://")
    assert (first.imported, first.skipped, first.failed, first.notes) == (8, 0, [], []), first
    assert any(each["status"] == 200 and "/cloud/" in each["path"] for each in filled.calls("GET"))
    there, here = snapshot("databricks"), snapshot(own_server.url)
    assert set(named(here)) == {"vision", "gone", "plain"}
    same(named(here), named(there))
    same(registry(own_server.url), registry("databricks"))
    again = bridges.run_import(own_server.client, "databricks", "databricks://")
    assert (again.imported, again.skipped, again.completed, again.failed) == (0, 8, 0, []), again
    same(snapshot(own_server.url), here)


def local(server: Running, name: str = "shapes", count: int = 2) -> list[str]:
    """Some runs of ours with files, points and large parameters."""
    call = server.client.call
    experiment = call(experiments.CREATE, experiments.Create(name)).experiment_id
    found = []
    for number in range(count):
        info = call(runs.CREATE, runs.Create(experiment, "ada", f"run {number}", 1_700_000_000_000 + number)).run.info
        points = [Metric("loss", 1 / (step + 1), 1_700_000_000_000 + step, step) for step in range(700)]
        params = [Param(f"p{index}", "x" * 6000) for index in range(100)] if number == 0 else [Param("n", str(number))]
        tags = [Tag(f"t{index}", "y" * 5000) for index in range(99)] if number == 0 else [Tag("a/b", 'c "d"')]
        call(runs.LOG_BATCH, runs.LogBatch(info.run_id, [*points, Metric("nan", "NaN", 7, -1)], params, tags))
        for path, content in {"notes.txt": b"", "deep/er/weights.bin": bytes(range(256)) * 100}.items():
            put(server, info.artifact_uri, path, content)
        call(runs.UPDATE, runs.Update(info.run_id, status="FINISHED", end_time=1_700_000_009_000))
        found.append(info.run_id)
    return found


def put(server: Running, root: str, path: str, content: bytes) -> None:
    source = server.folder / "put"
    source.write_bytes(content)
    server.client.upload(root, path, source)


def trees(uri: str, folder: str = HOME) -> dict[str, Any]:
    """A snapshot by names alone: MLflow gives ids of its own."""
    from tests.bridges.snapshot import snapshot
    from tests.bridges.test_export import by_name

    return by_name(named(snapshot(uri), folder))


def test_runs_are_exported_once_and_come_back(
    own_server: Running, workspace: Databricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.bridges.snapshot import same

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", own_server.token)
    local(own_server)
    target = "databricks:///Shared/team/deep"
    first = bridges.run_export(own_server.client, "databricks", target)
    assert (first.imported, first.skipped, first.failed, first.notes) == (2, 0, [], []), first
    there = trees("databricks", "/Shared/team/deep")["shapes"]
    same(there, trees(own_server.url)["shapes"])
    assert set(there["runs"]["run 0"]["files"]) == {"notes.txt", "deep/er/weights.bin"}
    again = bridges.run_export(own_server.client, "databricks", target)
    assert (again.imported, again.skipped, again.completed, again.failed) == (0, 2, 0, []), again
    back = bridges.run_import(own_server.client, "databricks", f"{target}/shapes")  # Under the ids that they have there.
    assert back.imported == 2 and not back.failed
    named_so = own_server.client.call(experiments.GET_BY_NAME, experiments.GetByName("shapes")).experiment
    assert len(own_server.client.call(runs.SEARCH, runs.Search([named_so.experiment_id])).runs) == 4


@pytest.mark.parametrize("cloud", ["AWS_PRESIGNED_URL", "AZURE_SAS_URI", "AZURE_ADLS_GEN2_SAS_URI", "GCP_SIGNED_URL"])
def test_files_go_to_every_cloud_whole_and_in_parts(
    workspace: Databricks, cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from noria.databricks import files, signed
    from noria.databricks.workspace import MLFLOW, Workspace

    workspace.order("set", cloud=cloud)
    asked = Workspace()
    made = asked.post(f"{MLFLOW}/experiments/create", name=f"{HOME}/files-{cloud}")
    info = asked.post(f"{MLFLOW}/runs/create", experiment_id=made["experiment_id"])["run"]["info"]
    root = files.root(asked, info["artifact_uri"])
    assert root is not None and dict(root.files()) == {}
    sent = {"empty": b"", "a b/größe#1.txt": b"x" * 999, "deep/er/large": bytes(range(256)) * 40}
    for limit in (signed.PART, 4_000):  # As they are, and then in parts.
        monkeypatch.setattr(signed, "PART", limit)
        monkeypatch.setattr(signed, "_ONCE", limit)
        for path, content in sent.items():
            (tmp_path / "file").write_bytes(content)
            root.send(path, tmp_path / "file")
        assert dict(root.files()) == {path: len(content) for path, content in sent.items()}
        for path, content in sent.items():
            root.fetch(path, len(content), tmp_path / "back")
            assert (tmp_path / "back").read_bytes() == content, (path, limit)
    assert bool(workspace.calls("complete-multipart-upload")) == (cloud == "AWS_PRESIGNED_URL")
    with pytest.raises(NotFound):
        root.fetch("nosuch", 7, tmp_path / "back")


def test_files_lie_in_volumes_and_on_dbfs_too(workspace: Databricks, tmp_path: Path) -> None:
    from noria.databricks import files
    from noria.databricks.workspace import Workspace

    (tmp_path / "file").write_bytes(bytes(range(256)) * 9000)  # More than one block of DBFS.
    for uri in ("dbfs:/Volumes/main/ml/files/1/r/artifacts", "dbfs:/somewhere/r/artifacts"):
        root = files.root(Workspace(), uri)
        assert root is not None and dict(root.files()) == {}
        workspace.fault("add-block", "lost")
        root.send("deep/file", tmp_path / "file")
        root.fetch("deep/file", 256 * 9000, tmp_path / "back")
        assert dict(root.files()) == {"deep/file": 256 * 9000}
        assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()
    assert files.root(Workspace(), "s3://bucket/x") is None


def test_what_came_from_there_goes_back_to_itself(own_server: Running, filled: Databricks) -> None:
    bridges.run_import(own_server.client, "databricks", f"databricks://{HOME}/vision")
    filled.order("calm")
    done = bridges.run_export(own_server.client, "databricks", "databricks://")
    assert done.imported == 0 and not done.failed and not filled.calls("runs/create"), done


def test_models_are_registered_there_with_stages_and_without_aliases(
    own_server: Running, workspace: Databricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.bridges.snapshot import registry

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", own_server.token)
    env = {**os.environ, "PYTHONWARNINGS": "ignore", "MLFLOW_DISABLE_TELEMETRY": "true"}
    text = SOURCE.read_text().replace('"digits"', '"forms"')
    subprocess.run(
        [sys.executable, "-c", text, own_server.url, "1"], env=env, check=True, capture_output=True, cwd=own_server.folder
    )
    done = bridges.run_export(own_server.client, "databricks", "databricks:///Shared/forms")
    assert not done.failed and done.imported == 3, done
    assert any("Aliases of model 'forms'" in note for note in done.notes)
    mine, theirs = registry(own_server.url)["forms"], registry("databricks")["forms"]
    assert set(theirs["versions"]) == set(mine["versions"]) == {"1", "3"} and theirs["versions"]["1"][0] == "Production"
    assert (theirs["description"], theirs["tags"]) == (mine["description"], mine["tags"])
    again = bridges.run_export(own_server.client, "databricks", "databricks:///Shared/forms")
    assert (again.imported, again.completed, again.failed) == (0, 0, []) and registry("databricks")["forms"] == theirs


def test_troubles_on_the_way_cost_time_and_nothing_else(
    own_server: Running, workspace: Databricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.bridges.snapshot import same

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", own_server.token)
    local(own_server, "troubled", 1)
    workspace.fault("experiments/create", "lost")
    workspace.fault("runs/create", "lost")
    workspace.fault("runs/log-batch", "429", wait=3)
    workspace.fault("runs/log-batch", "503", after=1)
    workspace.fault("credentials-for-write", "reset")
    workspace.fault("PUT /cloud/", "lost")
    done = bridges.run_export(own_server.client, "databricks", "databricks:///Shared/troubled")
    assert (done.imported, done.failed) == (1, []), done
    batches = workspace.calls("log-batch")
    limited = next(index for index, each in enumerate(batches) if each["status"] == 429)
    assert batches[limited + 1]["time"] - batches[limited]["time"] >= 3, "Retry-After was not waited for"
    there = trees("databricks", "/Shared/troubled")["troubled"]
    assert len(there["runs"]) == 1
    same(there, trees(own_server.url)["troubled"])

    workspace.order("set", cut=1)
    workspace.fault("runs/search", "503")
    workspace.fault("GET /cloud/", "reset")
    back = bridges.run_import(own_server.client, "databricks", "databricks:///Shared/troubled/troubled", experiment="copy")
    assert back.imported == 1 and not back.failed, back
    same(trees(own_server.url)["copy"]["runs"]["run 0"]["files"], there["runs"]["run 0"]["files"])


def test_a_token_that_expires_in_the_middle_is_told_and_the_next_call_completes(
    own_server: Running, workspace: Databricks, noria: Noria
) -> None:
    local(own_server, "expiring", 2)
    workspace.fault("credentials-for-write", "401", times=1000, after=1)
    cut = noria("runs", "export", "--to", "databricks:///Shared/expiring", "-x", "expiring", check=False)
    assert cut.returncode == 1 and "does not let this token in" in cut.stderr and "Traceback" not in cut.stderr
    workspace.order("calm")
    whole = noria("runs", "export", "--to", "databricks:///Shared/expiring", "-x", "expiring")
    assert "completed" in whole.stderr and not workspace.calls("runs/create"), whole.stderr
    assert len(trees("databricks", "/Shared/expiring")["expiring"]["runs"]) == 2


def test_an_old_workspace_has_no_logged_models(own_server: Running, filled: Databricks) -> None:
    filled.order("set", old=True)
    done = bridges.run_import(own_server.client, "databricks", f"databricks://{HOME}/vision")
    assert done.imported == 3 and not done.failed, done


def test_machines_log_in_by_oauth_and_people_by_profile(workspace: Databricks, monkeypatch: pytest.MonkeyPatch) -> None:
    from noria.databricks.workspace import Workspace

    file = Path(os.environ["DATABRICKS_CONFIG_FILE"])
    file.write_text(f"[team]\nhost = {workspace.url}\ntoken = dapi-eve\n")
    assert Workspace().user == "ada@example.org"
    assert Workspace("team").user == "eve@example.org", "what was named goes before the environment"
    assert os.environ["DATABRICKS_TOKEN"] == "dapi-ada"
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", CLIENT)
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", SECRET)
    assert (Workspace().user, Workspace().home) == (CLIENT, f"/Users/{CLIENT}")


def test_who_may_not_come_in_is_told_in_a_sentence(
    own_server: Running, workspace: Databricks, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local(own_server, "../up", 1)
    local(own_server, "fine", 1)
    own = workspace.env()
    blocked = tmp_path / "blocked" / "databricks"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('no databricks')")
    paths = os.pathsep.join([str(blocked.parent), os.environ.get("PYTHONPATH", "")])
    for words, env, says in (
        (
            ("import", "databricks://"),
            {"DATABRICKS_HOST": "", "DATABRICKS_TOKEN": ""},
            "Nothing says which Databricks workspace is meant",
        ),
        (
            ("import", "databricks://"),
            own | {"DATABRICKS_TOKEN": "dapi-nobody"},
            "does not let this token in: Invalid access token. Make a new",
        ),
        (("import", "databricks://nosuch"), {}, "and so no profile 'nosuch'. `databricks configure --profile nosuch` makes it."),
        (("import", "databricks://a:b"), own, "is no workspace. Write databricks://PROFILE"),
        (("import", "databricks:///Users/nobody/x"), own, "There is no experiment '/Users/nobody/x'"),
        (("import", f"databricks:///{'0' * 32}"), own, "Databricks refused it"),
        (("export", "databricks:///Users/eve@example.org", "-x", "fine"), own, "does not have Manage permissions"),
        (("export", "databricks:///Users/ada@example.org/y"), own, "cannot be a path in a workspace"),
        (("import", "databricks://"), own | {"PYTHONPATH": paths}, "pip install 'noria[databricks]'"),
    ):
        for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        done = noria("runs", *words, check=False, **{key: value for key, value in env.items() if value})
        assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr, (words, done.stderr)


@pytest.mark.parametrize(("name", "there"), [
    ("digits", "/Users/me/digits"), ("a/b c", "/Users/me/a/b c"), ("/Shared/x", "/Shared/x"), ("größe@1", "/Users/me/größe@1"),
])  # fmt: skip
def test_names_go_both_ways(name: str, there: str) -> None:
    from noria.databricks.names import Names

    names = Names("/Users/me")
    assert names.there(name) == there and names.here(there) == name and names.here("/Users/mean/x") == "/Users/mean/x"
    for bad in ("", "a//b", "../x", "/a/./b"):
        with pytest.raises(Invalid):
            names.there(bad)
