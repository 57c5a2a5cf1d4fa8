"""The stages go on where they were and end in a report; what is left is said, and wrong input before any work."""

import json
from types import SimpleNamespace

import pytest

from experiments import cuda_comparison, cuda_comparison_report, cuda_rivals, device_comparison, log, metaschedule
from experiments.cuda_rivals import kernel_name
from experiments.device_comparison import Setting
from experiments.torch_cuda_convolution import EAGER, KERNELS
from tests.experiments.pretended import Pretended

LAYERS = ("mobilenet-v1/sp-7-dp1", "mobilenet-v1/sp-3-dp1")
STATE = dict.fromkeys(("sm_mhz", "most_sm_mhz", "memory_mhz", "celsius"), 1980.0) | {
    "watts": None,
    "driver": "580.1",
    "cuda": "13.0",
}


class FakeTorch:
    """Answers as PyTorch's process would."""

    versions = {"torch": "2.11", "cuda": True, "cudnn": 91002}  # noqa: RUF012

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def measure(self, workload, milliseconds):
        eager = {name: {"seconds": 2e-5} for name in EAGER}
        return eager | {name: {"seconds": 1e-5, "implementation": "implicit_gemm"} for name in KERNELS}


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs stages with short tunings of two layers on this CPU, where everything that measures pretends."""

    def search(self, worker, network, layer, limit):
        lines = ({"trials": 2, "seconds": 5.0}, {"trials": 2, "seconds": 4.0}, {"trials": 0, "seconds": 0.0, "finished": 4})
        log.append(self.folder(network, layer) / "batches.jsonl", *lines)
        return ""

    def turns(self, network, layer):
        while True:
            yield {kernel_name(2): 1.0, kernel_name(4): 2.0}

    monkeypatch.setattr(device_comparison, "_alone", lambda tuning, until: tuning.line(until))
    monkeypatch.setattr(cuda_rivals.MetaSchedule, "search", search)
    monkeypatch.setattr(cuda_rivals.MetaSchedule, "turns", turns)
    monkeypatch.setattr(cuda_comparison, "cuda_torch", lambda python: FakeTorch())
    monkeypatch.setattr(cuda_comparison_report, "draw", lambda *_: None)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")

    def run(stages, *arguments, measurer=None):
        monkeypatch.setattr(Setting, "measurer", lambda _: measurer)
        given = {
            "--target": ["llvm"],
            "--layers": LAYERS,
            "--methods": ["random", "grid"],
            "--seeds": ["1"],
            "--trials": ["2", "4"],
        }
        given |= {"--out": [tmp_path / "out"], "--results": [tmp_path / "results"], "--rounds": ["2"]}
        words = [str(word) for name, values in given.items() for word in (name, *values)]
        code = cuda_comparison.main([*stages.split(), *words, *arguments])
        return code, capsys.readouterr().err

    return run


def test_stages_end_in_a_report_and_do_nothing_twice(run, tmp_path, monkeypatch):
    measurer = Pretended()
    monkeypatch.setattr(cuda_comparison, "_state", lambda: STATE)
    code, said = run("tune metaschedule judge report", "--torch-python", "python", measurer=measurer)
    assert (code, "cuda_comparison:" in said) == (0, False)
    stored = json.loads((tmp_path / "results" / "cuda_comparison.json").read_text())
    assert stored["budgets"] == [2, 4]
    assert {row["layer"] for row in stored["rows"]} == {layer.replace("/", " ") for layer in LAYERS}
    assert set(stored["means"]["depthwise"]) == {"random", "grid", "MetaSchedule"}
    assert stored["seconds"]["MetaSchedule"] == {"tunings": 2, "together": 9.0, "least trials": 4}
    text = (tmp_path / "results" / "cuda_comparison.md").read_text()
    for part in ("PyTorch 2.11, cuDNN 91002", "| random | / cuDNN, TF32 |", "`implicit_gemm`", "Over the 2 layers"):
        assert part in text
    asked = len(measurer.asked)
    assert run("tune metaschedule judge report", "--torch-python", "python", measurer=measurer)[0] == 0
    assert len(measurer.asked) == asked
    assert (tmp_path / "results" / "cuda_comparison.md").read_text() == text
    run("judge", "--torch-python", "python", "--methods", "grid", measurer=measurer)
    assert len(measurer.asked) == asked


def test_when_time_is_over_nothing_is_begun_and_what_is_left_is_said(run, monkeypatch):
    now = iter([0.0])
    monkeypatch.setattr(cuda_comparison, "time", SimpleNamespace(time=lambda: next(now, 61.0)))
    monkeypatch.setattr(device_comparison, "_alone", lambda tuning, until: None)
    code, said = run("tune metaschedule judge", "--minutes", "1", measurer=Pretended())
    assert code == 1
    assert "cuda_comparison: tune: 4 of 4 tunings are left." in said
    assert "cuda_comparison: metaschedule: 2 of 2 layers are left." in said


def test_a_search_is_not_begun_that_may_not_end_in_time(run, tmp_path, monkeypatch):
    assert run("metaschedule", "--layers", LAYERS[0])[0] == 0  # 9 seconds
    clock = iter([0.0, 52.0])
    monkeypatch.setattr(cuda_comparison, "time", SimpleNamespace(time=lambda: next(clock)))
    code, said = run("metaschedule", "--minutes", "1")
    assert code == 1
    assert "metaschedule: 1 of 2 layers are left" in said
    assert not metaschedule.finished(tmp_path / "out" / "llvm-default" / "metaschedule" / "mobilenet-v1-sp-3-dp1", 4)


def test_a_search_that_fails_is_said_and_the_others_go_on(run, monkeypatch):
    monkeypatch.setattr(cuda_rivals.MetaSchedule, "search", lambda *_, **__: "the process died by signal 11")
    code, said = run("metaschedule")
    assert code == 1
    assert said.count("MetaSchedule was not finished: the process died by signal 11.") == len(LAYERS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "mobilenet-v1/sp-99"], "layer: 'sp-99' is not in mobilenet-v1"),
        (["--layers", "sp-7-dp1"], "network: 'sp-7-dp1' is not one of"),
        (["--target", "opencl"], "target: kind 'opencl' is not supported"),
        (["--history", "nowhere.jsonl"], "--history: nowhere.jsonl is not there"),
        (["--methods", "dgp-transfer", "--layers", LAYERS[0]], "--layers: no other than mobilenet-v1/sp-7-dp1 is a depthwise"),
        ([], "holds no judged tuning yet; run the stages `tune` and `judge` first"),
    ],
)
def test_wrong_input_is_one_line(run, arguments, message):
    code, said = run("tune" if arguments else "report", *arguments)
    assert code == 2
    assert said.count("\n") == 1
    assert message in said


def test_methods_have_no_history_but_those_that_need_one_unless_they_are_taught():
    histories = {name: cuda_comparison._histories(name, taught=False) for name in cuda_comparison.METHODS_COMPARED}
    assert histories == {name: ["none"] for name in histories} | {"dgp-transfer": ["same"]}
    taught = {name: cuda_comparison._histories(name, taught=True) for name in histories}
    assert taught["gausstune"] == ["none", "same"]
    assert taught["random"] == ["none"]


def test_layers_are_those_that_were_asked_for_and_each_has_a_relative():
    networks = [network for network, _ in cuda_comparison.LAYERS]
    assert (networks.count("resnet-18"), networks.count("mobilenet-v1")) == (6, 4)
    cuda_comparison._check_related(SimpleNamespace(layers=cuda_comparison.LAYERS))
