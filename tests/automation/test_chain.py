"""New data -> train -> register -> evaluate -> gate -> promote -> notify, unattended: whole, and broken on purpose at each of its links."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from noria.automation.actions import ACTIONS, Act, promote
from noria.client.http import Server
from noria.errors import Conflict
from noria.wire import jobs, registry
from noria.wire import rules as wire
from tests.automation import firings, tiny
from tests.automation.conftest import Ask, Registered
from tests.automation.test_notify import Receiver
from tests.conftest import Running, until

REPOSITORY = Path(__file__).parent.parent.parent
PROJECT = Path(__file__).parent / "tinyproject"
GATE = """held_out = "{held_out}"
[[conditions]]
name = "at_least"
metric = "accuracy"
threshold = 0.5
[[conditions]]
name = "better"
metric = "accuracy"
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose jobs find this flavor and these tests."""
    path = os.pathsep.join([tiny.path(), str(REPOSITORY)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("NORIA_ON", "local")
        running = Running(tmp_path_factory.mktemp("chain") / "home")
        yield running
        running.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


class Chain:
    """The rule, its data set and its model, all with the name of the test; a bad version stands in Production."""

    def __init__(self, engine: Running, noria: Ask, receiver: Receiver, folder: Path, name: str) -> None:
        self.engine, self.receiver, self.name, self.data = engine, receiver, name, folder / name
        self.server = engine.client
        self.noria: Ask = partial(noria, NORIA_SERVER=engine.url, NORIA_TOKEN=engine.token)
        self.model = Registered(engine.client, name)
        self.held_out = tiny.held_out(folder / "held_out.npz")
        self.gate = folder / "gate.toml"
        self.gate.write_text(GATE.format(held_out=self.held_out))
        self.champion = self.model.version(tiny.WORSE)
        self.model.put(self.champion)

    def steps(self) -> list[dict[str, Any]]:
        return [
            {"run": str(PROJECT), "parameters": {"data": "{event.source}"}, "on": "local"},
            {"register": self.name},
            {"evaluate": self.name, "held_out": str(self.held_out), "on": "local"},
            {"promote": self.name, "gate": str(self.gate), "on": "local"},
            {"notify": "webhook", "url": f"{self.receiver.url}/done", "text": "{steps.1.version}: {steps.2.metrics.accuracy}"},
        ]

    def otherwise(self) -> list[dict[str, Any]]:
        return [{"notify": "webhook", "url": f"{self.receiver.url}/failed", "text": "{rule} stopped: {failed}"}]

    def begin(self, word: str, then: list[dict[str, Any]] | None = None) -> None:
        firings.add(self.server, self.name, {"dataset": self.name}, then or self.steps(), otherwise=self.otherwise())
        self.data.mkdir()
        (self.data / "word.txt").write_text(word)
        self.noria("data", "add", str(self.data))

    def over(self) -> wire.Told:
        return firings.first(self.server, self.name)

    def last(self, told: wire.Told) -> wire.Line:
        """The line of the step that ended it."""
        return [line for line in told.lines if line.phase == "then"][-1]

    def history(self, told: wire.Told) -> str:
        """As a person reads it."""
        return " ".join(self.noria("rules", "show", told.firing.id).stdout.split())

    def messages(self) -> list[tuple[str, str]]:
        return [(path, json.loads(body)["text"]) for path, _, body in self.receiver.got]


@pytest.fixture
def chain(engine: Running, noria: Ask, receiver: Receiver, tmp_path: Path, request: pytest.FixtureRequest) -> Chain:
    name = "".join(each if each.isalnum() else "-" for each in request.node.name).strip("-")
    return Chain(engine, noria, receiver, tmp_path, name)


def test_the_whole_chain_runs_unattended(chain: Chain) -> None:
    chain.begin("GOOD")
    told = chain.over()
    assert told.firing.state == "done", told.firing.note
    trained, registered, evaluated, promoted, _ = told.firing.steps
    version = registered["version"]
    assert trained["metrics"] == {"loss": 0.5} and registered["run_id"] == trained["run_id"]
    assert evaluated["metrics"]["accuracy"] == 1.0 and evaluated["champion"] == chain.champion
    assert evaluated["champion_metrics"]["accuracy"] < 1.0
    assert promoted["promoted"] and promoted["archived"] == [chain.champion] and chain.model.standing() == [version]
    assert chain.messages() == [("/done", f"{version}: 1.0")]
    assert len(chain.model.history(version, "evaluated")) == 1  # The gate has taken what was measured in the step before.
    assert chain.noria("data", "add", str(chain.data)).stderr.count("is known already") == 1
    assert len(chain.server.call(wire.HISTORY, wire.History(chain.name)).firings) == 1


BROKEN: dict[str, tuple[str, int, str, str]] = {
    # What the data say, the step that ends it, why, and the cure.
    "training fails": ("raise", 0, "the numbers are not finite", "noria why"),
    "no model": ("no model", 1, "has kept no model at 'model'", "noria runs show"),
    "evaluation fails": ("broken", 2, "could not be evaluated", "noria logs"),
    "the gate says no": ("WORSE", 3, "not shown to be better", "stays in Production"),
}


@pytest.mark.parametrize("link", BROKEN)
def test_it_stops_at_the_link_that_is_broken(chain: Chain, link: str) -> None:
    word, place, why, cure = BROKEN[link]
    chain.begin(word)
    told = chain.over()
    stopped_at(chain, told, place, why, cure)
    assert told.firing.state == ("stopped" if link == "the gate says no" else "failed")


def stopped_at(chain: Chain, told: wire.Told, place: int, why: str, cure: str) -> None:
    """It ended at this step with a record that people can read, nothing later was done, and somebody was told."""
    last = chain.last(told)
    assert (last.step, last.state in ("failed", "stopped")) == (place, True), told.lines
    assert why in last.note and cure in last.note, last.note
    assert len(told.firing.steps) == place and told.firing.note
    assert why in chain.history(told)
    ((path, text),) = chain.messages()
    assert path == "/failed" and why in text
    assert chain.model.standing() == [chain.champion]
    known = chain.server.call(registry.SEARCH_VERSIONS, registry.SearchVersions(f"name='{chain.name}'")).model_versions
    assert len(known) == (2 if place > 1 else 1)


def test_data_that_nobody_can_read(chain: Chain) -> None:
    with_typo = chain.noria("data", "add", str(chain.data), check=False)
    assert with_typo.returncode and "does not exist" in with_typo.stderr  # At the front door, it is said at once.
    firings.add(chain.server, chain.name, {"dataset": chain.name}, chain.steps(), otherwise=chain.otherwise())
    gone = {"digest": "0" * 32, "source": str(chain.data)}
    chain.server.call(wire.POST, wire.Post([wire.Posted(chain.name, "dataset", subject=gone)]))
    told = chain.over()
    assert told.firing.state == "failed"
    stopped_at(chain, told, 0, "word.txt is not there", "noria why")


def test_somebody_better_was_promoted_meanwhile(chain: Chain) -> None:
    """The candidate is better than what stood there when it was measured, and not than what stands there when it is judged."""
    better = chain.model.version(tiny.GOOD)
    code = f"""
from noria.cli.local import connect
from noria.wire import registry
connect().call(registry.PROMOTE, registry.Promote({chain.name!r}, {better!r}))
"""
    meanwhile = {"run": [sys.executable, "-c", code], "folder": str(PROJECT), "on": "local",
                 "env": {"NORIA_SERVER": chain.engine.url, "NORIA_HOME": str(chain.engine.folder)}}  # fmt: skip
    steps = chain.steps()
    chain.begin("SOUTH", [*steps[:3], meanwhile, *steps[3:]])
    told = chain.over()
    assert told.firing.state == "stopped" and chain.last(told).step == 4, told.firing.note
    assert "not shown to be better" in told.firing.note and f"{chain.name} {better} stays in Production" in told.firing.note
    candidate = told.firing.steps[1]["version"]
    (refused,) = chain.model.history(candidate, "refused")
    assert refused.evidence["champion"] == better and chain.model.standing() == [better]
    assert [path for path, _ in chain.messages()] == ["/failed"]


class Restless(Server):
    """Somebody promotes one version after the other, each just before this one would."""

    others: list[str]
    model: Registered

    def call(self, endpoint: Any, request: Any) -> Any:
        if endpoint is registry.PROMOTE and request.champion == self.others[0]:
            self.others.append(self.others.pop(0))
            self.model.put(self.others[0])
        return super().call(endpoint, request)


@pytest.fixture
def inside(chain: Chain) -> Iterator[None]:
    """This process has what the engine has around it."""
    with pytest.MonkeyPatch.context() as patch:  # It ends before the command line is told to stop the server of its own home.
        patch.setenv("NORIA_HOME", str(chain.engine.folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([tiny.path(), str(REPOSITORY)]))
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        yield


@pytest.mark.usefixtures("inside")
def test_a_stage_that_never_rests_ends_in_a_conflict(chain: Chain) -> None:
    candidate, other = chain.model.version(tiny.GOOD), chain.model.version(tiny.WORSE)
    settings = {"promote": chain.name, "version": candidate, "gate": str(chain.gate), "on": "local"}
    with closing(Restless(chain.engine.url, chain.engine.token)) as client:
        client.model, client.others = chain.model, [chain.champion, other]
        ask = Act(client, "key", wire.Event("e", "manual", 0), settings, rule="r")
        with pytest.raises(Conflict, match=r"changed 5 times while .* was judged"):
            waited(ask)
    assert candidate not in chain.model.standing()


def waited(ask: Act) -> Any:
    """What an action comes to in the end, asked as an engine asks."""
    while (acted := promote.act(ask)).state == "waiting":
        ask = replace(ask, result=acted.result)
        begun = [each["job_id"] for each in acted.result.get("begun", [])]
        until(lambda: all(ask.client.call(jobs.GET, jobs.Key(each)).job.ended for each in begun))  # noqa: B023
    return acted


def test_news_that_cannot_be_told(chain: Chain) -> None:
    chain.receiver.answers = [(410, {}), (200, {})]
    chain.begin("GOOD")
    told = chain.over()
    assert told.firing.state == "failed" and chain.last(told).step == 4 and len(told.firing.steps) == 4
    assert "answered 410" in told.firing.note and "correct the address" in told.firing.note
    assert [path for path, _ in chain.messages()] == ["/done", "/failed"]
    assert chain.model.standing() == [told.firing.steps[1]["version"]]  # What was done before stays done, and the record says so.


@pytest.mark.usefixtures("inside")
def test_a_step_that_is_asked_twice_is_done_once(chain: Chain) -> None:
    """As by an engine that died after the deed and before its report: each action, with the same key, from its beginning."""
    chain.data.mkdir()
    (chain.data / "word.txt").write_text("GOOD")
    event = wire.Event("e", "dataset", 0, {"name": chain.name, "source": str(chain.data)})
    before: list[dict[str, Any]] = []
    for number, step in enumerate(chain.steps()):
        filled = {**step, "parameters": {"data": str(chain.data)}} if "run" in step else step
        ask = Act(chain.server, f"firing-{number}", event, filled, list(before), rule=chain.name, firing="firing")
        action = ACTIONS.get(next(iter(step)))
        results = []
        for _ in range(2):
            tried = ask
            while (acted := action.act(tried)).state == "waiting":
                tried = replace(ask, result=acted.result)
                action.act(ask)  # Its beginning, once more, while it is under way.
            results.append(acted.result)
        assert results[0] == results[1] or number == 4, results
        before.append(results[0])
    named = [
        each
        for each in chain.server.call(jobs.LIST, jobs.List()).jobs
        if chain.name in each.spec.name or str(chain.data) in str(each.spec.command)
    ]
    assert len(named) == 3  # One trained, one measured the candidate, and one the champion.
    version = before[1]["version"]
    for action_name in ("created", "evaluated", "promoted"):
        assert len(chain.model.history(version, action_name)) == 1, action_name
    keys = {headers["Idempotency-Key"] for _, headers, _ in chain.receiver.got}
    assert len(chain.receiver.got) >= 2 and len(keys) == 1
