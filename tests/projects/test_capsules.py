"""Runs are done again and compared, through the command line: what comes out is the same bit for bit, and what was changed is named first."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Noria = Callable[..., subprocess.CompletedProcess[str]]

TRAIN = """\
import argparse, random
import noria
from steps import step

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--data", default="data.csv")
args = parser.parse_args()
rate = 0.1
random.seed(args.seed)
weight = random.random()
rows = [float(line.split(",")[1]) for line in open(args.data)]
for number in range(20):
    weight = step(weight, rate, rows[number % len(rows)])
    noria.log(loss=weight * weight, step=number)
with open("weight.txt", "w") as file:
    file.write(repr(weight))
noria.log_artifact("weight.txt")
"""
STEPS = "def step(weight, rate, target):\n    return weight - rate * (weight - target)\n"


@pytest.fixture(autouse=True)
def _with_capsules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_CAPSULES", "true")
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "ada@example.org")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a program whose last change is not committed."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "steps.py").write_text("# to be written\n")
    (folder / "data.csv").write_text("".join(f"{number},{number / 7}\n" for number in range(60)))
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    (folder / "steps.py").write_text(STEPS)
    monkeypatch.chdir(folder)
    return folder


def submitted(noria: Noria, *words: str, **env: str) -> str:
    """The run of a job that has ended."""
    job = json.loads(noria("submit", "--json", "--", sys.executable, *words, **env).stdout)
    noria("wait", job["id"])
    return str(job["run_id"])


def again(noria: Noria, run: str, *words: str, **env: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(noria("rerun", run, "--compare", "--json", *words, **env).stdout)
    return found


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_job_again_is_the_same_bit_for_bit(noria: Noria, project: Path) -> None:
    run = submitted(noria, "train.py", "--seed", "3")
    shutil.rmtree(project)
    project.mkdir()
    found = again(noria, run)
    assert found["same"]
    assert found["metrics"] == [{"key": "loss", "same": True, "points": 20}]
    assert found["artifacts"] == {"weight.txt": "same"}
    assert not [each for each in found["changes"] if each["used"]]
    shown = json.loads(noria("runs", "show", found["new"], "--json").stdout)
    assert {"key": "noria.rerun", "value": run} in shown["data"]["tags"]
    assert "same metrics bit for bit: 1 metric, 20 points" in noria("runs", "diff", run, found["new"]).stdout


def test_capsule_of_a_job_says_what_it_was(noria: Noria, project: Path) -> None:
    run = submitted(noria, "train.py", "--seed", "3", LEARNING="slow", OMP_NUM_THREADS="1", API_TOKEN="hush-hush")
    text = noria("runs", "capsule", run, "--json").stdout
    capsule = json.loads(text)
    assert capsule["command"] == [sys.executable, "train.py", "--seed", "3"]
    assert capsule["cwd"] == str(project)
    assert capsule["seeds"] == {"seed": "3"}
    assert capsule["code"]["dirty"] and len(capsule["code"]["commit"]) == 40
    assert capsule["code"]["reached"] == ["train.py", "steps.py"]
    assert capsule["software"]["packages"]["msgspec"]["digest"]
    assert capsule["hardware"]["cpus"] == len(os.sched_getaffinity(0))
    assert capsule["seconds"] < 5
    assert "hush" not in text and "API_TOKEN" not in text
    shown = noria("runs", "show", run, "--files").stdout
    assert "noria/capsule.json" in shown and "noria/uncommitted.patch" in shown
    assert f"{len(os.sched_getaffinity(0))} CPUs" in noria("runs", "capsule", run).stdout


def test_code_is_kept_once_for_all_runs(noria: Noria, project: Path, tmp_path: Path) -> None:
    (project / ".gitignore").write_text("weight.txt\n")
    runs = [submitted(noria, "train.py", "--seed", seed) for seed in "12"]
    codes = {json.loads(noria("runs", "capsule", run, "--json").stdout)["code"]["digest"] for run in runs}
    kept = [path.name for path in (tmp_path / "home" / "artifacts" / "noria" / "code").iterdir()]
    assert [f"{each}.tar" for each in codes] == kept


def test_script_again_is_the_same_bit_for_bit(noria: Noria, project: Path) -> None:
    subprocess.run([sys.executable, "train.py", "--seed", "4"], check=True)
    (run,) = json.loads(noria("runs", "list", "--json").stdout)["runs"]
    found = again(noria, run["info"]["run_id"])
    assert found["same"] and found["artifacts"] == {"weight.txt": "same"}


def test_one_line_of_code_is_named_first(noria: Noria, project: Path) -> None:
    run = submitted(noria, "train.py")
    edited(project / "train.py", "rate = 0.1\n", "rate = 0.2\n")
    (project / "notes.md").write_text("tried another rate\n")
    found = again(noria, run, "--here")
    first = found["changes"][0]
    assert (first["kind"], first["name"], first["where"], first["old"], first["new"]) == (
        "code",
        "train.py",
        "line 9",
        "rate = 0.1",
        "rate = 0.2",
    )
    (loss,) = found["metrics"]
    assert not found["same"] and loss["first"] == 0 and 0 < loss["absolute"] < 100 and 0 < loss["relative"] < 1
    shown = noria("runs", "diff", run, found["new"]).stdout
    assert "1. train.py line 9:\n     - rate = 0.1\n     + rate = 0.2" in shown


def test_code_changed_since_is_named_and_not_used(noria: Noria, project: Path) -> None:
    run = submitted(noria, "train.py")
    edited(project / "train.py", "rate = 0.1\n", "rate = 0.2\n")
    found = again(noria, run)
    assert found["same"]
    first = found["changes"][0]
    assert (first["name"], first["where"], first["used"]) == ("train.py", "line 9", False)


def wheel(folder: Path, version: str) -> Path:
    """A package that can be installed, made by hand (Binary distribution format)."""
    info = f"scale-{version}.dist-info"
    files = {
        "scale.py": f"FACTOR = {version}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: scale\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }

    def hashed(text: str) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()

    record = "".join(f"{name},sha256={hashed(text)},{len(text)}\n" for name, text in files.items())
    path = folder / f"scale-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            packed.writestr(name, text)
    return path


def installed(site: Path, package: Path) -> None:
    shutil.rmtree(site, ignore_errors=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--disable-pip-version-check",
        "--target",
        str(site),
        str(package),
    ]
    subprocess.run(pip, check=True)


@pytest.mark.slow
def test_one_package_is_named_first(noria: Noria, project: Path, tmp_path: Path) -> None:
    edited(project / "train.py", "from steps import step\n", "from scale import FACTOR\nfrom steps import step\n")
    edited(project / "train.py", "rate = 0.1\n", "rate = 0.1 * FACTOR\n")
    site = tmp_path / "site"
    installed(site, wheel(tmp_path, "1.0"))
    run = submitted(noria, "train.py", PYTHONPATH=str(site))
    installed(site, wheel(tmp_path, "1.5"))
    found = again(noria, run)
    first = found["changes"][0]
    assert (first["kind"], first["name"], first["old"], first["new"]) == ("package", "scale", "1.0", "1.5")
    assert not found["same"]


@pytest.mark.slow
def test_packages_as_they_were(noria: Noria, project: Path, tmp_path: Path) -> None:
    edited(project / "train.py", "from steps import step\n", "from scale import FACTOR\nfrom steps import step\n")
    edited(project / "train.py", "rate = 0.1\n", "rate = 0.1 * FACTOR\n")
    own = tmp_path / "own"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(own)], check=True)
    (site,) = own.glob("lib/*/site-packages")
    installed(site, wheel(tmp_path, "1.0"))
    job = json.loads(noria("submit", "--json", "--", str(own / "bin" / "python"), "train.py").stdout)
    noria("wait", job["id"])
    run = job["run_id"]
    installed(site, wheel(tmp_path, "1.5"))
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(tmp_path)}
    assert again(noria, run, "--locked", **index)["same"]
    found = again(noria, run, **index)
    assert not found["same"] and found["changes"][0]["name"] == "scale"
    (tmp_path / "scale-1.0-py3-none-any.whl").unlink()
    shutil.rmtree(tmp_path / "home" / "environments")
    said = noria("rerun", run, "--locked", check=False, **index)
    assert said.returncode == 1 and "scale==1.0" in said.stderr and "Traceback" not in said.stderr


def test_one_row_of_data_in_the_code_is_named_first(noria: Noria, project: Path) -> None:
    run = submitted(noria, "train.py")
    edited(project / "data.csv", "\n17,", "\n17,9")
    found = again(noria, run, "--here")
    first = found["changes"][0]
    assert (first["kind"], first["name"], first["where"]) == ("data", "data.csv", "line 18")
    assert (first["old"], first["new"]) == (f"17,{17 / 7}", f"17,9{17 / 7}")
    assert not found["same"]


def test_one_row_of_data_elsewhere_is_named_first(noria: Noria, project: Path, tmp_path: Path) -> None:
    data = tmp_path / "elsewhere.csv"
    data.write_text("".join(f"{number},{number / 7}\n" for number in range(9000)))
    edited(project / "train.py", "import noria\n", f"import noria\nnoria.log_dataset({str(data)!r})\n")
    run = submitted(noria, "train.py", "--data", str(data))
    edited(data, "\n7,1.0\n", "\n7,1.5\n")
    found = again(noria, run)
    (first, *_) = found["changes"]
    assert (first["kind"], first["name"], first["where"]) == ("data", "elsewhere.csv", "line 8")
    assert not found["same"]


def test_one_row_of_data_that_only_the_command_names(noria: Noria, project: Path, tmp_path: Path) -> None:
    data = tmp_path / "elsewhere.csv"
    shutil.copyfile(project / "data.csv", data)
    run = submitted(noria, "train.py", "--data", str(data))
    edited(data, "\n7,1.0\n", "\n7,1.5\n")
    first = again(noria, run)["changes"][0]
    assert (first["kind"], first["name"], first["where"]) == ("data", str(data), "line 8")


def test_seed_is_named_first(noria: Noria, project: Path) -> None:
    run = submitted(noria, "train.py", "--seed", "3")
    found = again(noria, run, "--seed", "5")
    first = found["changes"][0]
    assert (first["kind"], first["name"], first["old"], first["new"]) == ("seed", "seed", "3", "5")
    assert not found["same"]
    other = submitted(noria, "train.py", "--seed", "5")
    told = json.loads(noria("runs", "diff", run, other, "--json").stdout)
    assert (told["changes"][0]["kind"], len([each for each in told["changes"] if each["weight"] > 0.06])) == ("seed", 1)


@pytest.mark.slow
def test_digits_are_learned_again_bit_for_bit(noria: Noria, project: Path) -> None:
    few = ("--set", "epochs=1", "--set", "width=4", "--set", "max_examples=256")
    run = submitted(noria, "-m", "noria", "train", "digits", *few)
    found = again(noria, run)
    assert found["same"] and found["artifacts"]["held_out.json"] == "same"
    assert found["artifacts"]["model/data/state.pt"] == "same"
    other = again(noria, run, "--seed", "1")
    assert not other["same"] and other["changes"][0]["kind"] == "seed"


@pytest.mark.slow  # One that is young may still be on its way.
def test_run_without_a_capsule(noria: Noria, project: Path) -> None:
    subprocess.run([sys.executable, "train.py"], check=True, env={**os.environ, "NORIA_CAPSULES": "false"})
    (run,) = json.loads(noria("runs", "list", "--json").stdout)["runs"]
    said = noria("rerun", run["info"]["run_id"], check=False)
    assert said.returncode == 1 and "has no capsule" in said.stderr and "Traceback" not in said.stderr


def test_damaged_capsule(noria: Noria, project: Path, tmp_path: Path) -> None:
    run = submitted(noria, "train.py")
    noria("runs", "capsule", run)
    (path,) = (tmp_path / "home" / "artifacts").glob(f"*/{run}/artifacts/noria/capsule.json")
    path.write_bytes(path.read_bytes().replace(b'"kind":"job"', b'"kind":"jab"'))
    said = noria("rerun", run, check=False)
    assert said.returncode == 1 and "capsule is damaged" in said.stderr and said.stderr.count("noria:") == 1
    path.unlink()
    assert "capsule is gone" in noria("rerun", run, check=False).stderr


def test_damaged_and_lost_code(noria: Noria, project: Path, tmp_path: Path) -> None:
    run = submitted(noria, "train.py")
    noria("runs", "capsule", run)
    here, (kept,) = tmp_path / "home" / "code", (tmp_path / "home" / "artifacts" / "noria" / "code").iterdir()
    shutil.rmtree(here)
    kept.write_bytes(kept.read_bytes().replace(b"rate = 0.1", b"rate = 0.3"))
    assert "is damaged" in noria("rerun", run, check=False).stderr
    kept.unlink()
    said = noria("rerun", run, check=False)
    assert "is gone from the server" in said.stderr and said.returncode == 1
    assert again(noria, run, "--here")["same"]


def test_data_that_are_gone(noria: Noria, project: Path, tmp_path: Path) -> None:
    data = tmp_path / "elsewhere.csv"
    shutil.copyfile(project / "data.csv", data)
    run = submitted(noria, "train.py", "--data", str(data))
    noria("runs", "capsule", run)
    data.unlink()
    said = noria("rerun", run, check=False)
    assert said.returncode == 1 and f"{data}, which run {run[:8]} read, is gone" in said.stderr


@pytest.mark.slow
def test_large_repository_is_put_together_from_its_commit(noria: Noria, project: Path) -> None:
    many = project / "many"
    many.mkdir()
    for number in range(5000):
        (many / f"{number}.txt").write_text(str(number))
    for words in (["add", "many"], ["commit", "-qm", "many"]):
        subprocess.run(["git", *words], check=True)
    (project / "data.csv").unlink()
    (project / "values.csv").write_text("0,1.0\n1,2.0\n")
    run = submitted(noria, "train.py", "--data", "values.csv")
    capsule = json.loads(noria("runs", "capsule", run, "--json").stdout)
    assert capsule["code"]["over"] and capsule["code"]["gone"] == ["data.csv"]
    assert "too large to freeze" in capsule["notes"][0]
    subprocess.run(["git", "checkout", "-q", "."], check=True)
    (project / "values.csv").unlink()
    assert again(noria, run)["same"]
    shutil.rmtree(project / ".git")
    said = noria("rerun", run, check=False)
    assert said.returncode == 1 and "has no commit" in said.stderr and said.stderr.count("noria:") == 1


def test_command_line_with_a_secret(noria: Noria, project: Path) -> None:
    edited(project / "train.py", "args = parser", 'parser.add_argument("--api-key")\nargs = parser')
    run = submitted(noria, "train.py", "--api-key", "hush-hush")
    assert "hush" not in noria("runs", "capsule", run, "--json").stdout
    assert "may be a secret" in noria("rerun", run, check=False).stderr


def test_parameter_that_the_command_has_not(noria: Noria, project: Path) -> None:
    run = submitted(noria, "train.py")
    said = noria("rerun", run, "--set", "depth=3", check=False)
    assert said.returncode == 1 and "no 'depth' to change" in said.stderr
