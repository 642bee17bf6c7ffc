"""What a job at Databricks runs: the project's entry point, in a copy of its code. This file goes there by itself, and needs Python alone.

argv: the packed project, and what is to be done as JSON: command, the folder inside, and variables.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile


def main() -> int:
    told = json.loads(sys.argv[2])
    root = tempfile.mkdtemp(prefix="noria-project-")
    with tarfile.open(sys.argv[1]) as tar:
        tar.extractall(root)  # noqa: S202 (written by whoever submitted this)
    env = {**os.environ, **told["env"]}
    env["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), env.get("PATH", os.defpath)])
    sys.stdout.flush()
    done = subprocess.run(["bash", "-c", told["command"]], cwd=os.path.join(root, told["inside"]), env=env)  # noqa: S607
    end(told["env"], done.returncode)
    return done.returncode


def end(env: dict, code: int) -> None:  # type: ignore[type-arg]
    """End the run, unless the program has done so by itself. Whoever waits for the job does it where there is no mlflow."""
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # The last line is to be the program's.
    try:
        from mlflow import MlflowClient
    except ImportError:
        return
    client = MlflowClient(env["MLFLOW_TRACKING_URI"])
    if client.get_run(env["MLFLOW_RUN_ID"]).info.status == "RUNNING":
        client.set_terminated(env["MLFLOW_RUN_ID"], "FAILED" if code else "FINISHED")


if __name__ == "__main__" and (code := main()):
    sys.exit(code)  # Only then: some runtimes take any SystemExit for a failure.
