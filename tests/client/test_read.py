"""A spool that is cut anywhere, or in which any bit is flipped: always readable, and what is lost is the record that was hit."""

from __future__ import annotations

import os
import random
from pathlib import Path

from noria.client import disk, read
from noria.client.spool import Spool
from noria.wire import spools
from noria.wire.spools import Begin, End, Header, Log, Params, Record, Tags

RECORDS: list[Record] = [
    Begin("Default", "small", "ada", 1, {"a": "b"}),
    Params({"lr": "0.1"}),
    *(Log(step, 1e9 + step, {"loss": 1 / (step + 1), "val/loss": 0.5}) for step in range(4)),
    Tags({"text": "ä" * 200}),
    End("FINISHED", 2),
]


def small(folder: Path) -> tuple[Path, Header]:
    header = Header(spools.FORMAT, "5" * 32, "a" * 32, "", 0, 0, "here", 1, "1", 1)
    spool = Spool(folder, header)
    for record in RECORDS:
        spool.append(record)
    spool.close()
    return spool.path, header


def pieces(path: Path) -> tuple[list[Record], list[tuple[int, int]]]:
    """All records that can be read, and where damage lies."""
    with disk.opened(path) as fd:
        found = list(read.pieces(fd))
    assert [each.start for each in found[1:]] == [each.end for each in found[:-1]], "no byte is passed over unseen"
    assert not found or (found[0].start, found[-1].end) == (0, path.stat().st_size)
    return [record for each in found for record in spools.records(each.frames)], [
        (each.start, each.end) for each in found if not each.frames
    ]


def frames(path: Path) -> list[tuple[int, int]]:
    return [(start, end) for _, start, end in spools.tagged(path.read_bytes())]


def test_cut_at_every_byte(tmp_path: Path) -> None:
    path, header = small(tmp_path)
    data, places, everything = path.read_bytes(), frames(path), [header, header, *RECORDS]
    assert pieces(path) == (everything, [])
    for size in reversed(range(len(data))):
        os.truncate(path, size)
        kept = [end for _, end in places if end <= size]
        torn = [] if size in (0, *kept) else [(max(kept, default=0), size)]
        assert pieces(path) == (everything[: len(kept)], torn)
        with disk.opened(path) as fd:
            assert read.header(fd, path) == (header if kept else None)
            assert not read.ended(fd)


def test_every_bit_flipped(tmp_path: Path) -> None:
    path, header = small(tmp_path)
    data, places, everything = path.read_bytes(), frames(path), [header, header, *RECORDS]
    with path.open("r+b", buffering=0) as file:
        for bit in range(len(data) * 8):
            at = bit // 8
            os.pwrite(file.fileno(), bytes([data[at] ^ 1 << bit % 8]), at)
            (hit,) = [index for index, (start, end) in enumerate(places) if start <= at < end]
            assert pieces(path) == (everything[:hit] + everything[hit + 1 :], [places[hit]])
            with disk.opened(path) as fd:
                assert read.header(fd, path) == header, "its twin stands in"
            os.pwrite(file.fileno(), data[at : at + 1], at)


def test_a_stretch_of_zeros_or_noise_is_passed_over(tmp_path: Path) -> None:
    path, header = small(tmp_path)
    data, end = path.read_bytes(), frames(path)[4][1]
    noise = random.Random(7).randbytes(3 * read.BATCH + 12_345)
    for damage in (bytes(4096), bytes(read.BATCH), b"\x91\x02" * 5000, b"text\n" * 999, noise, data[end + 3 :][:40]):
        path.write_bytes(data[:end] + damage + data[end:])
        assert pieces(path) == ([header, header, *RECORDS], [(end, end + len(damage))])
        with disk.opened(path) as fd:
            assert read.ended(fd)


def test_both_headers_gone(tmp_path: Path) -> None:
    path, _ = small(tmp_path)
    data = bytearray(path.read_bytes())
    start = frames(path)[2][0]
    data[:start] = bytes(start)
    path.write_bytes(data)
    assert pieces(path) == (RECORDS, [(0, start)])
    with disk.opened(path) as fd:
        header = read.header(fd, path, "f" * 32)
        assert header is not None and (header.spool_id, header.run_id) == ("5" * 32, "f" * 32)


def test_a_record_larger_than_a_batch(tmp_path: Path) -> None:
    path, header = small(tmp_path)
    large = Params({f"p{number}": "x" * 6000 for number in range(400)})
    data = path.read_bytes()
    path.write_bytes(data + spools.frame(large) + data[frames(path)[2][0] :])
    assert pieces(path) == ([header, header, *RECORDS, large, *RECORDS], [])


def test_every_record_has_the_head_that_a_reader_looks_for() -> None:
    """A short array with a small tag: what `resume` finds frames by."""
    for kind in spools.Record.__args__:
        assert len(kind.__struct_fields__) < 15 and 0 <= kind.__struct_config__.tag < 64
