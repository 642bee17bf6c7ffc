"""examples/retrain as people copy it: new data, and nobody looks, on this machine and on a real Slurm."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.cluster import REPOSITORY, Cluster
from tests.conftest import need

need("sklearn")

EXAMPLE = REPOSITORY / "examples" / "retrain"
CHANNEL = """
import http.server, sys
from pathlib import Path
folder = Path(sys.argv[1])
class Channel(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with (folder / "messages").open("ab") as file:
            file.write(self.rfile.read(int(self.headers["Content-Length"])) + b"\\n")
        self.send_response(200)
        self.end_headers()
        if (folder / "over").exists():
            sys.exit()
server = http.server.HTTPServer(("127.0.0.1", 0), Channel)
server.timeout = 1
(folder / "hook.new").write_text(f"http://127.0.0.1:{server.server_address[1]}/hook")
(folder / "hook.new").rename(folder / "hook")
while not (folder / "over").exists():
    server.handle_request()
"""
"""A channel that people read, on the machine where people log in."""


class Retrained:
    """The example in a user's home, with the paths of that home."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.folder = cluster.home / "retrain"
        self.there = f"{cluster.run('pwd').stdout.strip()}/retrain"
        cluster.run("mkdir", "-p", self.there)
        for name in ("MLproject", "train.py"):
            cluster.run("mkdir", "-p", f"{self.there}/project")
            shutil.copy(EXAMPLE / name, self.folder / "project" / name)
        shutil.copy(EXAMPLE / "gate.toml", self.folder)
        (self.folder / "rules.toml").write_text(self.rules())
        (self.folder / "channel.py").write_text(CHANNEL)
        cluster.run("sh", "-c", f"setsid {sys.executable} {self.there}/channel.py {self.there} </dev/null >/dev/null 2>&1 &")
        cluster.until((self.folder / "hook").exists, [])

    def rules(self) -> str:
        text = (EXAMPLE / "rules.toml").read_text()
        path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])
        env = f'env = {{ PATH = "{path}", OMP_NUM_THREADS = "1" }}, on = "{self.cluster.on}", time'
        text = (
            text.replace("/srv/digits", self.there)
            .replace('on = "slurm", time', env)
            .replace('on = "slurm"', f'on = "{self.cluster.on}"')
        )
        return text.replace('url_env = "SLACK_WEBHOOK"', f'url_file = "{self.there}/hook"')

    def collect(self, count: int) -> str:
        """More data; the digest."""
        script = str(EXAMPLE / "collect.py")
        self.cluster.run(sys.executable, script, str(count), f"{self.there}/data", f"{self.there}/held_out.npz")
        return self.add()

    def add(self) -> str:
        return self.cluster.noria("data", "add", f"{self.there}/data", "--name", "digits").stdout.strip()

    def over(self, digest: str) -> Any:
        """The firing of this data, once it is over."""

        def ended() -> Any:
            found = json.loads(self.cluster.noria("rules", "history", "retrain digits", "--json").stdout)["firings"]
            return [
                each
                for each in found
                if each["event"]["subject"]["digest"] == digest and each["state"] not in ("waiting", "running")
            ]

        return self.cluster.until(ended, [], 150)[0]

    def messages(self) -> list[str]:
        return [json.loads(line)["text"] for line in (self.folder / "messages").read_text().splitlines()]


@pytest.fixture
def retrained(cluster: Cluster) -> Iterator[Retrained]:
    found = Retrained(cluster)
    yield found
    (found.folder / "over").touch()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cluster", ["local", "slurm"], indirect=True)
def test_new_data_becomes_a_better_model_in_production(cluster: Cluster, retrained: Retrained) -> None:
    cluster.noria("rules", "add", f"{retrained.there}/rules.toml")
    digest = retrained.collect(100)
    first = retrained.over(digest)
    assert first["state"] == "done", first["note"]
    second = retrained.over(retrained.collect(1000))
    assert second["state"] == "done", second["note"]
    for number, each in enumerate((first, second), 1):
        trained, registered, evaluated, promoted, told = each["steps"]
        assert registered["version"] == promoted["version"] == str(number) and promoted["promoted"] and told
        where = {cluster.jobs()[job]["spec"]["scheduler"] for job in (trained["job_id"],)}
        assert where == {cluster.on}
        assert retrained.messages()[number - 1].startswith(
            f"digits {number} is in Production: accuracy {evaluated['metrics']['accuracy']}"
        )
    assert second["steps"][2]["champion"] == "1"
    assert second["steps"][2]["metrics"]["accuracy"] > first["steps"][2]["metrics"]["accuracy"] > 0.8
    shown = json.loads(cluster.noria("models", "show", "digits", "--json").stdout)
    assert {each["version"]: each["current_stage"] for each in shown["versions"]} == {"1": "Archived", "2": "Production"}
    (retrained.folder / "data" / "digits.npz").write_bytes(b"PK, but no archive")
    broken = retrained.over(retrained.add())
    assert broken["state"] == "failed" and len(broken["steps"]) == 0 and "`noria why" in broken["note"], broken
    assert retrained.messages()[2].startswith(f"retrain digits stopped at data {broken['event']['subject']['digest']}: Job ")
    assert len(retrained.messages()) == 3
