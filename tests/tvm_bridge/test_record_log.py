"""Logs: nothing that was measured is lost or mixed, whoever else writes and wherever a crash strikes."""

import contextlib
import gzip
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tvm_bridge import record_strategies as made
from tests.tvm_bridge.record_strategies import as_logged, record
from tvm_bridge.record_log import RecordLog, compress
from tvm_bridge.records import read_records

LAW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
FIVE = [as_logged(record(index, 1e-3 * (index + 1))) for index in range(5)]
plain_or_gzip = pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])


@contextlib.contextmanager
def caught():
    """The messages of the warnings inside."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        messages: list[str] = []
        yield messages
        messages += [str(warning.message) for warning in caught]


def append(path, records):
    log = RecordLog(path)
    for each in records:
        log.append(each)
    return log


@plain_or_gzip
def test_log_gives_back_what_was_appended(tmp_path, name):
    path = tmp_path / "new folder" / name
    assert append(path, FIVE[:3]).records == []
    assert append(path, FIVE[3:]).records == FIVE[:3]
    assert read_records(path) == FIVE
    assert read_records(str(path)) == FIVE
    assert read_records([path, path]) == FIVE * 2


@plain_or_gzip
def test_record_is_in_the_file_once_it_is_appended(tmp_path, name):
    log = RecordLog(tmp_path / name)
    for number, each in enumerate(FIVE, start=1):
        log.append(each)
        assert read_records(log.path) == FIVE[:number]


@plain_or_gzip
def test_log_is_read_by_plain_tools(tmp_path, name):
    path = tmp_path / name
    append(path, FIVE)
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as lines:
        assert [json.loads(line)["config"]["index"] for line in lines] == [0, 1, 2, 3, 4]


def test_missing_log_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_records(tmp_path / "log.jsonl")
    assert not list(tmp_path.iterdir())


@plain_or_gzip
def test_damaged_lines_are_reported_with_file_and_number(tmp_path, name):
    lines = [each.to_json() for each in FIVE]
    lines[1], lines[3] = lines[1][:50], "\x00garbage"
    path = tmp_path / name
    text = "\n".join([*lines[:3], "", *lines[3:], ""]).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    with caught() as messages:
        assert read_records(path) == [FIVE[0], FIVE[2], FIVE[4]]
    assert [message.split(" left out")[0] for message in messages] == [f"{path}:2:", f"{path}:5:"]


@plain_or_gzip
def test_bytes_that_are_no_text_are_a_damaged_line(tmp_path, name):
    path = tmp_path / name
    text = FIVE[0].to_json().encode() + b"\n\xff\xfe\xff\n" + FIVE[1].to_json().encode() + b"\n"
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    with pytest.warns(UserWarning, match=rf"{re.escape(str(path))}:2: left out"):
        assert read_records(path) == FIVE[:2]


# Crashes


def starts_of_members(content):
    """Where a gzip header stands."""
    return [match.start() for match in re.finditer(rb"\x1f\x8b\x08", content)]


def torn(tmp_path_factory, name, cut):
    """A log of three records cut off after `cut` bytes, and how many of them end before the cut."""
    path = tmp_path_factory.mktemp("torn") / name
    append(path, FIVE[:3])
    whole = path.read_bytes()
    cut = cut % (len(whole) + 1)
    if path.suffix == ".gz":
        ends = [*starts_of_members(whole)[1:], len(whole)]
    else:
        ends = [match.start() for match in re.finditer(rb"\n", whole)]  # a line may lack its newline
    path.write_bytes(whole[:cut])
    return path, sum(end <= cut for end in ends)


cuts = given(cut=st.integers(0, 2**16))


@plain_or_gzip
@settings(LAW, max_examples=150)
@cuts
def test_log_torn_anywhere_loses_only_the_torn_record_and_goes_on(tmp_path_factory, name, cut):
    path, kept = torn(tmp_path_factory, name, cut)
    with caught() as messages:
        log = RecordLog(path)
    assert log.records == FIVE[:kept]
    assert len(messages) <= 1
    assert all(str(path) in message and "half-written" in message for message in messages)
    log.append(FIVE[4])
    assert read_records(path) == [*FIVE[:kept], FIVE[4]]  # without a warning: those are errors here


@plain_or_gzip
@settings(LAW, max_examples=50)
@cuts
def test_torn_log_is_readable_as_it_lies(tmp_path_factory, name, cut):
    path, kept = torn(tmp_path_factory, name, cut)
    before = path.read_bytes()
    with caught() as messages:
        read = read_records(path)
    assert read[:kept] == FIVE[:kept]
    assert len(read) <= kept + 1
    assert messages == [] or (len(messages) == 1 and f"{path}:{kept + 1}: left out" in messages[0])
    assert path.read_bytes() == before


@plain_or_gzip
@settings(LAW, max_examples=25)
@cuts
def test_tear_by_another_writer_is_mended_by_the_next(tmp_path_factory, name, cut):
    """The other writer died while this one had the log open."""
    path = tmp_path_factory.mktemp("torn") / name
    log = append(path, FIVE[:2])
    before = path.stat().st_size
    RecordLog(path).append(FIVE[2])
    line = path.read_bytes()[before:]
    left = line[: cut % (len(line) - 1)]  # not even its last byte but the newline
    with open(path, "r+b") as file:
        file.truncate(before + len(left))
    with caught() as messages:
        log.append(FIVE[3])
    assert read_records(path) == [*FIVE[:2], FIVE[3]]
    assert len(messages) == bool(left)


@plain_or_gzip
def test_whole_line_without_its_newline_is_kept(tmp_path, name):
    """Written by another program, or torn just before the newline."""
    path = tmp_path / name
    text = "\n".join(each.to_json() for each in FIVE[:2]).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    assert append(path, [FIVE[2]]).records == FIVE[:2]
    assert read_records(path) == FIVE[:3]


@pytest.mark.parametrize("place", ["start", "middle", "end"])
def test_damaged_member_costs_that_member_and_is_reported(tmp_path, place):
    """A bad sector in a compressed log is not the end of all that follows it."""
    path = tmp_path / "log.jsonl.gz"
    append(path, FIVE)
    content = bytearray(path.read_bytes())
    starts = starts_of_members(content)
    offset = {"start": 0, "middle": 40, "end": starts[3] - starts[2] - 6}[place]
    content[starts[2] + offset] ^= 0xFF
    path.write_bytes(content)
    with caught() as messages:
        assert read_records(path) == [*FIVE[:2], *FIVE[3:]]
    assert len(messages) == 1
    assert str(path) in messages[0]
    with caught():
        assert append(path, [FIVE[2]]).records == [*FIVE[:2], *FIVE[3:]]


@pytest.mark.parametrize("name", ["notes.txt", "table.json", "table.json.gz"])
@pytest.mark.parametrize(
    "content",
    [
        b"first line\nsecond line, without an end",
        b"two\nlines\n",
        b"an archive\n" + bytes(512),
        json.dumps(made.TABLE).encode(),
    ],
    ids=["text", "lines", "archive", "table"],
)
def test_file_that_is_no_log_is_left_as_it_was(tmp_path, name, content):
    """A slip in `--log` must not cost the file that was named instead."""
    path = tmp_path / name
    for written in (content, gzip.compress(content)) if path.suffix == ".gz" else (content,):
        path.write_bytes(written)
        with pytest.raises(ValueError, match="is not a log of measurements; name another file"):
            RecordLog(path)
        assert path.read_bytes() == written


# Compression


def test_compressing_keeps_the_records_and_shrinks_the_log(tmp_path):
    path = tmp_path / "log.jsonl.gz"
    many = [as_logged(record(index)) for index in range(100)]
    log = append(path, many)
    before = path.stat().st_size
    compress(path)
    assert read_records(path) == many
    assert path.stat().st_size < before / 3
    assert list(tmp_path.iterdir()) == [path]
    log.append(FIVE[0])
    assert read_records(path) == [*many, FIVE[0]]


def test_open_log_survives_compression_and_another_writer(tmp_path):
    """The place up to which the log was known to be whole now lies in the middle of what another wrote."""
    path = tmp_path / "log.jsonl.gz"
    many = [as_logged(record(index)) for index in range(30)]
    log = append(path, many)
    before = path.stat().st_size
    compress(path)
    other, written = RecordLog(path), []
    while path.stat().st_size <= before + 100:
        written.append(FIVE[len(written) % 5])
        other.append(written[-1])
    log.append(FIVE[4])
    assert read_records(path) == [*many, *written, FIVE[4]]


def test_open_log_survives_compression_and_a_tear(tmp_path):
    """The other writer died below the place up to which this one knew the log to be whole."""
    path = tmp_path / "log.jsonl.gz"
    many = [as_logged(record(index)) for index in range(30)]
    log = append(path, many)
    compress(path)
    RecordLog(path).append(FIVE[0])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.warns(UserWarning, match="half-written"):
        log.append(FIVE[1])
    assert read_records(path) == [*many, FIVE[1]]


def test_compressing_a_torn_log_keeps_it_appendable(tmp_path):
    path = tmp_path / "log.jsonl.gz"
    append(path, FIVE[:3])
    path.write_bytes(path.read_bytes()[:-30])
    with caught():
        compress(path)
        log = RecordLog(path)
    assert log.records == FIVE[:2]
    log.append(FIVE[3])
    assert read_records(path) == [*FIVE[:2], FIVE[3]]


def test_plain_log_cannot_be_compressed_in_place(tmp_path):
    path = tmp_path / "log.jsonl"
    append(path, FIVE)
    with pytest.raises(ValueError, match=r"log\.jsonl.*\.gz"):
        compress(path)
    assert read_records(path) == FIVE


def test_compressing_a_missing_log_makes_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        compress(tmp_path / "log.jsonl.gz")
    assert not list(tmp_path.iterdir())


# Several writers


WRITERS, LINES = 3, 40
PROGRAM = """
import random, sys
from dataclasses import replace
from tvm_bridge.record_log import RecordLog, compress
from tvm_bridge.records import Record

writer, lines, *paths = sys.argv[1:]
noise = random.Random(writer)
logs = [RecordLog(path) for path in paths]
print("ready", flush=True)
record = Record.from_json(input())
for index in range(int(lines)):
    message = noise.randbytes(noise.randrange(10_000)).hex()
    for log in logs:
        log.append(replace(record, index=index, measurement=replace(record.measurement, device=writer, message=message)))
        if writer == "0" and index % 7 == 0 and log.path.suffix == ".gz":
            compress(log.path)
"""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A plain log and a compressed one that several processes wrote at the same time; one compressed them as it went."""
    folder = tmp_path_factory.mktemp("crowded")
    paths = [str(folder / "log.jsonl"), str(folder / "log.jsonl.gz")]
    program = [sys.executable, "-W", "error::UserWarning", "-c", PROGRAM]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": Path(__file__).parents[2]}
    with contextlib.ExitStack() as stack:
        writers = []
        for number in range(WRITERS):
            writers.append(stack.enter_context(subprocess.Popen([*program, str(number), str(LINES), *paths], **pipes)))
            stack.callback(writers[-1].kill)
        assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * WRITERS
        for writer in writers:
            writer.stdin.write(record(0, None).to_json() + "\n")
            writer.stdin.flush()
        assert [writer.wait(timeout=300) for writer in writers] == [0] * WRITERS
    return folder


@plain_or_gzip
def test_several_writers_neither_mix_nor_lose_lines(crowded, name):
    records = read_records(crowded / name)  # a mixed line would be a warning, which is an error
    assert len(records) == WRITERS * LINES
    for writer in range(WRITERS):
        assert [each.index for each in records if each.measurement.device == str(writer)] == list(range(LINES))


def test_crowd_left_nothing_else_behind(crowded):
    assert {path.name for path in crowded.iterdir()} == {"log.jsonl", "log.jsonl.gz"}
