"""The store: groups, history, migrations."""

from __future__ import annotations

import math
import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from noria.errors import Invalid, NotFound, WrongVersion
from noria.store import database, experiments, jobs, logged_models, metrics, migrations, rows, run_histories, runs, schema, spools
from noria.store.store import Store
from noria.types import JobSpec, Metric, Param, Tag
from noria.wire import jobs as jobs_wire
from noria.wire import logged_models as logged_models_wire
from noria.wire import runs as wire
from noria.wire import spools as spools_wire
from tests.conftest import new_database, searched

RELEASED = sorted((Path(__file__).parent / "released").glob("*.sql"))


@pytest.fixture
def store(database: Path | str) -> Iterator[Store]:
    opened = Store(database)
    opened.write(experiments.seed).result()
    yield opened
    opened.close()


def new_run(store: Store) -> str:
    return store.write(lambda conn: runs.create(conn, wire.Create())).result().run.info.run_id


@pytest.fixture
def file_store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "noria.db")
    yield opened
    opened.close()


def test_the_migrations_make_the_schema_that_a_new_database_has(file_store: Store, tmp_path: Path) -> None:
    migrated = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    with migrated.begin() as connection:
        migrations.upgrade(connection)
    statements = []
    for engine in (migrated, file_store._engine):
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
            rows = connection.exec_driver_sql(
                "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'"
            )
            statements.append({name: sorted(re.findall(r"\w+", sql)) for name, sql in rows})
    assert statements[0] == statements[1]
    assert ScriptDirectory.from_config(migrations._config()).get_current_head() == schema.HEAD


_SHAPE = (
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE '%%_pk%%'",
    "SELECT table_name, column_name, is_nullable, generation_expression FROM information_schema.columns "
    "WHERE table_schema = 'public' AND table_name != 'alembic_version'",
    "SELECT trigger_name, event_object_table, event_manipulation, action_statement, action_condition FROM information_schema.triggers",
)


def test_a_postgresql_of_the_first_release_is_brought_up_to_what_a_new_one_is(postgres: str) -> None:
    url = new_database(postgres)
    engine = database.connect(url, power=True)
    shapes = []
    with engine.begin() as connection:
        shapes.append([set(map(tuple, connection.exec_driver_sql(query))) for query in _SHAPE])
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
        migrations.upgrade(connection)
        shapes.append([set(map(tuple, connection.exec_driver_sql(query))) for query in _SHAPE])
    for new, brought_up in zip(*shapes, strict=True):
        assert new - brought_up == brought_up - new == set()
    store = Store(url)
    store.write(experiments.seed).result()
    run = new_run(store)
    for value in ("1", "2"):
        store.write(lambda conn, value=value: runs.set_tag(conn, wire.SetTag("k", value, run))).result()  # type: ignore[misc]
        (found,) = searched(store, wire.Search(["0"], f"tags.k = '{value}'")).runs
        assert {tag.key: tag.value for tag in found.data.tags}["k"] == value
    store.close()


@pytest.mark.parametrize("release", RELEASED, ids=lambda path: path.stem)
def test_a_database_of_every_release_before_is_brought_up_with_all_that_it_holds(release: Path, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "noria.db") as made:
        made.executescript(release.read_text())
    made.close()
    store = Store(tmp_path / "noria.db")
    found = searched(store, wire.Search(["1"], order_by=["start_time"])).runs
    assert [run.info.run_name for run in found] == ["run-0", "run-1"]
    assert found[1].info.status == "FINISHED" and found[1].inputs.dataset_inputs[0].dataset.name == "digits"
    assert {(tag.key, tag.value) for tag in found[0].data.tags} >= {("kind", "demo"), ("a", "b")}
    assert found[0].data.params[0].value == "0.1"
    # The first run's curve is whole; the second was rewound to step 4, and logged that again, twice.
    curves = [store.read(lambda conn, run=run: run_histories.curve(conn, wire.Curve(run.info.run_id, "loss"))) for run in found]  # type: ignore[misc]
    assert curves[0].values == [1 / (step + 1) for step in range(6)]
    assert curves[1].steps == [0, 1, 2, 3, 4] and curves[1].values[4] == 0.5
    assert {metric.key: metric.value for metric in found[1].data.metrics} == {"acc": "NaN", "loss": 0.5}
    (model,) = store.read(lambda conn: logged_models.search(conn, logged_models_wire.Search(["1"]))).models
    assert (model.info.name, model.info.status, model.info.model_type) == ("net", "LOGGED_MODEL_READY", "kind")
    assert (model.info.tags, model.data.params) == ([Tag("t", "1")], [Param("p", "2")])
    store.close()
    assert Store(tmp_path / "noria.db").close() is None


def test_a_database_of_a_newer_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "noria.db")
    store.write(lambda conn: conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")).result()
    store.close()
    with pytest.raises(WrongVersion, match="written by a newer Noria"):
        Store(tmp_path / "noria.db")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noria.db").write_bytes(b"not a database" * 100)
    with pytest.raises(Invalid, match="is not a database of Noria"):
        Store(tmp_path / "noria.db")


def test_an_error_undoes_its_own_work_and_nobody_elses(store: Store) -> None:
    run = new_run(store)

    def half(conn):  # type: ignore[no-untyped-def]
        runs.set_tag(conn, wire.SetTag("half", "1", run))
        raise NotFound("no")

    futures = [
        store.write(lambda conn: runs.set_tag(conn, wire.SetTag("before", "1", run))),
        store.write(half),
        store.write(lambda conn: runs.set_tag(conn, wire.SetTag("after", "1", run))),
    ]
    assert [type(future.exception()) for future in futures] == [type(None), NotFound, type(None)]
    tags = {tag.key for tag in store.read(lambda conn: runs.get(conn, wire.Get(run))).run.data.tags}
    assert {"before", "after"} <= tags and "half" not in tags


def log(store: Store, run: str, *points: tuple[str, float, int, int]) -> None:
    store.write(lambda conn: runs.log_batch(conn, wire.LogBatch(run, [Metric(*point) for point in points]))).result()


def test_the_latest_is_the_greatest_step_then_time_then_value(store: Store) -> None:
    run = new_run(store)
    log(store, run, ("a", 3.0, 10, 2), ("a", 1.0, 99, 1))
    log(store, run, ("a", 5.0, 10, 2), ("a", 4.0, 10, 2), ("a", 9.0, 50, 0))
    (metric,) = store.read(lambda conn: runs.get(conn, wire.Get(run))).run.data.metrics
    assert (metric.value, metric.timestamp, metric.step) == (5.0, 10, 2)


def test_the_same_point_twice_is_one_and_nan_too(store: Store) -> None:
    run = new_run(store)
    for _ in range(3):
        log(store, run, ("a", 1.0, 5, 0), ("a", math.nan, 6, 1), ("a", 2.0, 5, 0))
    points = store.read(lambda conn: run_histories.get_history(conn, wire.GetHistory("a", run))).metrics
    assert [(point.value, point.step) for point in points] == [(1.0, 0), (2.0, 0), ("NaN", 1)]


def test_a_rewind_supersedes_what_came_before_it(store: Store) -> None:
    run = new_run(store)
    log(store, run, *(("loss", float(step), step, step) for step in range(10)))
    key = store.read(lambda conn: runs.row(conn, run)).id
    store.write(lambda conn: metrics.rewind(conn, key, 6)).result()
    assert store.read(lambda conn: runs.get(conn, wire.Get(run))).run.data.metrics[0].step == 5
    log(store, run, *(("loss", -float(step), 100 + step, step) for step in range(6, 8)))
    curve = store.read(lambda conn: run_histories.curve(conn, wire.Curve(run, "loss")))
    assert curve.steps == list(range(8)) and curve.values[5:] == [5.0, -6.0, -7.0]


def test_a_try_that_was_replaced_takes_nothing_from_the_one_after_it(store: Store) -> None:
    def says(attempt: int, *records: spools_wire.Record) -> None:
        header = spools_wire.Header(1, f"s{attempt}", "r1", "j1", attempt, 0, "h", 1, "1", 1)
        data = b"".join(map(spools_wire.frame, [header, *records]))
        store.write(lambda conn: spools.ship(conn, spools_wire.Ship(f"s{attempt}", 0, data))).result()

    says(2, spools_wire.Rewind(2), *(spools_wire.Log(step, 1.0, {"loss": 2.0}) for step in range(2, 6)))
    says(1, spools_wire.Log(1, 1.0, {"loss": 1.0}), spools_wire.Rewind(3), spools_wire.Log(3, 1.0, {"loss": 1.0}))
    curve = store.read(lambda conn: run_histories.curve(conn, wire.Curve("r1", "loss")))
    assert (curve.steps, curve.values) == ([1, 2, 3, 4, 5], [1.0, 2.0, 2.0, 2.0, 2.0])


def test_search_filters_orders_and_pages(store: Store) -> None:
    ids = []
    for index in range(5):
        run = new_run(store)
        ids.append(run)
        store.write(lambda conn, run=run, index=index: runs.log_param(conn, wire.LogParam("n", str(index), run))).result()  # type: ignore[misc]
        if index != 2:
            log(store, run, ("m", math.nan if index == 1 else float(index), 0, 0))

    def search(**query: object) -> list[str]:
        found = searched(store, wire.Search(["0"], **query))  # type: ignore[arg-type]
        return [ids.index(run.info.run_id) for run in found.runs]  # type: ignore[misc]

    assert search(filter="metrics.m >= 3", order_by=["params.n"]) == [3, 4]
    assert search(filter="params.n != '3'", order_by=["params.n DESC"]) == [4, 2, 1, 0]
    # Numbers first, then NaN, then those without the metric, in either direction.
    assert search(order_by=["metrics.m DESC"]) == [4, 3, 0, 1, 2]
    assert search(order_by=["metrics.m ASC"]) == [0, 3, 4, 1, 2]
    first = searched(store, wire.Search(["0"], max_results=3, order_by=["params.n"]))
    rest = searched(store, wire.Search(["0"], max_results=3, order_by=["params.n"], page_token=first.next_page_token))
    assert [ids.index(run.info.run_id) for run in first.runs + rest.runs] == [0, 1, 2, 3, 4] and rest.next_page_token == ""


def test_a_job_is_handed_to_one_agent_alone_and_cancelled_before_or_after(store: Store) -> None:
    def submit() -> str:
        return store.write(lambda conn: jobs.submit(conn, jobs_wire.Submit(JobSpec(["true"]), "ada"))).result().job.id

    def claim(agent: str, user: str = "ada") -> list[str]:
        work = store.write(lambda conn: jobs.claim(conn, jobs_wire.Claim(user, ["local"], agent))).result()
        return [job.id for job in work.claimed]

    def cancel(job_id: str) -> str:
        return store.write(lambda conn: jobs.cancel(conn, jobs_wire.Cancel(job_id))).result().jobs[0].state

    first, second = submit(), submit()
    assert cancel(second) == "CANCELLED"
    assert claim("a", user="bob") == [] and claim("") == []
    assert claim("a") == [first] and claim("b") == [] and claim("a") == [first]
    assert cancel(first) == "QUEUED"  # Its agent may be submitting it this very moment.
    store.write(lambda conn: jobs.report(conn, jobs_wire.Report(first, "SUBMITTED", scheduler_id="7"))).result()
    work = store.write(lambda conn: jobs.claim(conn, jobs_wire.Claim("ada", ["local"], "a"))).result()
    assert work.claimed == [] and work.cancel == [first]


def test_an_empty_shipment_of_an_unknown_spool_leaves_no_trace(store: Store) -> None:
    header = spools_wire.frame(spools_wire.Header(1, "s", "r1", "", 0, 0, "h", 1, "1", 1))
    log_frame = spools_wire.frame(spools_wire.Log(0, 1.0, {"x": 1.0}))

    def ship(offset: int, frames: bytes) -> tuple[int, str]:
        answer, run = store.write(lambda conn: spools.ship(conn, spools_wire.Ship("s", offset, frames))).result()
        return answer.offset, run

    assert ship(0, b"") == (0, "")
    assert ship(0, header) == (len(header), "r1")
    assert ship(len(header), log_frame) == (len(header + log_frame), "r1")
    assert ship(len(header), log_frame) == (len(header + log_frame), "")  # Sent twice, kept once.


def test_what_no_database_keeps_is_set_aside_and_what_follows_is_kept(store: Store) -> None:
    frames = [
        spools_wire.Header(1, "s", "r1", "", 0, 0, "h", 1, "1", 1),
        spools_wire.Params({"a": "nul \0 inside"}),
        spools_wire.Log(0, 1.0, {"two\nlines": 1.0}),
        spools_wire.Log(1, 1.0, {"loss": 1.0}),
    ]
    data = b"".join(map(spools_wire.frame, frames))
    offset, _ = store.write(lambda conn: spools.ship(conn, spools_wire.Ship("s", 0, data))).result()
    assert offset.offset == len(data)
    run = store.read(lambda conn: runs.get(conn, wire.Get("r1"))).run
    assert [metric.key for metric in run.data.metrics] == ["loss"]
    assert "noria.refused" in {tag.key for tag in run.data.tags}


def test_many_rows_at_once_keep_every_value(store: Store) -> None:
    extremes = [-(2**63), 0, 2**63 - 1]
    numbers = [None, 0.1, 5e-324, 1.7976931348623157e308, math.inf, -math.inf]
    uuid = new_run(store)

    def fill(conn: database.Connection) -> None:
        key = runs.row(conn, uuid, active=True).id
        found = [(key, f"ünï-{number}{at}", at, at, number, at, number, number, number) for at in extremes for number in numbers]
        rows.insert(conn, schema.latest, schema.latest.c.keys(), found)
        rows.insert(conn, schema.metric_log, ("run", "names", "body"), [(key, "", b""), (key, "a\nb", bytes(range(256)))])

    store.write(fill).result()
    with store._engine.connect() as conn:
        for key, step, value, first in conn.exec_driver_sql("SELECT key, step, value, first FROM latest"):
            assert key == f"ünï-{value}{step}" and first == value
        assert sorted(conn.exec_driver_sql("SELECT names, body FROM metric_log")) == [("", b""), ("a\nb", bytes(range(256)))]


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_what_is_no_number_of_a_database_is_refused_among_many_rows(store: Store, value: int) -> None:
    refused = store.write(lambda conn: rows.insert(conn, schema.mark, ("name", "value"), [("a", 1), ("b", value)]))
    with pytest.raises(Invalid):
        refused.result()
    assert store.read(lambda conn: conn.exec_driver_sql("SELECT count(*) FROM mark WHERE name IN ('a', 'b')").scalar()) == 0


def test_what_fails_in_a_group_takes_nothing_else_with_it(store: Store) -> None:
    """All that waits is done together: first as one, and where a part fails once more, each for itself."""
    held, made = threading.Event(), []

    def tagged(uuid: str, at: int) -> Any:
        def work(conn: database.Connection) -> None:
            runs.set_tag(conn, wire.SetTag(key="at", value=str(at), run_id=uuid))
            if at % 3 == 0:
                raise Invalid(f"{at} is refused.") if at % 2 else RuntimeError(f"{at} is a defect.")

        return store.write(work)

    for _ in range(3):
        uuids = [new_run(store) for _ in range(12)]
        first = store.write(lambda conn: held.wait(10))  # The others gather behind it.
        waiting = [tagged(uuid, at) for at, uuid in enumerate(uuids)]
        held.set()
        first.result()
        for at, future in enumerate(waiting):
            if at % 3 == 0:
                with pytest.raises(Exception, match=f"^{at} is"):
                    future.result()
            else:
                future.result()
        made += uuids
    kept = dict(store.read(lambda conn: conn.exec_driver_sql("SELECT uuid, value FROM tag JOIN run ON run.id = run WHERE key = 'at'")
                           .fetchall()))  # fmt: skip
    assert kept == {uuid: str(at % 12) for at, uuid in enumerate(made) if at % 12 % 3}
