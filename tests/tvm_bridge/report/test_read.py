"""A log and a folder are read as they were written; what is damaged costs no more than itself."""

import gzip
import json

import pytest

from tests.tvm_bridge.record_strategies import AUTOTVM_LINE, SMALL, TILED, record, small_task, write_log
from tests.tvm_bridge.report.pages import LATENCY, ROUND, TASKS, TIMES, network_folder, write_lines
from tvm_bridge.dense import Dense
from tvm_bridge.records import TVM_VERSION
from tvm_bridge.report.read import read_tuning


@pytest.fixture
def folder(tmp_path):
    return network_folder(tmp_path / "tiny")


def test_network_has_its_tasks_in_order_with_their_measurements(folder):
    tuning = read_tuning(folder)
    assert (tuning.source, tuning.network, tuning.notes) == ("tiny", "tiny", ())
    assert [(task.label, task.count, task.flop) for task in tuning.tasks] == [("stem", 1, SMALL.flop), ("body", 3, TILED.flop)]
    for task in tuning.tasks:
        assert task.key == TASKS[task.label].key
        seconds = [record.measurement.seconds for record in task.trials]
        assert seconds == [(each,) if each else () for each in TIMES[task.label]]
    stem, body = tuning.tasks
    assert (stem.default_seconds, stem.seconds, stem.gain, len(stem.failures)) == (1e-3, 2e-4, 5.0, 2)
    assert (body.default_seconds, body.seconds, body.gain, body.winner) == (2e-3, 2e-3, 1.0, None)
    assert stem.throughput(stem.seconds) == pytest.approx(SMALL.flop / 2e-4 / 1e9)
    assert tuning.totals == pytest.approx((1e-3 + 3 * 2e-3, 2e-4 + 3 * 2e-3))
    assert tuning.settings == {"method": "random", "seed": 7, "trials": 6, "enlarged": False}
    assert tuning.uncovered == {"fused_softmax": 2}


def test_the_last_runs_under_one_name_count(folder):
    latencies = read_tuning(folder).latencies
    assert latencies["default"].seconds.tolist() == [10e-3, 12e-3]
    assert latencies["tuned"].seconds.tolist() == [4e-3, 5e-3, 6e-3]


def test_only_what_took_turns_is_compared(folder):
    """The later "tuned" had no "default" beside it, and is noted."""
    whole, later = read_tuning(folder).latencies, LATENCY | {"what": "tuned", "seconds": [1e-3], "timestamp": 900.0}
    with (folder / "latency.jsonl").open("a") as file:
        file.write(json.dumps(later) + "\n")
    tuning = read_tuning(folder)
    assert {name: each.seconds.tolist() for name, each in tuning.latencies.items()} == {
        name: each.seconds.tolist() for name, each in whole.items()
    }
    assert any("left out 1 other benchmarks" in note for note in tuning.notes)


def test_rounds_are_read_and_an_unknown_time_is_infinite(folder):
    write_lines(folder / "rounds.jsonl", [ROUND | {"network_seconds": None}, ROUND])
    first, second = read_tuning(folder).rounds
    assert first.network_seconds == float("inf")
    assert (second.task, second.seconds_searching, second.seconds_measuring, second.network_seconds) == ("stem", 1.5, 6.0, 7e-3)


@pytest.mark.parametrize("missing", [{"network.json"}, {"rounds.jsonl", "latency.jsonl"}])
def test_folder_may_have_its_log_alone(folder, missing):
    for name in missing:
        (folder / name).unlink()
    tuning = read_tuning(folder)
    assert sum(len(task.trials) for task in tuning.tasks) == 6
    assert tuning.notes == ()
    assert bool(tuning.network) == ("network.json" not in missing)


def test_torn_last_lines_cost_themselves_and_are_noted(folder):
    for name in ("records.jsonl", "rounds.jsonl", "latency.jsonl"):
        with open(folder / name, "a") as file:
            file.write('{"task": "stem", "seco')
    tuning = read_tuning(folder)
    assert [note.split(":")[0] for note in tuning.notes] == ["records.jsonl", "rounds.jsonl", "latency.jsonl"]
    assert str(folder) not in "".join(tuning.notes)
    assert (len(tuning.records), len(tuning.rounds), len(tuning.latencies)) == (6, 2, 2)


@pytest.mark.parametrize(
    "line",
    [
        LATENCY | {"seconds": []},
        LATENCY | {"seconds": [-1.0]},
        LATENCY | {"seconds": [float("nan")]},
        LATENCY | {"seconds": "soon"},
        {"what": "tuned"},
        [1, 2],
        None,
    ],
    ids=str,
)
def test_line_that_is_no_latency_is_left_out(folder, line):
    write_lines(folder / "latency.jsonl", [LATENCY, line])
    tuning = read_tuning(folder)
    assert list(tuning.latencies) == ["default"]
    assert len(tuning.notes) == 1


@pytest.mark.parametrize(
    "text", ["", "[]", '{"network": "tiny"}', "{" * 99_999, '{"tasks": [{"label": "x"}]}'], ids=lambda text: text[:9]
)
def test_description_that_is_none_is_refused_by_name(folder, text):
    (folder / "network.json").write_text(text)
    with pytest.raises(ValueError, match=r"network\.json does not describe a network"):
        read_tuning(folder)


def test_tasks_that_the_network_does_not_name_are_noted(folder):
    described = json.loads((folder / "network.json").read_text())
    (folder / "network.json").write_text(json.dumps(described | {"tasks": described["tasks"][:1]}))
    tuning = read_tuning(folder)
    assert [task.label for task in tuning.tasks] == ["stem"]
    assert tuning.notes == ("records.jsonl: left out 3 measurements of tasks that network.json does not name.",)


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])
def test_log_of_several_tasks_describes_them(tmp_path, name):
    turing = small_task(workload=Dense((4, 8), (6, 8)))
    log = write_log(tmp_path / name, [record(0), record(-1, 2e-3), record(1, None, task=turing)])
    tuning = read_tuning(log)
    assert [task.label for task in tuning.tasks] == ["conv2d 3×3, 4 → 8, 6×6", "dense 8 → 6"]
    assert [task.gain for task in tuning.tasks] == [2.0, None]
    assert (tuning.totals, tuning.network) == (None, "")
    assert tuning.versions == (TVM_VERSION,)


def test_two_tasks_of_one_shape_have_two_names(tmp_path):
    first, second = record(), record()
    second = type(second)(second.key._replace(function="abc"), 0, second.config, second.measurement)
    tuning = read_tuning(write_log(tmp_path / "log.jsonl", [first, second]))
    assert [task.label for task in tuning.tasks] == ["conv2d 3×3, 4 → 8, 6×6", "conv2d 3×3, 4 → 8, 6×6 (2)"]


def test_log_of_autotvm_and_of_an_unknown_operator(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text(f"{AUTOTVM_LINE}\n{AUTOTVM_LINE.replace('conv2d_nchw.cuda', 'batch_matmul.cuda')}\n")
    known, unknown = read_tuning(log).tasks
    assert (known.flop, known.unit) == (2 * 128 * 128 * 9 * 28 * 28, "GFLOPS")
    assert (unknown.label, unknown.unit) == ("batch_matmul.cuda", "runs/s")
    assert unknown.throughput(unknown.seconds) == pytest.approx(1 / 0.0089085)


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "-1.0", "0.0", "1e300", "5e-324"])
def test_time_that_no_run_takes_is_left_out_and_said(tmp_path, seconds):
    log = tmp_path / "log.jsonl"
    log.write_text(f"{AUTOTVM_LINE}\n{AUTOTVM_LINE.replace('0.0089085', seconds)}\n")
    tuning = read_tuning(log)
    assert [record.measurement.seconds for record in tuning.records] == [(0.0089085,)]
    assert len(tuning.notes) == 1
    assert tuning.notes[0].startswith("log.jsonl:2: left out")
    assert "no run takes" in tuning.notes[0]


def test_torn_compressed_log_shows_its_whole_part(tmp_path):
    log = tmp_path / "log.jsonl.gz"
    log.write_bytes(gzip.compress((AUTOTVM_LINE + "\n").encode()) + gzip.compress(AUTOTVM_LINE.encode())[:40])
    assert len(read_tuning(log).records) == 1


def test_missing_and_empty_logs_are_said_to_be(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.jsonl is not there"):
        read_tuning(tmp_path / "nothing.jsonl")
    with pytest.raises(FileNotFoundError, match=r"holds no records\.jsonl"):
        read_tuning(tmp_path)
    (tmp_path / "records.jsonl").write_text("nonsense\n")
    for source in (tmp_path, tmp_path / "records.jsonl"):
        with pytest.raises(ValueError, match="holds no record of a measurement"):
            read_tuning(source)
