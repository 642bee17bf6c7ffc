"""The registry: who stands where, who put it there, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from noria.errors import AlreadyExists, Conflict, Invalid, NotFound
from noria.store import changes, experiments, registering, registry, registry_search, stages
from noria.store.store import Store
from noria.types import Change
from noria.wire import registry as wire

Do = Callable[..., Any]


@pytest.fixture
def store(database: Path | str) -> Iterator[Store]:
    opened = Store(database)
    opened.write(experiments.seed).result()
    yield opened
    opened.close()


@pytest.fixture
def do(store: Store) -> Do:
    """Write one request, as ana."""
    return lambda work, request: store.write(lambda conn: work(conn, request, "ana")).result()


def history(store: Store, **asked: Any) -> list[Change]:
    return store.read(lambda conn: changes.history(conn, wire.History("net", **asked))).changes


def net(do: Do, versions: int) -> None:
    do(registering.create, wire.CreateModel("net"))
    for _ in range(versions):
        do(registering.create_version, wire.CreateVersion("net", "s3://bucket/net"))


def standing(store: Store, stage: str = "Production") -> list[str]:
    return [each.version for each in store.read(lambda conn: registry.latest(conn, wire.Latest("net", [stage]))).model_versions]


def test_a_promotion_archives_the_champion_and_says_who_and_why(store: Store, do: Do) -> None:
    net(do, 2)
    first = do(stages.promote, wire.Promote("net", "1"))
    assert (first.archived, first.model_version.current_stage, first.change.before) == ([], "Production", "None")
    second = do(stages.promote, wire.Promote("net", "2", champion="1", user="eva", reason="better", evidence={"p": 0.01}))
    assert second.archived == ["1"] and standing(store) == ["2"]
    promoted, archived = history(store)[:2]
    assert promoted == second.change
    assert (promoted.action, promoted.version, promoted.user, promoted.reason) == ("promoted", "2", "eva", "better")
    assert (promoted.before, promoted.after, promoted.evidence) == ("None", "Production", {"p": 0.01})
    assert (archived.action, archived.version, archived.before, archived.after) == ("archived", "1", "Production", "Archived")


def test_evidence_against_another_champion_changes_nothing(store: Store, do: Do) -> None:
    net(do, 3)
    do(stages.promote, wire.Promote("net", "1", champion=""))
    before = history(store)
    for champion in ("", "2"):
        with pytest.raises(Conflict, match="net 1 stands in Production by now"):
            do(stages.promote, wire.Promote("net", "3", champion=champion))
    assert standing(store) == ["1"] and history(store) == before
    do(stages.promote, wire.Promote("net", "1", champion="1"))
    do(stages.transition, wire.Transition("net", "1", "Archived"))
    with pytest.raises(Conflict, match="no version of net stands in Production"):
        do(stages.promote, wire.Promote("net", "3", champion="1"))


def test_rolling_back_goes_one_version_back_each_time(store: Store, do: Do) -> None:
    net(do, 4)
    for version in ("1", "2", "3", "4"):
        do(stages.promote, wire.Promote("net", version))
    do(registering.remove_version, wire.VersionKey("net", "3"))
    back = do(stages.rollback, wire.Rollback("net", reason="too slow"))
    assert (back.model_version.version, back.archived, standing(store)) == ("2", ["4"], ["2"])
    assert (back.change.action, back.change.before, back.change.evidence) == ("rolled_back", "Archived", {"from": "4"})
    assert do(stages.rollback, wire.Rollback("net", "producción")).model_version.version == "1"
    with pytest.raises(NotFound, match="No version of net stood in Production before"):
        do(stages.rollback, wire.Rollback("net"))
    do(stages.promote, wire.Promote("net", "4"))
    do(stages.transition, wire.Transition("net", "4", "Archived"))
    assert do(stages.rollback, wire.Rollback("net")).model_version.version == "4"


def test_a_model_made_anew_has_no_way_back_to_the_versions_of_the_one_before(store: Store, do: Do) -> None:
    net(do, 2)
    for version in ("1", "2"):
        do(stages.promote, wire.Promote("net", version))
    do(registering.remove, wire.Name("net"))
    assert [(line.version, line.before) for line in history(store, action="deleted")] == [
        ("", ""),
        ("2", "Production"),
        ("1", "Archived"),
    ]
    net(do, 2)
    do(stages.promote, wire.Promote("net", "2"))
    with pytest.raises(NotFound, match="stood in Production before"):
        do(stages.rollback, wire.Rollback("net"))


def test_every_change_has_its_line(store: Store, do: Do) -> None:
    net(do, 1)
    do(registering.change, wire.UpdateModel("net", "a net"))
    do(registering.set_tag, wire.SetModelTag("net", "team", "x"))
    do(registering.set_tag, wire.SetModelTag("net", "team", "y"))
    do(registering.delete_tag, wire.ModelTag("net", "team"))
    do(registering.set_version_tag, wire.SetVersionTag("net", "1", "k", "v" * 5000))
    do(registering.delete_version_tag, wire.VersionTag("net", "1", "k"))
    do(registering.set_alias, wire.SetAlias("net", "best", "1"))
    do(registering.delete_alias, wire.AliasName("net", "best"))
    do(registering.change_version, wire.UpdateVersion("net", "1", "first"))
    do(stages.transition, wire.Transition("net", "1", "staging"))
    do(stages.refuse, wire.Refuse("net", "1", "Produkcja", reason="worse", evidence={"d": -1}))
    do(stages.approve, wire.Approve("net", "1", user="eva"))
    do(stages.note, wire.Note("net", "1", "evaluated", evidence={"acc": 0.5}))
    do(registering.rename, wire.Rename("net", "web"))
    do(registering.rename, wire.Rename("web", "net"))
    told = [(line.action, line.version, line.before, line.after) for line in reversed(history(store))]
    shown = "v" * 1000 + "…"
    assert told == [
        ("created", "", "", ""), ("created", "1", "", "None"), ("description", "", "", "a net"), ("tag", "", "", "x"),
        ("tag", "", "x", "y"), ("tag", "", "y", ""), ("tag", "1", "", shown), ("tag", "1", shown, ""), ("alias", "1", "", "1"),
        ("alias", "1", "1", ""), ("description", "1", "", "first"), ("stage", "1", "None", "Staging"), ("refused", "1", "", ""),
        ("approved", "1", "", ""), ("evaluated", "1", "", ""), ("renamed", "", "net", "web"), ("renamed", "", "web", "net"),
    ]  # fmt: skip
    assert {line.user for line in history(store)} == {"ana", "eva"}
    assert history(store, action="refused")[0].evidence == {"d": -1, "stage": "Production"}
    assert [line.action for line in history(store, version="1", max_results=2)] == ["evaluated", "approved"]
    with pytest.raises(Invalid, match="is written by what it tells of"):
        do(stages.note, wire.Note("net", "1", "promoted"))


def test_history_comes_in_pages_and_outlives_the_model(store: Store, do: Do) -> None:
    net(do, 7)
    do(registering.remove, wire.Name("net"))
    found, token = [], ""
    while True:
        page = store.read(lambda conn, token=token: changes.history(conn, wire.History("net", max_results=4, page_token=token)))  # type: ignore[misc]
        found += page.changes
        if not (token := page.next_page_token):
            break
    assert [line.id for line in found] == sorted((line.id for line in found), reverse=True) and len(found) == 9
    with pytest.raises(NotFound, match="name=nothing not found"):
        store.read(lambda conn: changes.history(conn, wire.History("nothing")))


def test_a_name_that_is_taken_stays_with_who_has_it(store: Store, do: Do) -> None:
    net(do, 1)
    do(registering.create, wire.CreateModel("web"))
    with pytest.raises(AlreadyExists, match="already exists"):
        do(registering.create, wire.CreateModel("net"))
    with pytest.raises(AlreadyExists, match="already exists"):
        do(registering.rename, wire.Rename("web", "net"))
    both = [
        store.write(lambda conn: registering.rename(conn, wire.Rename("web", "net"))),
        store.write(lambda conn: registering.change(conn, wire.UpdateModel("web", "here"))),
    ]
    assert isinstance(both[0].exception(), AlreadyExists)
    assert both[1].result().registered_model.description == "here"
    assert [line.action for line in history(store)] == ["created", "created"]


def test_what_failed_left_no_line(store: Store, do: Do) -> None:
    net(do, 1)
    lines = history(store)
    with pytest.raises(Invalid, match="The evidence has"):
        do(stages.promote, wire.Promote("net", "1", evidence={"all": "x" * (1 << 20)}))
    with pytest.raises(Invalid, match="Invalid Model Version stage: Prod"):
        do(stages.transition, wire.Transition("net", "1", "Prod"))
    assert history(store) == lines and standing(store) == []


def test_a_database_from_before_the_log_knows_who_stood_where(database: Path | str) -> None:
    store = Store(database)
    asked = [wire.CreateVersion("net", "s3://bucket/net")] * 2
    store.write(lambda conn: registering.create(conn, wire.CreateModel("net"))).result()
    for each in asked:
        store.write(lambda conn, each=each: registering.create_version(conn, each)).result()  # type: ignore[misc]
    store.write(lambda conn: stages.transition(conn, wire.Transition("net", "1", "Production"))).result()

    def before(conn: Connection) -> None:
        rules = ("firing_line", "firing", "event", "rule_want", "metric_watch", "run_ended", "caused", "rule")
        for table in ("job_key", *rules, "registry_change", "webhook_delivery", "webhook"):
            conn.exec_driver_sql(f"DROP TABLE {table}")
        later = ("dataset_by_digest", "logged_model_by_run", "run_model_by_model", "endpoint_by_model", "model_version_by_place")
        of_log = ("model_version_by_stage", "registered_model_tag_by_key", "model_version_tag_by_key", "alias_by_version",
                  "registered_model_by_time")  # fmt: skip
        for index in (*of_log, *later):
            conn.exec_driver_sql(f"DROP INDEX {index}")
        conn.exec_driver_sql("ALTER TABLE model_version DROP COLUMN place")
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '0008'")

    store.write(before).result()
    store.close()
    store = Store(database)
    (line,) = history(store)
    assert (line.action, line.version, line.before, line.after) == ("stage", "1", "None", "Production")
    store.write(lambda conn: stages.promote(conn, wire.Promote("net", "2"))).result()
    back = store.write(lambda conn: stages.rollback(conn, wire.Rollback("net"))).result()
    assert (back.model_version.version, back.archived) == ("1", ["2"])
    store.close()


def test_a_version_and_those_that_make_room_for_it_change_at_one_time(store: Store) -> None:
    store.write(lambda conn: registering.create(conn, wire.CreateModel("net"))).result()
    for _ in range(3):
        store.write(lambda conn: registering.create_version(conn, wire.CreateVersion("net", "s3://bucket/net"))).result()
    for number, archives in (("1", False), ("2", False), ("3", True)):
        asked = wire.Transition("net", number, "Staging", archives)
        store.write(lambda conn, asked=asked: stages.transition(conn, asked)).result()  # type: ignore[misc]
    found = store.read(lambda conn: registry_search.search_versions(conn, wire.SearchVersions("name = 'net'"))).model_versions
    assert {each.current_stage for each in found} == {"Archived", "Staging"}
    assert len({each.last_updated_timestamp for each in found}) == 1
    with pytest.raises(Invalid, match="'run_id'"):
        store.read(lambda conn: registry_search.search_versions(conn, wire.SearchVersions(order_by=["run_id"])))
