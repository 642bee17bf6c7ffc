"""The same runs in MLflow's own store and in a server of ours, and the same searches of both, through MLflow's client here."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from noria.store import experiments, runs
from noria.store.store import Store
from noria.types import Dataset, DatasetInput, Metric, Param, Tag
from noria.wire import runs as wire
from tests.conftest import Running, require

RUNS, SEARCHES = 200, 200
VALUES = [-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, math.nan]
TEXTS = ["", "a", "A", "ab", "aB", "100%", "a_b", "[a]", "a*", "é", "0.1", "10", "9"]
PATTERNS = ["a%", "%b", "_", "%", "A_", "%a%", "[a]", "a*", "a?", "10_%", "a\\b", "é", "É"]
QUOTED = "params.`{0}`", 'param."{0}"', "parameters.{0}"


class Made(list[dict[str, Any]]):
    """Runs as both stores are given them."""

    def __init__(self, chosen: random.Random) -> None:
        for number in range(RUNS):
            sets = chosen.sample(
                [("digits", "1", "train"), ("digits", "2", "eval"), ("Words", "1", None)], chosen.choice([0, 0, 1, 2])
            )
            self.append({
                "uuid": UUID(int=chosen.getrandbits(128), version=4), "name": chosen.choice(["x", "X", "run 1", f"r{number}"]),
                "user": chosen.choice(["ada", "bob", ""]), "start": 1000 + chosen.randrange(8),
                "end": chosen.choice([None, 1004, 2000]), "status": chosen.choice(["FINISHED", "FAILED"]), "deleted": chosen.random() < 0.1,
                "metrics": {key: [chosen.choice(VALUES) for _ in range(chosen.choice([1, 3]))] for key in _some(chosen, "m", "loss/val", "m n")},
                "params": {key: chosen.choice(TEXTS) for key in _some(chosen, "p", "q", "deep.er")},
                "tags": {key: chosen.choice(TEXTS) for key in _some(chosen, "t", "u v")}, "datasets": sets,
            })  # fmt: skip


def _some(chosen: random.Random, *keys: str) -> list[str]:
    return [key for key in keys if chosen.random() < 0.6]


def fill_theirs(store: Any, made: Made, patch: pytest.MonkeyPatch) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag
    from mlflow.store.tracking import sqlalchemy_store

    for run in made:
        with patch.context() as only:
            only.setattr(sqlalchemy_store.uuid, "uuid4", lambda run=run: run["uuid"])
            store.create_run("0", run["user"], run["start"], [], run["name"])
        uuid = run["uuid"].hex
        points = [Metric(key, value, step, step) for key, values in run["metrics"].items() for step, value in enumerate(values)]
        store.log_batch(uuid, points, [Param(*p) for p in run["params"].items()], [RunTag(*t) for t in run["tags"].items()])
        inputs = [DatasetInput(Dataset(name, digest, "local", "x"), [InputTag("mlflow.data.context", context)] if context else [])
                  for name, digest, context in run["datasets"]]  # fmt: skip
        if inputs:
            store.log_inputs(uuid, inputs)
        if run["end"]:
            store.update_run_info(uuid, RunStatus.from_string(run["status"]), run["end"], None)
        if run["deleted"]:
            store.delete_run(uuid)


def fill_ours(store: Store, made: Made) -> None:
    def fill(conn: Any) -> None:
        experiments.seed(conn)
        for run in made:
            uuid = runs.insert_run(conn, run["uuid"].hex, 0, run["name"], run["user"], run["start"], {})
            points = [
                Metric(key, value, step, step) for key, values in run["metrics"].items() for step, value in enumerate(values)
            ]
            params, tags = [Param(*p) for p in run["params"].items()], [Tag(*t) for t in run["tags"].items()]
            runs.log_batch(conn, wire.LogBatch(uuid, points, params, tags))
            inputs = [DatasetInput(Dataset(name, digest, "local", "x"), [Tag("mlflow.data.context", context)] if context else [])
                      for name, digest, context in run["datasets"]]  # fmt: skip
            runs.log_inputs(conn, wire.LogInputs(uuid, inputs))
            if run["end"]:
                runs.change(conn, wire.Update(uuid, "", run["status"], run["end"]))
            if run["deleted"]:
                runs.remove(conn, wire.Get(uuid))

    store.write(fill).result()


class Questions:
    """Filters and orders of MLflow's language, and now and then what it refuses."""

    def __init__(self, chosen: random.Random, made: Made) -> None:
        self.chosen, self.made = chosen, made

    def filter(self) -> str:
        clauses = [self.clause() for _ in range(self.chosen.choice([0, 1, 1, 2, 3]))]
        return self.chosen.choice([" and ", " AND ", "  And\n"]).join(clauses)

    def clause(self) -> str:
        pick, chosen = self.chosen.choice, self.chosen
        op = pick(["=", "!=", "LIKE", "ilike"])
        text = pick(PATTERNS if "ike" in op.lower() else TEXTS)
        quoted = pick([f"'{text}'", f'"{text}"'])
        ids = ", ".join(f"'{run['uuid'].hex}'" for run in chosen.sample(self.made, 3))
        return pick([
            f"{pick(['metrics', 'metric'])}.`{pick(['m', 'loss/val', 'm n'])}` {pick(['=', '!=', '<', '<=', '>', '>='])} {pick(['0', '1.0', '0.5', '-1', '1e0'])}",
            f"{pick(QUOTED).format(pick(['p', 'q', 'deep.er']))} {op} {quoted}",
            f"{pick(['tags', 'tag'])}.`{pick(['t', 'u v'])}` {op} {quoted}",
            f"{pick(['params.p', 'tags.t', 'params.q'])} {pick(['IS NULL', 'is not null'])}",
            f"{pick(['run_name', 'attributes.run_name', 'attr.`Run name`', 'user_id', 'run.status'])} {op} {pick(['x', 'X', 'FINISHED', 'ada', 'r%', 'run 1'])!r}",
            f"{pick(['start_time', 'attribute.end_time', 'created'])} {pick(['=', '!=', '<', '<=', '>', '>='])} {pick(['1003', '1004', '2000'])}",
            f"{pick(['run_id', 'attributes.run_id'])} {pick(['IN', 'not in'])} ({ids})",
            f"{pick(['dataset', 'datasets'])}.{pick(['name', 'digest', 'context'])} {pick(['=', '!=', 'LIKE', 'ILIKE'])} {pick(['digits', 'W%', '1', 'train', 'EVAL'])!r}",
            f"datasets.{pick(['name', 'context'])} IN ('digits', 'train')",
        ])  # fmt: skip

    def order(self) -> list[str]:
        fields = ["metrics.m", "metric.`loss/val`", "metrics.`m n`", "params.p", "params.`deep.er`", "tags.`u v`", "tag.t", self.chosen.choice(["start_time", "attribute.created"]), "end_time",
                  "attributes.status", "run_name", "user_id", "artifact_uri", "run_id"]  # fmt: skip
        return [
            f"{field}{self.chosen.choice(['', ' ASC', ' DESC', ' desc'])}"
            for field in self.chosen.sample(fields, self.chosen.choice([0, 1, 1, 2]))
        ]


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any, Made]]:
    """MLflow's store in a file of SQLite, MLflow's client of our server, and what lies in both."""
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.utils.rest_utils import MlflowHostCreds

    made = Made(random.Random(11))
    theirs = SqlAlchemyStore(f"sqlite:///{tmp_path}/mlflow.db", "mlflow-artifacts:/")
    with theirs.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA synchronous=OFF")  # Of the one connection that its pool lends.
    fill_theirs(theirs, made, monkeypatch)
    (tmp_path / "home").mkdir()
    store = Store(tmp_path / "home" / "noria.db")
    fill_ours(store, made)
    store.close()
    server = Running(tmp_path / "home")
    yield theirs, RestStore(lambda: MlflowHostCreds(server.url, token=server.token)), made
    server.stop()
    theirs.engine.dispose()


@pytest.mark.mlflow
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own.
def test_searches_find_what_mlflow_finds_in_its_order(both: tuple[Any, Any, Made]) -> None:
    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException

    theirs, ours, made = both
    questions, answered = Questions(random.Random(5), made), 0
    for number in range(SEARCHES):
        text, order, view = (
            questions.filter(),
            questions.order(),
            (ViewType.ACTIVE_ONLY, ViewType.ALL, ViewType.DELETED_ONLY)[number % 3],
        )
        size = questions.chosen.choice([10, 40])

        def search(store: Any, text: str = text, order: list[str] = order, view: Any = view, size: int = size) -> list[Any]:
            found, token = [], None
            while True:
                page = store.search_runs(["0"], text, view, size, order, token)
                found += [run.info.run_id for run in page]
                token = page.token
                if not token or len(found) > 30:
                    return found

        wanted = search(theirs)
        assert search(ours) == wanted, (text, order)
        answered += bool(wanted)
    assert answered > SEARCHES / 2
    for wrong in ("metrics.m = 'a'", "params.p = 1", "params.p > 'a'", "foo = 'a'", "start_time = 'a'", "run_id IN ()", "params.p", "foo.p = 'a'",
                  "datasets.size = 'a'", "status = 5", "metrics.m LIKE 'a'", "datasets.name > 'a'", "run_id IN (1)"):  # fmt: skip
        codes = []
        for store in (theirs, ours):
            with pytest.raises(MlflowException) as raised:
                store.search_runs(["0"], wrong, ViewType.ALL, 10, [], None)
            codes.append(raised.value.error_code)
        assert codes[0] == codes[1], wrong
