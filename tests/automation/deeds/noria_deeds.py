"""Actions of another package: one that fails at first, one that says no, one that breaks, one that takes long, and one that waits."""

import time
from pathlib import Path

from noria.automation.actions import Acted
from noria.errors import Invalid, Unavailable


def _write(ask, word):
    with Path(ask.settings["file"]).open("a") as file:
        file.write(f"{ask.key} {word}\n")


class Flaky:
    SETTINGS = ("file",)

    @staticmethod
    def act(ask):
        _write(ask, "tried")
        if Path(ask.settings["file"]).read_text().count(ask.key) <= ask.settings["flaky"]:
            raise Unavailable("The other side is away.")
        return Acted(result={"done": True})


class Gate:
    SETTINGS = ()

    @staticmethod
    def act(ask):
        return Acted("stopped", {"passed": False}, str(ask.settings["gate"]))


class Ill:
    SETTINGS = ()

    @staticmethod
    def act(ask):
        if ask.settings["ill"] == "broken":
            raise KeyError("what it looked for")
        raise Invalid(f"This can never work: {ask.settings['ill']}.")


class Slow:
    """Works for so many seconds."""

    SETTINGS = ("file",)

    @staticmethod
    def act(ask):
        _write(ask, "begun")
        time.sleep(ask.settings["slow"])
        _write(ask, "done")
        return Acted()


class Elsewhere:
    """Under way elsewhere until it was asked so often."""

    SETTINGS = ()

    @staticmethod
    def act(ask):
        asked = ask.result.get("asked", 0) + 1
        state = "done" if asked > ask.settings["elsewhere"] else "waiting"
        return Acted(state, {"asked": asked}, f"Asked {asked} times." if state == "done" else "It is under way.")
