"""The commands of a report make the tasks that it shows."""

import shlex
from dataclasses import replace

import pytest
from hypothesis import given, settings

from tests.tvm_bridge.record_strategies import CPU, TILED, both_algorithms, record, write_log
from tests.tvm_bridge.report.pages import network_folder
from tests.tvm_bridge.strategies import convolutions, products
from tvm_bridge import Target, cli
from tvm_bridge.commands import tune
from tvm_bridge.measure.base import Measurement
from tvm_bridge.records import Record, TaskKey
from tvm_bridge.report.commands import commands
from tvm_bridge.report.read import read_tuning
from tvm_bridge.task import task_of


def made_by(line):
    """The tasks that a command line means, and its arguments."""
    program, *words = shlex.split(line)
    assert program == "gausstune"
    arguments = cli._parser().parse_args(words)
    return tune._tasks(arguments), arguments


@settings(max_examples=30, deadline=None)
@given(workload=convolutions() | convolutions(depthwise=True) | products())
def test_command_makes_the_task_of_the_log(tmp_path_factory, workload):
    key = TaskKey.of(Target.parse("cuda -arch=sm_86"), workload.operator, workload.args)
    log = write_log(tmp_path_factory.mktemp("log") / "a log.jsonl", [Record(key, 0, {}, Measurement((1e-3,)))])
    (line,) = commands(read_tuning(log))
    (task,), arguments = made_by(line)
    assert task.key == key
    assert (arguments.log, arguments.trials) == (log, 1)


@pytest.mark.parametrize("enlarged", [False, True])
def test_command_has_the_space_of_the_log(tmp_path, enlarged):
    task = task_of(TILED, CPU, enlarged=enlarged)
    lines = both_algorithms(task) if enlarged else [record(task=task)]
    (line,) = commands(read_tuning(write_log(tmp_path / "log.jsonl", lines)))
    assert ("--enlarged" in line) == enlarged


def test_command_has_the_candidates_of_the_log(tmp_path):
    options = {"tile_rc": ((8, 2), (16, 1)), "auto_unroll_max_step": (0, 64)}
    task = task_of(TILED, CPU, candidates=options)
    line = replace(record(3, task=task), candidates=task.candidates)
    (command,) = commands(read_tuning(write_log(tmp_path / "log.jsonl", [line])))
    (again,), _ = made_by(command)
    assert again.candidates == task.candidates
    assert again.space.to_index(again.space.from_config(line.config)) == 3


def test_target_of_a_log_is_shown_and_not_given_to_tvm(tmp_path):
    """TVM dies of this triple, and takes the process with it."""
    key = TaskKey.of(Target.parse("llvm -mtriple=q -mcpu=q"), TILED.operator, TILED.args)
    log = write_log(tmp_path / "log.jsonl", [Record(key, 0, {}, Measurement((1e-3,)))])
    (line,) = commands(read_tuning(log))
    assert "'llvm -mcpu=q -mtriple=q'" in line


def test_commands_of_a_network_are_commands(tmp_path):
    steps = [shlex.split(line)[1:] for line in commands(read_tuning(network_folder(tmp_path / "tiny")))]
    assert [cli._parser().parse_args(words).command.__name__ for words in steps] == ["run"] * 4
    assert [words[0] for words in steps] == ["network", "benchmark", "compile", "report"]


def test_commands_of_a_network_say_what_was_asked(tmp_path):
    asked = {"model": "nets/tiny.onnx", "shapes": {"x": [1, 3]}, "history": ["old log.jsonl"], "early_stopping": 12}
    asked |= {"layout": "NHWC", "pretrained": "models"}
    folder = network_folder(tmp_path / "tiny", history="6 records, SHA-256 0", asked=asked)
    (line, *_, compiling, _) = commands(read_tuning(folder))
    assert cli._parser().parse_args(shlex.split(compiling)[1:]).layout == "NHWC"
    arguments = cli._parser().parse_args(shlex.split(line)[1:])
    assert arguments.layout == "NHWC"
    assert (arguments.model, arguments.shape) == ("nets/tiny.onnx", [("x", (1, 3))])
    assert (arguments.history, arguments.early_stopping, arguments.pretrained) == (["old log.jsonl"], 12, "models")


def test_chosen_layouts_cannot_be_chosen_again(tmp_path):
    folder = network_folder(tmp_path / "tiny", asked={"layout": "chosen"})
    assert [line.split()[1] for line in commands(read_tuning(folder))] == ["report"]


def test_records_or_a_method_of_ones_own_cannot_be_given_again(tmp_path):
    for change in ({"history": "6 records, SHA-256 0"}, {"method": "genetic_algorithm(population=4)"}):
        folder = network_folder(tmp_path / "tiny", **change)
        assert [line.split()[1] for line in commands(read_tuning(folder))] == ["benchmark", "compile", "report"]


def test_operator_without_a_command_has_none(tmp_path):
    key = TaskKey.of(CPU, "batch_matmul", [1, 2])
    log = write_log(tmp_path / "log.jsonl", [Record(key, 0, {}, Measurement((1e-3,)))])
    assert commands(read_tuning(log)) == []
