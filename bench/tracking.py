"""Noria's tracking server beside `mlflow server` at its best: one machine, one run, in turns.

`python bench/tracking.py` measures everything (about half an hour), `--quick` smaller sizes (about 3 minutes); names choose rows.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path

from load import generator
from peers import RESULTS, Place, environment, has_mlflow, keep, machine, postgresql, say
from table import Row, markdown, plain

NAMES = ["ingest", "search", "history", "artifacts", "scale", "registry"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}; by default all")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds")
    parser.add_argument("--sqlite", action="store_true", help="leave the rows on PostgreSQL out")
    parser.add_argument("--dir", help="folder on the disk to measure; by default the system's temporary one")
    parser.add_argument("--json", type=Path, default=RESULTS / "tracking.json", metavar="FILE")
    args = parser.parse_args()
    if unknown := set(args.rows) - set(NAMES):
        parser.error(f"there is no row {', '.join(sorted(unknown))}; the names are {', '.join(NAMES)}")
    if not has_mlflow():
        say("mlflow is not installed here: Noria is measured alone.")
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory(dir=args.dir, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        kept = environment(name)
        os.environ.clear()
        os.environ.update(kept, MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false")
        known = machine(folder) | {"load_generator": generator(), "quick": args.quick}
        with postgresql(folder, wanted=not args.sqlite) as cluster:
            known["postgresql"] = cluster.version if cluster else None
            for each in args.rows or NAMES:
                say(f"= {each}")
                found[each] = importlib.import_module(each).rows(Place(folder, args.quick, cluster))
    print("; ".join(f"{key} {value}" for key, value in known.items()), end="\n\n")
    for each, rows in found.items():
        print(f"### {each}\n\n{sys.modules[each].__doc__}\n{markdown(rows)}\n")
    keep(args.json, {"machine": known, **{each: [plain(row) for row in rows] for each, rows in found.items()}})


if __name__ == "__main__":
    main()
