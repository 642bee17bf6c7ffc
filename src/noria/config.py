"""Settings, read once at the door: flag > NORIA_* > ./noria.toml > ~/.config/noria.toml > default."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from noria.errors import Invalid


class Settings(Struct, frozen=True):
    """Everything that can be set. The names are those of the flags, of NORIA_<NAME>, and of the keys in noria.toml.

    home: where a local server keeps all of its state; a local disk.
    db: the URL of a PostgreSQL for that state; empty: SQLite in the home.
    durability: what an answer survives: "power" a power cut, "process" just the death of the server.
    workers: how many processes serve one address; more than one needs PostgreSQL.
    server: the URL of a team's server; empty: the local one, started when needed.
    token: what the server asks for; empty: the one in the local home.
    host, port: where a server started here listens; port 0 takes a free one.
    auth: whether a server started here asks for a token.
    on: where jobs go unless they say, a scheduler or the name of a profile; empty: to the cluster that answers here, or to this machine.
    machine: a folder in which the local queues of this machine's users tell each other what they have given away; the same for all.
    artifacts: where a server started here keeps artifacts, a folder or a URL of fsspec; empty: in its home.
    environments: where environments are kept that files describe, on a file system that the nodes share; empty: in the home.
    system_metrics_interval: seconds between two samples of CPU, memory, disk, network and GPUs; 0 takes none.
    capsules: whether runs keep what is needed to do them again.
    """

    home: str = "~/.noria"
    db: str = ""
    durability: Literal["power", "process"] = "power"
    workers: int = 1
    server: str = ""
    token: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    auth: bool = True
    on: str = ""
    machine: str = "/dev/shm/noria"  # noqa: S108 (others are to find it: neighbours.py believes no file but its owner's)
    artifacts: str = ""
    environments: str = ""
    system_metrics_interval: float = 10.0
    capsules: bool = True

    @property
    def folder(self) -> Path:
        return Path(self.home).expanduser().absolute()

    @property
    def environments_folder(self) -> Path:
        return Path(self.environments).expanduser().absolute() if self.environments else self.folder / "environments"


def _file(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not valid TOML ({error}).", "Mend that line.") from None


class Profile(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What noria.toml says of one cluster, in [profiles.NAME].

    scheduler: which one it is; empty: the one that has the profile's name.
    ssh: how OpenSSH reaches a login node; empty: its commands are here. `python` is the one there that runs the agent and the launchers.
    home: where its job folders go, on a file system that its nodes share; empty: in the agent's home.
    agent: whether an agent that was started with `noria agent --cluster NAME` takes its jobs, and no other.
    variables: what its commands must be told, such as SLURM_CONF or SGE_CELL, where several clusters are reached from one machine.
    ask: what jobs ask for unless they say otherwise, by the names of the options, such as account = "vision".
    gpus: the memory of each type of GPU, by the name that the scheduler has for it, such as a100 = "80GB".
    site: what is named otherwise there than elsewhere; the scheduler's file in jobs/schedulers says which names it knows.
    """

    scheduler: str = ""
    ssh: str = ""
    home: str = ""
    python: str = "python3"
    agent: bool = False
    variables: dict[str, str] = {}
    ask: dict[str, str | int | bool] = {}
    gpus: dict[str, str] = {}
    site: dict[str, str] = {}


def profile(name: str, env: Mapping[str, str] = os.environ) -> Profile:
    """The profile of a cluster: ./noria.toml goes before the user's file, and that before what `noria cluster probe` has learned."""
    merged: dict[object, object] = {}
    learned = learned_of(name, load(env=env).folder)
    if learned.exists():
        merged |= msgspec.json.decode(learned.read_bytes(), type=dict)
    for layer in _files(env):
        profiles = layer.get("profiles", {})
        found = profiles.get(name, {}) if isinstance(profiles, dict) else {}
        merged |= found if isinstance(found, dict) else {}
    try:
        return msgspec.convert(merged, Profile)
    except msgspec.ValidationError as error:
        raise Invalid(f"[profiles.{name}] in noria.toml is wrong: {error}.", "Mend that line.") from None


def profiles(env: Mapping[str, str] = os.environ) -> list[str]:
    """The names of all profiles that were written down."""
    tables = [layer.get("profiles") for layer in _files(env)]
    return sorted({name for table in tables if isinstance(table, dict) for name in table})


def learned_of(name: str, folder: Path) -> Path:
    """Where the profile is kept that was learned by probing."""
    return folder / "profiles" / f"{name}.json"


def _files(env: Mapping[str, str]) -> list[dict[str, object]]:
    user = Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME", "~")).expanduser() / ".config") / "noria.toml"
    return [_file(user), _file(Path("noria.toml"))]


def load(flags: Mapping[str, object] | None = None, env: Mapping[str, str] = os.environ) -> Settings:
    """The settings in force. A flag that is None was not given; an empty NORIA_* variable counts as not set."""
    names = Settings.__struct_fields__
    merged: dict[str, object] = {}
    layers: list[Mapping[str, object]] = [
        *_files(env),
        {name: env[f"NORIA_{name.upper()}"] for name in names if env.get(f"NORIA_{name.upper()}")},
        {name: value for name, value in (flags or {}).items() if value is not None},
    ]
    for layer in layers:
        merged |= {name: value for name, value in layer.items() if name in names}
    try:
        return msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"A setting is wrong: {error}.", "See noria.toml and the NORIA_* variables.") from None
