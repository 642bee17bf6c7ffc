"""noria models copy, move and gc: what comes along, what goes, and what never does."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noria.automation.collect import Policy, choose
from noria.client.http import Server
from noria.errors import Conflict, NotFound
from noria.models import copy as copying
from noria.models import digests
from noria.models.fetch import fetch
from noria.types import Endpoint, ModelVersion, Tag
from noria.wire import logged_models, registry, runs, serving
from tests.conftest import Running

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "other")
    yield running
    running.stop()


def model_of_a_run(server: Server, tmp_path: Path) -> tuple[str, Path]:
    """A run that has kept a model's files at `model`."""
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "data" / "weights.bin").write_bytes(os.urandom(5000))
    info = server.call(runs.CREATE, runs.Create()).run.info
    for path in ("MLmodel", "data/weights.bin"):
        server.upload(info.artifact_uri, f"model/{path}", folder / path)
    return info.run_id, folder


def versions(server: Server, name: str, count: int, run_id: str = "") -> None:
    try:
        server.call(registry.CREATE, registry.CreateModel(name))
    except Conflict:
        pass
    source = f"runs:/{run_id}/model" if run_id else "s3://bucket/x"
    for number in range(count):
        tags, text = [Tag("k", str(number + 1))], "a text"
        server.call(registry.CREATE_VERSION, registry.CreateVersion(name, source, run_id, tags, "", text))


def numbers(server: Server, name: str) -> list[str]:
    found = server.call(registry.SEARCH_VERSIONS, registry.SearchVersions(f"name = '{name}'", order_by=["version_number ASC"]))
    return [each.version for each in found.model_versions]


def test_a_copy_within_a_server_shares_the_files_and_says_whence(own_server: Running, noria: Command, tmp_path: Path) -> None:
    run_id, folder = model_of_a_run(own_server.client, tmp_path)
    versions(own_server.client, "dev", 1, run_id)
    own_server.client.call(registry.PROMOTE, registry.Promote("dev", "1"))
    assert noria("models", "copy", "models:/dev/Producción", "net").stdout == "1\n"
    made = json.loads(noria("models", "copy", "models:/dev/1", "net", "--json").stdout)
    assert (made["version"], made["current_stage"], made["source"]) == ("2", "None", "models:/dev/1")
    assert (made["run_id"], made["tags"], made["description"]) == (run_id, [{"key": "k", "value": "1"}], "a text")
    fetched = fetch(own_server.client, "models:/net/2").folder
    assert (fetched / "data/weights.bin").read_bytes() == (folder / "data/weights.bin").read_bytes()
    line = own_server.client.call(registry.HISTORY, registry.History("net", action="copied")).changes[0]
    assert (line.version, line.evidence) == ("2", {"from": "models:/dev/1"})


def test_a_copy_to_another_server_has_the_same_bytes_and_runs_nowhere_by_name_only(
    own_server: Running, other: Running, noria: Command, tmp_path: Path
) -> None:
    run_id, folder = model_of_a_run(own_server.client, tmp_path)
    versions(own_server.client, "dev", 1, run_id)
    asked = ("models", "copy", "models:/dev/1", "net", "--to", other.url)
    assert noria(*asked, NORIA_TO_TOKEN=other.token).stdout == "1\n"
    made = other.client.call(registry.GET_VERSION, registry.VersionKey("net", "1")).model_version
    tags = {each.key: each.value for each in made.tags}
    assert tags == {"k": "1", copying.FROM_TAG: f"{own_server.url}/models:/dev/1"} and made.description == "a text"
    fetched = fetch(other.client, "models:/net/1").folder
    assert (fetched / "data/weights.bin").read_bytes() == (folder / "data/weights.bin").read_bytes()
    line = other.client.call(registry.HISTORY, registry.History("net", action="copied")).changes[0]
    assert line.evidence["digests"]["data/weights.bin"] == digests.of_file(folder / "data/weights.bin")
    refused = noria(*asked, NORIA_TO_TOKEN="wrong", check=False)
    assert refused.returncode and "token" in refused.stderr and "Traceback" not in refused.stderr


def test_a_copy_that_arrives_damaged_makes_no_version(
    own_server: Running, other: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, _ = model_of_a_run(own_server.client, tmp_path)
    versions(own_server.client, "dev", 1, run_id)
    upload = Server.upload

    def damaged(self: Server, root: str, path: str, source: Path) -> None:
        bad = tmp_path / "bad"
        bad.write_bytes(source.read_bytes()[:-1] + b"!")
        upload(self, root, path, bad)

    monkeypatch.setattr(Server, "upload", damaged)
    with pytest.raises(Conflict, match=r"is not at .* what it was here"):
        copying.copy(own_server.client, "models:/dev/1", "net", other.client)
    with pytest.raises(NotFound):
        other.client.call(registry.GET, registry.Name("net"))
    (model,) = other.client.call(logged_models.SEARCH, logged_models.Search(["0"])).models
    assert model.info.status == "LOGGED_MODEL_UPLOAD_FAILED"


def test_a_version_moves_only_if_nobody_needs_it_where_it_is(
    own_server: Running, other: Running, noria: Command, tmp_path: Path
) -> None:
    run_id, _ = model_of_a_run(own_server.client, tmp_path)
    versions(own_server.client, "dev", 2, run_id)
    own_server.client.call(registry.SET_ALIAS, registry.SetAlias("dev", "best", "1"))
    refused = noria("models", "move", "models:/dev/1", "net", check=False)
    assert refused.returncode and "dev 1 is @best, so it is kept" in refused.stderr
    with pytest.raises(NotFound):
        own_server.client.call(registry.GET, registry.Name("net"))
    assert noria("models", "move", "models:/dev/2", "net", "--to", other.url, NORIA_TO_TOKEN=other.token).stdout == "1\n"
    assert numbers(own_server.client, "dev") == ["1"] and numbers(other.client, "net") == ["1"]
    assert (fetch(own_server.client, f"runs:/{run_id}/model").folder / "MLmodel").is_file()
    line = own_server.client.call(registry.HISTORY, registry.History("dev", action="deleted")).changes[0]
    assert line.reason == f"Moved to {other.url}/models:/net/1."


def test_gc_deletes_by_policy_and_never_what_somebody_needs(own_server: Running, noria: Command, tmp_path: Path) -> None:
    client = own_server.client
    run_id, _ = model_of_a_run(client, tmp_path)
    versions(client, "net", 9, run_id)
    for version in ("1", "2", "3"):
        client.call(registry.PROMOTE, registry.Promote("net", version))
    client.call(registry.TRANSITION, registry.Transition("net", "4", "Staging"))
    client.call(registry.SET_ALIAS, registry.SetAlias("net", "best", "5"))
    client.call(serving.PUT, serving.Put(Endpoint("e", "models:/net/6", "http://127.0.0.1:1", "RUNNING", 0, "net", "6")))
    time.sleep(0.01)
    said = json.loads(noria("models", "gc", "--keep", "2", "--older-than", "0s", "--dry-run", "--json").stdout)
    kept = {each["version"]: each["kept"] for each in said["versions"]}
    assert list(kept) == ["1", "2", "6", "7"] and [version for version, why in kept.items() if why] == ["6"]
    assert kept["6"] == "net 6 is served at http://127.0.0.1:1, so it is kept. Archive it first, or stop what serves it."
    assert len(numbers(client, "net")) == 9
    assert "Nothing is old enough" in noria("models", "gc").stderr
    assert (
        "1 version, 0 bytes of files"
        in noria("models", "gc", "net", "--keep", "8", "--older-than", "0s", "--stage", "archivado").stderr
    )
    assert numbers(client, "net") == list("23456789")
    noria("models", "gc", "--keep", "2", "--older-than", "0s")
    assert numbers(client, "net") == list("345689")
    assert (fetch(client, f"runs:/{run_id}/model").folder / "data/weights.bin").is_file()
    lines = client.call(registry.HISTORY, registry.History("net", action="deleted")).changes
    assert [line.version for line in lines] == ["7", "2", "1"] and lines[0].reason == "Collected: older than the 2 newest."
    refused = noria("models", "gc", "--stage", "Production", check=False)
    assert refused.returncode and "What stands in Production is not collected" in refused.stderr


def test_files_go_only_with_the_last_version_that_has_them(
    own_server: Running, other: Running, noria: Command, tmp_path: Path
) -> None:
    run_id, _ = model_of_a_run(own_server.client, tmp_path)
    versions(own_server.client, "dev", 1, run_id)
    copying.copy(own_server.client, "models:/dev/1", "net", other.client)
    copying.copy(other.client, "models:/net/1", "net")
    root = str(other.client.call(registry.DOWNLOAD_URI, registry.VersionKey("net", "1")).artifact_uri)
    root = (
        other.client.call(logged_models.GET, logged_models.Key(root.removeprefix("models:/"))).model.info.artifact_uri
        if "m-" in root[:10]
        else root
    )
    client, everything = other.client, Policy(1, 2**62)
    from noria.automation.collect import collect

    (first,) = collect(client, everything, dry_run=False)
    assert (first.version, first.size) == ("1", 0) and len(list(client.tree(root))) == 2
    (would,) = collect(client, Policy(0, 2**62), dry_run=True)
    assert would.version == "2" and would.size > 5000 and len(list(client.tree(root))) == 2
    (last,) = collect(client, Policy(0, 2**62), dry_run=False)
    assert last == would and not list(client.tree(root)) and not numbers(client, "net")


def test_the_policy_is_a_function_of_what_there_is() -> None:
    found = [
        ModelVersion(
            "m", str(number), 0, number, "Archived" if number % 2 else "None", "s", "READY", aliases=["a"] * (number == 3)
        )
        for number in range(1, 12)
    ]
    assert [each.version for each in choose(found, Policy(5, 100))] == ["1", "2", "4", "5", "6"]
    assert [each.version for each in choose(found[::-1], Policy(5, 4))] == ["1", "2"]
    assert [each.version for each in choose(found, Policy(0, 100, ("Archived",)))] == ["1", "5", "7", "9", "11"]
    assert choose(found, Policy(11, 100)) == []
