"""Rules through the front door: what happens at a server, what rules make of it, and what is said of what cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from noria.automation.written import read
from noria.client.http import Server
from noria.errors import AlreadyExists, Conflict, Invalid, NotFound
from noria.types import Dataset, DatasetInput, JobSpec, Metric
from noria.wire import jobs, registry, runs
from noria.wire import rules as wire
from tests.conftest import Running, until

DEEDS = Path(__file__).parent / "deeds"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that knows the actions of another package."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(DEEDS), before]))
    running = Running(tmp_path_factory.mktemp("rules"))
    yield running
    running.stop()
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


class At:
    """A server, and rules of the test's own."""

    def __init__(self, running: Running, prefix: str) -> None:
        self.running, self.client, self.prefix = running, running.client, prefix

    def name(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def add(self, when: dict[str, Any], *then: dict[str, Any], name: str = "rule", replace: bool = False, **more: Any) -> str:
        rule = wire.Rule(self.name(name), when, list(then) or [{"note": "{event.kind}"}], **more)
        self.client.call(wire.ADD, wire.Add([rule], replace))
        return rule.name

    def fire(self, name: str, **subject: Any) -> wire.Told:
        return self.end(self.client.call(wire.FIRE, wire.Fire(name, subject)).firing.id)

    def end(self, firing: str) -> wire.Told:
        until(lambda: self.told(firing).firing.state not in wire.OPEN)
        return self.told(firing)

    def told(self, firing: str) -> wire.Told:
        return self.client.call(wire.FIRING, wire.One(firing))

    def history(self, name: str) -> list[wire.Firing]:
        """In the order in which things happened."""
        return self.client.call(wire.HISTORY, wire.History(name, max_results=1000)).firings[::-1]

    def fired(self, name: str, count: int = 1) -> list[wire.Firing]:
        """So many firings that are over."""

        def over() -> bool:
            found = self.history(name)
            return len(found) >= count and all(each.state not in wire.OPEN for each in found)

        until(over)
        found = self.history(name)
        assert len(found) == count
        return found

    def post(self, name: str, *scores: float, **more: Any) -> None:
        events = [wire.Posted(self.name(name), subject={"score": score}, **more) for score in scores]
        self.client.call(wire.POST, wire.Post(events))

    def run(self, experiment: str = "0") -> str:
        return self.client.call(
            runs.CREATE, runs.Create(experiment_id=experiment, start_time=int(time.time() * 1000))
        ).run.info.run_id

    def log(self, run_id: str, key: str, *values: float, step: int = 0) -> None:
        moment = int(time.time() * 1000)
        points = [Metric(key, value, moment, number) for number, value in enumerate(values, step)]
        self.client.call(runs.LOG_BATCH, runs.LogBatch(run_id, points))

    def read(self, name: str, digest: str) -> str:
        run_id = self.run()
        data = DatasetInput(Dataset(name, digest, "local", f"/data/{name}"))
        self.client.call(runs.LOG_INPUTS, runs.LogInputs(run_id, [data]))
        return run_id


@pytest.fixture
def at(home: Running, request: pytest.FixtureRequest) -> Iterator[At]:
    found = At(home, "".join(each if each.isalnum() else "-" for each in request.node.name)[:60])
    yield found
    for kept in found.client.call(wire.LIST, wire.List()).rules:
        found.client.call(wire.REMOVE, wire.Key(kept.rule.name))


# What rules wait for.


def test_a_new_data_set_fires_once_for_each_content(at: At) -> None:
    data = at.name("digits")
    name = at.add({"dataset": f"{data}*"}, {"note": "{event.name} {event.digest} of {event.experiment}"})
    run_id = at.read(data, "aa")
    at.read(data, "aa")
    at.read(data, "bb")
    at.read(f"not {data}", "cc")
    at.client.call(wire.POST, wire.Post([wire.Posted(data, "dataset", subject={"digest": each}) for each in ("bb", "dd")]))
    found = at.fired(name, 3)
    assert [each.event.subject["digest"] for each in found] == ["aa", "bb", "dd"]
    assert found[0].event.subject["run_id"] == run_id
    assert found[0].steps == [{"note": f"{data} aa of Default"}]


def test_a_new_version_and_a_stage_and_an_alias(at: At) -> None:
    model = at.name("net")
    made = at.add({"model_version": model}, name="made")
    staged = at.add({"model_version": model, "stage": "Production"}, name="staged")
    named = at.add({"model_version": f"{at.prefix}*", "alias": "champion"}, name="named")
    call = at.client.call
    call(registry.CREATE, registry.CreateModel(model))
    run_id = at.run()
    for _ in range(2):
        call(registry.CREATE_VERSION, registry.CreateVersion(model, f"runs:/{run_id}/model", run_id))
    call(registry.PROMOTE, registry.Promote(model, "1", "Staging"))
    call(registry.PROMOTE, registry.Promote(model, "1", "Production"))
    call(registry.SET_ALIAS, registry.SetAlias(model, "champion", "2"))
    assert [each.event.subject["version"] for each in at.fired(made, 2)] == ["1", "2"]
    assert [each.event.subject["before"] for each in at.fired(staged)] == ["Staging"]
    assert [each.event.subject["version"] for each in at.fired(named)] == ["2"]
    assert at.fired(made, 2)[0].event.subject["run_id"] == run_id


def test_a_metric_beyond_its_threshold_fires_once_in_a_run(at: At) -> None:
    key = at.name("loss")
    name = at.add({"metric": key, "above": 3.0, "for_steps": 3}, {"note": "{event.value} at {event.step}"})
    run_id = at.run()
    at.log(run_id, key, 1.0, 4.0, 5.0, 2.0, 6.0)  # Two steps, and one: not long enough.
    at.log(run_id, key, 7.0, 8.0, 9.0, 10.0, step=5)
    at.log(run_id, key, 1.0, 9.0, 9.0, 9.0, step=9)  # It was told.
    other = at.run()
    at.log(other, key, 0.5, 0.6)
    (found,) = at.fired(name)
    assert (found.event.subject["run_id"], found.steps) == (run_id, [{"note": "7.0 at 6"}]) or found.steps == [
        {"note": "8.0 at 6"}
    ]
    assert found.event.subject["since_step"] == 4


def test_the_last_value_of_a_run_that_has_finished(at: At) -> None:
    key = at.name("accuracy")
    name = at.add({"metric": key, "below": 0.5, "on": "finished"})
    for values, status in (([0.1, 0.9], "FINISHED"), ([0.9, 0.4], "FINISHED"), ([0.1], "FAILED")):
        run_id = at.run()
        at.log(run_id, key, *values)
        at.client.call(runs.UPDATE, runs.Update(run_id, status=status, end_time=int(time.time() * 1000)))  # type: ignore[arg-type]
        if values == [0.9, 0.4]:
            bad = run_id
    (found,) = at.fired(name)
    assert (found.event.subject["run_id"], found.event.subject["value"]) == (bad, 0.4)


def test_a_job_that_has_ended(at: At) -> None:
    name = at.add({"job_ended": f"{at.prefix}*", "state": "FAILED"}, {"note": "{event.name} {event.exit_code}"})
    for word, code in (("good", 0), ("bad", 3)):
        spec = JobSpec([sys.executable, "-c", f"raise SystemExit({code})"], name=at.name(word), cwd="/")
        at.client.call(jobs.SUBMIT, jobs.Submit(spec, user=os.environ.get("USER", "") or "root"))
    until(lambda: at.history(name), 60)
    (found,) = at.fired(name)
    assert found.event.subject["name"] == at.name("bad")
    assert found.steps == [{"note": f"{at.name('bad')} 3"}]


def test_what_a_monitor_posts_fires_beyond_its_bound_and_once_for_an_id(at: At) -> None:
    name = at.add({"drift": at.name("digits"), "above": 0.2}, {"note": "{event.score}"})
    at.post("digits", 0.1, 0.3)
    at.post("digits", 0.4, id=at.name("same"))
    at.post("digits", 0.4, id=at.name("same"))
    at.post("other", 0.9)
    assert [each.steps for each in at.fired(name, 2)] == [[{"note": "0.3"}], [{"note": "0.4"}]]


def test_a_schedule_fires_at_its_time(at: At) -> None:
    name = at.add({"schedule": "* * * * *", "zone": "Asia/Kathmandu"}, {"note": "{event.at}"})
    kept = at.client.call(wire.GET, wire.Key(name)).rule
    assert [b - a for a, b in zip(kept.upcoming, kept.upcoming[1:], strict=False)] == [60_000, 60_000]
    until(lambda: at.history(name), 70)
    found = at.fired(name)[0]
    assert found.event.time == kept.upcoming[0]
    assert found.started - found.event.time < 5000
    assert found.steps[0]["note"].endswith("+05:45")


# What comes of them.


def test_steps_come_in_order_and_know_what_came_before(at: At) -> None:
    name = at.add({"manual": True}, {"note": "one {event.x}"}, {"elsewhere": 2}, {"note": "{steps.0.note}, {steps.1.asked}"})
    told = at.fire(name, x=7)
    assert told.firing.state == "done"
    assert told.firing.steps == [{"note": "one 7"}, {"asked": 3}, {"note": "one 7, 3"}]
    assert [(each.step, each.state) for each in told.lines] == [(0, "done"), (1, "waiting"), (1, "done"), (2, "done")]


def test_a_failure_that_may_pass_is_tried_again_with_the_same_key(at: At, tmp_path: Path) -> None:
    file = tmp_path / "log"
    retry = wire.Retry(times=3, wait="20ms")
    name = at.add({"manual": True}, {"flaky": 2, "file": str(file)}, {"note": "after"}, retry=retry)
    told = at.fire(name)
    assert told.firing.state == "done"
    assert [(each.state, each.tries) for each in told.lines] == [("again", 0), ("again", 1), ("done", 2), ("done", 0)]
    assert told.lines[0].note == "The other side is away."
    assert told.lines[2].time - told.lines[1].time >= 40
    assert len(set(file.read_text().split("\n"))) == 2  # One key, and the end of the file.
    hopeless = at.add({"manual": True}, {"flaky": 9, "file": str(file)}, name="hopeless", retry=retry)
    end = at.fire(hopeless)
    assert (end.firing.state, end.lines[-1].state, len(end.lines)) == ("failed", "failed", 4)
    assert end.firing.note == "The other side is away. That was try 4, and the last."


def test_what_can_never_work_ends_the_firing_and_otherwise_is_done(at: At) -> None:
    otherwise = [{"ill": "as well"}, {"note": "{rule} failed: {failed}"}]
    name = at.add({"manual": True}, {"note": "x"}, {"ill": "by nature"}, {"note": "never"}, otherwise=otherwise)
    told = at.fire(name)
    assert (told.firing.state, told.firing.note) == ("failed", "This can never work: by nature.")
    assert [(each.phase, each.step, each.state) for each in told.lines] == [
        ("then", 0, "done"), ("then", 1, "failed"), ("otherwise", 0, "failed"), ("otherwise", 1, "done"),
    ]  # fmt: skip
    assert told.lines[-1].note == f"{name} failed: This can never work: by nature."


def test_a_gate_stops_the_chain_and_a_defect_does_not_stop_the_engine(at: At) -> None:
    stopped = at.fire(at.add({"manual": True}, {"gate": "Not good enough."}, {"note": "never"}))
    assert (stopped.firing.state, stopped.firing.note, len(stopped.lines)) == ("stopped", "Not good enough.", 1)
    broken = at.fire(at.add({"manual": True}, {"ill": "broken"}, name="broken"))
    assert (broken.firing.state, broken.firing.note) == ("failed", "The action broke: KeyError: 'what it looked for'")
    missing = at.fire(at.add({"manual": True}, {"note": "{event.nothing}"}, name="missing"))
    assert missing.firing.note == "There is no {event.nothing} here. There is: id, kind, time, user."


def test_of_events_that_are_the_same_the_first_alone_fires(at: At) -> None:
    name = at.add({"drift": at.name("x")}, dedupe="{event.score}", dedupe_within="1h")
    at.post("x", 1, 2, 1)
    at.post("x", 2, 3)
    found = at.fired(name, 5)
    assert [each.state for each in found] == ["done", "done", "skipped", "skipped", "done"]
    assert found[2].note == "The same as one before: '1'."


def test_firings_are_in_order_and_within_their_rate(at: At) -> None:
    name = at.add({"drift": at.name("x")}, {"note": "{event.score}"}, rate="4/700ms")
    at.post("x", *range(14))
    found = at.fired(name, 14)
    assert [each.steps[0]["note"] for each in found] == [str(number) for number in range(14)]
    starts = [each.started for each in found]
    assert starts == sorted(starts)
    assert all(later - first >= 700 for first, later in zip(starts, starts[4:], strict=False))
    ends = [each.ended for each in found]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))  # One at a time.


def test_several_at_once_where_the_rule_says_so(at: At, tmp_path: Path) -> None:
    name = at.add({"drift": at.name("x")}, {"slow": 0.3, "file": str(tmp_path / "log")}, at_once=3)
    at.post("x", *range(6))
    found = at.fired(name, 6)
    most = max(sum(a.started <= b.started < a.ended for a in found) for b in found)
    assert 2 <= most <= 3


def test_a_paused_rule_hears_nothing(at: At) -> None:
    name = at.add({"drift": at.name("x")})
    at.client.call(wire.PAUSE, wire.Pause(name))
    at.post("x", 1)
    at.client.call(wire.PAUSE, wire.Pause(name, False))
    at.post("x", 2)
    assert [each.event.subject["score"] for each in at.fired(name)] == [2]


def test_what_was_before_a_rule_is_none_of_its_business(at: At) -> None:
    at.post("x", 1)
    name = at.add({"drift": at.name("x")})
    at.post("x", 2)
    at.fired(name)
    at.add({"drift": at.name("x")}, {"note": "new"}, replace=True)
    at.post("x", 3)
    found = at.fired(name, 2)
    assert [each.event.subject["score"] for each in found] == [2, 3]
    assert [each.steps for each in found] == [[{"note": "drift"}], [{"note": "new"}]]


# Cycles.


def test_rules_that_would_fire_each_other_are_refused(at: At) -> None:
    x, y, z = (at.name(each) for each in "xyz")
    at.add({"drift": x}, {"post": y}, name="a")
    at.add({"drift": y}, {"post": z}, name="b")
    with pytest.raises(Invalid) as caught:
        at.add({"drift": z}, {"note": "harmless"}, name="c", otherwise=[{"post": x}])
    a, b, c = (at.name(each) for each in "abc")
    assert caught.value.message == (
        f"Rule '{c}' would fire itself for ever: {c} → {a} → {b} → {c}. Have one of them wait for something narrower, or do something else."
    )
    with pytest.raises(Invalid, match="would fire itself for ever: "):
        at.add({"drift": f"{x}*"}, {"post": "{event.name}"}, name="d")
    at.add({"drift": z}, {"note": "harmless"}, name="c")


def test_rules_of_one_file_are_kept_together_or_not_at_all(at: At) -> None:
    there, back = (wire.Rule(at.name(name), {"drift": at.name(name)}, [{"post": at.name(to)}]) for name, to in ("ab", "ba"))
    with pytest.raises(Invalid, match="would fire itself for ever"):
        at.client.call(wire.ADD, wire.Add([there, back]))
    assert not [each for each in at.client.call(wire.LIST, wire.List()).rules if each.rule.name in (there.name, back.name)]
    quiet = wire.Rule(back.name, back.when, [{"note": "x"}])
    at.client.call(wire.ADD, wire.Add([there, quiet]))
    with pytest.raises(AlreadyExists):
        at.client.call(wire.ADD, wire.Add([wire.Rule(at.name("new"), {"manual": True}, [{"note": "x"}]), quiet]))
    assert at.name("new") not in [each.rule.name for each in at.client.call(wire.LIST, wire.List()).rules]
    turned = [
        wire.Rule(there.name, there.when, [{"note": "x"}]),
        back,
    ]  # Each of them alone would close a circle with what is there.
    assert len(at.client.call(wire.ADD, wire.Add(turned, replace=True)).rules) == 2


def test_a_cycle_that_nobody_could_see_is_stopped_with_a_record(at: At) -> None:
    """What an event is called is only known when it happens."""
    x, y = at.name("x"), at.name("y")
    begin = at.add({"manual": True}, {"post": x, "subject": {"next": y}}, name="begin")
    first = at.add({"drift": x}, {"post": "{event.next}", "subject": {"next": x}}, name="first")
    second = at.add({"drift": y}, {"post": "{event.next}"}, name="second")
    at.fire(begin)
    done, stopped = at.fired(first, 2)
    assert (done.state, at.fired(second)[0].state) == ("done", "done")
    assert stopped.state == "stopped"
    way = " → ".join([begin, first, second, first])
    assert stopped.note == f"A cycle: this event follows from a firing of the same rule ({way}), so it is not fired again."


def test_events_say_what_led_to_them_and_no_rule_fires_because_it_fired(at: At) -> None:
    key, x = at.name("loss"), at.name("x")
    name = at.add({"drift": x}, {"note": "x"})
    cause = [f"{at.name('other')}/1", f"{name}/2"]
    at.client.call(wire.POST, wire.Post([wire.Posted(x, cause=cause), wire.Posted(x, cause=[f"r{each}/0" for each in range(8)])]))
    own, deep = at.fired(name, 2)
    assert (own.state, deep.state) == ("stopped", "stopped")
    assert own.note.startswith(
        f"A cycle: this event follows from a firing of the same rule ({at.name('other')} → {name} → {name})"
    )
    assert deep.note.startswith("8 firings led to this event")
    # What a run does that a step has begun follows from that step.
    watcher = at.add({"metric": key, "above": 1}, name="watcher")
    asker = Server(at.running.url, at.running.token)
    asker.cause = [f"{watcher}/3"]
    spec = JobSpec([sys.executable, "-c", "pass"], name=at.name("job"), cwd="/", begin=1 << 50)
    job = asker.call(jobs.SUBMIT, jobs.Submit(spec, user="nobody-here")).job
    asker.close()
    at.log(job.run_id, key, 2.0)
    (found,) = at.fired(watcher)
    assert (found.state, found.event.cause) == ("stopped", [f"{watcher}/3"])


# What cannot be.


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"when": {"schedul": "x"}}, "there is no trigger 'schedul'. Did you mean 'schedule'?"),
        ({"when": {"drift": "x", "manual": True}}, "names 2 triggers: drift and manual"),
        ({"when": {"drift": "x", "abov": 1}}, "Trigger drift has no setting 'abov'. Did you mean 'above'?"),
        ({"when": {"metric": "loss"}}, "When does metric 'loss' fire? Give above = 0.9"),
        ({"when": {"metric": "loss", "above": "high"}}, "Trigger metric: 'above': expected `float | null`, got `str`"),
        ({"when": {"schedule": "61 * * * *"}}, "'61 * * * *' is no cron expression (bad minute)."),
        ({"when": {"schedule": "@daily", "zone": "Mars"}}, "There is no time zone 'Mars'"),
        ({"when": {"model_version": "m", "stage": "Prod"}}, "There is no stage 'Prod'"),
        ({"when": {"job_ended": "*", "state": "DEAD"}}, "No job ends as 'DEAD'"),
        ({"then": []}, "It does nothing."),
        ({"then": [{"note": "x"}, {"notte": "x"}]}, "Step 2 names no action: there is no action 'notte'. Did you mean 'note'?"),
        ({"then": [{"note": "x", "loud": True}]}, "Step 1, note, has no setting 'loud'. There are: note."),
        ({"then": [{"note": "{evnt.name}"}]}, "{evnt.name} names nothing that a rule knows. Did you mean {event…}?"),
        ({"then": [{"note": "{steps.0.x}"}]}, "only steps before this one have a result. This is the first one."),
        ({"when": {"dataset": "d"}, "then": [{"note": "{event.digets}"}]}, "has no 'digets'. Did you mean {event.digest}?"),
        ({"rate": "fast"}, "'fast' is no rate. Write 10/m"),
        ({"retry": wire.Retry(wait="soon")}, "'soon' is no time. Write 90s"),
        ({"name": "no/slash"}, "Its name is no name."),
    ],
)
def test_each_mistake_is_a_sentence(at: At, rule: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"name": at.name("r"), "when": {"manual": True}, "then": [{"note": "x"}], **rule}
    with pytest.raises(Invalid) as caught:
        at.client.call(wire.ADD, wire.Add([wire.Rule(**given)]))
    assert said in caught.value.message
    assert caught.value.message.startswith("Rule '")
    assert not [each for each in at.client.call(wire.LIST, wire.List()).rules if each.rule.name == given["name"]]


def test_names_that_are_there_or_not(at: At) -> None:
    name = at.add({"manual": True})
    with pytest.raises(AlreadyExists, match="There is a rule"):
        at.add({"manual": True})
    for endpoint, request in ((wire.GET, wire.Key("x")), (wire.REMOVE, wire.Key("x")), (wire.FIRE, wire.Fire("x")), (wire.PAUSE, wire.Pause("x")), (wire.HISTORY, wire.History("x"))):  # fmt: skip
        with pytest.raises(NotFound, match="There is no rule 'x'"):
            at.client.call(endpoint, request)  # type: ignore[type-var]
    at.client.call(wire.REMOVE, wire.Key(name))
    with pytest.raises(Invalid, match="Which version of data set 'd' is new"):
        at.client.call(wire.POST, wire.Post([wire.Posted("d", "dataset")]))


def test_an_engine_that_has_lost_a_step_is_not_believed(at: At) -> None:
    name = at.add({"manual": True}, {"elsewhere": 1000})
    firing = at.client.call(wire.FIRE, wire.Fire(name)).firing
    until(lambda: at.told(firing.id).lines)
    with pytest.raises(Conflict, match="no longer this engine's"):
        at.client.call(wire.REPORT, wire.Report("mine", firing.id, 999, f"{firing.id}-0", "done"))


# The command line.

RULES = """
[[rule]]
name = "{name}"
when = {{ dataset = "{name}" }}
then = [{{ note = "{{event.digest}}" }}]
dedupe = "{{event.digest}}"

[[rule]]
name = "{name} by night"
when = {{ schedule = "30 2 * * mon-fri", zone = "Europe/Berlin" }}
then = [{{ note = "x" }}]
missed = "skip"
"""
Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ask(noria: Ask, home: Running) -> Ask:
    return partial(noria, NORIA_SERVER=home.url, NORIA_TOKEN=home.token)


def test_the_life_of_a_rule_at_the_command_line(at: At, ask: Ask, tmp_path: Path) -> None:
    file, data = tmp_path / "rules.toml", tmp_path / "data.csv"
    file.write_text(RULES.format(name=at.prefix))
    data.write_text("1,2\n")
    for digest in ("aa", "bb"):
        at.read(at.prefix, digest)
    tested = json.loads(ask("rules", "test", str(file), "--since", "1h", "--json").stdout)["rules"]
    assert [each["event"]["subject"]["digest"] for each in tested[0]["tested"]["would"]] == ["aa", "bb"]
    assert tested[0]["tested"]["would"][0]["steps"] == [{"note": "aa"}]
    assert at.client.call(wire.LIST, wire.List()).rules == []
    added = ask("rules", "add", str(file))
    assert "by night' waits for" in added.stderr
    assert "Europe/Berlin" in added.stderr
    assert "There is a rule" in ask("rules", "add", str(file), check=False).stderr
    assert ask("rules", "add", "--replace", str(file)).returncode == 0
    assert ask("data", "add", str(data), "--name", at.prefix).stdout.strip()
    found = at.fired(at.prefix)[0]
    assert found.event.subject["source"] == str(data)
    listed = ask("rules", "list").stdout
    assert "1 done" in listed
    assert "02:30 Europe/Berlin" in listed
    assert json.loads(ask("rules", "list", "--json").stdout)["rules"][1]["upcoming"]
    fired = json.loads(ask("rules", "fire", at.prefix, "-P", "digest=5", "--wait", "--json").stdout)
    assert (fired["state"], fired["steps"]) == ("done", [{"note": "5"}])
    assert "manual" in ask("rules", "history", at.prefix).stdout
    assert "digest = 5" in ask("rules", "show", fired["id"][:12]).stdout
    shown = ask("rules", "show", f"{at.prefix} by night").stdout
    assert shown.count("next  ") == 3
    assert ask("rules", "pause", at.prefix).returncode == 0
    assert "paused" in ask("rules", "list").stdout
    assert ask("rules", "resume", at.prefix).returncode == 0
    assert ask("rules", "remove", at.prefix).returncode == 0
    assert "There is no rule" in ask("rules", "show", at.prefix, check=False).stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "is not valid TOML"),
        ('name = "x"\nwhen = { manual = true }\nthenn = []', "Rule 'x' has no setting 'thenn'. Did you mean 'then'?"),
        ('name = "x"\nwhen = { manual = true }', "Rule 'x' needs 'then', which is missing."),
        ("when = { manual = true }\nthen = []", "rule.toml needs 'name', which is missing."),
        (
            'name = "x"\nwhen = { manual = true }\nthen = [{ note = "x" }]\nmissed = "never"',
            "Rule 'x': 'missed': invalid enum value 'never'.",
        ),
        ('title = "x"\n[[rule]]\nname = "x"', "'title' stands beside the rules."),
        (
            'name = "x"\nwhen = { manual = true }\nthen = [{ note = "x" }]\nat_once = 0',
            "Rule 'x': 'at_once': expected `int` >= 1.",
        ),
    ],
)
def test_a_file_with_a_mistake_is_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "rule.toml"
    file.write_text(text)
    with pytest.raises(Invalid) as caught:
        read(file)
    assert said in caught.value.message


def test_nothing_of_a_file_is_kept_that_has_a_mistake(at: At, ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(RULES.format(name=at.prefix).replace("30 2 * *", "30 25 * *"))
    done = ask("rules", "add", str(file), check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "bad hour" in done.stderr
    assert at.client.call(wire.LIST, wire.List()).rules == []


# The past.


def test_the_dry_run_knows_all_that_is_recorded(at: At) -> None:
    model, key, begin = at.name("net"), at.name("loss"), int(time.time() * 1000)
    call, run_id = at.client.call, at.run()
    call(registry.CREATE, registry.CreateModel(model))
    call(registry.CREATE_VERSION, registry.CreateVersion(model, f"runs:/{run_id}/model", run_id))
    call(registry.PROMOTE, registry.Promote(model, "1", "Production"))
    at.log(run_id, key, 1.0, 5.0, 6.0, 0.0)
    call(runs.UPDATE, runs.Update(run_id, status="FINISHED", end_time=int(time.time() * 1000)))
    at.post("x", 1, 2, 3)

    def would(when: dict[str, Any], **more: Any) -> list[wire.Would]:
        rule = wire.Rule(at.name("r"), when, [{"note": "{event.kind} {steps}"}], **more)
        return call(wire.TEST, wire.Test(rule, begin)).would

    assert [each.event.subject["version"] for each in would({"model_version": model})] == ["1"]
    assert [each.event.subject["action"] for each in would({"model_version": model, "stage": "Production"})] == ["promoted"]
    (metric,) = would({"metric": key, "above": 4.0, "for_steps": 2})
    assert (metric.event.subject["value"], metric.event.subject["step"]) == (6.0, 2)
    assert metric.steps == [{"note": "metric {steps}"}]
    assert would({"metric": key, "above": 4.0, "on": "finished"}) == []
    assert len(would({"metric": key, "below": 4.0, "on": "finished"})) == 1
    drift = would({"drift": at.name("x"), "above": 1}, rate="1/h", dedupe="{event.name}")
    assert [(bool(each.starts), each.note[:7]) for each in drift] == [(True, ""), (False, "Skipped")]
    slow = would({"drift": at.name("x")}, rate="1/h")
    assert [later.starts - first.starts for first, later in pairwise(slow)] == [3_600_000, 3_600_000]
    assert would({"job_ended": at.name("none")}) == []
    assert call(wire.LIST, wire.List()).rules == []


def test_a_path_in_a_file_of_rules_is_relative_to_that_file(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "project").mkdir()
    file = tmp_path / "rules" / "go.toml"
    steps = '[{ run = "../project", name = "./none" }, { note = "../project" }]'
    file.write_text(
        f'[[rule]]\nname = "go"\nwhen = {{ manual = true }}\nthen = {steps}\notherwise = [{{ run = "../project" }}]\n'
    )
    (rule,) = read(file)
    place = str(tmp_path / "project")
    assert rule.then == [{"run": place, "name": "./none"}, {"note": place}] and rule.otherwise == [{"run": place}]
