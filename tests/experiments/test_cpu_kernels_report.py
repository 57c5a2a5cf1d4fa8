"""The report has tables of what the logs hold, and of what only an earlier report does."""

import json
from dataclasses import asdict

import pytest

from experiments import cpu_kernels_report, log
from experiments.cpu_kernels_report import write
from tests.experiments.comparison_lines import PEAKS, line


def test_the_last_line_of_a_layer_counts_and_all_tables_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_kernels_report, "draw", lambda *_: None)
    onednn = {"onednn": [0.02], "metaschedule": [0.04], "torch": [0.04], "torch_channels_last": [0.05]}
    slow = line("net a", ours=[0.4], **onednn)
    every = [slow, line("net b", "depthwise", ours=[0.025], untuned=[1.0], **onednn), line("net a", **onednn)]
    log.extend(tmp_path / "compare.jsonl", lambda _: every)
    log.extend(tmp_path / "roofline.jsonl", lambda _: [asdict(PEAKS)])
    log.extend(tmp_path / "random.jsonl", lambda _: [{"layer": "net a", "index": 0, "build": 0.5, "seconds": 0.02}])
    write(tmp_path, tmp_path / "results")
    report = (tmp_path / "results" / "cpu_kernels.md").read_text()
    assert "Below 0.85 of oneDNN: net b. Slower than it at all: 1 of 2 layers." in report
    assert "- net b: 0.80 of oneDNN's throughput, 0.40 of the limit by FMA, direct" in report
    assert "| a | - | 100 | 50 | 50 | 40 | 100 | 2.00 | 2.00 | 2.50 | 1.00 | 200 | 0.50 | FMA | direct | jit:a |" in report
    assert "| b | 2.0 | 80 | 50 | 50 | 40 | 100 | 1.60 | 1.60 | 2.00 | **0.80** |" in report
    assert "| depthwise | 1 | 1.60 | 1.60 | 0.80 | 40.00 | 0.40 | 0.80 net b |" in report
    assert "| net a | 1 | 100% | 0 | 0.50 |" in report
    assert (
        "Of 1 in NCHW, 100.0% are within 4x of their layer's best, on the worst layer 100%; 0.0% compile longer than 1 s."
        in report
    )
    assert "100 s for ours and 200 s for MetaSchedule" in report
    assert "the best of 256 measurements, those in channels last included where there are any, MetaSchedule's of 256" in report
    stored = json.loads((tmp_path / "results" / "cpu_kernels.json").read_text())
    assert [row["layer"] for row in stored["rows"]] == ["net a", "net b"]


def test_budgets_and_means_say_what_they_are_of(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_kernels_report, "draw", lambda *_: None)
    tunings = [[256, 200.0], [192, 150.0], [0, 0]]
    every = [line("net a", metaschedule=[0.04], onednn=[0.02]), line("net b", metaschedule=[0.04]), line("net c")]
    for each, tuning in zip(every, tunings, strict=True):
        each["tuning"]["metaschedule"] = tuning
    log.extend(tmp_path / "compare.jsonl", lambda _: every)
    write(tmp_path, tmp_path)
    report = (tmp_path / "cpu_kernels.md").read_text()
    assert "MetaSchedule's of 192 to 256 in NCHW" in report
    assert "| dense | 3 | 2.00 (2) | - | 1.00 (1) | - | - | 1.00 net a |" in report
    assert "| net | 3 | 2.00 (2) | - | 1.00 (1) | - | - | 1.00 net a |" in report
    log.extend(tmp_path / "alone" / "compare.jsonl", lambda _: every[2:])
    write(tmp_path / "alone", tmp_path / "alone")
    assert "MetaSchedule's of none" in (tmp_path / "alone" / "cpu_kernels.md").read_text()


def test_layers_stay_until_they_are_compared_again_unless_the_device_is_another(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_kernels_report, "draw", lambda *_: None)

    def layers(*lines: dict) -> dict[str, float]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        log.append(folder / "compare.jsonl", *lines)
        log.append(
            folder / "random.jsonl", *({"layer": each["layer"], "index": 0, "build": 0.5, "seconds": 0.02} for each in lines)
        )
        write(folder, tmp_path / "results")
        stored = json.loads((tmp_path / "results" / "cpu_kernels.json").read_text())
        assert {each["layer"] for each in stored["random"]} == {row["layer"] for row in stored["rows"]}
        return {row["layer"]: row["gflops"]["ours"] for row in stored["rows"]}

    assert layers(line("net a"), line("net b")) == {"net a": 100.0, "net b": 100.0}
    assert layers(line("net b", ours=[0.01]), line("other c")) == {"net a": 100.0, "net b": 200.0, "other c": 100.0}
    assert layers(line("net b") | {"device": "another CPU, 2 threads"}) == {"net b": 100.0}


def test_a_report_of_nothing_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the stages `tune` and `compare` first"):
        write(tmp_path, tmp_path)
