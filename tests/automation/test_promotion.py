"""Gates, evaluations as jobs, and what the registry's log has of them, by the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noria.automation.evaluations import How
from noria.automation.gate import parse, usual
from noria.automation.promote import promote
from noria.errors import Conflict
from noria.types import JobSpec
from noria.wire import jobs, registry
from tests.automation import tiny
from tests.automation.conftest import Ask, Registered, said
from tests.conftest import until


def how(**options: Any) -> How:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": tiny.path(), "OMP_NUM_THREADS": "1"}
    return How(lambda command: JobSpec(command, env=env, cwd="/"), **options)


def gate(tmp_path: Path, text: str) -> str:
    file = tmp_path / "gate.toml"
    file.write_text(f'held_out = "held_out.npz"\n{text}')
    return str(file)


@pytest.mark.slow
def test_two_candidates_are_evaluated_side_by_side(ask: Ask, model: Registered, data: Path, server: Any) -> None:
    first, second = model.version(tiny.GOOD, loads=3), model.version(tiny.WORSE, loads=3)
    found = said(ask("models", "evaluate", model.name, first, second, "--held-out", str(data), "--json"))["evaluations"]
    assert [each["metrics"]["accuracy"] for each in found] == [1.0, pytest.approx(0.75, abs=0.1)]
    assert [each["of"] for each in found] == [f"{model.name}/1", f"{model.name}/2"]
    assert all(each["examples"] == 400 and each["slices"] == ["site"] and each["outputs"] == "scores" for each in found)
    assert all(each["p50_ms"] <= each["p99_ms"] and each["size_bytes"] > 100 and each["packages"]["numpy"] for each in found)
    ran = [server.client.call(jobs.GET, jobs.Key(each.evidence["job_id"])).job for each in model.history(action="evaluated")]
    assert len(ran) == 2 and ran[0].run_id != ran[1].run_id
    if len(os.sched_getaffinity(0)) > 1:
        assert max(each.started or 0 for each in ran) < min(each.ended or 0 for each in ran), "one waited for the other"
    again = ask("models", "evaluate", model.name, first, "--held-out", str(data))
    assert "evaluating" not in again.stderr and again.stdout.splitlines()[1].split()[:2] == ["1", "1"]


@pytest.mark.slow
def test_a_gate_tells_all_conditions_and_keeps_the_evidence(ask: Ask, model: Registered, data: Path, tmp_path: Path) -> None:
    champion, worse = model.version(tiny.GOOD), model.version(tiny.SOUTH, delay=0.05, metrics={"train_loss": 0.25})
    rules = gate(tmp_path, """
[[conditions]]
name = "at_most"
metric = "train_loss"
threshold = 0.3
[[conditions]]
name = "better"
resamples = 200
[[conditions]]
name = "slices"
names = ["site"]
[[conditions]]
name = "latency"
p50_ms = 10
[[conditions]]
name = "size"
most_bytes = 100
[[conditions]]
name = "approved"
by = ["grace"]
""")  # fmt: skip
    model.put(champion)
    done = ask("models", "promote", model.name, worse, "--gate", rules, check=False)
    assert done.returncode == 3 and model.standing() == [champion]
    lines = [line for line in done.stderr.splitlines() if not line.startswith("noria: evaluating")]
    assert [line.split()[1:3] for line in lines[:-1]] == [
        ["passed", "at_most:"], ["FAILED", "better:"], ["FAILED", "slices:"], ["FAILED", "latency:"], ["FAILED", "size:"], ["FAILED", "approved:"]
    ]  # fmt: skip
    assert "site=south" in lines[2] and "site=north" not in lines[2] and "Holm's correction for 2 slices" in lines[2]
    assert "too slow: p50" in lines[3] and "nobody else, 1 of grace wanted (ada, root made it" in lines[5].replace(
        "ada made", "ada, root made"
    )
    assert lines[-1] == f"noria: {model.name} {champion} stays in Production."
    (refused,) = model.history(worse, "refused")
    kept = refused.evidence["conditions"]
    assert [each["passed"] for each in kept] == [True, False, False, False, False, False]
    assert (
        kept[1]["figures"]["high"] < 0 and kept[2]["figures"]["p site=south"] < 1e-6 and refused.evidence["champion"] == champion
    )
    measured = refused.evidence["evaluations"]["held_out"]
    assert [each["of"] for each in measured] == [f"{model.name}/{worse}", f"{model.name}/{champion}"]
    assert (
        measured[0]["held_out_sha256"] == measured[1]["held_out_sha256"]
        and measured[0]["model_sha256"] != measured[1]["model_sha256"]
    )


def test_a_better_one_takes_the_stage(ask: Ask, model: Registered, data: Path, tmp_path: Path) -> None:
    champion, better = model.version(tiny.WORSE), model.version(tiny.GOOD)
    model.put(champion)
    rules = gate(
        tmp_path,
        '[[conditions]]\nname = "better"\n[[conditions]]\nname = "better"\nmetric = "log_loss"\n[[conditions]]\nname = "slices"\n',
    )
    decision = said(ask("models", "promote", model.name, better, "--gate", rules, "--reason", "for the fair", "--json"))
    assert decision["passed"] and decision["archived"] == [champion] and model.standing() == [better]
    (line,) = model.history(better, "promoted")
    assert line.reason.startswith("for the fair The candidate is better than the champion: accuracy 1 against 0.7")
    shown = ask("models", "history", model.name).stdout.splitlines()
    assert shown[0].split() == ["WHEN", "VERSION", "ACTION", "WHO", "CHANGE", "WHY"]
    assert f"{better}        promoted" in shown[1] and "None -> Production" in shown[1]


def test_held_out_alone_asks_for_not_worse(ask: Ask, model: Registered, data: Path) -> None:
    first, worse = model.version(tiny.GOOD), model.version(tiny.WORSE)
    assert "There is no champion yet" in ask("models", "promote", model.name, first, "--held-out", str(data)).stderr
    refused = ask("models", "promote", model.name, worse, "--held-out", str(data), check=False)
    assert refused.returncode == 3 and "FAILED  not_worse: The candidate is worse than the champion" in refused.stderr
    free = ask("models", "promote", model.name, worse)
    assert (
        free.stderr == f"noria: No held-out data was given, so no gate was applied. {model.name} {worse} is in Production now.\n"
    )
    assert model.standing() == [worse]


def test_a_model_keeps_its_gate(ask: Ask, model: Registered, data: Path, tmp_path: Path) -> None:
    version = model.version(tiny.WORSE)
    rules = gate(tmp_path, '[[conditions]]\nname = "at_least"\nmetric = "accuracy"\nthreshold = 0.9\n')
    assert "has no gate" in ask("models", "gate", model.name).stderr
    text = ask("models", "gate", model.name, "--set", rules).stdout
    assert parse(text, "kept", Path("/")).rules == parse(Path(rules).read_text(), "given", tmp_path).rules and str(data) in text
    refused = ask("models", "promote", model.name, version, check=False)
    assert refused.returncode == 3 and "accuracy is 0.7" in refused.stderr
    another = ask("models", "promote", model.name, version, "--gate", rules, check=False)
    assert another.returncode == 1 and "has a gate of its own" in another.stderr
    ask("models", "gate", model.name, "--remove")
    assert ask("models", "promote", model.name, version).returncode == 0


def test_nobody_approves_their_own(ask: Ask, model: Registered, tmp_path: Path) -> None:
    own, other = model.version(user="root"), model.version(user="ada")
    file = tmp_path / "approval.toml"
    file.write_text('[[conditions]]\nname = "approved"\n')
    assert ask("models", "approve", model.name, own, check=False).stderr.endswith(
        "nobody approves their own. Ask somebody else.\n"
    )
    model.server.call(
        registry.APPROVE, registry.Approve(model.name, own, "Production", "root")
    )  # Whoever asks past the command line.
    refused = ask("models", "promote", model.name, own, "--gate", str(file), check=False)
    assert (
        refused.returncode == 3
        and "approved by nobody else, 1 wanted (root made it, and nobody approves their own)" in refused.stderr
    )
    refused = ask("models", "promote", model.name, other, "--gate", str(file), check=False)
    assert refused.returncode == 3 and "approved by nobody else" in refused.stderr
    model.server.call(registry.APPROVE, registry.Approve(model.name, other, "Staging", "grace"))
    assert ask("models", "promote", model.name, other, "--gate", str(file), check=False).returncode == 3, "that was for Staging"
    model.server.call(registry.APPROVE, registry.Approve(model.name, other, "Production", "grace"))
    assert "approved by grace" in ask("models", "promote", model.name, other, "--gate", str(file)).stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[conditions]]\nname = "bettr"\n', "There is no 'bettr' among conditions. Use one of: approved, at_least, at_most, better,"),
        ('[[conditions]]\nname = "better"\nlevl = 1\n', "better has no setting 'levl'. It has: metric, by, confidence, resamples, seed."),
        ('[[conditions]]\nname = "better"\nmetric = 3\n', "metric = 3 of better is wrong (Expected `str`, got `int`)."),
        ('[[conditions]]\nname = "slices"\ncorrection = "tukey"\n', "correction = 'tukey' of slices is wrong"),
        ('[[conditions]]\nmetric = "x"\n', "has a condition without a name. There are: approved, "),
        ('[[condition]]\nname = "better"\n', "says 'condition', which a gate does not know. It knows: held_out, conditions."),
        ("conditions = 3\n", "has no conditions."),
        ("[[conditions]\n", "is not valid TOML"),
        ('[[conditions]]\nname = "at_least"\nmetric = "f7"\n', "The candidate has no metric 'f7' (it has: accuracy, balanced_accuracy, f1, log_loss,"),
        ('[[conditions]]\nname = "better"\nmetric = "rmse"\n', "'rmse' is not measured on held-out examples (there are: accuracy,"),
        ('[[conditions]]\nname = "slices"\nnames = ["age"]\n', "The held-out set has no slice 'age' (it has: site)."),
        ('[[conditions]]\nname = "latency"\n', "The condition latency was given no budget."),
        ('[[conditions]]\nname = "better"\nheld_out = "night"\n', "better names the held-out set 'night' (there are: held_out)."),
    ],
)  # fmt: skip
def test_what_a_gate_cannot_say(ask: Ask, server: Any, data: Path, tmp_path: Path, text: str, says: str) -> None:
    model = Registered(server.client, "unsayable")
    version = "1" if _exists(model) else model.version()
    done = ask("models", "promote", "unsayable", version, "--gate", gate(tmp_path, text), check=False)
    told = [line for line in done.stderr.splitlines() if not line.startswith("noria: evaluating")]
    assert done.returncode == 1 and len(told) == 1 and says in told[0], done.stderr
    assert model.standing() == [] and model.history(action="refused") == []


def _exists(model: Registered) -> bool:
    return bool(model.server.call(registry.SEARCH, registry.Search(f"name='{model.name}'")).registered_models)


def test_what_is_not_there_is_told_in_a_sentence(ask: Ask, model: Registered, data: Path, tmp_path: Path, server: Any) -> None:
    gone, runless = model.version(), tiny.register_runless(server.client, model.name)
    run = server.client.call(registry.GET_VERSION, registry.VersionKey(model.name, gone)).model_version.run_id
    for file in (server.folder / "artifacts").rglob("*"):
        if run in file.parts and file.is_file():
            file.unlink()
    rules = gate(tmp_path, '[[conditions]]\nname = "at_least"\nmetric = "val_accuracy"\n')
    for version, says in (
        (
            runless,
            f"{model.name} {runless} has no run, so nothing was logged for it. The candidate has no metric 'val_accuracy' (it has: accuracy,",
        ),
        (gone, f"The files of {model.name} {gone} are gone: there is no model at "),
    ):
        done = ask("models", "promote", model.name, version, "--gate", rules, check=False)
        assert done.returncode == 1 and says in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
        assert done.stderr.count("\n") == (2 if version == runless else 1)


def test_held_out_files_that_are_none(ask: Ask, model: Registered, tmp_path: Path) -> None:
    version = model.version()
    np.savez(tmp_path / "nothing.npz", z=[1])
    (tmp_path / "text.npz").write_text("x,y\n1,2\n")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    np.savez(tmp_path / "pickle.npz", x=np.array([{}]), y=np.array([1]))
    for file, says in (
        ("nothing.npz", "does not hold arrays x and y of one length"), ("text.npz", "cannot be read as an .npz file"),
        ("table.csv", "has no column y (it has: a, b)"), ("pickle.npz", "cannot be read as an .npz file (Object arrays cannot be loaded"),
    ):  # fmt: skip
        done = ask("models", "evaluate", model.name, version, "--held-out", str(tmp_path / file), check=False)
        assert done.returncode == 1 and says in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_each_condition_has_its_examples(ask: Ask, model: Registered, data: Path, tmp_path: Path) -> None:
    version = model.version(tiny.SOUTH)
    with np.load(data) as arrays:
        north = arrays["site"] == "north"
        np.savez(tmp_path / "north.npz", x=arrays["x"][north], y=arrays["y"][north])
    file = tmp_path / "two.toml"
    rule = '[[conditions]]\nname = "at_least"\nmetric = "accuracy"\nthreshold = 0.99\nheld_out = "{}"\n'
    file.write_text('held_out = { all = "held_out.npz", north = "north.npz" }\n' + rule.format("north") + rule.format("all"))
    done = ask("models", "promote", model.name, version, "--gate", str(file), "--json", check=False)
    assert [each["verdict"]["passed"] for each in said(done)["conditions"]] == [True, False]


def test_a_model_that_fails_says_so(ask: Ask, model: Registered, data: Path) -> None:
    """And what stood beside it is evaluated all the same."""
    broken, sound = model.version(np.ones((5, 2))), model.version()
    done = ask("models", "evaluate", model.name, broken, sound, "--held-out", str(data), check=False)
    assert done.returncode == 1
    assert (
        f"{model.name} {broken} could not be evaluated: The model failed on these examples (ValueError: matmul"
        in done.stderr.splitlines()[-1]
    )
    assert [each.version for each in model.history(action="evaluated")] == [sound]


def test_somebody_who_is_faster_is_judged_against(model: Registered, data: Path) -> None:
    first, second, third = model.version(tiny.WORSE), model.version(tiny.GOOD), model.version(tiny.WORSE)
    model.put(first)
    told: list[str] = []

    def tell(sentence: str) -> None:
        told.append(sentence)
        if len(told) == 1:  # While the candidate is measured against the first one.
            model.put(second)

    decision = promote(model.server, model.name, third, gate=usual(str(data)), how=how(tell=tell))
    assert not decision.passed and decision.champion == second and model.standing() == [second]
    assert any(each.startswith("somebody was faster: ") and each.endswith("Judging again.") for each in told)


@pytest.mark.slow
def test_a_stage_that_never_rests_is_given_up(model: Registered, data: Path) -> None:
    versions = [model.version(tiny.GOOD) for _ in range(3)]
    model.put(versions[0])
    promote(model.server, model.name, versions[2], "Staging", gate=usual(str(data)), how=how())
    restless = parse(f'held_out = "{data}"\n[[conditions]]\nname = "not_worse"\n', "gate", data.parent)
    turn = iter(range(100))

    def tell(sentence: str) -> None:
        model.put(versions[(next(turn) + 1) % 2])

    with pytest.raises(Conflict, match="changed 5 times"):
        promote(_Restless(model, tell), model.name, versions[2], gate=restless, how=how())  # type: ignore[arg-type]


class _Restless:
    """A server where somebody promotes just before we do."""

    def __init__(self, model: Registered, before: Any) -> None:
        self._model, self._before = model, before

    def call(self, endpoint: Any, request: Any) -> Any:
        if endpoint is registry.PROMOTE:
            self._before("")
        return self._model.server.call(endpoint, request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model.server, name)


def test_a_promotion_that_is_killed_changes_nothing(model: Registered, data: Path, server: Any) -> None:
    champion, candidate = model.version(tiny.WORSE), model.version(tiny.GOOD, loads=1)
    model.put(champion)
    env = {**os.environ, "NORIA_SERVER": server.url, "NORIA_TOKEN": server.token, "PYTHONPATH": tiny.path()}
    argv = [sys.executable, "-m", "noria.cli.main", "models", "promote", model.name, candidate, "--held-out", str(data)]
    running = subprocess.Popen(argv, env=env, stderr=subprocess.DEVNULL)
    until(lambda: any(job.state == "RUNNING" for job in server.client.call(jobs.LIST, jobs.List(open=True)).jobs), 30)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert model.standing() == [champion] and not model.history(candidate, "promoted")


def test_tables_are_held_out_sets_too(ask: Ask, model: Registered, data: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    with np.load(data) as arrays:
        frame = pandas.DataFrame(arrays["x"], columns=["a", "b", "c"]).assign(y=arrays["y"], slice_site=arrays["site"])
    frame.to_csv(tmp_path / "held_out.csv", index=False)
    version = model.version()
    (found,) = said(ask("models", "evaluate", model.name, version, "--held-out", str(tmp_path / "held_out.csv"), "--json"))[
        "evaluations"
    ]
    assert (found["slices"], found["metrics"]["accuracy"]) == (["site"], 1.0)


def test_archive_and_rollback(ask: Ask, model: Registered) -> None:
    first, second = model.version(), model.version()
    model.put(first)
    model.put(second)
    assert (
        ask("models", "rollback", model.name, "--wait", "0").stderr
        == f"noria: {model.name} 1 is in Production again instead of 2.\n"
    )
    assert model.standing() == [first]
    ask("models", "archive", model.name, first)
    assert model.standing() == [] and set(model.standing("Archived")) == {first, second}
