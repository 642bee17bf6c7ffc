"""noria.checkpoint and noria.resume, as a script calls them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import noria
from noria.client import saved
from noria.client.checkpoint import checkpoint, resume
from noria.errors import Invalid

SAVES = """
import os, signal, sys, noria
state = noria.resume() or {"step": 0}
print("from", state["step"], flush=True)
for step in range(state["step"], 10):
    if step == 5 and "stop" in sys.argv:
        os.kill(os.getpid(), signal.SIGTERM)
    noria.checkpoint({"step": step + 1}, step=step, every=0 if "always" in sys.argv else None)
print("done", "torch" in sys.modules)
"""


def steps(folder: Path) -> list[int]:
    return sorted(step for step, _ in saved.found(folder))


def script(folder: Path, code: str, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run as a task of a job whose folder this is."""
    folder.mkdir(exist_ok=True)
    job = {"NORIA_JOB_FOLDER": str(folder), "NORIA_JOB_ID": "j1", "NORIA_RUN_ID": "a" * 32, "NORIA_ATTEMPT": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *argv], env={**os.environ, **job, **env}, capture_output=True, text=True, timeout=60
    )


def test_a_script_that_is_told_to_stop_saves_and_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    first = script(folder, SAVES, "stop")
    assert (first.returncode, first.stdout) == (75, "from 0\n") and "step 5 is saved" in first.stderr
    second = script(folder, SAVES, NORIA_ATTEMPT="2")
    assert (second.returncode, second.stdout) == (0, "from 6\ndone False\n")


def test_a_call_in_time_saves_nothing(tmp_path: Path) -> None:
    assert script(tmp_path / "job", SAVES).stdout == "from 0\ndone False\n"
    assert steps(tmp_path / "job" / "checkpoints") == []


def test_only_the_first_rank_saves(tmp_path: Path) -> None:
    assert script(tmp_path / "job", SAVES, "always", RANK="1").returncode == 0
    assert steps(tmp_path / "job" / "checkpoints") == []
    assert script(tmp_path / "job", SAVES, "always", RANK="0").returncode == 0
    assert steps(tmp_path / "job" / "checkpoints") == [8, 9]


def test_the_one_it_went_on_from_stays_for_ranks_that_start_later(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    script(folder, SAVES, "stop", WORLD_SIZE="2")
    assert script(folder, SAVES, "always", WORLD_SIZE="2", NORIA_ATTEMPT="2").returncode == 0
    assert steps(folder / "checkpoints") == [5, 8, 9]
    late = script(folder, SAVES, WORLD_SIZE="2", RANK="1", NORIA_ATTEMPT="2")
    assert late.stdout.startswith("from 6\n")


def test_ranks_wait_for_as_long_as_the_first_one_looks(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    script(folder, SAVES, "stop", WORLD_SIZE="2")
    checkpoints = folder / "checkpoints"
    (checkpoints / ".chosen-2").write_text("?")
    other = "import threading, time, pathlib, noria\nfrom noria.client import checkpoint\ncheckpoint._CHOICE = 0.1\n"
    chosen = f"note = pathlib.Path({str(checkpoints / '.chosen-2')!r})\n"
    later = f"threading.Timer(1, note.write_text, [{next(checkpoints.glob('step-*')).name!r}]).start()\n"
    late = script(folder, f"{other}{chosen}{later}{SAVES}", WORLD_SIZE="2", RANK="1", NORIA_ATTEMPT="2")
    assert late.stdout.startswith("from 6\n"), late.stderr


def test_ranks_that_torchrun_starts_again_go_on_from_a_new_choice(tmp_path: Path) -> None:
    folder, told = tmp_path / "job", {"WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "a/b"}
    assert script(folder, SAVES, "always", **told, TORCHELASTIC_RESTART_COUNT="0").stdout.startswith("from 0\n")
    told["TORCHELASTIC_RESTART_COUNT"] = "1"
    with ThreadPoolExecutor() as both:
        other = both.submit(script, folder, SAVES, **told, RANK="1")
        time.sleep(2)  # It begins before the first one does.
        assert script(folder, SAVES, **told, RANK="0").stdout.startswith("from 10\n")
        assert other.result().stdout.startswith("from 10\n")


def test_a_rank_of_srun_is_known(tmp_path: Path) -> None:
    assert script(tmp_path / "job", SAVES, "always", SLURM_PROCID="1").returncode == 0
    assert steps(tmp_path / "job" / "checkpoints") == []


def test_what_a_killed_process_has_left_is_removed_by_the_next_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    dies = "import os, noria\nnoria.checkpoint(writer=lambda path: os.kill(os.getpid(), 9), step=1, every=0)"
    assert script(folder, dies).returncode == -9
    assert [each.name for each in (folder / "checkpoints").glob(".step-*.tmp")] != []
    script(folder, SAVES, "always", NORIA_ATTEMPT="2")
    assert [*(folder / "checkpoints").glob(".step-*")] == [] and steps(folder / "checkpoints") == [8, 9]


def test_a_full_disk_costs_a_checkpoint_of_torch_and_no_training(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    code = """
import resource, noria, torch
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
noria.checkpoint({"w": torch.zeros(1 << 20)}, step=1, every=0)
print("goes on")
"""
    done = script(tmp_path / "job", code)
    assert done.stdout == "goes on\n" and "The checkpoint of step 1 cannot be saved" in done.stderr
    assert [*(tmp_path / "job" / "checkpoints").glob(".step-*")] == []


def test_a_try_that_was_replaced_writes_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "try").write_text("2")
    done = script(folder, SAVES.replace("noria.resume() or", ""), "always")
    assert done.returncode == 75 and "try 1 of this job has been replaced by try 2" in done.stderr
    assert steps(folder / "checkpoints") == []
    assert script(folder, SAVES, "always", NORIA_ATTEMPT="2").returncode == 0


def test_a_script_with_a_handler_of_its_own_keeps_it(tmp_path: Path) -> None:
    code = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('mine'))\n" + SAVES
    assert script(tmp_path / "job", code, "stop").stdout == "from 0\nmine\ndone False\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NORIA_HOME", str(tmp_path / "home"))
    with noria.start_run() as active:
        yield active


def test_outside_of_a_job_checkpoints_belong_to_the_run(run: Any, tmp_path: Path) -> None:
    path = checkpoint({"a": 1}, step=3, every=0)
    assert path is not None and path.parent == tmp_path / "home" / "checkpoints" / run.run_id
    assert resume() == {"a": 1}


def test_a_writer_saves_what_it_likes(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "weights").write_text("w")
        (folder / "step").write_text("7")

    path = checkpoint(writer=write, step=7, every=0, folder=tmp_path)
    assert path is not None and path.is_dir() and saved.whole(path)
    with pytest.raises(Invalid, match="made by a writer"):
        resume(folder=tmp_path)
    assert resume(lambda folder: (folder / "sub" / "weights").read_text(), folder=tmp_path) == "w"
    (path / "sub" / "weights").write_text("x")
    with pytest.warns(UserWarning, match="damaged"):
        assert resume(lambda folder: folder, folder=tmp_path) is None


def test_the_best_ones_stay_and_the_young_ones(tmp_path: Path) -> None:
    for step, score in enumerate([0.1, 0.9, 0.5, 0.8, 0.2, 0.3]):
        checkpoint({"step": step}, step=step, every=0, keep=2, score=score, keep_best=2, folder=tmp_path)
    assert steps(tmp_path) == [1, 3, 4, 5]
    for step in range(6, 9):
        checkpoint({"step": step}, step=step, every=0, keep=1, keep_for=60, folder=tmp_path)
    assert steps(tmp_path) == [1, 3, 4, 5, 6, 7, 8]


def test_a_damaged_one_gives_way_to_the_one_before(tmp_path: Path) -> None:
    for step in range(2):
        newest = checkpoint({"step": step}, step=step, every=0, folder=tmp_path)
    assert newest is not None
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="is damaged .* and is passed over"):
        assert resume(folder=tmp_path) == {"step": 0}
    assert checkpoint({"step": 1}, step=1, every=0, folder=tmp_path) is not None and resume(folder=tmp_path) == {"step": 1}


def test_a_full_disk_costs_a_checkpoint_and_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = checkpoint({"step": 0}, step=0, every=0, folder=tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.warns(UserWarning, match="step 1 cannot be saved .*No space left"):
            assert checkpoint({"step": 1}, step=1, every=0, folder=tmp_path) is None
    assert [path for _, path in saved.found(tmp_path)] == [before] and len([*tmp_path.iterdir()]) == 1


def test_tensors_are_saved_as_torch_does(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = checkpoint(lambda: {"w": torch.ones(3), "step": 2}, step=2, every=0, folder=tmp_path)
    assert path is not None and path.suffix == ".pt" and torch.equal(torch.load(path)["w"], torch.ones(3))
    assert torch.equal(resume(folder=tmp_path)["w"], torch.ones(3))


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="a state or a writer"):
        checkpoint(step=1, every=0, folder=tmp_path)
    saved.save(tmp_path, 1, "pickle", lambda path: path.write_bytes(b"no pickle") and None)
    with pytest.raises(Invalid, match="is whole, and cannot be read"):
        resume(folder=tmp_path)


def test_a_signal_is_only_noted(tmp_path: Path) -> None:
    code = "import os, signal, noria\nnoria.resume()\nos.kill(os.getpid(), signal.SIGTERM)\nprint(noria.stopping())"
    assert script(tmp_path / "job", code).stdout == "True\n"
