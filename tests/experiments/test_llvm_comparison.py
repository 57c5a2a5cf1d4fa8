"""The comparison on this CPU goes on where it was, and gives the report what was judged."""

import pytest

from experiments import device_comparison, llvm_comparison, log
from experiments.comparison_report import curves_of, shares
from experiments.device_comparison import Setting
from experiments.llvm_comparison import LAYERS, ROUNDS, TRIALS, setting
from tests.experiments.pretended import Pretended


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs two short tunings of each of two layers by a measurer that pretends."""
    monkeypatch.setattr(llvm_comparison, "OUT", tmp_path)
    monkeypatch.setattr(llvm_comparison, "FOLDER", tmp_path / "llvm")
    monkeypatch.setattr(llvm_comparison, "LAYERS", LAYERS[3:5])
    monkeypatch.setattr(llvm_comparison, "TRIALS", 8)
    monkeypatch.setattr(device_comparison, "_alone", lambda tuning, until: tuning.line(until))

    def run(measurer, *arguments):
        monkeypatch.setattr(Setting, "measurer", lambda _: measurer)
        code = llvm_comparison.main(
            ["tune", "judge", "--methods", "random", "grid", "--seeds", "1", "--cores", "1", *arguments]
        )
        return code, capsys.readouterr().err

    return run


def test_tunings_are_judged_for_the_report_and_nothing_is_done_twice(run, tmp_path):
    measurer = Pretended()
    assert run(measurer)[0] == 0
    lines = log.read(tmp_path / "llvm.jsonl")
    assert {(line["task"], line["method"]) for line in lines} == {
        (f"mobilenet-v1 {layer}", method) for layer in ("sp-7-conv2", "sp-7-dp1") for method in ("random", "grid")
    }
    assert {name: curve.shape for name, curve in curves_of(shares(lines)).items()} == {"random": (2, 1), "grid": (2, 1)}
    asked = len(measurer.asked)
    assert asked > 2 * 2 * (1 + 8) + ROUNDS
    assert run(measurer)[0] == 0
    assert len(measurer.asked) == asked
    assert log.read(tmp_path / "llvm.jsonl") == lines


def test_a_tuning_that_finds_nothing_is_said(run):
    code, said = run(Pretended(refused="mobilenet-v1 sp-7-dp1"))
    assert code == 1
    assert "llvm_comparison: mobilenet-v1 sp-7-dp1: all 8 trials failed" in said


def test_the_target_has_the_cores_that_were_asked_for_and_the_budgets_end_with_the_trials():
    compared = setting(1)
    assert dict(compared.target.attributes)["num-cores"] == 1
    assert compared.trials == TRIALS
    assert setting(2).folder != compared.folder
