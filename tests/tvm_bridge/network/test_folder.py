"""The folder of a network's tuning: what a round took is kept, and what a crash left half-written does no harm."""

import json
import math
from dataclasses import asdict, replace

import pytest

from tests.tvm_bridge.network.pretended import extraction
from tests.tvm_bridge.record_strategies import record, write_log
from tvm_bridge.network.folder import Folder, Round, describe

DESCRIPTION = describe(extraction(), method="random", seed=0, trials=40)
ROUNDS = [Round(task, 8, 1.0 + place, 2.0, 1e-3, 5e-3) for place, task in enumerate("abcab")]


def lines(path):
    return [json.loads(line) for line in (path / "rounds.jsonl").read_text().splitlines()]


def write(path, rounds):
    """Rounds in a folder that holds a measurement."""
    write_log(path / "records.jsonl", [record()])
    folder = Folder(path, DESCRIPTION)
    for each in rounds:
        folder.append(each)
    return folder


def test_rounds_are_written_as_they_were(tmp_path):
    write(tmp_path, ROUNDS)
    assert [{name: value for name, value in line.items() if name != "timestamp"} for line in lines(tmp_path)] == [
        asdict(each) for each in ROUNDS
    ]
    assert all(line["timestamp"] > 1e9 for line in lines(tmp_path))


@pytest.mark.parametrize("again", [0, 2, 5, 7])
def test_rounds_gone_through_again_keep_their_first_seconds(tmp_path, again):
    write(tmp_path, ROUNDS)
    first = lines(tmp_path)
    more = [*ROUNDS, Round("c", 8, 1.0, 2.0, 1e-3, 5e-3), Round("a", 3, 1.0, 2.0, 1e-3, 5e-3)][:again]
    write(tmp_path, [replace(each, seconds_searching=99.0) for each in more])
    assert lines(tmp_path)[:5] == first
    assert len(lines(tmp_path)) == max(5, again)


def test_tuning_that_takes_another_way_replaces_the_rest(tmp_path):
    write(tmp_path, ROUNDS)
    first = lines(tmp_path)
    write(tmp_path, [*ROUNDS[:2], replace(ROUNDS[2], task="b", trials=5), ROUNDS[3]])
    assert lines(tmp_path)[:2] == first[:2]
    assert [(line["task"], line["trials"]) for line in lines(tmp_path)[2:]] == [("b", 5), ("a", 8)]


def test_a_smaller_budget_loses_nothing_of_a_larger_one(tmp_path):
    write(tmp_path, ROUNDS)
    first = lines(tmp_path)
    folder = Folder(tmp_path, {**DESCRIPTION, "trials": 20})
    for each in [replace(ROUNDS[0], trials=6), replace(ROUNDS[2], trials=6)]:
        folder.append(each)
    assert lines(tmp_path) == first
    assert json.loads((tmp_path / "network.json").read_text())["trials"] == 40


def test_a_folder_without_measurements_takes_any_tuning(tmp_path):
    Folder(tmp_path, DESCRIPTION).append(ROUNDS[0])
    Folder(tmp_path, {**DESCRIPTION, "method": "grid"})
    assert json.loads((tmp_path / "network.json").read_text())["method"] == "grid"
    assert lines(tmp_path) == []


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_torn_line_is_written_anew(tmp_path, kept):
    write(tmp_path, ROUNDS)
    text = (tmp_path / "rounds.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rounds.jsonl").write_text("".join(text[:kept]) + text[kept][:30])
    write(tmp_path, ROUNDS)
    assert [line["task"] for line in lines(tmp_path)] == list("abcab")


def test_what_is_unknown_is_null(tmp_path):
    write(tmp_path, [replace(ROUNDS[0], best_seconds=math.inf, network_seconds=math.inf)])
    (line,) = lines(tmp_path)
    assert line["best_seconds"] is line["network_seconds"] is None
