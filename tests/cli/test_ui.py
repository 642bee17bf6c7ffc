"""`noria ui`: the page's address, wherever the server is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest


def test_the_address_of_the_page(noria: Any, tmp_path: Path) -> None:
    done = noria("ui")
    address, _, token = done.stdout.strip().partition("#token=")
    assert token == (tmp_path / "home" / "token").read_text().strip() and "started the local server" in done.stderr
    with urlopen(address, timeout=10) as page:
        assert page.status == 200
    assert noria("ui").stdout == done.stdout, "the server that runs is found again"
    assert json.loads(noria("ui", "--json").stdout) == {"url": done.stdout.strip()}
    port = address.rstrip("/").rpartition(":")[2]
    assert noria("ui", "--port", port).returncode == 0
    refused = noria("ui", "--port", "1", check=False)
    assert refused.returncode == 1 and f"answers at {address.rstrip('/')} already" in refused.stderr


def test_over_ssh_it_says_how_to_see_the_page_from_afar(noria: Any) -> None:
    done = noria("ui", SSH_CONNECTION="10.0.0.1 5000 10.0.0.2 22")
    port = done.stdout.split("#")[0].rstrip("/").rpartition(":")[2]
    assert f"ssh -L {port}:127.0.0.1:{port} 10.0.0.2" in done.stderr


@pytest.mark.parametrize("flag", [(), ("--no-open",)])
def test_a_browser_is_started_only_on_a_terminal_with_a_screen(noria: Any, tmp_path: Path, flag: tuple[str, ...]) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    noria("ui", *flag, DISPLAY=":0", BROWSER=str(browser))
    assert not (tmp_path / "opened").exists()
    done = noria("ui", "--open", BROWSER=f"{browser} %s")
    assert (tmp_path / "opened").read_text() == done.stdout
