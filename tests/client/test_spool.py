"""The spool: what log() returned from is on the disk, whatever happens next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from noria.wire import spools
from noria.wire.spools import Begin, End, Header, Log, Params, Rewind, Tags


def script(body: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", body],
        capture_output=True,
        text=True,
        env={"NORIA_HOME": str(home), "NORIA_CAPSULES": "false", **env},
        timeout=60,
    )


def written(home: Path) -> list[spools.Record]:
    """All records of the only spool of a home, its header once; fails if any of it is damaged."""
    (path,) = (home / "spool").glob("*.spool")
    data = path.read_bytes()
    assert spools.whole(data) == len(data)
    header, twin, *rest = spools.records(data)
    assert header == twin
    return [header, *rest]


def test_a_process_that_kills_itself_after_its_1000th_log_leaves_1000(tmp_path: Path) -> None:
    body = "import noria, os\nfor i in range(1000): noria.log(loss=1 / (i + 1), step=i)\nos.kill(os.getpid(), 9)"
    assert script(body, tmp_path).returncode == -9
    points = [record for record in written(tmp_path) if isinstance(record, Log)]
    assert [point.step for point in points] == list(range(1000))
    assert points[3].metrics == {"loss": 0.25}


def test_records_come_in_the_order_of_the_calls(tmp_path: Path) -> None:
    body = "import noria\nnoria.log_param('lr', 0.1)\nnoria.set_tag('a', 'b')\nnoria.log({'x/y': 2}, step=5)\nnoria.log(z=1.5)"
    assert script(body, tmp_path).stderr == ""
    header, begin, params, tags, first, second, end = written(tmp_path)
    assert isinstance(header, Header) and isinstance(begin, Begin) and isinstance(end, End)
    assert params == Params({"lr": "0.1"}) and tags == Tags({"a": "b"})
    assert isinstance(first, Log) and (first.step, first.metrics) == (5, {"x/y": 2.0})
    assert isinstance(second, Log) and (second.step, second.metrics) == (6, {"z": 1.5})
    assert end.status == "FINISHED"


def test_a_run_whose_script_raises_ends_as_failed(tmp_path: Path) -> None:
    assert script("import noria\nnoria.log(a=1)\n1 / 0", tmp_path).returncode == 1
    end = written(tmp_path)[-1]
    assert isinstance(end, End) and end.status == "FAILED"


def test_numpy_scalars_nan_and_infinities_are_numbers(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    body = (
        "import noria, numpy as np\nnoria.log(a=np.float32(0.5), b=float('nan'), c=float('-inf'), d=True, e=3, step=np.int64(7))"
    )
    assert script(body, tmp_path).stderr == ""
    (point,) = [record for record in written(tmp_path) if isinstance(record, Log)]
    assert point.step == 7 and point.metrics["a"] == 0.5 and point.metrics["b"] != point.metrics["b"]
    assert (point.metrics["c"], point.metrics["d"], point.metrics["e"]) == (float("-inf"), 1.0, 3.0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("noria.log(loss='high')", "which is not a number"),
        ("noria.log({'../x': 1.0})", "must not resolve to other names"),
        ("noria.log({'k' * 251: 1.0})", "exceeds the maximum length of 250 characters. It has 251"),
        ("noria.log_param('a', 1); noria.log_param('a', 2)", "Changing param values is not allowed"),
        ("noria.log_artifact('nosuch')", "There is no file 'nosuch' to log"),
        ("noria.log_artifact('/etc/hostname', '../../up')", "Invalid path"),
        ("noria.start_run(); noria.start_run()", "is active already"),
    ],
)
def test_wrong_calls_say_what_why_and_how_to_mend(tmp_path: Path, call: str, says: str) -> None:
    body = f"import noria\nfrom noria.errors import NoriaError\ntry:\n    {call}\nexcept NoriaError as error: print(error)"
    done = script(body, tmp_path)
    assert says in done.stdout and done.stderr == ""


def test_a_long_parameter_is_cut_with_a_warning(tmp_path: Path) -> None:
    done = script("import noria\nnoria.log_param('text', 'x' * 10_000_000)", tmp_path)
    assert "has 10,000,000 characters; the first 6,000 are kept" in done.stderr
    (params,) = [record for record in written(tmp_path) if isinstance(record, Params)]
    assert params.params["text"] == "x" * 6000


def test_a_full_disk_stops_no_training_and_loses_nothing_once_there_is_room(tmp_path: Path) -> None:
    # A limit on the size of files is the only full disk to be had without root: a short write, then errors.
    body = """
import noria, resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
noria.start_run()
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
for i in range(100): noria.log(loss=0.5, step=i)
noria.rewind(100)  # Held too: it must not be overtaken, nor overtake.
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
for i in range(100, 110): noria.log(loss=0.5, step=i)
"""
    done = script(body, tmp_path)
    assert done.returncode == 0 and done.stderr.count("is full or gone") == 1
    assert [record.step for record in written(tmp_path) if isinstance(record, Log | Rewind)] == [
        *range(100),
        100,
        *range(100, 110),
    ]


def test_a_first_call_without_metrics_is_no_full_disk(tmp_path: Path) -> None:
    assert script("import noria\nnoria.log({})\nnoria.log(x=1.0)", tmp_path).stderr == ""


def test_a_reader_stops_before_damage_wherever_it_is(tmp_path: Path) -> None:
    frames = [spools.frame(Log(step, 0.0, {"loss": 0.5})) for step in range(5)]
    data, ends = b"".join(frames), [sum(map(len, frames[:n])) for n in range(6)]
    for cut in range(len(data)):
        assert spools.whole(data[:cut]) == max(end for end in ends if end <= cut)
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1
        assert spools.whole(bytes(flipped)) == max(end for end in ends if end <= at)


def test_threads_share_a_spool(tmp_path: Path) -> None:
    body = """
import noria
from concurrent.futures import ThreadPoolExecutor
noria.start_run()
with ThreadPoolExecutor(8) as pool: list(pool.map(lambda i: noria.log(x=float(i), step=i), range(2000)))
"""
    assert script(body, tmp_path).stderr == ""
    assert sorted(record.step for record in written(tmp_path) if isinstance(record, Log)) == list(range(2000))


def test_import_noria_brings_nothing_but_the_standard_library_and_msgspec(tmp_path: Path) -> None:
    body = """
import sys, msgspec
before = set(sys.modules)  # What msgspec brings along is its own affair.
import noria
noria.log(loss=0.5)
outside = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names) - {"noria"}
print(sorted(name for name in outside if not name.startswith("_")))
"""
    assert script(body, tmp_path).stdout.strip() == "[]"
