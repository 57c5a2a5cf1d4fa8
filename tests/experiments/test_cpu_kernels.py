"""Stages are done in order, go on where they were stopped, and say in a line what is wrong."""

from types import SimpleNamespace

import pytest

from experiments import cpu_kernels, log
from tvm_bridge import TuningError

ONE = ["--networks", "alexnet", "--layers", "conv5", "--threads", "1"]


@pytest.fixture
def run(tmp_path, capsys):
    def run(*arguments):
        code = cpu_kernels.main([*arguments, *ONE, "--out", str(tmp_path)])
        return code, capsys.readouterr().err

    return run


def tuner(monkeypatch, *, ends=None):
    """Pretend to tune: half of what is wanted was in the log, then it ends."""

    def tune(task, *, trials, callbacks, **_):
        for number in range(trials):
            callbacks[0](SimpleNamespace(reused=2 * number >= trials, record=SimpleNamespace(config={})))
        if ends:
            raise ends

    monkeypatch.setattr(cpu_kernels, "tune", tune)


def test_stages_are_done_in_their_order(monkeypatch, run):
    done = []
    for stage in cpu_kernels.STAGES:
        monkeypatch.setitem(cpu_kernels.STAGES, stage, lambda chosen, arguments, complain, stage=stage: done.append(stage))
    assert run("report", "compare", "tune") == (0, "")
    assert done == ["tune", "compare", "report"]


def test_ctrl_c_is_one_line_and_keeps_what_was_measured(monkeypatch, run, tmp_path):
    tuner(monkeypatch, ends=KeyboardInterrupt())
    code, complaint = run("tune", "--trials", "8")
    assert code == 130
    assert "the same command goes on" in complaint
    (line,) = log.read(tmp_path / "1-threads" / "tune.jsonl")
    assert (line["layer"], line["trials"]) == ("alexnet conv5", 4)


def test_what_is_tuned_is_not_tuned_again(monkeypatch, run, tmp_path):
    tuner(monkeypatch)
    for _ in range(4):
        assert run("tune", "--trials", "8")[0] == 0
    assert [line["trials"] for line in log.read(tmp_path / "1-threads" / "tune.jsonl")] == [4, 4]


def test_a_layer_that_fails_is_told_and_the_rest_goes_on(monkeypatch, run):
    tuner(monkeypatch, ends=TuningError("alexnet conv5: all 8 trials failed."))
    assert run("tune", "--trials", "8") == (1, "cpu_kernels: alexnet conv5: all 8 trials failed.\n")
    assert run("compare") == (1, "cpu_kernels: alexnet conv5: not tuned yet; run the stage `tune` first.\n")


def test_wrong_input_is_one_line(run, capsys):
    code, complaint = run("report")
    assert (code, complaint.count("\n")) == (2, 1)
    assert "holds no comparison yet" in complaint
    assert cpu_kernels.main(["tune", "--networks", "lenet"]) == 2
    assert capsys.readouterr().err.startswith("cpu_kernels: network: 'lenet' is not one of")
