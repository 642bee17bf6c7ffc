"""The registry part of the unmodified mlflow client: models, versions, stages, aliases, tags, search, files, copies and webhooks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from noria.wire import registry
from tests.conftest import Running, require, until
from tests.server.test_webhooks import ALL, Receiver, receiver  # noqa: F401 (a fixture)

pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def client(server: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An MlflowClient that gives its user's name beside the token."""
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "marta")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.token)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.set_tracking_uri(server.url)
        mlflow.set_registry_uri(server.url)
        yield mlflow.MlflowClient(server.url, server.url)
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"m {request.node.name[5:40]}"


def logged(tmp_path: Path) -> str:
    """The URI of a model that a run has kept; a small one, without what a flavor would ask about."""
    import mlflow

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: tests.server.loader\n")
    (folder / "data.bin").write_bytes(os.urandom(3000))
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(folder), "model")
    return f"runs:/{run.info.run_id}/model"


def actions(server: Running, name: str) -> list[tuple[str, str, str]]:
    found = server.client.call(registry.HISTORY, registry.History(name)).changes
    return [(line.action, line.version, line.user) for line in reversed(found)]


def test_the_life_of_a_model(server: Running, client: Any, name: str, tmp_path: Path) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    model = client.create_registered_model(name, {"team": "vision"}, "what it is")
    assert (model.name, model.tags, model.description, model.latest_versions) == (name, {"team": "vision"}, "what it is", [])
    with pytest.raises(MlflowException, match="already exists") as caught:
        client.create_registered_model(name)
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"
    uri = logged(tmp_path)
    first = mlflow.register_model(uri, name, tags={"k": "v"})
    assert (first.version, first.current_stage, first.run_id, first.tags) == ("1", "None", uri.split("/")[1], {"k": "v"})
    second = client.create_model_version(name, uri, first.run_id, description="again")
    assert (second.version, second.description, second.status) == ("2", "again", "READY")
    client.set_registered_model_tag(name, "a", "b")
    client.delete_registered_model_tag(name, "team")
    client.set_model_version_tag(name, "1", "size", "3")
    client.set_model_version_tag(name, stage="None", key="which", value="newest")
    client.delete_model_version_tag(name, "1", "k")
    client.set_registered_model_alias(name, "champion", "1")
    client.update_registered_model(name, "another text")
    client.update_model_version(name, "2", "other")
    assert client.get_model_version_by_alias(name, "champion").tags == {"size": "3"}
    assert client.get_model_version(name, "2").tags == {"which": "newest"}
    found = client.get_registered_model(name)
    assert (found.tags, found.aliases, found.description) == ({"a": "b"}, {"champion": "1"}, "another text")
    client.delete_registered_model_alias(name, "champion")
    with pytest.raises(MlflowException, match="alias champion not found"):
        client.get_model_version_by_alias(name, "champion")
    local = mlflow.artifacts.download_artifacts(f"models:/{name}/2", dst_path=str(tmp_path / "down"))
    assert Path(local, "data.bin").read_bytes() == (tmp_path / "model" / "data.bin").read_bytes()
    assert client.get_model_version_download_uri(name, "1").endswith("/artifacts/model")
    client.delete_model_version(name, "1")
    with pytest.raises(MlflowException, match="not found"):
        client.get_model_version(name, "1")
    client.rename_registered_model(name, f"{name} 2")
    assert [each.version for each in client.get_registered_model(f"{name} 2").latest_versions] == ["2"]
    client.delete_registered_model(f"{name} 2")
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model(f"{name} 2")
    kinds = [action for action, _, user in actions(server, f"{name} 2") if user == "marta"]
    assert kinds == [
        *[
            "created",
            "created",
            "created",
            "tag",
            "tag",
            "tag",
            "tag",
            "tag",
            "alias",
            "description",
            "description",
            "alias",
            "deleted",
            "renamed",
            "deleted",
        ]
    ]


def test_stages_by_the_names_that_tutorials_use(server: Running, client: Any, name: str, tmp_path: Path) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    client.create_registered_model(name)
    uri = logged(tmp_path)
    for _ in range(3):
        client.create_model_version(name, uri, uri.split("/")[1])
    assert client.transition_model_version_stage(name, "1", "Producción").current_stage == "Production"
    assert (
        client.transition_model_version_stage(name, "2", "produkcja", archive_existing_versions=True).current_stage
        == "Production"
    )
    assert client.transition_model_version_stage(name, "3", "PREPRODUCCION").current_stage == "Staging"
    stages = {each.version: each.current_stage for each in client.search_model_versions(f"name='{name}'")}
    assert stages == {"1": "Archived", "2": "Production", "3": "Staging"}
    for stage, version in (("Producción", "2"), ("Produkcja", "2"), ("archiwum", "1"), ("Preproducción", "3")):
        assert [each.version for each in client.get_latest_versions(name, [stage])] == [version]
        copied = client.create_model_version(name, f"models:/{name}/{stage}")
        assert copied.source == f"models:/{name}/{version}"
    assert Path(mlflow.artifacts.download_artifacts(f"models:/{name}/Producción"), "MLmodel").is_file()
    for ask in (
        lambda: client.transition_model_version_stage(name, "1", "Prod"),
        lambda: client.get_latest_versions(name, ["Prod"]),
    ):
        with pytest.raises(
            MlflowException, match=r"Invalid Model Version stage: Prod\. Value must be one of None, Staging"
        ) as caught:
            ask()
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    with pytest.raises(
        MlflowException, match="cannot archive existing model versions because 'Archivado' is not an Active stage"
    ):
        client.transition_model_version_stage(name, "1", "Archivado", archive_existing_versions=True)


def test_search(client: Any, name: str) -> None:
    for number in range(5):
        client.create_registered_model(f"{name} {number}", {"kind": "odd" if number % 2 else "even"})
        client.create_model_version(f"{name} {number}", "s3://bucket/x", tags={"n": str(number)})
    found = client.search_registered_models(f"name LIKE '{name} %' AND tags.kind = 'odd'", order_by=["name DESC"])
    assert [each.name[-1] for each in found] == ["3", "1"]
    page = client.search_registered_models(
        f"name ILIKE '{name.upper()} %'", max_results=3, order_by=["last_updated_timestamp ASC"]
    )
    rest = client.search_registered_models(
        f"name ILIKE '{name.upper()} %'", max_results=3, order_by=["last_updated_timestamp ASC"], page_token=page.token
    )  # fmt: skip
    assert [each.name[-1] for each in [*page, *rest]] == list("01234") and not rest.token
    versions = client.search_model_versions("tags.n = '4'", order_by=["version_number DESC"])
    assert [(each.name, each.version) for each in versions if each.name.startswith(name)] == [(f"{name} 4", "1")]


def test_a_version_is_copied_to_another_model(client: Any, name: str, tmp_path: Path) -> None:
    import mlflow

    version = mlflow.register_model(logged(tmp_path), name)
    client.set_model_version_tag(name, version.version, "k", "v")
    copied = client.copy_model_version(f"models:/{name}/1", f"{name} copy")
    assert (copied.version, copied.source, copied.run_id) == ("1", f"models:/{name}/1", version.run_id)
    again = client.copy_model_version(f"models:/{name}/1", f"{name} copy")
    assert again.version == "2"
    local = mlflow.artifacts.download_artifacts(f"models:/{name} copy/2", dst_path=str(tmp_path / "down"))
    assert Path(local, "data.bin").read_bytes() == (tmp_path / "model" / "data.bin").read_bytes()


def test_webhooks(client: Any, name: str, receiver: Receiver) -> None:  # noqa: F811
    made = client.create_webhook("hook", receiver.url, list(ALL), description="d", secret="sssh")
    assert (made.name, made.url, made.description, made.status, made.secret) == ("hook", receiver.url, "d", "ACTIVE", None)
    assert [str(event) for event in made.events] == ALL
    assert client.get_webhook(made.webhook_id).creation_timestamp == made.creation_timestamp
    assert made.webhook_id in [each.webhook_id for each in client.list_webhooks(max_results=10)]
    tested = client.test_webhook(made.webhook_id, "model_version_tag.set")
    assert (tested.success, tested.response_status, tested.response_body) == (True, 200, "heard")
    changed = client.update_webhook(made.webhook_id, name="other", events=["registered_model.created"], status="ACTIVE")
    assert (changed.name, changed.description, [str(event) for event in changed.events]) == (
        "other",
        "d",
        ["registered_model.created"],
    )
    client.create_registered_model(name)
    until(lambda: len(receiver.told) == 2)
    assert receiver.events == ["model_version_tag.set", "registered_model.created"]
    client.delete_webhook(made.webhook_id)
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=r"Webhook with ID .* not found"):
        client.get_webhook(made.webhook_id)
    with pytest.raises(MlflowException, match="Invalid webhook URL scheme"):
        client.create_webhook("hook", "ftp://example.org", ["registered_model.created"])
