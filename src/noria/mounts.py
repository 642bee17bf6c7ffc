"""Which file system a folder is on, and whether other machines may see it."""

from __future__ import annotations

from pathlib import Path

NETWORK = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "ceph", "fuse.sshfs", "9p", "afs", "panfs", "pvfs2"}


def kind(folder: Path, mounts: str | None = None) -> str:
    """The kind of file system, as Linux's list of mounts has it (proc(5)): the longest mount point above the folder; "" without a list."""
    try:
        lines = (mounts or Path("/proc/self/mounts").read_text()).splitlines()
    except OSError:
        return ""
    holding = [(point.replace("\\040", " "), name) for point, name in (line.split()[1:3] for line in lines)]
    # Of several mounts at one point the last one counts.
    return max(((len(point), place, name) for place, (point, name) in enumerate(holding) if folder.resolve().is_relative_to(point)),
               default=(0, 0, ""))[2]  # fmt: skip
