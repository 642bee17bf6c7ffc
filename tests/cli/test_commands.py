"""The command line, as people and programs meet it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from noria import units
from noria.cli.show import span
from noria.errors import Invalid

Noria = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d12h", 129_600), ("01:00:05", 3605), ("2-00:00:00", 172_800)],
)
def test_times(text: str, seconds: int) -> None:
    assert units.seconds(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("500M", 500 * 2**20), ("8G", 8 * 2**30), ("1.5GiB", 3 * 2**29), ("1t", 2**40)])
def test_sizes(text: str, size: int) -> None:
    assert units.size(text) == size


@pytest.mark.parametrize("text", ["", "90", "h", "-1h", "1x", "1h 5"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(Invalid):
        units.seconds(text)


@pytest.mark.parametrize(("milliseconds", "text"), [(900, "1s"), (61_000, "1m 1s"), (3_600_000, "1h 0m"), (90_000_000, "1d 1h")])
def test_spans(milliseconds: int, text: str) -> None:
    assert span(milliseconds) == text


def test_help_needs_no_heavy_import() -> None:
    code = "import sys; sys.argv = ['noria', '--help']\nfrom noria.cli.main import main\ntry: main()\nexcept SystemExit: pass\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.splitlines()[-1].split())
    assert not modules & {"sqlalchemy", "starlette", "uvicorn", "numpy", "torch", "rich", "asyncio", "plotext", "yaml"}
    assert "Commands:" in done.stdout


def test_listings_take_json_and_say_when_they_are_empty(noria: Noria) -> None:
    for command, key in ((("runs", "list"), "runs"), (("ps",), "jobs"), (("models", "list"), "models")):
        assert json.loads(noria(*command, "--json").stdout) == {key: []}
        done = noria(*command)
        assert done.stdout == "" and "yet" in done.stderr


def test_a_started_server_holds_nothing_of_its_starter(noria: Noria) -> None:
    # If it held our pipe, run() would wait for the server's end.
    assert noria("ps").returncode == 0
    assert noria("server", "stop").stderr.startswith("noria: stopped the server at http://127.0.0.1:")
    assert noria("server", "stop").stderr.startswith("noria: no server runs for")


def test_the_port_stays_the_same(noria: Noria) -> None:
    first = noria("env").stdout
    noria("server", "stop")
    assert noria("env").stdout == first


def test_env_prints_what_mlflow_needs(noria: Noria, tmp_path: Path) -> None:
    lines = dict(line.removeprefix("export ").split("=", 1) for line in noria("env").stdout.splitlines())
    assert set(lines) == {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "NORIA_SERVER", "NORIA_TOKEN"}
    assert lines["MLFLOW_TRACKING_TOKEN"] == (tmp_path / "home" / "token").read_text().strip()
    assert json.loads(noria("env", "--json").stdout) == lines


def test_what_a_script_logged_is_listed_at_once_although_no_server_ran(noria: Noria) -> None:
    code = "import noria\nwith noria.start_run(run_name='alone', experiment='mine'):\n    noria.log(loss=0.5, step=3)\n    noria.log_param('lr', 1)"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
    (run,) = json.loads(noria("runs", "list", "--json").stdout)["runs"]
    assert run["info"]["run_name"] == "alone" and run["info"]["status"] == "FINISHED"
    shown = json.loads(noria("runs", "show", "alone", "--history", "loss", "--json").stdout)
    assert [(point["step"], point["value"]) for point in shown["history"]["loss"]] == [(3, 0.5)]
    assert "loss" in noria("runs", "show", run["info"]["run_id"][:6], "--history", "loss").stdout


def test_non_finite_values_are_valid_json(noria: Noria) -> None:
    code = "import noria\nnoria.start_run(run_name='odd')\nnoria.log(x=float('nan'), step=0)\nnoria.log(x=float('inf'), step=1)"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
    shown = json.loads(noria("runs", "show", "odd", "--history", "x", "--json").stdout, parse_constant=pytest.fail)
    assert [point["value"] for point in shown["history"]["x"]] == ["NaN", "Infinity"]
    assert "nan" in noria("runs", "show", "odd", "--history", "x").stdout


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("runs", "show", "nope"), "There is no run 'nope'. `noria runs list` shows the runs there are."),
        (("runs", "list", "--filter", "metrics.loss <"), "at column 15, found its end"),
        (("models", "show", "nope"), "Registered Model with name=nope not found. `noria models list`"),
        (("models", "promote", "nope", "1"), "Model Version (name=nope, version=1) not found. `noria models list`"),
        (("serve", "nope"), "'nope' is no model. Write models:/NAME/Production"),
        (("serve", "models:/nope/Production"), "Registered Model with name=nope not found"),
    ],
)
def test_errors_are_one_sentence_on_stderr(noria: Noria, argv: tuple[str, ...], says: str) -> None:
    noria("ps")  # Starts the server, which says so.
    done = noria(*argv, check=False)
    assert done.returncode == 1 and done.stdout == "" and says in done.stderr and done.stderr.count("\n") == 1


def test_a_home_that_cannot_be_written(noria: Noria, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = noria("ps", check=False, NORIA_HOME=str(tmp_path / "file" / "home"))
    assert done.returncode == 1 and "cannot be used (Not a directory). Give another folder" in done.stderr


def test_a_configured_server_that_is_not_there(noria: Noria) -> None:
    done = noria("ps", check=False, NORIA_SERVER="http://127.0.0.1:9")
    assert done.returncode == 1 and "No Noria server answers at http://127.0.0.1:9" in done.stderr


def test_what_answers_is_not_noria(noria: Noria, tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "-d", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    assert other.stdout is not None
    try:
        port = other.stdout.readline().split("port ")[1].split()[0]
        done = noria("ps", check=False, NORIA_SERVER=f"http://127.0.0.1:{port}")
        assert done.returncode == 1 and "is not a Noria server. Check NORIA_SERVER" in done.stderr
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_settings_from_a_file_and_a_wrong_one(noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
    Path("noria.toml").write_text('server = "http://127.0.0.1:9"\n')
    assert "http://127.0.0.1:9" in noria("ps", check=False).stderr
    Path("noria.toml").write_text("port = 'many'\n")
    assert "A setting is wrong" in noria("ps", check=False).stderr
    Path("noria.toml").write_text("port = = 3\n")
    assert "is not valid TOML" in noria("ps", check=False).stderr


def test_a_job_as_json_when_it_is_cancelled_and_when_it_has_ended(noria: Noria) -> None:
    job = json.loads(noria("submit", "--json", "--", "sleep", "60").stdout)["id"]
    assert [each["id"] for each in json.loads(noria("cancel", job, "--json").stdout)["jobs"]] == [job]
    ended = noria("wait", job, "--json", check=False)
    assert ended.returncode != 0 and json.loads(ended.stdout)["state"] == "CANCELLED"
    assert "is cancelled" in noria("cancel", job).stderr


def test_doctor(noria: Noria) -> None:
    findings = {each["what"]: each for each in json.loads(noria("doctor", "--json").stdout)["findings"]}
    assert findings["home"]["ok"] is True and "local" in findings["schedulers"]["says"]
    assert "machine" in noria("doctor").stdout


def test_doctor_says_where_the_state_is_and_hides_the_password(noria: Noria) -> None:
    done = noria("doctor", NORIA_DB="postgresql://me:secret@db/noria", NORIA_DURABILITY="process")
    assert "PostgreSQL at postgresql://me:***@db/noria; what is answered survives the death of the server" in done.stdout
    assert "secret" not in done.stdout
    elsewhere = noria("doctor", "--json", check=False, NORIA_SERVER="http://127.0.0.1:9")
    found = {each["what"]: each for each in json.loads(elsewhere.stdout)["findings"]}
    assert elsewhere.returncode == 1 and found["server"]["ok"] is False and "state" not in found


def test_a_server_that_a_command_starts_has_the_settings_of_the_command(
    noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
    Path("noria.toml").write_text('durability = "process"\nauth = false\n')
    noria("ps")
    assert "not a power cut" in (tmp_path / "home" / "server.log").read_text()
    assert json.loads((tmp_path / "home" / "server.json").read_text())["auth"] is False
