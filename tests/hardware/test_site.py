"""What a node is like: seen by a job, kept, and known to submissions from then on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from noria import config
from noria.hardware.site import Storage, own_disk, scratch, storage
from noria.mounts import kind


def test_a_job_looks_and_the_profile_is_kept(noria: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    found = json.loads(noria("cluster", "probe", "--json").stdout)
    site = found["site"]
    assert site["cpus"] >= 1 and site["memory"] > 2**28 and site["limits"]["open files"]
    assert {each["module"]: each["seconds"] for each in site["imports"]}["noria"] > 0
    shared = site["storage"][0]
    assert shared["write"] > 1e5 and shared["read"] > 1e5 and shared["files"] > 1
    assert json.loads(Path(found["kept"]).read_text()) == found["profile"]


def test_what_was_learned_is_known_until_a_file_says_otherwise(tmp_path: Path) -> None:
    env = {"NORIA_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    path = config.learned_of("slurm", tmp_path / "home")
    path.parent.mkdir(parents=True)
    path.write_text('{"gpus": {"a100": "81920MB"}, "site": {"pe": "mpi"}}')
    assert config.profile("slurm", env) == config.Profile(gpus={"a100": "81920MB"}, site={"pe": "mpi"})
    (tmp_path / "noria.toml").write_text('[profiles.slurm.gpus]\na100 = "40GB"\n')
    assert config.profile("slurm", env).gpus == {"a100": "40GB"}
    assert config.profile("slurm", env).site == {"pe": "mpi"}


def test_the_file_system_of_a_folder_and_scratch(tmp_path: Path) -> None:
    mounts = "a / ext4 rw 0 0\nb /home nfs4 rw 0 0\nc /home/scratch lustre rw 0 0\n"
    assert [kind(Path(each), mounts) for each in ("/", "/home/x", "/home/scratch", "/homely")] == [
        "ext4",
        "nfs4",
        "lustre",
        "ext4",
    ]
    assert scratch({"TMPDIR": str(tmp_path)}.get)[0] == tmp_path
    before = sorted(tmp_path.iterdir())
    assert storage(tmp_path).files > 0 and sorted(tmp_path.iterdir()) == before


def test_the_disk_of_a_node_that_outlives_a_job() -> None:
    def seen(*places: tuple[str, str]) -> list[Storage]:
        return [Storage(path, kind, 1, 1.0, 1.0, 1.0) for path, kind in places]

    assert own_disk(seen(("/home/x", "nfs4"), ("/job/7", "xfs"), ("/local", "xfs"), ("/tmp", "ext4"))) == "/local"
    assert own_disk(seen(("/scratch", "lustre"), ("/tmp", "ext4"))) == ""
