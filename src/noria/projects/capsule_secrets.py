"""What a capsule must not hold. Pure: names and words are judged by how they look, for nobody says which of them are secret."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

_SECRET = re.compile(r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|COOKIE|PRIVATE|APIKEY|(^|_)(KEY|PWD|AUTH|PASS|DSN|PAT)(_|$)")
_SAFE = {"OLDPWD", "PWD"}
_FILES = re.compile(
    r"\.env(\..*)?|\.netrc|\.pypirc|\.npmrc|\.htpasswd|id_(rsa|dsa|ecdsa|ed25519)|credentials(\..*)?|.*\.(pem|key|p12|pfx|kdbx|jks)"
)
_TEMPLATE = re.compile(r"\.env\.(example|sample|template|dist)")
_IN_URL = re.compile(r"(?<=://)[^/\s@]+@")
_LOOKS = re.compile(r"(ghp|gho|ghs|github_pat|glpat|hf|sk|xox[abp]|AKIA|dapi)[-_]?[A-Za-z0-9_-]{16,}$")
_PLAIN = re.compile(
    r"(OMP|MKL|OPENBLAS|BLIS|VECLIB|NUMEXPR|KMP|GOMP|CUDA|CUBLAS|CUDNN|NVIDIA|NCCL|ROCR|HIP|MIOPEN|GLOO|TORCH|TORCHINDUCTOR|PYTORCH|ATEN|TF|XLA|JAX|"
    r"KERAS|TRITON|FLAX|HF|TRANSFORMERS|PYTHON|MALLOC)_?[A-Z0-9_]*|(.*_)?SEED|LD_LIBRARY_PATH|LD_PRELOAD|LANG|LC_[A-Z]+|TZ|VIRTUAL_ENV|CONDA_PREFIX|LOADEDMODULES"
)
_OURS = re.compile(
    r"NORIA_.*|TORCHELASTIC_.*|TORCH_(FR|NCCL)_.*|JAX_(PROCESS_ID|NUM_PROCESSES|COORDINATOR.*)|TF_CONFIG|CUDA_VISIBLE_DEVICES|PYTHONFAULTHANDLER|PYTHONUNBUFFERED"
)
"""What launchers tell each job anew, and what changes no result."""
MASK = "…"


def secret(name: str) -> bool:
    """Whether a variable, or an option of a command, is likely to hold a secret."""
    plain = name.lstrip("-").replace("-", "_").upper()
    return plain not in _SAFE and bool(_SECRET.search(plain))


def secret_file(path: str) -> bool:
    name = PurePosixPath(path).name
    return bool(_FILES.fullmatch(name)) and not _TEMPLATE.fullmatch(name)


def looks_secret(value: str) -> bool:
    """Whether a text is a key by its form, or a URL with a password."""
    return bool(_LOOKS.match(value) or _IN_URL.search(value))


def url(text: str) -> str:
    """An address without the user and password in it."""
    return _IN_URL.sub("", text)


def variables(env: Mapping[str, str], asked: Mapping[str, str], read: Sequence[str]) -> dict[str, str]:
    """Those that bear on results: what frameworks and Python read, what the job was given by name, and what its code reads."""
    wanted = (
        {name for name in env if _PLAIN.fullmatch(name)} | ({*asked} - {"PATH"}) | ({*read} & {*env} - {"PATH", "HOME", "USER"})
    )
    found = {name: env.get(name, asked.get(name, "")) for name in sorted(wanted) if not _OURS.fullmatch(name)}
    if client := env.get("NORIA_CLIENT", ""):  # A launcher puts it behind what the job has.
        found |= {"PYTHONPATH": found.get("PYTHONPATH", "").removesuffix(client).removesuffix(":")}
    return {name: value for name, value in found.items() if value and not secret(name) and not looks_secret(value)}


def own(variables: Mapping[str, str]) -> dict[str, str]:
    """Those that the code reads or the job was given, and no framework's."""
    return {name: value for name, value in variables.items() if not _PLAIN.fullmatch(name)}


def command(words: Sequence[str]) -> tuple[list[str], bool]:
    """A command with what may be secret left out of it, and whether anything was."""
    shown: list[str] = []
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        before = words[at - 1] if at else ""
        after_secret = before.startswith("-") and "=" not in before and secret(before) and not word.startswith("-")
        if equals and value and (secret(name) or looks_secret(value)):
            shown.append(f"{name}={MASK}")
        else:
            shown.append(MASK if after_secret or looks_secret(word) else word)
    return shown, shown != list(words)
