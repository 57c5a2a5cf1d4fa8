"""The report is arithmetic on the logs: medians, ratios to the faster of oneDNN's kernels, geometric means, shares."""

import json
from dataclasses import asdict

import pytest

from experiments import cpu_kernels_report, log
from experiments.cpu_kernels_report import Row, means, write
from experiments.kernel_comparison import OURS
from experiments.roofline import Level, Peaks

PEAKS = Peaks(2, 200.0, (Level("memory", None, 10.0),))


def line(layer: str, group: str = "dense", **times: list) -> dict:
    times = {"ours": [0.01, 0.02, 0.9], "untuned": []} | times
    return {
        **{"layer": layer, "group": group, "threads": 2, "device": "a CPU, 2 threads", "operations": 2e9, "bytes": 10**8},
        **{"times": times, "torch": "2.0"},
        "kernels": {name: {"algorithm": "direct", "index": 1, "config": {}} for name in OURS if name in times},
        "implementations": {"onednn": "jit:a", "onednn_channels_last": "brg:b"},
        "tuning": {"ours": [256, 100.0], "metaschedule": [256, 200.0]},
    }


def test_a_row_has_medians_and_the_faster_of_two_kernels():
    row = Row.of(line("net a", torch=[0.04], onednn=[0.02], onednn_channels_last=[0.01])).below(PEAKS)
    assert row.gflops == {"ours": 100.0, "torch": 50.0, "onednn": 200.0}
    assert row.kernel == "brg:b (channels last)"
    assert (row.limit, row.bound, row.share) == (200.0, "FMA", 0.5)
    assert (row.ratio("torch"), row.ratio("onednn"), row.ratio("metaschedule")) == (2.0, 0.5, None)


def test_the_faster_of_our_layouts_counts():
    row = Row.of(line("net a", ours_channels_last=[0.01], onednn=[0.02]))
    assert row.gflops == {"ours": 200.0, "onednn": 100.0}
    assert row.algorithm == "direct (channels last)"
    assert Row.of(line("net a", ours_channels_last=[0.04])).algorithm == "direct"


def test_what_was_not_measured_or_does_not_exist_is_left_out():
    row = Row.of(line("net a", onednn=[None, None]))
    assert row.gflops == {"ours": 100.0}
    assert (row.kernel, row.limit, row.share) == ("", None, None)


def test_means_are_geometric_and_by_group():
    rows = [
        Row.of(line("net a", onednn=[0.02])),
        Row.of(line("net b", "pointwise", onednn=[0.08])),
        Row.of(line("net c", "depthwise", onednn=[0.01])),
    ]
    expected = {"dense": 1, "pointwise": 4, "dense and pointwise": 2, "depthwise": 0.5, "all": 2 ** (1 / 3)}
    assert {name: means(rows, name)["onednn"] for name in expected} == pytest.approx(expected)
    assert means(rows[:1], "depthwise") == {}


def test_the_last_line_of_a_layer_counts_and_all_tables_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_kernels_report, "_draw", lambda *_: None)
    onednn = {"onednn": [0.02], "metaschedule": [0.04], "torch": [0.04], "torch_channels_last": [0.05]}
    slow = line("net a", ours=[0.4], **onednn)
    every = [slow, line("net b", "depthwise", ours=[0.025], untuned=[1.0], **onednn), line("net a", **onednn)]
    log.extend(tmp_path / "compare.jsonl", lambda _: every)
    log.extend(tmp_path / "roofline.jsonl", lambda _: [asdict(PEAKS)])
    log.extend(tmp_path / "random.jsonl", lambda _: [{"layer": "net a", "index": 0, "build": 0.5, "seconds": 0.02}])
    write(tmp_path, tmp_path / "results")
    report = (tmp_path / "results" / "cpu_kernels.md").read_text()
    assert "Below 0.85 of oneDNN: net b (0.80)." in report
    assert "| a | - | 100 | 50 | 50 | 40 | 100 | 2.00 | 2.00 | 2.50 | 1.00 | 200 | 0.50 | FMA | direct | jit:a |" in report
    assert "| b | 2.0 | 80 | 50 | 50 | 40 | 100 | 1.60 | 1.60 | 2.00 | **0.80** |" in report
    assert "| depthwise | 1 | 1.60 | 1.60 | 2.00 | 0.80 | 0.40 |" in report
    assert "| net a | 1 | 100% | 0 | 0.50 |" in report
    assert "100 s for ours and 200 s for MetaSchedule" in report
    assert "the best of 256 measurements, those in channels last included where there are any, MetaSchedule's of 256" in report
    stored = json.loads((tmp_path / "results" / "cpu_kernels.json").read_text())
    assert [row["layer"] for row in stored["rows"]] == ["net a", "net b"]


def test_budgets_and_means_say_what_they_are_of(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_kernels_report, "_draw", lambda *_: None)
    tunings = [[256, 200.0], [192, 150.0], [0, 0]]
    every = [line("net a", metaschedule=[0.04], onednn=[0.02]), line("net b", metaschedule=[0.04]), line("net c")]
    for each, tuning in zip(every, tunings, strict=True):
        each["tuning"]["metaschedule"] = tuning
    log.extend(tmp_path / "compare.jsonl", lambda _: every)
    write(tmp_path, tmp_path)
    report = (tmp_path / "cpu_kernels.md").read_text()
    assert "MetaSchedule's of 192 to 256 in NCHW" in report
    assert "| dense | 3 | 2.00 (2) | - | - | 1.00 (1) | - |" in report
    log.extend(tmp_path / "alone" / "compare.jsonl", lambda _: every[2:])
    write(tmp_path / "alone", tmp_path / "alone")
    assert "MetaSchedule's of none" in (tmp_path / "alone" / "cpu_kernels.md").read_text()


def test_layers_stay_until_they_are_compared_again_unless_the_device_is_another(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_kernels_report, "_draw", lambda *_: None)

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
