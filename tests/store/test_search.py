"""Searches against a model in plain Python, on both databases and by each of the ways that lead to a page."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from noria.errors import Invalid
from noria.store import (
    bodies,
    database,
    experiments,
    logged_models,
    metrics,
    registering,
    registry_search,
    run_search,
    run_starts,
    runs,
)  # fmt: skip
from noria.store.filters import AllOf, Comparison, Identifier, Node, Not
from noria.store.store import Store
from noria.types import Dataset, DatasetInput, Metric, ModelOutput, Param, Tag
from noria.wire import experiments as experiments_wire
from noria.wire import logged_models as logged_models_wire
from noria.wire import registry as registry_wire
from noria.wire import runs as wire
from tests.conftest import searched
from tests.store.filter_text import KEYS, NODES, OF, written

VALUES = [-1.0, 0.0, 0.5, 1.0, 1.5, math.inf, -math.inf, math.nan]
WORDS = [
    "",
    "a",
    "A",
    "ab",
    "it's",
    'a"b',
    "100%",
    "a_b",
    "a\\b",
    "a\\%",
    "[a]",
    "a*",
    "a?",
    "é",
    "日本",
    "x" * 260,
    "x" * 259 + "y",
]
ALL = [Identifier("attributes", name) for name in (*run_search.NAMES.texts, *run_search.NAMES.numbers)]
ORDER = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(ALL),
            st.builds(Identifier, st.just("metrics"), KEYS, OF),
            st.builds(Identifier, st.sampled_from(["params", "tags"]), KEYS),
        ),
        st.booleans(),
    ),
    max_size=3,
    unique_by=lambda entry: entry[0],
)
Runs = list[dict[str, Any]]


@pytest.fixture
def store(database: Path | str) -> Iterator[Store]:
    opened = Store(database)
    opened.write(experiments.seed).result()
    yield opened
    opened.close()


def made(store: Store, count: int = 40) -> Runs:
    """Runs, and what the model knows of them."""
    chosen, every = random.Random(7), []
    for _ in range(count):
        uuid = store.write(lambda conn: runs.create(conn, wire.Create(
            "0", chosen.choice(["ada", "bob"]), chosen.choice(WORDS), chosen.choice([1000, 1001, 1002])))).result().run.info.run_id  # fmt: skip
        keys = [key for key in ("a", "b", "c d") if chosen.random() < 0.7]
        series = {key: [chosen.choice(VALUES) for _ in range(chosen.choice([1, 3]))] for key in keys}
        params, tags = ({key: chosen.choice(WORDS) for key in ("a", "b", "c d") if chosen.random() < 0.7} for _ in range(2))
        points = [Metric(key, value, step, step) for key, values in series.items() for step, value in enumerate(values)]
        batch = wire.LogBatch(uuid, points, [Param(*pair) for pair in params.items()], [Tag(*pair) for pair in tags.items()])
        store.write(lambda conn, batch=batch: runs.log_batch(conn, batch)).result()
        sets = [
            (chosen.choice(WORDS), str(number), chosen.choice([None, "a", "train"]))
            for number in range(chosen.choice([0, 0, 1, 2]))
        ]
        inputs = [DatasetInput(Dataset(name, digest), [Tag("mlflow.data.context", context)] if context is not None else [])
                  for name, digest, context in sets]  # fmt: skip
        store.write(lambda conn, inputs=inputs, uuid=uuid: runs.log_inputs(conn, wire.LogInputs(uuid, inputs))).result()
        if chosen.random() < 0.6:
            store.write(
                lambda conn, uuid=uuid: runs.change(conn, wire.Update(uuid, "", "FINISHED", chosen.choice([1002, 2002])))
            ).result()
        info = store.read(lambda conn, uuid=uuid: runs.get(conn, wire.Get(uuid))).run.info
        every.append({
            "attributes": {"run_id": uuid, "run_name": info.run_name, "status": info.status, "user_id": info.user_id,
                           "artifact_uri": info.artifact_uri, "start_time": info.start_time,
                           **({"end_time": info.end_time, "duration": info.end_time - info.start_time} if info.end_time else {})},
            "metrics": series, "params": params, "tags": tags,
            "datasets": [{"name": name, "digest": digest, "context": context} for name, digest, context in sets],
        })  # fmt: skip
    return every


def value_of(run: dict[str, Any], left: Identifier) -> Any:
    """None where there is nothing."""
    if left.kind != "metrics":
        return run[left.kind].get(left.key)
    values = run["metrics"].get(left.key)
    if values is None:
        return None
    numbers = [value for value in values if not math.isnan(value)]
    return {"last": values[-1], "first": values[0], "min": min(numbers, default=math.nan), "max": max(numbers, default=math.nan)}[
        left.of
    ]


def matches(run: dict[str, Any], node: Node) -> bool:
    if isinstance(node, Not):
        return not matches(run, node.part)
    if not isinstance(node, Comparison):
        return (all if isinstance(node, AllOf) else any)(matches(run, part) for part in node.parts)
    if node.left.kind == "datasets":
        there = [each[node.left.key] for each in run["datasets"] if each[node.left.key] is not None]
    else:
        there = [value for value in [value_of(run, node.left)] if value is not None]
    if node.op in ("IS", "IS NOT"):
        return bool(there) == (node.op == "IS NOT")
    return any(compare(value, node.op, node.value) for value in there)


def compare(value: Any, op: str, other: Any) -> bool:
    if "LIKE" in op:
        return like(value, other) if op == "LIKE" else like(lower(value), lower(other))
    return bool({
        "=": lambda: value == other, "!=": lambda: value != other, "<": lambda: value < other, "<=": lambda: value <= other,
        ">": lambda: value > other, ">=": lambda: value >= other, "IN": lambda: value in other, "NOT IN": lambda: value not in other,
    }[op]())  # fmt: skip


def lower(text: str) -> str:
    return re.sub("[A-Z]+", lambda found: found[0].lower(), text)


def like(text: str, pattern: str) -> bool:
    words = {"%": ".*", "_": ".", r"\%": "%", r"\_": "_"}
    parts = [words.get(part) or re.escape(part) for part in re.findall(r"\\[%_]|.", pattern, re.DOTALL)]
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def ordered(every: Runs, order: list[tuple[Identifier, bool]]) -> list[str]:
    """Numbers and texts first, then NaN, then nothing, in either direction; ties newest first, then by id."""
    result = sorted(every, key=lambda run: (-run["attributes"]["start_time"], run["attributes"]["run_id"]))
    for left, ascending in reversed(order):
        values = {id(run): value_of(run, left) for run in result}

        def rank(run: dict[str, Any], values: dict[int, Any] = values) -> int:
            value = values[id(run)]
            return 2 if value is None else 1 if value != value else 0

        with_value = [run for run in result if rank(run) == 0]
        with_value.sort(key=lambda run, values=values: values[id(run)], reverse=not ascending)  # type: ignore[misc]
        result = [*with_value, *sorted((run for run in result if rank(run)), key=rank)]
    return [run["attributes"]["run_id"] for run in result]


def paged(store: Store, text: str, entries: list[str], size: int) -> list[str]:
    found: list[str] = []
    token = ""
    while True:
        request = wire.Search(["0"], text, "ACTIVE_ONLY", size, entries, token)
        answer = searched(store, request)
        found += [run.info.run_id for run in answer.runs]
        assert len(answer.runs) == size or not answer.next_page_token
        token = answer.next_page_token
        if not token:
            return found


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(NODES, max_size=3), ORDER, st.sampled_from([3, 7, 100]))
@example([], [(Identifier("metrics", "a"), False)], 3)
@example([], [(Identifier("metrics", "a"), True), (Identifier("params", "b"), False)], 3)
@example([Comparison(Identifier("params", "a"), "IN", ["x" * 260, "a"])], [(Identifier("params", "a"), False)], 3)
@example([Comparison(Identifier("metrics", "a"), "!=", 1.0)], [(Identifier("attributes", "duration"), True)], 7)
def test_every_way_finds_what_plain_python_finds(
    store: Store, monkeypatch: pytest.MonkeyPatch, parts: list[Node], order: list[tuple[Identifier, bool]], size: int
) -> None:
    every = getattr(store, "test_runs", None)
    if every is None:
        every = store.test_runs = made(store)  # type: ignore[attr-defined]
    text = " AND ".join(f"({written(part)})" for part in parts)
    entries = [f"{_name(left)} {'ASC' if ascending else 'DESC'}" for left, ascending in order]
    wanted = ordered([run for run in every if matches(run, AllOf(parts))], order)
    # By the counts; never from a clause, always from one, always past those that are not of one.
    for few, steps in ((None, None), (-1, 0), (10**6, 0), (10**6, 10**9)):
        with monkeypatch.context() as patch:
            if few is not None:
                patch.setattr(run_starts, "isqrt", lambda _, few=few: few)
                patch.setattr(run_starts, "_STEPS", steps)
                patch.setattr(run_starts, "_CHOICE_SECONDS", -1.0)
            assert paged(store, text, entries, size) == wanted
            total = store.read(lambda conn: run_search.count(conn, wire.Count(["0"], text)))
            assert total.total == len(wanted)


def _name(left: Identifier) -> str:
    return written(Comparison(left, "IS", None)).removesuffix(" IS NULL")


def found(store: Store, text: str, **query: Any) -> list[str]:
    answer = searched(store, wire.Search(["0"], text, **query))
    return [run.info.run_name for run in answer.runs]


def run(store: Store, name: str, **params: str) -> str:
    uuid: str = store.write(lambda conn: runs.create(conn, wire.Create("0", "", name))).result().run.info.run_id
    batch = wire.LogBatch(uuid, params=[Param(*pair) for pair in params.items()])
    store.write(lambda conn: runs.log_batch(conn, batch)).result()
    return uuid


def test_texts_are_matched_alike_whatever_is_in_them(store: Store) -> None:
    for number, word in enumerate(WORDS):
        run(store, str(number), p=word)
    patterns = [
        *WORDS,
        "%",
        "_",
        "a_",
        "%a%",
        r"\%",
        "%\\%",
        r"a\_b",
        "[ab]",
        "[^a]",
        "*",
        "?",
        "A%",
        "É",
        "%x_",
        "日_",
        "%%a",
        "a\\",
        "{}".format("%y"),
    ]
    for pattern in patterns:
        for op in ("=", "!=", "LIKE", "ILIKE", "IN"):
            value = [pattern] if op == "IN" else pattern
            clause = Comparison(Identifier("params", "p"), op, value)
            if pattern.endswith("\\") and op == "IN":
                continue  # Behind a backslash, a quote does not end a text if another one follows.
            names = [str(number) for number, word in enumerate(WORDS) if compare(word, op, value)]
            assert sorted(found(store, written(clause)), key=int) == names, written(clause)


def test_a_token_belongs_to_its_search(store: Store) -> None:
    for number in range(4):
        run(store, f"r{number}", p=str(number))

    def search(**query: Any) -> wire.Found:
        return searched(store, wire.Search(["0"], max_results=2, **query))

    token = search(order_by=["params.p"]).next_page_token
    assert [each.info.run_name for each in search(order_by=["params.p"], page_token=token).runs] == ["r2", "r3"]
    for other in ({}, {"order_by": ["params.p DESC"]}, {"order_by": ["params.p"], "filter": "params.p != '9'"}):
        with pytest.raises(Invalid, match="This page token belongs to another search"):
            search(**other, page_token=token)
    for bad in ("x", "!", "AAAA", token[:-4], "\ud800", "eyJvZmZzZXQiOiAyfQ=="):
        with pytest.raises(Invalid, match="Invalid page token"):
            search(order_by=["params.p"], page_token=bad)


def test_runs_that_come_and_go_between_pages_move_no_others(store: Store) -> None:
    ids = [run(store, f"r{number}", p=str(number)) for number in range(6)]
    first = searched(store, wire.Search(["0"], max_results=3, order_by=["params.p"]))
    store.write(lambda conn: runs.remove(conn, wire.Get(ids[0]))).result()
    run(store, "late", p="00")
    token = first.next_page_token
    assert found(store, "", max_results=3, order_by=["params.p"], page_token=token) == ["r3", "r4", "r5"]


def test_runs_of_no_or_many_experiments(store: Store) -> None:
    run(store, "r", p="1")
    search = lambda *ids: searched(store, wire.Search(list(ids))).runs  # noqa: E731
    assert search() == [] and search("7", "9" * 18, "-1") == [] and len(search("0", "0", "7")) == 1
    for wrong in ("x", "9" * 40, "1.0", "\u0663"):
        with pytest.raises(Invalid, match="Experiment ID must be a valid integer"):
            search("0", wrong)
    assert store.read(lambda conn: run_search.count(conn, wire.Count())).total == 0
    with pytest.raises(Invalid, match="at most 10000 experiments"):
        search(*map(str, range(10_001)))
    with pytest.raises(Invalid, match="at column 9"):  # A wrong filter is wrong among no runs too.
        searched(store, wire.Search([], "params.p"))


def test_a_search_that_takes_for_ever_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        run(store, f"r{number}", p="a" * 6000)
    monkeypatch.setattr(database, "_LONGEST", 0.001)
    text = " AND ".join(["NOT params.p LIKE '" + "%a" * 99 + "%b'"] * 99)
    with pytest.raises(Invalid, match=r"This search was given up after 0.001 s. Ask for less"):
        found(store, text)
    with pytest.raises(Invalid, match="given up"):
        store.read(lambda conn: run_search.count(conn, wire.Count(["0"], text)))
    monkeypatch.undo()
    assert len(found(store, "params.p LIKE 'a%'")) == 40  # The connection goes on.


def test_searching_experiments(store: Store) -> None:
    for name, tags in (("a", [Tag("k", "1")]), ("A", [Tag("k", "2"), Tag("l", "x")]), ("b_c", [])):
        store.write(lambda conn, name=name, tags=tags: experiments.create(conn, experiments_wire.Create(name, "", tags))).result()  # type: ignore[misc]

    def search(text: str = "", **query: Any) -> list[str]:
        answer = store.read(lambda conn: experiments.search(conn, experiments_wire.Search(10, "", text, **query)))
        return [each.name for each in answer.experiments]

    assert search("name LIKE 'a%'") == ["a"] and set(search("name ILIKE 'A'")) == {"a", "A"}
    assert search("tags.k IN ('1', '3') OR tags.l = 'x'", order_by=["name"]) == ["A", "a"]
    assert search("tags.k IS NULL", order_by=["name DESC"]) == ["b_c", "Default"]
    assert search("experiment_id = '0'") == search("experiment_id IN ('0', 'none')") == ["Default"]
    assert search("experiment_id != '0'", order_by=["experiment_id DESC"]) == ["b_c", "A", "a"]
    assert search("NOT (name = 'a' OR attribute.name = 'A')", order_by=["experiment_id"]) == ["Default", "b_c"]
    assert search("creation_time > 0.5 AND last_update_time < 1e15", order_by=["tags.k DESC", "name"]) == [
        "A",
        "a",
        "Default",
        "b_c",
    ]
    with pytest.raises(Invalid, match="Invalid entity type 'metrics' at column 1"):
        search("metrics.x = 1")
    for text in ("name IS NULL", "tags.k IS NULL AND name IS NOT NULL"):
        with pytest.raises(Invalid, match="IS NULL / IS NOT NULL is only supported for tags, not for attribute 'name' at column"):
            search(text)


def test_prompts_are_found_only_by_who_asks_for_them(store: Store) -> None:
    for name, tags in (
        ("model", [Tag("k", "1")]),
        ("prompt", [Tag("mlflow.prompt.is_prompt", "true")]),
        ("no", [Tag("mlflow.prompt.is_prompt", "false")]),
    ):
        store.write(lambda conn, name=name, tags=tags: registering.create(conn, registry_wire.CreateModel(name, tags))).result()  # type: ignore[misc]
        version = registry_wire.CreateVersion(name, "dummy-source" if name == "prompt" else "s3://bucket/x", tags=tags)
        store.write(lambda conn, version=version: registering.create_version(conn, version)).result()  # type: ignore[misc]

    def search(text: str = "", **query: Any) -> list[str]:
        models = store.read(lambda conn: registry_search.search(conn, registry_wire.Search(text, **query))).registered_models
        versions = store.read(
            lambda conn: registry_search.search_versions(conn, registry_wire.SearchVersions(text, **query))
        ).model_versions
        assert {each.name for each in models} == {each.name for each in versions}
        return [each.name for each in models]

    tag = "tags.`mlflow.prompt.is_prompt`"
    assert search() == search(f"{tag} != 'true'") == search(f"{tag} = 'false'") == ["model", "no"]
    assert search(f"{tag} = 'true'") == search(f"{tag} != 'false'") == ["prompt"]
    assert search("name LIKE '%'") == ["model", "no"] and search(f"name LIKE '%' AND ({tag} = 'true' OR tags.k = '1')") == [
        "model",
        "prompt",
    ]
    assert search("tags.k != '2'") == ["model"] and search("name IN ('no', 'prompt')", order_by=["name DESC"]) == ["no"]


def test_a_page_that_was_asked_for_before_shows_what_has_happened_since(store: Store) -> None:
    uuid, other = run(store, "r", p="1"), run(store, "other")
    model = store.write(lambda conn: logged_models.create(conn, logged_models_wire.Create("0", "net"))).result().model.info
    data = DatasetInput(dataset=Dataset("digits", "d1", "local", "{}"))
    changes: list[Any] = [
        lambda conn: runs.log_batch(conn, wire.LogBatch(uuid, params=[Param("q", "2")])),
        lambda conn: runs.log_batch(conn, wire.LogBatch(uuid, [Metric("loss", 1.0, 1, 1)])),
        lambda conn: runs.log_batch(conn, wire.LogBatch(uuid, [Metric("loss", 0.5, 2, 2)])),
        lambda conn: metrics.rewind(conn, runs.row(conn, uuid).id, 2),
        lambda conn: runs.set_tag(conn, wire.SetTag(run_id=uuid, key="t", value="1")),
        lambda conn: runs.set_tag(conn, wire.SetTag(run_id=uuid, key="t", value="2")),
        lambda conn: runs.delete_tag(conn, wire.DeleteTag(uuid, "t")),
        lambda conn: runs.log_inputs(conn, wire.LogInputs(uuid, [data])),
        lambda conn: runs.log_outputs(conn, wire.LogOutputs(uuid, [ModelOutput(model.model_id, 1)])),
        lambda conn: runs.change(conn, wire.Update(uuid, status="FINISHED", end_time=5)),
        lambda conn: runs.change(conn, wire.Update(uuid, run_name="new")),
        lambda conn: runs.remove(conn, wire.Get(uuid)),
        lambda conn: runs.restore(conn, wire.Get(uuid)),
    ]
    pages = [_shown(store, uuid)]
    untouched = _shown(store, other)
    for change in changes:
        store.write(change).result()
        assert _shown(store, uuid) == msgspec.to_builtins(store.read(lambda conn: runs.get(conn, wire.Get(uuid))).run)
        pages.append(_shown(store, uuid))
    assert all(before != after for before, after in pairwise(pages))
    assert _shown(store, other) == untouched


def _shown(store: Store, uuid: str) -> Any:
    (shown,) = searched(store, wire.Search(["0"], f"run_id = '{uuid}'", "ALL")).runs
    return msgspec.to_builtins(shown)


def test_bodies_are_kept_up_to_a_size_the_last_asked_for_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        run(store, f"r{number}", p=str(number))
    loaded: list[int] = []
    load = bodies.run_load.load
    monkeypatch.setattr(bodies.run_load, "load", lambda conn, keys: (loaded.append(len(keys)), load(conn, keys))[1])
    newest = lambda count: found(store, "", max_results=count, order_by=["params.p DESC"])  # noqa: E731
    assert newest(8) == newest(8) and loaded == [8, 0]
    monkeypatch.setattr(bodies, "KEPT", 4000)
    assert newest(2) == ["r7", "r6"]  # Nothing new is kept, so nothing goes.
    run(store, "r8", p="8")
    assert newest(3) == ["r8", "r7", "r6"] and newest(3) == ["r8", "r7", "r6"] and loaded[-2:] == [1, 0]
    assert newest(9)[-1] == "r0" and 0 < loaded[-1] <= 6
