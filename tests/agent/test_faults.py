"""The N-th call of the disk fails below a relay, for every N: it goes on, and what arrives in the end is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.agent.relay import Relay
from noria.client import disk
from tests.agent.test_relay import POINTS, change, frames, run_of, write
from tests.conftest import Running
from tests.faults import FAULTS, until_none_fails


@pytest.mark.parametrize("error", FAULTS)
@pytest.mark.parametrize("times", [1, 3])
def test_a_relay_on_a_disk_that_fails_for_a_while(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, error: int
) -> None:
    for faulty in until_none_fails(times, error):
        path, header = write(tmp_path)
        start, end = frames(path)[5]
        change(path, lambda data, start=start: data.__setitem__(start + 9, data[start + 9] ^ 4))
        with path.open("ab") as file:
            file.write(b"torn")
        hit = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(disk, "os", faulty)
            relay = Relay(server.client)
            relay.ship([path])
            relay.finish(path)
        relay = Relay(server.client)  # As after a restart.
        relay.ship([path])
        assert relay.finish(path) and relay.left(path) == 0
        run, tags, steps = run_of(server.client, header.run_id)
        assert steps == [step for step in range(POINTS) if step != 2] and run.info.status == "FAILED"
        assert tags["noria.damaged"].count("bytes at") == 2
        for place in ((start, end), (len(hit) - 4, len(hit))):
            aside = path.with_suffix(f".{place[0]}.damaged")
            assert not aside.exists() or aside.read_bytes() == hit[slice(*place)]
        assert times > 1 or not [left for left in tmp_path.iterdir() if left.name.startswith(".")], "no half file is left"
        for each in tmp_path.iterdir():
            each.unlink()
