"""Records and logs: nothing that was measured is lost or mixed, whoever else writes and wherever a crash strikes."""

import contextlib
import gzip
import json
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.records_folder import RECORDS, needs_records
from tests.tvm_bridge import record_strategies as made
from tests.tvm_bridge.record_strategies import RTX, SMALL, as_logged, record, small_task, write_log
from tvm_bridge.convolution import Conv2d
from tvm_bridge.measure.base import ErrorCategory
from tvm_bridge.records import DEFAULT_INDEX, Record, RecordLog, TaskKey, best_records, compress, read_records
from tvm_bridge.target import Target

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


# One line


@LAW
@given(made.records)
def test_record_round_trip(written):
    line = written.to_json()
    assert "\n" not in line
    read = Record.from_json(line)
    assert read == as_logged(written)
    assert read.to_json() == line


def without_spelling(line):
    """What a line means: the target's words and the version of TVM left out, the arguments in one spelling."""
    fields = json.loads(line)
    target, name, args, options = fields["input"]
    operator, kind = name.split(".")
    fields["input"] = [Target.parse(target), operator, kind, Conv2d.from_args(operator, args), options]
    return fields | {"tvm_version": None}


@pytest.mark.parametrize("line", [made.AUTOTVM_LINE])
def test_autotvm_line_is_written_back(line):
    assert without_spelling(Record.from_json(line).to_json()) == without_spelling(line)


@needs_records
@pytest.mark.parametrize("device", ["gtx1650", "rtx3080", "v100"])
def test_every_recorded_line_is_written_back(device):
    assert RECORDS is not None
    for path in sorted((RECORDS / "autotvm" / device).glob("*/*.jsonl.gz")):
        with gzip.open(path) as lines:
            for line in lines:
                record, fields = Record.from_json(line), json.loads(line)
                written = json.loads(record.to_json())
                task, logged = written.pop("input"), fields.pop("input")
                assert written | {"tvm_version": fields["tvm_version"]} == fields
                assert (task[1], task[3]) == (logged[1], logged[3])
                assert task[2] == logged[2] or logged[2][3] in ("SAME", "VALID")


def test_own_line_has_exactly_the_fields_of_autotvm():
    """The device and a failure's message are the two fields that AutoTVM ignores; they are left out where unknown."""
    ours, autotvm = json.loads(record().to_json()), json.loads(made.AUTOTVM_LINE)
    assert list(ours) == list(autotvm)
    assert list(ours["config"]) == list(autotvm["config"])
    assert [type(field) for field in ours["input"]] == [type(field) for field in autotvm["input"]]
    assert [type(field) for field in ours["result"]] == [type(field) for field in autotvm["result"]]
    assert ours["version"] == autotvm["version"]
    extra = json.loads(record(0, None, device="a GPU", message="it hung").to_json())
    assert set(extra) - set(autotvm) == {"device", "message"}


def test_failure_is_logged_as_a_billion_seconds():
    line = record(3, None, error=ErrorCategory.RUN_TIMEOUT, message="stopped after 10 s", device="a GPU").to_json()
    assert json.loads(line)["result"][:2] == [[1e9], 7]
    read = Record.from_json(line).measurement
    assert (read.ok, read.cost, read.seconds) == (False, float("inf"), ())
    assert (read.message, read.device) == ("stopped after 10 s", "a GPU")


@pytest.mark.parametrize(
    "entity",
    [
        ["order", "re", [2, 0, 1]],
        ["annotate", "an", ["unroll", "vec"]],
        ["layout", "ot", "NCHW"],
        ["nothing", "ot", None],
    ],
    ids=lambda entity: f"{entity[1]}-{entity[2]}",
)
def test_other_kinds_of_knobs_are_written_back(entity):
    fields = json.loads(made.AUTOTVM_LINE)
    fields["config"]["entity"].append(entity)
    assert json.loads(Record.from_json(json.dumps(fields)).to_json())["config"] == fields["config"]


@pytest.mark.parametrize("name", ["conv2d_nchw_spatial_pack.arm_cpu", "dense_nopack.x86", "matmul"])
def test_other_task_names_are_written_back(name):
    """AutoTVM names a template by the folder it lies in, which is not always the kind of its target."""
    fields = json.loads(made.AUTOTVM_LINE)
    fields["input"][:2] = ["llvm -mcpu=znver4", name]
    assert json.loads(Record.from_json(json.dumps(fields)).to_json())["input"][:2] == fields["input"][:2]


DAMAGED = {
    "nothing": "",
    "a list": "[]",
    "null": "null",
    "half": made.AUTOTVM_LINE[:-1],
    "deep": "[" * 100_000,
    "no config": made.AUTOTVM_LINE.replace('"config"', '"konfig"'),
    "no timestamp": made.AUTOTVM_LINE.replace(", 1650000000.0", ""),
    "unknown error": made.AUTOTVM_LINE.replace("[0.0089085], 0,", "[1e9], 9,"),
    "neither time nor error": made.AUTOTVM_LINE.replace("[0.0089085], 0,", "[], 0,"),
    "endless index": made.AUTOTVM_LINE.replace("594848", "Infinity"),
    "endless factor": made.AUTOTVM_LINE.replace("[-1, 1, 2, 1]", "[-1, 1, 2, 1e999]"),
    "three extents": made.AUTOTVM_LINE.replace("[1, 128, 28, 28]", "[1, 128, 28]"),
    "half a target": made.AUTOTVM_LINE.replace('"cuda -keys', '"{'),
    "a number for a task": made.AUTOTVM_LINE.replace('"conv2d_nchw.cuda"', "7"),
}


@pytest.mark.parametrize("line", DAMAGED.values(), ids=DAMAGED)
def test_damaged_line_is_a_value_error_that_says_so(line):
    with pytest.raises(ValueError, match="not a record of a measurement"):
        Record.from_json(line)


# Tasks


SPELLINGS = [
    [[1, 1], [1, 1, 1, 1], [1, 1], "float32"],
    [[1, 1], [1, 1], [1, 1], "float32"],
    [1, 1, 1, "float32"],
    [[1, 1], "SAME", [1, 1], "float32"],
    [(1, 1), (1, 1), 1, "NCHW", "float32"],
]


@pytest.mark.parametrize("rest", SPELLINGS)
def test_spellings_of_args_are_one_task(rest):
    args = [["TENSOR", list(SMALL.data), "float32"], ["TENSOR", list(SMALL.weight), "float32"], *rest]
    assert TaskKey.of(RTX, "conv2d_nchw", args) == small_task().key


@plain_or_gzip
def test_best_records_are_tied_to_target_and_workload(tmp_path, name):
    turing = Target.parse("cuda -arch=sm_75")
    tasks = [small_task(), small_task(target=turing), small_task(workload=replace(SMALL, stride=(2, 2)))]
    log = [
        record(index, (5 - index) * (number + 1) * 1e-3, task=task) for index in range(4) for number, task in enumerate(tasks)
    ]
    log += [record(4, None, task=task) for task in tasks]
    best = best_records(write_log(tmp_path / name, log))
    assert list(best) == [task.key for task in tasks]
    for number, task in enumerate(tasks):
        assert best[task.key].index == 3
        assert best[task.key].measurement.cost == 2 * (number + 1) * 1e-3


def test_best_record_is_the_fastest_of_several_logs_by_its_median(tmp_path):
    steady, lucky = record(1, 2e-3), record(2, 1e-3)
    lucky = replace(lucky, measurement=replace(lucky.measurement, seconds=(1e-3, 3e-3, 3e-3)))
    logs = [write_log(tmp_path / "a.jsonl", [lucky]), write_log(tmp_path / "b.jsonl.gz", [steady, record(3, None)])]
    assert best_records(logs) == {steady.key: as_logged(steady)}
    assert best_records(reversed(logs)) == {steady.key: as_logged(steady)}


def test_default_schedule_can_be_the_best_record(tmp_path):
    default = record(DEFAULT_INDEX, 1e-4)
    assert best_records(write_log(tmp_path / "log.jsonl", [record(1), default])) == {default.key: default}


def test_tasks_that_only_failed_have_no_best_record(tmp_path):
    assert best_records(write_log(tmp_path / "log.jsonl", [record(1, None)])) == {}


# A log


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
    "content", [b"first line\nsecond line, without an end", json.dumps(made.TABLE).encode()], ids=["text", "table"]
)
def test_file_that_is_no_log_is_left_as_it_was(tmp_path, name, content):
    """A slip in `--log` must not cost the file that was named instead."""
    path = tmp_path / name
    path.write_bytes(content)
    with caught(), contextlib.suppress(ValueError):
        RecordLog(path)
    assert path.read_bytes().startswith(content)


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
from tvm_bridge.records import Record, RecordLog, compress

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
