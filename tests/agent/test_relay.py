"""The relay: whatever lies in a spool arrives once and in order, whatever lies between."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4
from zlib import crc32

import pytest

from noria.agent.relay import Done, Relay
from noria.client.http import Server
from noria.client.spool import Spool
from noria.types import Run
from noria.wire import runs, spools
from noria.wire.spools import Artifact, Begin, End, Header, Log
from tests.conftest import Running

POINTS = 6


def write(folder: Path, *, end: bool = False, host: str = "", points: int = POINTS) -> tuple[Path, Header]:
    """A spool as a writer leaves it that is dead: of a process that never was, on this machine unless `host` is given."""
    header = Header(spools.FORMAT, uuid4().hex, uuid4().hex, "", 0, 0, host or socket.gethostname(), 2**22 + 1, "1", 1)
    spool = Spool(folder, header)
    spool.append(Begin("Default", "", "ada", 1, {}))
    for step in range(points):
        spool.append(Log(step, 1e9, {"loss": 0.5 + step}))
    if end:
        spool.append(End("FINISHED", 2))
    spool.close()
    return spool.path, header


def frames(path: Path) -> list[tuple[int, int]]:
    return [(start, end) for _, start, end in spools.tagged(path.read_bytes())]


def change(path: Path, function: Callable[[bytearray], object]) -> None:
    data = bytearray(path.read_bytes())
    function(data)
    path.write_bytes(data)


def run_of(server: Server, run_id: str) -> tuple[Run, dict[str, str], list[int]]:
    run = server.call(runs.GET, runs.Get(run_id)).run
    return run, {tag.key: tag.value for tag in run.data.tags}, server.call(runs.CURVE, runs.Curve(run_id, "loss")).steps


def deliver(server: Server, path: Path, **options: bool) -> list[Done]:
    told: list[Done] = []
    relay = Relay(server, told.append)
    relay.ship([path])
    relay.finish(path, **options)
    return told


def test_damage_in_the_middle_costs_what_it_hit_and_is_noted(
    server: Running, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, header = write(tmp_path)
    start, end = frames(path)[5]
    change(path, lambda data: data.__setitem__(start + 9, data[start + 9] ^ 4))
    hit = path.read_bytes()[start:end]
    told = deliver(server.client, path)
    run, tags, steps = run_of(server.client, header.run_id)
    assert steps == [0, 1, 3, 4, 5] and run.info.status == "FAILED"
    assert tags["noria.damaged"] == f"{end - start} bytes at {start} of spool {header.spool_id[:8]}"
    aside = path.with_suffix(f".{start}.damaged")
    assert aside.read_bytes() == hit and sum(each.damaged for each in told) == len(hit)
    says = f"{len(hit)} bytes at {start} were damaged; all before and after them is saved, they are kept in {aside.name}."
    assert capfd.readouterr().err == f"noria: spool {path}: {says}\n"
    assert deliver(server.client, path) == [] and run_of(server.client, header.run_id)[1:] == (tags, steps)


def test_bits_flipped_all_over_cost_one_record_each(server: Running, tmp_path: Path) -> None:
    for bit in range(0, 8 * write(tmp_path)[0].stat().st_size, 97):
        path, header = write(tmp_path, end=True)
        (hit,) = [index for index, (start, end) in enumerate(frames(path)) if start <= bit // 8 < end]
        change(path, lambda data, bit=bit: data.__setitem__(bit // 8, data[bit // 8] ^ 1 << bit % 8))
        deliver(server.client, path)
        run, tags, steps = run_of(server.client, header.run_id)
        assert steps == [step for step in range(POINTS) if step != hit - 3] and "noria.damaged" in tags
        assert run.info.status == ("FAILED" if hit == POINTS + 3 else "FINISHED")


def test_cut_anywhere_delivers_what_is_whole(server: Running, tmp_path: Path) -> None:
    size = write(tmp_path)[0].stat().st_size
    for cut in range(size - 90, size, 7):
        path, header = write(tmp_path)
        places = frames(path)
        change(path, lambda data, cut=cut: data.__delitem__(slice(cut, None)))
        deliver(server.client, path)
        assert run_of(server.client, header.run_id)[2] == [step for step in range(POINTS) if places[step + 3][1] <= cut]


def test_without_a_header_the_records_go_to_a_run_of_their_own(server: Running, tmp_path: Path) -> None:
    path, header = write(tmp_path)
    start = frames(path)[2][0]
    change(path, lambda data: data.__setitem__(slice(0, start), bytes(start)))
    deliver(server.client, path, over=True)
    _, tags, steps = run_of(server.client, header.spool_id)
    assert steps == list(range(POINTS)) and tags["noria.damaged"].startswith(f"{start} bytes at 0 of")


def test_what_another_host_may_still_be_writing_is_left_alone(server: Running, tmp_path: Path) -> None:
    path, header = write(tmp_path, host="elsewhere")
    start, end = frames(path)[5]
    whole = path.read_bytes()
    change(path, lambda data: data.__setitem__(slice(start, end), bytes(end - start)))  # As a page that has not arrived yet.
    relay = Relay(server.client)
    relay.ship([path])
    assert not relay.finish(path) and run_of(server.client, header.run_id)[2] == [0, 1]
    path.write_bytes(whole[:-3])  # It has, and a record is on its way.
    relay.ship([path])
    assert not relay.finish(path) and run_of(server.client, header.run_id)[2] == list(range(POINTS - 1))
    path.write_bytes(whole)
    relay.ship([path])
    assert run_of(server.client, header.run_id)[1:] == (
        {"mlflow.runName": run_of(server.client, header.run_id)[0].info.run_name},
        list(range(POINTS)),
    )
    assert not list(tmp_path.glob("*.damaged"))


def test_a_relay_that_died_after_the_end_does_not_end_the_run_again(server: Running, tmp_path: Path) -> None:
    path, header = write(tmp_path, end=True)
    Relay(server.client).ship([path])
    again = Relay(server.client)
    again.ship([path])
    assert again.finish(path) and run_of(server.client, header.run_id)[0].info.status == "FINISHED"


def test_a_record_of_a_newer_release_stops_its_spool_alone(
    server: Running, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, _ = write(tmp_path)
    payload = b"\x92\x7f\x01"
    with path.open("ab") as file:
        file.write(spools.FRAME.pack(len(payload), crc32(payload)) + payload)
    other, header = write(tmp_path)
    relay = Relay(server.client)
    relay.ship([path, other])
    assert run_of(server.client, header.run_id)[2] == list(range(POINTS))
    assert "of a kind that this server does not know" in capfd.readouterr().err and relay.left(path) == path.stat().st_size
    relay.ship([path])
    assert capfd.readouterr().err == ""


def test_files_go_before_the_records_that_name_them(server: Running, tmp_path: Path) -> None:
    path, header = write(tmp_path)
    (files := path.with_suffix(".files")).mkdir()
    (files / "stored").write_text("text")
    with path.open("ab") as file:
        for name in ("a.txt", "b/c.txt", "a.txt"):
            file.write(spools.frame(Artifact(name, f"{files.name}/stored", 4)))
        file.write(spools.frame(Artifact("gone.txt", f"{files.name}/gone", 4)))
        file.write(spools.frame(Log(POINTS, 1e9, {"loss": 1.0})))
    deliver(server.client, path)
    run, _, steps = run_of(server.client, header.run_id)
    assert sorted(server.client.tree(run.info.artifact_uri)) == ["a.txt", "b/c.txt"] and steps == list(range(POINTS + 1))


def test_an_older_copy_of_the_server_is_filled_up_again(own_server: Running, tmp_path: Path) -> None:
    """A database restored from a backup asks for less than the relay has sent."""
    path, header = write(tmp_path)
    relay = Relay(own_server.client)
    relay.ship([path])
    own_server.stop()
    for name in ("noria.db", "noria.db-wal", "noria.db-shm"):
        (own_server.folder / name).unlink(missing_ok=True)
    own_server.start()
    with path.open("ab") as file:
        file.write(spools.frame(Log(POINTS, 1e9, {"loss": 1.0})))
    relay.server = own_server.client
    relay.ship([path])
    assert run_of(own_server.client, header.run_id)[2] == list(range(POINTS + 1))
