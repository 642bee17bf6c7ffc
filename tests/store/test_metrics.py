"""Metric history against a model in plain Python: whatever is folded and compacted when, readers see the same."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.store import chunks, experiments, folding, histories, metrics, run_histories, runs
from noria.store.store import Store
from noria.types import Metric, clamped
from noria.wire import runs as wire
from tests.conftest import new_database, searched, until

KEYS = ("loss", "acc", "é/日本")
WHOLE = st.one_of(st.integers(-5, 40), st.sampled_from([-(2**63), 2**63 - 1]))
VALUE = st.one_of(st.floats(), st.sampled_from([0.0, 1.0, -1.0, math.nan, math.inf, -math.inf]))
POINT = st.tuples(st.sampled_from(KEYS), VALUE.filter(lambda value: value != 0 or math.copysign(1, value) > 0), WHOLE, WHOLE)
STEP = st.one_of(
    st.lists(POINT, min_size=1, max_size=30),
    st.tuples(st.just("rewind"), st.integers(-6, 41)),
    st.sampled_from(["fold", "compact"]),
)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few points make several."""
    monkeypatch.setattr(histories, "CHUNK", 8)
    monkeypatch.setattr(chunks, "CELL", 4)


@pytest.fixture
def store(database: Path | str) -> Iterator[Store]:
    opened = Store(database)
    opened.write(experiments.seed).result()
    yield opened
    opened.close()


def new_run(store: Store) -> tuple[str, int]:
    uuid = store.write(lambda conn: runs.create(conn, wire.Create())).result().run.info.run_id
    return uuid, store.read(lambda conn: runs.row(conn, uuid)).id


def bits(value: object) -> bytes:
    number = float(value)  # type: ignore[arg-type]
    return b"nan" if math.isnan(number) else struct.pack("<d", number)


def compact(store: Store, run: int) -> None:
    store.read(lambda conn: None)  # Folds.
    store.write(lambda conn: histories.compact(conn, run, folding.folded(conn))).result()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=12))
def test_readers_see_the_points_that_hold_each_once_in_order(store: Store, steps: list[object]) -> None:
    uuid, run = new_run(store)
    held: dict[tuple[str, bytes, int, int], tuple[str, float, int, int]] = {}
    for step in steps:
        if isinstance(step, list):
            store.write(lambda conn, points=step: metrics.append(conn, run, points)).result()  # type: ignore[misc]
            for point in step:
                held.setdefault((point[0], bits(point[1]), *point[2:]), point)
        elif isinstance(step, tuple):
            store.write(lambda conn, at=step[1]: metrics.rewind(conn, run, at)).result()  # type: ignore[misc]
            held = {mark: point for mark, point in held.items() if point[3] < step[1]}
        elif step == "fold":
            store.read(lambda conn: None)
        else:
            compact(store, run)
    for key in KEYS:
        own = sorted((p for p in held.values() if p[0] == key), key=lambda p: (p[2], p[3], math.isnan(p[1]), p[1]))
        whole = store.read(lambda conn, key=key: run_histories.get_history(conn, wire.GetHistory(key, uuid)))  # type: ignore[misc]
        assert [(m.timestamp, m.step, bits(m.value)) for m in whole.metrics] == [(p[2], p[3], bits(clamped(p[1]))) for p in own]
        paged, token = [], ""
        while True:
            page = store.read(
                lambda conn, key=key, token=token: run_histories.get_history(conn, wire.GetHistory(key, uuid, "", 3, token))
            )  # type: ignore[misc]
            paged += page.metrics
            token = page.next_page_token
            if not token:
                break
        assert [repr(m) for m in paged] == [repr(m) for m in whole.metrics]
        curve = store.read(lambda conn, key=key: run_histories.curve(conn, wire.Curve(uuid, key, start_step=0, end_step=10)))  # type: ignore[misc]
        inside = sorted((p[3], p[2]) for p in own if 0 <= p[3] <= 10)
        assert list(zip(curve.steps, curve.timestamps, strict=True)) == inside and curve.count == len(inside)
    listed = {m.key: m for m in store.read(lambda conn: runs.get(conn, wire.Get(uuid))).run.data.metrics}
    for key in KEYS:
        own = [p for p in held.values() if p[0] == key]
        assert (key in listed) == bool(own)
        if own:
            top = max(own, key=lambda p: (p[3], p[2], not math.isnan(p[1]), p[1]))
            assert (listed[key].step, listed[key].timestamp) == (top[3], top[2]) and bits(listed[key].value) == bits(
                clamped(top[1])
            )


@given(st.lists(st.tuples(st.floats(), st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_columns_come_back_bit_by_bit(rows: list[tuple[float, int, int]]) -> None:
    points = chunks.points(*zip(*rows, strict=True))
    back = chunks.decode(chunks.encode(points), points.size)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(points, back, strict=True))


def test_noise_takes_hardly_more_than_its_own_bits() -> None:
    values = np.random.default_rng(1).standard_normal(chunks.CHUNK)
    points = chunks.Points(values, 100 * np.arange(chunks.CHUNK), np.arange(chunks.CHUNK))
    packed = chunks.encode(points)
    back = chunks.decode(packed, points.size)
    assert all(one.tobytes() == other.tobytes() for one, other in zip(back, points, strict=True))
    assert len(packed) < 7.1 * chunks.CHUNK  # A sign, 52 bits of the fraction, and some three of the exponent are 7.0 bytes.


@pytest.mark.parametrize("exact", [True, False])
def test_a_chart_shows_the_bounds_and_means_of_each_pixel(store: Store, monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    """From all points, and from the pyramid, whose cells are 4 points here: a pixel of 20 points has five of them to itself."""
    if not exact:
        monkeypatch.setattr(histories, "EXACT", 1)
    uuid, run = new_run(store)
    values = np.sin(np.arange(1000) / 7.0)
    values[40:44] = math.nan
    points = [("y", float(value), step, step) for step, value in enumerate(values)]
    store.write(lambda conn: metrics.append(conn, run, points)).result()
    compact(store, run)
    chart = store.read(lambda conn: run_histories.curve(conn, wire.Curve(uuid, "y", pixels=50)))
    assert chart.count == 1000 and chart.steps == list(range(0, 1000, 20)) and chart.timestamps == chart.steps
    parts = values.reshape(50, 20)
    tolerance = 0 if exact else 1e-6
    assert np.allclose(np.array(chart.mins, float), np.nanmin(parts, 1), tolerance, tolerance)
    assert np.allclose(np.array(chart.maxs, float), np.nanmax(parts, 1), tolerance, tolerance)
    assert np.allclose(np.array(chart.values, float), np.nanmean(parts, 1), 1e-9 if exact else 1e-6, 1e-6)
    part = store.read(lambda conn: run_histories.curve(conn, wire.Curve(uuid, "y", 50, 100, 119)))
    assert part.count == 20 or not exact
    assert part.steps[0] == 100 and part.steps[-1] <= 119


def test_a_value_of_a_batch_may_be_named_and_numbers_out_of_range_are_refused(store: Store) -> None:
    uuid, _ = new_run(store)
    batch = runs.packed(wire.LogBatch(uuid, [Metric("a", "NaN", 1, 0), Metric("a", "-Infinity", 2, 1)]))
    assert batch is not None
    store.append(batch).result()
    found = store.read(lambda conn: run_histories.get_history(conn, wire.GetHistory("a", uuid))).metrics
    assert [bits(metric.value) for metric in found] == [b"nan", bits(clamped(-math.inf))]
    with pytest.raises(Exception, match="64 bits"):
        runs.packed(wire.LogBatch(uuid, [Metric("a", 1.0, 2**63, 0)]))


def test_postgresql_knows_how_much_there_is_before_its_own_daemon_comes_by(postgres: str) -> None:
    store = Store(new_database(postgres))
    try:
        store.write(experiments.seed).result()
        run, _ = new_run(store)
        points = [Metric(f"m{number}", 1.0, 1, step) for step in range(6) for number in range(1000)]
        for start in range(0, len(points), 1000):
            store.write(partial(runs.log_batch, request=wire.LogBatch(run, points[start : start + 1000]))).result()
        searched(store, wire.Search(["0"]))
        known = "SELECT reltuples FROM pg_class WHERE relname = 'latest'"
        until(lambda: store.read(lambda conn: conn.exec_driver_sql(known).scalar()) == 1000)
    finally:
        store.close()
