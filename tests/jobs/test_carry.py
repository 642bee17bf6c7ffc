"""Noria in a job's environment, whichever that is: without noria, without msgspec, of another Python, without a network."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from noria import sandbox
from noria.jobs.carry import carry
from noria.wire import runs, spools
from noria.wire.spools import Log
from tests.client.test_spool import written
from tests.conftest import Running, require, until

Noria = Callable[..., subprocess.CompletedProcess[str]]
LOGS = """
import noria, sys
with noria.start_run(tags={"a": "b"}):
    noria.log_params({"lr": 0.1, "deep": {"list": [1]}})
    for step in range(3): noria.log(loss=0.5, n=step, step=step)
    noria.log({f"metric/{n}": 1e300 for n in range(40)}, step=2**40)
import msgspec
print(sys.version_info[:2], noria.__file__, getattr(msgspec, "__file__", "built in"))
"""


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment that has all that is installed here but noria and msgspec."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    packages = folder / "packages"
    packages.mkdir()
    for path in (Path(each) for each in sys.path if each.endswith("-packages")):
        for each in path.iterdir():
            ours = each.name.lower().startswith(("noria", "msgspec", "_editable", "__editable")) or each.suffix == ".pth"
            if not ours and not (packages / each.name).exists():
                (packages / each.name).symlink_to(each)
    (site,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    (site / "all.pth").write_text(f"{packages}\n")
    return folder / "venv" / "bin" / "python"


def other_pythons() -> list[str]:
    """Interpreters of other minor versions that Noria supports, wherever they are kept."""
    found = [
        *Path.home().glob(".pyenv/versions/*/bin/python"),
        *(Path(each) for n in range(11, 16) if (each := shutil.which(f"python3.{n}"))),
    ]
    kinds: dict[str, str] = {}
    for each in found:
        told = subprocess.run([each, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True)
        kinds.setdefault(told.stdout.strip(), str(each))
    return [
        path
        for kind, path in sorted(kinds.items())
        if kind.startswith("(3, ") and kind not in (str(sys.version_info[:2]),) and int(kind[4:-1]) >= 11
    ]


def run(python: str | Path, code: str, folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    env = {"NORIA_HOME": str(home), "PYTHONPATH": str(folder), "PATH": os.environ["PATH"]}
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, env=env, timeout=60, cwd=home)


def test_an_environment_without_noria(bare: Path, tmp_path: Path) -> None:
    folder = carry(tmp_path / "agent")
    assert carry(tmp_path / "agent") == folder and not list(folder.parent.glob(".*"))
    assert "No module named 'noria'" in run(bare, "import noria", tmp_path, tmp_path).stderr
    done = run(bare, LOGS, folder, tmp_path)
    assert (
        done.stderr == ""
        and f"{folder}/.lib/noria/noria/__init__.py {folder}/.lib/" in done.stdout
        and "/any/" not in done.stdout
    )
    assert len([record for record in written(tmp_path) if isinstance(record, Log)]) == 4


def test_an_installed_noria_goes_first(tmp_path: Path) -> None:
    done = run(sys.executable, LOGS, carry(tmp_path / "agent"), tmp_path)
    assert done.stderr == "" and ".lib" not in done.stdout


@pytest.mark.parametrize(
    "python", other_pythons() or [pytest.param("", marks=pytest.mark.skip(reason="there is no other Python here"))]
)
def test_another_python_writes_the_same(python: str, bare: Path, tmp_path: Path) -> None:
    folder, found = carry(tmp_path / "agent"), {}
    for name, which in (("other", python), ("same", bare)):
        (tmp_path / name).mkdir()
        done = run(which, LOGS, folder, tmp_path / name)
        assert done.stderr == "" and ("/.lib/any/msgspec.py" in done.stdout) == (name == "other")
        found[name] = [plain(record) for record in written(tmp_path / name)[1:]]
    assert found["other"] == found["same"] and len(found["same"]) == 8


def plain(record: spools.Record) -> list[object]:
    """A record without its time."""
    return [value for name, value in msgspec.structs.asdict(record).items() if "time" not in name]


def any_of(kind: Any, chance: random.Random) -> Any:
    """Some value of a type, of whatever size and sign."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any_of(chance.choice(arguments), chance)
    if origin is Literal:
        return chance.choice(arguments)
    if origin in (list, dict, tuple):
        size = chance.choice([0, 1, 3, 15, 16, 40])
        if origin is dict:
            return {any_of(arguments[0], chance): any_of(arguments[1], chance) for _ in range(size)}
        if origin is tuple:
            return tuple(any_of(each, chance) for each in arguments)
        return [any_of(arguments[0], chance) for _ in range(size)]
    if kind is str:
        return "".join(
            chance.choices("aä€𝄞\0 /", k=chance.choice([0, 1, 31, 32, 255, 256, 70_000 if chance.random() < 0.02 else 7]))
        )
    if kind is int:
        return chance.choice([1, -1]) * chance.getrandbits(chance.choice([1, 5, 7, 8, 15, 16, 31, 32, 62, 63]))
    if kind is float:
        return chance.choice([0.0, -0.0, 1.5, 1e300, 5e-324, float("inf"), float("-inf"), chance.random()])
    if kind is bool:
        return chance.random() < 0.5
    if kind is type(None) or kind is msgspec.UnsetType:
        return None if kind is type(None) else msgspec.UNSET
    hints = get_type_hints(kind)
    return kind(**{name: any_of(hints[name], chance) for name in kind.__struct_fields__})


def test_the_stand_in_reads_and_writes_the_same_bytes_as_msgspec(tmp_path: Path) -> None:
    chance = random.Random(7)
    kinds = get_args(spools.Record)
    records = [any_of(kinds[number % len(kinds)], chance) for number in range(40 * len(kinds))]
    lines = [msgspec.msgpack.encode(record).hex() + " " + msgspec.json.encode(record).hex() for record in records]
    (tmp_path / "lines").write_text("\n".join(lines))
    code = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("msgspec", sys.argv[1])
msgspec = sys.modules["msgspec"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(msgspec)
from noria.wire import spools
assert spools.msgspec.__version__ == "0"
for line in open(sys.argv[2]):
    packed, json = line.split()
    record = spools.decode(bytes.fromhex(packed))
    assert record == spools.decode(bytes.fromhex(packed)) and type(record).__name__ in repr(record)
    assert msgspec.json.decode(msgspec.json.encode(record)) == msgspec.json.decode(bytes.fromhex(json)), record
    print(spools.frame(record)[8:].hex())
"""
    standin = Path(carry.__code__.co_filename).with_name("standin.py")
    argv = [sys.executable, "-c", code, str(standin), str(tmp_path / "lines")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.stderr == "" and done.stdout.split() == [line.split()[0] for line in lines]


def test_the_stand_in_reads_settings_as_msgspec_does(tmp_path: Path) -> None:
    code = """
import importlib.util, sys
if len(sys.argv) > 1:
    spec = importlib.util.spec_from_file_location("msgspec", sys.argv[1])
    sys.modules["msgspec"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["msgspec"])
from noria import config
from noria.errors import Invalid
for env in ({"NORIA_PORT": "80", "NORIA_AUTH": "false"}, {"NORIA_SYSTEM_METRICS_INTERVAL": "2"}, {"NORIA_PORT": "many"}):
    try: print(config.load(env=env))
    except Invalid: print("Invalid")
"""
    standin = Path(carry.__code__.co_filename).with_name("standin.py")
    said = [subprocess.run([sys.executable, "-c", code, *more], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
            for more in ([], [str(standin)])]  # fmt: skip
    assert said[0] == said[1] and said[0].endswith("Invalid\n")


def test_a_job_in_an_environment_without_noria(noria: Noria, bare: Path) -> None:
    code = "import noria, os\nfor i in range(10): noria.log(x=i, step=i)\nprint(noria.__file__, os.environ['MLFLOW_EXPERIMENT_NAME'])"
    submitted = json.loads(noria("submit", "--json", "--experiment", "vision", "--", str(bare), "-c", code).stdout)
    noria("wait", submitted["id"])
    assert "/.lib/noria/noria/__init__.py vision" in noria("logs", submitted["id"]).stdout
    shown = json.loads(noria("runs", "show", submitted["run_id"], "--history", "x", "--json").stdout)
    assert [point["step"] for point in shown["history"]["x"]] == list(range(10))


MLFLOW = """
import mlflow, os, sys
print(os.environ["MLFLOW_TRACKING_URI"])
with mlflow.start_run() as run:
    mlflow.log_param("lr", 0.1)
    for step in range(5): mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.set_tag("who", "ada")
    mlflow.log_text("text", "notes/a.txt")
print(run.info.run_id)
"""


@pytest.mark.mlflow
def test_an_unmodified_mlflow_script_on_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare: Path, noria: Noria
) -> None:
    """A queue that starts the job at once, on this machine; the script's environment has mlflow, and no noria."""
    require("mlflow", importlib.util.find_spec("mlflow") is not None, "pip install mlflow")
    if not [entry for entry in entry_points(group="mlflow.tracking_store") if entry.name == "noria-spool"]:
        pytest.skip("the plugin is not installed: pip install -e .")
    for name, value in sandbox.open_(tmp_path / "box", "slurm").items():
        monkeypatch.setenv(name, value)
    server = Running(tmp_path / "home")
    try:
        (tmp_path / "train.py").write_text(MLFLOW)
        submitted = json.loads(noria("submit", "--json", "--on", "slurm", "--", str(bare), str(tmp_path / "train.py")).stdout)
        noria("wait", submitted["id"])
        folder = tmp_path / "home" / "jobs" / submitted["id"]
        assert noria("logs", submitted["id"]).stdout.splitlines()[-1] == submitted["run_id"]
        assert f"noria-spool://{folder}/spool" in noria("logs", submitted["id"]).stdout
        run = server.client.call(runs.GET, runs.Get(submitted["run_id"])).run
        assert run.info.status == "FINISHED" and {each.key: each.value for each in run.data.params} == {"lr": "0.1"}
        assert server.client.call(runs.CURVE, runs.Curve(run.info.run_id, "loss")).values == [1 / (step + 1) for step in range(5)]
        assert {each.key: each.value for each in run.data.tags}["who"] == "ada"
        until(lambda: sorted(server.client.tree(run.info.artifact_uri)) == ["noria/capsule.json", "notes/a.txt"])
    finally:
        server.stop()
        sandbox.end(tmp_path / "box")
