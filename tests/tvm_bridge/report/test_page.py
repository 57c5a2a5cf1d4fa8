"""The page is well-formed and shows the log's figures, whatever the log holds."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tvm_bridge.record_strategies import SMALL, TILED, record, records, write_log
from tests.tvm_bridge.report.pages import Page, network_folder
from tvm_bridge.report import report

NARROW = "\u202f"

HOSTILE = [
    "<script>alert(1)</script>",
    "</style></title><svg/onload=alert(1)>",
    "\"'><img src=x onerror=alert(1)>",
    "</details></td></table>&lt;b&gt;",
    "\u202egnp.\x00\ud800]]>",
    "two\nlines",
]
hostile = st.sampled_from(HOSTILE) | st.text(max_size=12)


@st.composite
def hostile_records(draw):
    """A record whose every text is somebody else's."""
    made = draw(records)
    key = made.key._replace(operator=draw(st.just(made.key.operator) | hostile), function=draw(st.just("") | hostile))
    config = made.config and {draw(hostile): draw(hostile), **made.config}
    measurement = replace(made.measurement, message=draw(hostile), device=draw(hostile))
    return replace(made, key=key, config=config, measurement=measurement)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(lines=st.lists(hostile_records(), min_size=1, max_size=8))
def test_any_log_gives_a_well_formed_page_without_anything_injected(tmp_path_factory, lines):
    log = write_log(tmp_path_factory.mktemp("any") / "log.jsonl", lines)
    page = Page(report(log))
    assert len(page.texts["h1"]) == 1
    assert page.texts["title"][0] == page.texts["h1"][0]  # charts have titles too


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(names=st.lists(hostile, min_size=5, max_size=5))
def test_any_network_gives_a_well_formed_page(tmp_path_factory, names):
    network, method, function, task, what = names
    folder = network_folder(tmp_path_factory.mktemp("any") / "tiny", network=network, method=method, seed=names)
    described = json.loads((folder / "network.json").read_text())
    described["tasks"][0]["label"] = task
    described["uncovered"] = [{"function": function, "count": 1}]
    (folder / "network.json").write_text(json.dumps(described))
    for name, old, new in (("rounds.jsonl", "stem", task), ("latency.jsonl", "tuned", what)):
        path = folder / name
        path.write_text(path.read_text().replace(json.dumps(old), json.dumps(new)))
    Page(report(folder))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The page of the sample network."""
    return Page(report(network_folder(tmp_path_factory.mktemp("report") / "tiny")))


def test_task_table_has_the_figures_of_the_log(tiny):
    whole = 2e-4 + 3 * 2e-3
    stem = [
        "stem",
        "1",
        "1.000",
        "0.200",
        "5.00×",
        f"{SMALL.flop / 2e-4 / 1e9:.3f}",
        f"{100 * 2e-4 / whole:.1f}{NARROW}%",
        "4",
        "2",
    ]
    body = [
        "body",
        "3",
        "2.000",
        "2.000",
        "1.00×",
        f"{TILED.flop / 2e-3 / 1e9:.3f}",
        f"{300 * 2e-3 / whole:.0f}{NARROW}%",
        "2",
        "0",
    ]
    assert tiny.row("stem") == stem
    assert tiny.row("body") == body
    assert tiny.row("These tasks together") == [
        "These tasks together",
        "4",
        "7.000",
        "6.200",
        "1.13×",
        "",
        f"100{NARROW}%",
        "6",
        "2",
    ]


def test_latency_table_has_mean_variance_and_percentiles(tiny):
    assert tiny.row("default")[:5] == ["default", "2", "11.000", "1.414", "2.00"]
    assert tiny.row("tuned") == ["tuned", "3", "5.000", "1.000", "1.00", "5.000", "5.800", "5.980", "2.20×"]


def test_failures_are_counted_with_their_first_message(tiny):
    assert [row for row in tiny.rows if "RUNTIME_DEVICE" in row[0]] == [
        ["failed while it ranRUNTIME_DEVICE", "2", "out of memory"]
    ]


def test_headline_and_charts_of_a_network(tiny):
    assert tiny.texts["h1"] == ["tiny is 2.20 times as fast"]
    assert [len(tiny.charts_of(kind)) for kind in ("curve", "gains", "histogram", "progress", "spent")] == [2, 1, 2, 1, 1]
    points = json.loads(tiny.charts_of("curve")[0]["data-points"])
    assert [label.split(":")[0] for *_, label in points] == ["after 2", "after 3"]
    assert "stem: best" in tiny.charts_of("curve")[0]["aria-label"]


def test_best_configuration_is_in_the_fold_out(tiny):
    config = record(2).config
    folded = [text for text in tiny.texts["b"] if text.strip() in config]
    assert [text.strip() for text in folded] == list(config)
    assert any("Configuration 2, found by measurement 3 of 4" in text for text in tiny.texts["details"])
    assert any(text.endswith("Best left as TVM's default schedule.") for text in tiny.texts["details"])


def test_page_asks_for_nothing_and_says_how_to_do_it_again(tmp_path, monkeypatch):
    network_folder(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    document = report("tiny")
    assert not re.search(r"https?://|url\(|@import", document)
    assert "default-src 'none'" in document.replace("&#x27;", "'")
    assert Page(document).texts["pre"][0].splitlines() == [
        "gausstune network tiny --target 'cuda -arch=sm_86' --log tiny --method random --trials 6 --seed 7 --plain",
        "gausstune benchmark tiny --target 'cuda -arch=sm_86' --log tiny",
        "gausstune compile tiny --target 'cuda -arch=sm_86' --log tiny --output tiny.so",
        "gausstune report tiny",
    ]


def test_same_log_gives_the_same_page(tmp_path):
    folder = network_folder(tmp_path / "tiny")
    assert report(folder) == report(folder)


@pytest.mark.parametrize(
    ("lines", "title"),
    [
        ([record(0, 5e-4), record(-1, 1e-3)], "conv2d 3×3, 4 → 8, 6×6 is 2.00 times as fast"),
        ([record(0, 2e-3), record(-1, 1e-3)], "conv2d 3×3, 4 → 8, 6×6 is as fast as before: tuning found nothing better"),
        ([record(-1, 1e-3)], "conv2d 3×3, 4 → 8, 6×6 is as fast as before: tuning found nothing better"),
        ([record(0, 5e-4)], f"conv2d 3×3, 4 → 8, 6×6 takes 500{NARROW}µs"),
        ([record(0, None), record(-1, None)], "Nothing that was tried works"),
    ],
)
def test_title_says_what_the_log_shows(tmp_path, lines, title):
    page = Page(report(write_log(tmp_path / "log.jsonl", lines)))
    assert page.texts["h1"] == [title]


@pytest.mark.parametrize(("seconds", "title"), [(11e-3, "as fast as before"), (13e-3, "slower tuned: keep the default")])
def test_network_that_did_not_gain_is_said_not_to(tmp_path, seconds, title):
    folder = network_folder(tmp_path / "tiny")
    path = folder / "latency.jsonl"
    path.write_text(path.read_text().replace("[0.004, 0.005, 0.006]", f"[{seconds}]"))
    assert title in Page(report(folder)).texts["h1"][0]


def test_network_that_was_not_timed_is_judged_by_its_operators(tmp_path):
    folder = network_folder(tmp_path / "tiny")
    (folder / "latency.jsonl").unlink()
    page = Page(report(folder))
    assert page.texts["h1"] == ["The tuned operators of tiny are 1.13 times as fast"]
    assert not page.charts_of("histogram")
