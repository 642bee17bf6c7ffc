"""Where pip is told to look for packages, for uv, which does not read pip's settings; and for what an environment is known by: the
same names from another index are other packages."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from pathlib import Path

_OPTIONS = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS", "no-index": "UV_NO_INDEX",
            "constraint": "UV_CONSTRAINT"}  # fmt: skip
"""pip's options, and how uv is told the same."""
_UVS = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
    "UV_CONSTRAINT",
    "UV_PRERELEASE",
)


def pips(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What pip's settings say, as pip reads them: variables before the user's file, before the machine's (pip: Configuration)."""
    found: dict[str, str] = {}
    for path in _files(env):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, "utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):  # pip will say so itself, where it is asked.
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {
                    name: " ".join(parser[section][name].split()) for name in (*_OPTIONS, "cert") if name in parser[section]
                }
    return found | {name: value for name in (*_OPTIONS, "cert") if (value := env.get(f"PIP_{name.upper().replace('-', '_')}"))}


def _files(env: Mapping[str, str]) -> list[Path]:
    """The last one goes before those above."""
    named = env.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return []
    home = Path(env.get("HOME") or os.path.expanduser("~"))
    wide = [Path(each) / "pip" / "pip.conf" for each in env.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if each]
    own = [home / ".pip" / "pip.conf", Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"]
    return [*reversed(wide), Path("/etc/pip.conf"), *own, *([Path(named)] if named else [])]


def for_uv(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The same for uv; what uv was told itself stands."""
    said = pips(env)
    found = {
        _OPTIONS[name]: value for name, value in said.items() if name in _OPTIONS and value.lower() not in ("0", "false", "no")
    }
    if found.get("UV_FIND_LINKS"):
        found["UV_FIND_LINKS"] = ",".join(found["UV_FIND_LINKS"].split())
    if any(env.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")):
        found.pop("UV_DEFAULT_INDEX", None)
    if said.get("cert"):
        found["SSL_CERT_FILE"] = said["cert"]
    return {name: value for name, value in found.items() if not env.get(name)}


def asked(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the environment's digest knows of all this: no passwords, which change."""
    said = {name: value for name, value in pips(env).items() if name != "cert"} | {
        name: env[name] for name in _UVS if env.get(name)
    }
    return {name: re.sub(r"://[^/@\s]*@", "://", value) for name, value in sorted(said.items())}
