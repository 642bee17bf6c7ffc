"""MLflow's wire as its server reads and answers it, to a client of nobody's: raw HTTP."""

from __future__ import annotations

import gzip
import json
from typing import Any
from uuid import uuid4

import pytest

from noria.types import Metric, Tag
from noria.wire import experiments, logged_models, registry, runs
from tests.conftest import Running
from tests.server.test_bad_input import send

API = "/api/2.0/mlflow"


def ask(server: Running, call: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
    """call: method and path below the API, or the whole path. Status and JSON of the answer."""
    method, path = call.split(" ", 1)
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    status, content = send(server, method, path if path.startswith("/") else f"{API}/{path}", raw, **headers)
    return status, json.loads(content)


def refused(server: Running, call: str, body: Any, status: int, message: str, **headers: str) -> None:
    got, fields = ask(server, call, body, **headers)
    assert got == status and message in fields["message"], (got, fields)
    assert "Traceback" not in fields["message"] and fields["error_code"]


@pytest.fixture
def experiment(server: Running) -> str:
    return server.client.call(experiments.CREATE, experiments.Create(f"e-{uuid4().hex}")).experiment_id


@pytest.fixture
def run(server: Running, experiment: str) -> str:
    return server.client.call(runs.CREATE, runs.Create(experiment)).run.info.run_id


def of(server: Running, run: str) -> Any:
    return server.client.call(runs.GET, runs.Get(run)).run


def test_names_come_in_either_spelling_and_numbers_in_any_form(server: Running, run: str) -> None:
    for body in (
        {"runId": run, "key": "a", "value": "0.5", "timestamp": "7", "step": 3.0, "nobody": {"knows": "this"}},
        {"run_uuid": run, "key": "b", "value": 1, "timestamp": 7.0, "step": None, "modelId": None},
    ):
        assert ask(server, "POST runs/log-metric", body) == (200, {})
    batch = {"runId": run, "metrics": [{"key": "c", "value": "NaN", "timestamp": 1, "datasetName": "d"}], "params": None}
    assert ask(server, "POST runs/log-batch", batch) == (200, {})
    assert ask(server, "POST runs/update", {"runId": run, "status": 3, "endTime": "99"})[1]["run_info"]["status"] == "FINISHED"
    found = of(server, run)
    assert [(m.key, m.timestamp, m.step) for m in found.data.metrics] == [("a", 7, 3), ("b", 7, 0), ("c", 1, 0)]
    assert found.info.end_time == 99
    twice = {"run_id": run, "runId": run, "key": "x", "value": "y"}
    refused(server, "POST runs/set-tag", twice, 400, "Request specifies both 'run_id' and 'runId'")
    assert ask(server, "POST runs/set-tag", json.dumps(json.dumps({"run_id": run, "key": "x", "value": "y"})).encode()) == (
        200,
        {},
    )


def test_a_get_may_have_a_body(server: Running, experiment: str) -> None:
    assert ask(server, "GET experiments/get", {"experimentId": experiment})[1]["experiment"]["experiment_id"] == experiment


M = {"key": "m", "value": 1, "timestamp": 1}
WRONG = [
    ("runs/log-metric", {**M, "run_id": 31}, "Invalid value 31 for parameter 'run_id' supplied"),
    ("runs/log-metric", {**M, "run_id": 31, "key": 5}, "Invalid value 31 for parameter 'run_id' supplied"),
    ("runs/log-parameter", {"run_id": 31, "key": "k", "value": 41}, "Invalid value 31 for parameter 'run_id' supplied"),
    ("runs/set-tag", {"run_id": 31, "key": "k", "value": 41}, "Invalid value 31 for parameter 'run_id' supplied"),
    ("runs/log-metric", {**M, "key": None}, "Missing value for required parameter 'key'"),
    ("runs/log-metric", {**M, "key": ""}, "Missing value for required parameter 'key'"),
    ("runs/log-metric", {**M, "value": "foo"}, "Invalid value \"foo\" for parameter 'value' supplied"),
    ("runs/log-metric", {**M, "value": True}, "Invalid value true for parameter 'value' supplied"),
    ("runs/log-metric", {**M, "step": 2**63}, "It does not fit into 64 bits"),
    ("runs/log-metric", {**M, "step": -(2**63) - 1}, "It does not fit into 64 bits"),
    ("runs/log-metric", {**M, "timestamp": -1}, "Timestamp must be a nonnegative long"),
    ("runs/log-metric", {**M, "key": "a;b"}, "Invalid value \"a;b\" for parameter 'name' supplied: Names may only contain"),
    ("runs/log-metric", {**M, "key": "../a"}, "This name would resolve to '../a'"),
    ("runs/log-metric", {**M, "key": "x" * 251}, "'Metric name' exceeds the maximum length of 250 characters"),
    ("runs/log-parameter", {"key": "p", "value": 5}, "Invalid value 5 for parameter 'value' supplied"),
    ("runs/log-batch", {"metrics": "foo"}, "Invalid value \"foo\" for parameter 'metrics' supplied"),
    ("runs/log-batch", {"metrics": [M, {"key": "m", "value": 1}]}, "Missing value for required parameter 'metrics[1].timestamp'"),
    ("runs/log-batch", {"metrics": [M, {**M, "key": "a;b"}]}, "Invalid value \"a;b\" for parameter 'metrics[1].name'"),
    ("runs/log-batch", {"metrics": [M, {**M, "timestamp": -5}]}, "Invalid value -5 for parameter 'metrics[1].timestamp'"),
    ("runs/log-batch", {"params": [{"key": "p"}, {"key": "p"}]}, "Duplicate parameter keys have been submitted: ['p']"),
    ("runs/log-batch", {"tags": [{"value": "x"}]}, "Missing value for required parameter 'tags[0].key'"),
    ("runs/log-batch", {"metrics": [M] * 1001}, "at most 1000 metrics. Got 1001 metrics."),
    ("runs/log-batch", {"params": [{"key": f"p{k}"} for k in range(101)]}, "at most 100 params. Got 101 params."),
    ("runs/log-batch", {"metrics": [M] * 1000, "tags": [{"key": "t"}]}, "at most 1000 metrics, params, and tags. Got 1001"),
    ("runs/log-inputs", {"datasets": [{"dataset": {"name": "n" * 501, "digest": "d"}}]}, "'name' exceeds the maximum length of 500"),
    ("runs/log-inputs", {"datasets": [{"dataset": {"name": "n", "digest": "d" * 37}}]}, "'digest' exceeds the maximum length of 36"),
    ("runs/outputs", {}, "Missing value for required parameter 'models'"),
    ("runs/log-model", {"model_json": "nope"}, "Malformed model info."),
    ("runs/log-model", {"model_json": "{}"}, "Model json is missing mandatory fields"),
    ("runs/set-tag", {"key": "k", "value": "a\0b"}, "NUL character"),
    ("runs/set-tag", {"key": "k", "value": "a\ud800b"}, "half of a surrogate pair"),
    ("runs/update", {"status": "ASLEEP"}, "Invalid value \"ASLEEP\" for parameter 'status' supplied"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "message"), WRONG)
def test_what_is_wrong_is_said_in_mlflows_words_and_nothing_is_kept(
    server: Running, run: str, path: str, body: dict[str, Any], message: str
) -> None:
    refused(server, f"POST {path}", {"run_id": run, **body}, 400, message)
    found = of(server, run)
    assert found.data.metrics == found.data.params == found.inputs.dataset_inputs == []
    assert [tag.key for tag in found.data.tags] == ["mlflow.runName"] and found.info.status == "RUNNING"


@pytest.mark.parametrize(
    "call",
    ["POST runs/log-metric", "POST runs/log-parameter", "POST runs/set-tag", "POST runs/log-batch", "POST runs/update",
     "POST runs/delete", "GET runs/get", "GET metrics/get-history", "GET artifacts/list"],
)  # fmt: skip
def test_of_all_that_is_missing_the_run_is_named_first(server: Running, call: str) -> None:
    refused(server, call, {}, 400, "Missing value for required parameter 'run_id'.")
    refused(server, call, {"run_id": None, "runUuid": None}, 400, "Missing value for required parameter 'run_id'.")


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"null", b"5", b'"x"', b'{"run_id": "\xff"}', b"\xff\xfe", b'{"key": ' + b"[" * 100_000,
     b'{"run_id":"x","key":"m","timestamp":1,"value":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
     b'{"run_id":"x","key":"m","value":1e999,"timestamp":1}', b'{"run_id":"x","key":"m","value":1,"timestamp":1,"step":7.9}'],
)  # fmt: skip
@pytest.mark.parametrize("path", ["runs/log-metric", "runs/update", "logged-models/m-x/params", "experiments/search"])
def test_bodies_that_are_no_request(server: Running, path: str, body: bytes) -> None:
    status, fields = ask(server, f"POST {path}", body)
    assert status in (400, 404) and fields["error_code"] and "Traceback" not in fields["message"], fields


def test_bodies_may_be_packed(server: Running, run: str) -> None:
    packed = gzip.compress(json.dumps({"run_id": run, "key": "k", "value": "v"}).encode())
    assert ask(server, "POST runs/set-tag", packed, **{"Content-Encoding": "gzip"}) == (200, {})
    for body, encoding, status, message in (
        (packed[:-4], "gzip", 400, "not one whole stream"),
        (b"no", "gzip", 400, "The body is not gzip"),
        (packed, "br", 400, "Send gzip, or none"),
        (gzip.compress(b" " * (65 << 20)), "gzip", 413, "over 32 MiB when unpacked"),
    ):
        refused(server, "POST runs/set-tag", body, status, message, **{"Content-Encoding": encoding})
    refused(server, "POST runs/set-tag", packed, 400, "Content-Type must be", **{"Content-Type": "text/plain"})


def test_a_page_of_another_site_changes_nothing(server: Running, experiment: str) -> None:
    body = {"experiment_id": experiment}
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        refused(server, "POST runs/create", body, 403, "Cross-origin request blocked", **headers)
        assert ask(server, f"GET experiments/get?experiment_id={experiment}", **headers)[0] == 200
    for headers in ({"Origin": server.url}, {"Sec-Fetch-Site": "same-origin", "Origin": "https://proxy.example"}):
        assert ask(server, "POST runs/create", body, **headers)[0] == 200
    assert ask(server, "POST runs/create", body, **{"X-MLFLOW-WORKSPACE": "other"})[0] == 200


def test_what_mlflow_has_and_noria_has_not_is_no_json_to_its_clients(server: Running) -> None:
    for path in (
        "/api/3.0/mlflow/traces",
        "/v1/traces",
        "/graphql",
        "/api/2.0/mlflow/gateway-proxy",
        "/api/3.0/mlflow/scorers/list",
    ):
        status, content = send(server, "POST", path, b"{}")
        assert status in (404, 405) and not content.startswith(b"{"), path


def test_paths_that_lead_elsewhere_are_answered_in_mlflows_words(server: Running, run: str) -> None:
    for path in (
        f"/api/2.0/mlflow/artifacts/list?run_id={run}&path=../up",
        f"/get-artifact?run_id={run}&path=../up",
        "//model-versions/get-artifact?name=model&version=1&path=../up",
        "/ajax-api/2.0/mlflow/logged-models/m-1/artifacts/files?artifact_file_path=../up",
        "/api/2.0/mlflow/logged-models/m-1/artifacts/directories?artifact_directory_path=../up",
    ):
        status, fields = ask(server, f"GET {path}")
        assert (status, fields["error_code"], fields["message"]) == (400, "INVALID_PARAMETER_VALUE", "Invalid path")
        assert fields["error_class"] == "INVALID_PARAMETER_VALUE"


def test_the_life_of_an_experiment(server: Running, experiment: str, run: str) -> None:
    other = server.client.call(runs.CREATE, runs.Create(experiment)).run.info.run_id
    server.client.call(runs.DELETE, runs.Get(other))
    call = {"experiment_id": experiment}
    refused(server, "POST experiments/restore", call, 404, "No Experiment with id")
    assert ask(server, "POST experiments/delete", call) == (200, {})
    assert {of(server, each).info.lifecycle_stage for each in (run, other)} == {"deleted"}
    refused(server, "POST experiments/delete", call, 404, "No Experiment with id")
    refused(server, "POST experiments/update", {**call, "new_name": "x"}, 400, "Cannot rename a non-active experiment.")
    refused(server, "POST runs/create", call, 400, "must be in the 'active' state. Current state is deleted.")
    refused(server, "POST runs/set-tag", {"run_id": run, "key": "k"}, 400, f"The run {run} must be in the 'active' state.")
    assert ask(server, "POST experiments/restore", call) == (200, {})
    assert {of(server, each).info.lifecycle_stage for each in (run, other)} == {"active"}
    refused(
        server, "GET experiments/get?experiment_id=abc", None, 400, "Invalid experiment ID 'abc'. Experiment ID must be a valid"
    )
    refused(server, "GET experiments/get?experiment_id=4242", None, 404, "No Experiment with id=4242 exists")
    refused(
        server, "POST experiments/search", {}, 400, "Invalid value 0 for parameter 'max_results' supplied. It must be a positive"
    )
    refused(server, "POST experiments/search", {"max_results": 50_001}, 400, "It must be at most 50000")
    refused(server, "POST experiments/create", {"name": "x" * 501}, 400, "'name' exceeds the maximum length of 500 characters")
    refused(
        server, "POST experiments/set-experiment-tag", {**call, "key": "k", "value": "x" * 20_001}, 400, "maximum length of 20000"
    )


@pytest.mark.parametrize(
    ("location", "root"),
    [("", "mlflow-artifacts:/{id}/"), ("s3://bucket/a?key=1", "s3://bucket/a/"), ("/shared/x/", "/shared/x/"),
     ("file:///shared/x", "file:///shared/x/"), ("some location", "{cwd}/some location/")],
)  # fmt: skip
def test_clients_may_keep_artifacts_where_they_reach(server: Running, location: str, root: str) -> None:
    made = server.client.call(experiments.CREATE, experiments.Create(f"e-{uuid4().hex}", location)).experiment_id
    run = server.client.call(runs.CREATE, runs.Create(made)).run.info
    start, _, query = run.artifact_uri.partition("?")
    assert start.endswith(root.format(id=made, cwd="") + f"{run.run_id}/artifacts") and query == location.partition("?")[2]
    if location:  # This server reads its own scheme alone, whatever a client calls a location.
        refused(server, f"GET artifacts/list?run_id={run.run_id}", None, 501, "outside of this server")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("runs:/x/y", "Artifact location cannot be a runs:/ URI"),
        ("s3://b/x#frag", "'artifact_location' URL can't include fragments or params."),
        ("mlflow-artifacts:/../x", "leads elsewhere with '..'"),
        ("mlflow-artifacts:/%2e%2e/x", "leads elsewhere with '..'"),
        ("x" * 2049, "Invalid artifact path length. The length of the artifact path cannot be greater than 2048 characters."),
    ],
)
def test_locations_that_are_refused(server: Running, location: str, message: str) -> None:
    asked = {"name": f"e-{uuid4().hex}", "artifact_location": location}
    refused(server, "POST experiments/create", asked, 400, message)
    assert ask(server, "POST experiments/create", asked)[1]["error_code"] == "INVALID_PARAMETER_VALUE"


def test_a_page_of_a_history_has_a_size(server: Running, run: str) -> None:
    assert ask(server, "POST runs/log-batch", {"run_id": run, "metrics": [{**M, "step": step} for step in range(3)]}) == (200, {})
    for size, status in ((0, 400), (-1, 400), (25_001, 400), (2, 200), (25_000, 200)):
        assert ask(server, f"GET metrics/get-history?run_id={run}&metric_key=m&max_results={size}")[0] == status
    assert len(ask(server, f"GET metrics/get-history?run_id={run}&metric_key=m")[1]["metrics"]) == 3


def test_params_are_written_once_and_the_name_is_never_empty(server: Running, run: str) -> None:
    both = {"run_id": run, "params": [{"key": "p", "value": "1"}, {"key": "q", "value": "2"}]}
    for _ in range(2):
        assert ask(server, "POST runs/log-batch", both) == (200, {})
    other = {"run_id": run, "params": [{"key": "p", "value": "3"}, {"key": "q", "value": "4"}], "metrics": [M]}
    refused(
        server, "POST runs/log-batch", other, 400, "Params were already logged='[{'key': 'p', 'old_value': '1', 'new_value': '3'}"
    )
    one = {"run_id": run, "params": [{"key": "p", "value": "3"}, {"key": "q", "value": "2"}]}
    refused(
        server,
        "POST runs/log-batch",
        one,
        400,
        f"already logged='[{{'key': 'p', 'old_value': '1', 'new_value': '3'}}]' for run ID='{run}'",
    )
    alone = {"run_id": run, "key": "p", "value": "3"}
    refused(server, "POST runs/log-parameter", alone, 400, "Param with key='p' was already logged with value='1' for run ID=")
    assert of(server, run).data.metrics == []
    name = of(server, run).info.run_name
    for call, body in (("set-tag", {"key": "mlflow.runName", "value": ""}), ("update", {"run_name": ""})):
        assert ask(server, f"POST runs/{call}", {"run_id": run, **body})[0] == 200
    assert of(server, run).info.run_name == name


def test_what_was_said_first_of_a_data_set_stands(server: Running, experiment: str, run: str) -> None:
    other = server.client.call(runs.CREATE, runs.Create(experiment)).run.info.run_id

    def log(run_id: str, source: str, context: str) -> None:
        tags = [{"key": "mlflow.data.context", "value": context}]
        data = {"name": "n", "digest": "d", "source_type": "t", "source": source}
        assert ask(server, "POST runs/log-inputs", {"run_id": run_id, "datasets": [{"tags": tags, "dataset": data}]}) == (200, {})

    log(run, "first", "train")
    log(run, "second", "test")
    log(other, "third", "eval")
    for run_id, context in ((run, "train"), (other, "eval")):
        (found,) = of(server, run_id).inputs.dataset_inputs
        assert found.dataset.source == "first" and found.tags == [Tag("mlflow.data.context", context)]
    _, found = ask(server, "POST /ajax-api/2.0/mlflow/experiments/search-datasets", {"experiment_ids": [experiment]})
    assert {each["context"] for each in found["dataset_summaries"]} == {"train", "eval"}
    refused(server, "POST experiments/search-datasets", {}, 400, "must specify at least one experiment_id")


def test_data_sets_come_back_in_the_order_in_which_they_were_read(server: Running, run: str) -> None:
    for names in ("cab", "zca"):
        data = [{"dataset": {"name": name, "digest": "d", "source_type": "t", "source": "s"}} for name in names]
        assert ask(server, "POST runs/log-inputs", {"run_id": run, "datasets": data}) == (200, {})
    assert [each.dataset.name for each in of(server, run).inputs.dataset_inputs] == ["c", "a", "b", "z"]


def test_a_model_of_an_old_client_is_listed_in_a_tag(server: Running, run: str) -> None:
    model = {
        "artifact_path": "a",
        "flavors": {"f": {"config": 1, "x": 2}},
        "utc_time_created": "t",
        "run_id": run,
        "signature": "s",
    }
    for _ in range(2):
        assert ask(server, "POST runs/log-model", {"run_id": run, "model_json": json.dumps(model)}) == (200, {})
    tags = {tag.key: tag.value for tag in of(server, run).data.tags}
    listed = json.loads(tags["mlflow.log-model.history"])
    assert len(listed) == 2 and listed[0]["flavors"] == {"f": {"x": 2}} and "signature" not in listed[0]
    assert list(listed[0]) == ["run_id", "artifact_path", "utc_time_created", "flavors"]  # Clients compare the tag as a text.


@pytest.fixture
def model(server: Running, experiment: str, run: str) -> logged_models.Info:
    return server.client.call(logged_models.CREATE, logged_models.Create(experiment, "m", source_run_id=run)).model.info


def named(server: Running, **fields: str) -> dict[str, str]:
    name = f"r-{uuid4().hex}"
    server.client.call(registry.CREATE, registry.CreateModel(name))
    return {"name": name, **fields}


def test_a_source_belongs_to_whoever_names_it(server: Running, experiment: str, run: str, model: logged_models.Info) -> None:
    uri, name = of(server, run).info.artifact_uri, named(server)
    first = {**name, "source": f"{uri}/model", "run_id": run}
    good = [
        (first, first["source"]),
        ({"source": f"runs:/{run}/model", "run_id": run}, f"{uri}/model"),
        ({"source": f"models:/{model.model_id}", "model_id": model.model_id}, model.artifact_uri),
        ({"source": f"{model.artifact_uri}/x", "model_id": model.model_id}, f"{model.artifact_uri}/x"),
        ({"source": "s3://bucket/x"}, "s3://bucket/x"),
        ({"source": f"models:/{name['name']}/1"}, first["source"]),
        ({"source": f"models:/{name['name']}/latest"}, first["source"]),
    ]
    for body, location in good:
        status, made = ask(server, "POST model-versions/create", {**name, **body})
        assert status == 200, made
        version = made["model_version"]
        at = ask(server, f"GET model-versions/get-download-uri?name={name['name']}&version={version['version']}")[1][
            "artifact_uri"
        ]
        assert at == location and version["run_id"] in (run, "")
    tags = server.client.call(logged_models.GET, logged_models.Key(model.model_id)).model.info.tags
    assert [entry["version"] for entry in json.loads(tags[0].value)] == [3, 4]
    for source, extra in (
        (f"{uri}/model", {}), (f"{uri}/model", {"run_id": "x"}), (f"{uri}/../x", {"run_id": run}), (f"{uri}/%2e%2e/x", {"run_id": run}),
        (f"{uri}x", {"run_id": run}), ("mlflow-artifacts:/0", {"run_id": run}), (f"runs:/{run}/m", {}), (f"runs:/{run}/m", {"run_id": "x"}),
        (f"models:/{model.model_id}", {}), (f"models:/{model.model_id}", {"run_id": run}), (model.artifact_uri, {"run_id": run}),
        ("/etc/passwd", {}), ("file:///etc/passwd", {}), ("/etc", {"run_id": run}), ("/etc", {"model_id": model.model_id}),
        ("s3://b/x/../y", {}), ("s3://b/x%2f..%2fy", {}), ("http://h/api/2.0/mlflow-artifacts/artifacts/0/x", {"run_id": run}),
        ("models://h/m/1", {}), ("models:/a/b/c", {}), ("models:/m-0", {"model_id": "m-0"}), ("dummy-source", {}),
        (f"models:/{name['name']}/1", {"run_id": "other"}),
    ):  # fmt: skip
        refused(server, "POST model-versions/create", {**name, "source": source, **extra}, 400, "Invalid model version source")


REGISTRY = [
    ("POST registered-models/create", {"name": "a/b"}, "Invalid model name 'a/b'. Names cannot contain '/' or ':'."),
    ("POST registered-models/create", {"name": ".."}, "This name would resolve to '..'"),
    ("POST registered-models/create", {"name": " "}, "Missing value for required parameter 'name'"),
    ("POST registered-models/rename", {"new_name": " "}, "Missing value for required parameter 'new_name'"),
    ("POST registered-models/set-tag", {"key": "k", "value": "x" * 100_001}, "'value' exceeds the maximum length of 100000"),
    ("POST registered-models/alias", {"alias": "LATEST", "version": "1"}, "'latest' alias name (case insensitive) is reserved."),
    ("POST registered-models/alias", {"alias": "v1", "version": "1"}, "Version alias name 'v1' is reserved."),
    ("POST registered-models/alias", {"alias": "a b", "version": "1"}, "Invalid alias name: 'a b'."),
    ("POST registered-models/alias", {"alias": "a", "version": "x"}, "Parameter 'version' must be an integer, got 'x'."),
    ("POST registered-models/get-latest-versions", {"stages": ["foo"]}, "Invalid Model Version stage: foo."),
    ("POST model-versions/transition-stage", {"version": "1", "stage": "Archived", "archive_existing_versions": True},
     "because 'Archived' is not an Active stage"),
    ("GET registered-models/search", {"order_by": ["creation_timestamp"]}, "Invalid order by key 'creation_timestamp' specified"),
    ("GET registered-models/search", {"max_results": 1001}, "It must be at most 1000"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "body", "message"), REGISTRY)
def test_what_the_registry_refuses(server: Running, call: str, body: dict[str, Any], message: str) -> None:
    model = named(server)
    server.client.call(registry.CREATE_VERSION, registry.CreateVersion(model["name"], "s3://bucket/x"))
    refused(server, call, {**model, **body}, 400, message)


def test_prompts_are_models_that_only_those_find_who_ask(server: Running) -> None:
    model, tag = named(server), {"key": "mlflow.prompt.is_prompt", "value": "true"}
    prompt = {"name": f"p-{uuid4().hex}", "tags": [tag]}
    assert ask(server, "POST registered-models/create", prompt)[0] == 200
    made = {**prompt, "source": "dummy-source", "tags": [tag, {"key": "mlflow.prompt.text", "value": "hi {{x}}"}]}
    assert ask(server, "POST model-versions/create", made)[0] == 200
    refused(server, "POST model-versions/create", {**made, "source": "s3://x/y"}, 400, "Invalid prompt source")
    refused(server, "POST registered-models/create", {"name": prompt["name"]}, 400, "already taken by a prompt")
    refused(server, "POST registered-models/create", prompt, 400, f"Prompt (name={prompt['name']}) already exists.")
    server.client.call(registry.CREATE_VERSION, registry.CreateVersion(model["name"], "s3://bucket/x"))
    key = "tags.`mlflow.prompt.is_prompt`"
    for text, names in (
        ("", {model["name"]}), (f"{key} = 'true'", {prompt["name"]}), (f"{key} != 'false'", {prompt["name"]}),
        (f"{key} != 'true'", {model["name"]}), (f"{key} = 'false'", {model["name"]}),
    ):  # fmt: skip
        text = f"name IN ('{model['name']}', '{prompt['name']}')" + (f" AND {text}" if text else "")
        found = server.client.call(registry.SEARCH, registry.Search(text)).registered_models
        assert {each.name for each in found} == names, text
        versions = server.client.call(registry.SEARCH_VERSIONS, registry.SearchVersions(text)).model_versions
        assert {each.name for each in versions} == names, text


def test_versions_aliases_and_stages(server: Running) -> None:
    name = named(server)["name"]
    for source in ("s3://b/1", "s3://b/2", "s3://b/3"):
        server.client.call(registry.CREATE_VERSION, registry.CreateVersion(name, source))
    for version, stage in (("1", "staging"), ("2", "Production")):
        assert ask(server, "POST model-versions/transition-stage", {"name": name, "version": version, "stage": stage})[0] == 200
    latest = ask(server, "POST registered-models/get-latest-versions", {"name": name, "stages": ["STAGING", "None"]})[1]
    assert sorted(each["version"] for each in latest["model_versions"]) == ["1", "3"]
    assert ask(server, "POST registered-models/alias", {"name": name, "alias": "best", "version": "2"})[0] == 200
    assert ask(server, f"GET registered-models/alias?name={name}&alias=latest")[1]["model_version"]["version"] == "3"
    order = [
        each.version
        for each in server.client.call(registry.SEARCH_VERSIONS, registry.SearchVersions(f"name = '{name}'")).model_versions
    ]
    assert order[0] == "2" or order[0] == "1"  # The one that was touched last.
    assert ask(server, "DELETE model-versions/delete", {"name": name, "version": "2"}) == (200, {})
    refused(server, f"GET registered-models/alias?name={name}&alias=best", None, 400, "Registered model alias best not found.")
    refused(
        server, f"GET model-versions/get?name={name}&version=2", None, 404, f"Model Version (name={name}, version=2) not found"
    )
    refused(
        server, "GET model-versions/get?name=nobodys&version=1", None, 404, "Model Version (name=nobodys, version=1) not found"
    )
    refused(server, "GET model-versions/get?name=nobodys&version=x", None, 400, "Parameter 'version' must be an integer, got 'x'")
    assert ask(server, "POST model-versions/create", {"name": name, "source": "s3://b/4"})[1]["model_version"]["version"] == "4"
    assert ask(server, "DELETE registered-models/delete", {"name": name}) == (200, {})
    refused(
        server, f"GET model-versions/get?name={name}&version=4", None, 404, f"Model Version (name={name}, version=4) not found"
    )


def test_points_that_name_a_model_are_the_models_too(server: Running, run: str, model: logged_models.Info) -> None:
    about = {"timestamp": 1, "model_id": model.model_id, "dataset_name": "d", "dataset_digest": "g"}
    batch = {
        "run_id": run,
        "metrics": [{"key": "acc", "value": 0.9, **about}, {"key": "acc", "value": 0.8, **about, "timestamp": 2}, M],
    }
    for _ in range(2):  # Once more is not twice.
        assert ask(server, "POST runs/log-batch", batch) == (200, {})
    assert ask(server, "POST runs/log-metric", {"run_id": run, "key": "inf", "value": "Infinity", **about}) == (200, {})
    found = server.client.call(logged_models.GET, logged_models.Key(model.model_id)).model.data.metrics
    assert found[:2] == [Metric("acc", value, time, 0, "d", "g", model.model_id, run) for value, time in ((0.9, 1), (0.8, 2))]
    assert [point.key for point in found] == ["acc", "acc", "inf"] and float(found[2].value) == 1.7976931348623157e308
    assert [point.key for point in of(server, run).data.metrics] == ["acc", "inf", "m"]
    refused(server, "POST runs/log-metric", {"run_id": run, **M, "model_id": "m-0"}, 404, "Logged model with ID 'm-0' not found.")
    half = {"key": "half", "value": 1, **about, "dataset_digest": None}  # No client of MLflow's could read the model then.
    says = "Both dataset_name and dataset_digest must be provided if one is provided"
    refused(server, "POST runs/log-metric", {"run_id": run, **half}, 400, says)
    refused(server, "POST runs/log-batch", {"run_id": run, "metrics": [M, half]}, 400, says)
    assert [point.key for point in of(server, run).data.metrics] == ["acc", "inf", "m"]
    assert ask(server, f"DELETE logged-models/{model.model_id}") == (200, {})
    refused(server, f"GET logged-models/{model.model_id}", None, 404, f"Logged model with ID '{model.model_id}' not found.")
    assert ask(server, f"GET logged-models/{model.model_id}?allow_deleted=true")[0] == 200
