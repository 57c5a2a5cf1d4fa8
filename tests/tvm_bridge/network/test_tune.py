"""`tune_network` keeps its promises: one budget, nothing measured twice, nothing slower, no task stops another."""

import json
import math
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

import tvm_bridge as bridge
from search.methods import METHODS
from search.methods.random import random_search
from surrogates import Constant, save
from tests.tvm_bridge.network.pretended import COUNTS, Pretended, extraction
from tvm_bridge.network import tune as module
from tvm_bridge.network.tune import tune_network
from tvm_bridge.pretrained import name_of
from tvm_bridge.records import DEFAULT_INDEX, read_records

NAMES = tuple(COUNTS)


def tune(measurer, *, trials=40, method="random", model=None, **options):
    options = {"progress": False} | options
    return tune_network(model or extraction(), trials=trials, method=method, measurer=measurer, **options)


def rounds_of(folder):
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def test_budget_is_that_of_all_tasks_and_defaults_are_beyond_it():
    measurer = Pretended()
    result = tune(measurer, trials=41)
    assert [index for _, index in measurer.asked[:3]] == [None] * 3
    assert len(measurer.asked) == len(set(measurer.asked)) == 41 + 3
    assert result.stopped == "trials"
    assert sum(len(each.result.records) for each in result.tasks) == 44
    assert {each.result.stopped for each in result.tasks} == {"trials"}


def test_best_of_every_task_makes_up_the_network():
    result = tune(Pretended())
    assert [(each.task.label, each.count, each.functions) for each in result.tasks] == [
        (name, COUNTS[name], (f"fused_{name}",)) for name in NAMES
    ]
    for each in result.tasks:
        assert each.seconds == min(record.measurement.cost for record in each.result.records) < 2e-3
    assert result.default_seconds == pytest.approx(5 * 2e-2)
    assert result.seconds == sum(COUNTS[each.task.label] * each.seconds for each in result.tasks)
    assert result.uncovered == {"softmax": 1}


def test_a_task_is_searched_as_tune_searches_it():
    """Its proposals are those of `tune` with the same seed, so that logs of either serve the other."""
    result = tune(Pretended(), seed=3)
    for each in result.tasks:
        trials = len(each.result.records) - 1
        alone = bridge.tune(each.task, method="random", trials=trials, seed=3, measurer=Pretended(), progress=False)
        assert {record.index for record in alone.records} == {record.index for record in each.result.records}


def test_frequent_tasks_get_more():
    result = tune(Pretended(), trials=200)
    tried = {each.task.label: len(each.result.records) for each in result.tasks}
    assert tried["conv2d_relu"] > 1.5 * max(tried["conv2d_add"], tried["dense"])


# The folder


def test_folder_says_what_was_tuned_and_how(tmp_path):
    result = tune(Pretended(), log=tmp_path / "log", seed=5)
    described = json.loads((tmp_path / "log" / "network.json").read_text())
    expected = {"network": "small", "method": "random", "seed": 5, "trials": 40, "enlarged": False}
    assert {name: described[name] for name in expected} == expected
    assert bridge.Target.parse(described["target"]) == extraction().target
    assert described["uncovered"] == [{"function": "softmax", "count": 1}]
    for each, task in zip(described["tasks"], extraction().tasks, strict=True):
        key = task.task.key
        assert (each["label"], each["count"], each["flop"]) == (task.task.label, task.count, task.task.flop)
        assert (each["operator"], json.dumps(each["args"]), each["function"]) == (key.operator, key.args, key.function)
    rounds = rounds_of(tmp_path / "log")
    assert sum(each["trials"] for each in rounds) == 40
    assert rounds[-1]["network_seconds"] == pytest.approx(result.seconds)
    predicted = [each["network_seconds"] for each in rounds]
    assert predicted == sorted(predicted, reverse=True)
    records = read_records(tmp_path / "log" / "records.jsonl")
    assert [record.index for record in records[:3]] == [DEFAULT_INDEX] * 3
    assert len(records) == 43


def test_resuming_a_method_that_learns_ends_alike(tmp_path):
    """Its proposals rest on the values that the log holds."""
    options = {"method": partial(METHODS["ga"], population=4, elite=1), "log": tmp_path / "log", "trials": 60}
    whole = tune(Pretended(), **options)
    log = tmp_path / "log" / "records.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:40]))
    measurer = Pretended()
    part = tune(measurer, **options)
    assert len(measurer.asked) == 63 - 40
    for ours, theirs in zip(part.tasks, whole.tasks, strict=True):
        assert {record.index for record in ours.result.records} == {record.index for record in theirs.result.records}


def test_options_of_a_method_are_part_of_the_tuning(tmp_path):
    tune(Pretended(), trials=3, log=tmp_path, method=partial(METHODS["ga"], population=4))
    with pytest.raises(ValueError, match=r"genetic_algorithm\(population=4\)', not 'genetic_algorithm\(population=5\)'"):
        tune(Pretended(), trials=3, log=tmp_path, method=partial(METHODS["ga"], population=5))


@pytest.mark.parametrize("cut", [0, 2, 3, 4, 17, 42])
def test_resuming_from_any_prefix_ends_alike(tmp_path, cut):
    whole = tune(Pretended(), log=tmp_path / "log")
    rounds = [(each["task"], each["trials"]) for each in rounds_of(tmp_path / "log")]
    log, told = tmp_path / "log" / "records.jsonl", tmp_path / "log" / "rounds.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:cut]) + ('{"inp' if cut else ""))
    told.write_text(told.read_text()[: 150 * (cut // 9)])  # the last line is torn
    measurer = Pretended()
    if cut:
        with pytest.warns(UserWarning, match="cut off 5 bytes"):
            part = tune(measurer, log=tmp_path / "log")
    else:
        part = tune(measurer, log=tmp_path / "log")
    assert len(measurer.asked) == 43 - cut
    assert [(each.seconds, each.result.best) for each in part.tasks] == [
        (each.seconds, each.result.best) for each in whole.tasks
    ]
    assert [(each["task"], each["trials"]) for each in rounds_of(tmp_path / "log")] == rounds


def test_a_larger_budget_goes_on(tmp_path):
    tune(Pretended(), trials=30, log=tmp_path)
    first = rounds_of(tmp_path)
    measurer = Pretended()
    tune(measurer, trials=60, log=tmp_path)
    assert len(measurer.asked) == 30
    rounds = rounds_of(tmp_path)
    assert sum(each["trials"] for each in rounds) == 60
    assert rounds[:3] == first[:3]  # with the seconds that they took at first
    assert json.loads((tmp_path / "network.json").read_text())["trials"] == 60


def test_ctrl_c_passes_through_and_keeps_every_finished_record(tmp_path):
    heard = []

    def interrupt(progress):
        heard.append(progress.record)
        if len(heard) == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(Pretended(), log=tmp_path, callbacks=[interrupt])
    assert [record.index for record in read_records(tmp_path / "records.jsonl")] == [record.index for record in heard]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": extraction("other")}, "with network 'small', not 'other'"),
        ({"model": extraction(target=bridge.Target.parse("llvm -mcpu=znver4 -num-cores=4"))}, "with target {.*}, not {.*}"),
        ({"model": extraction(labels=NAMES[:2])}, "another network of this name"),
        ({"seed": 1}, "with seed 0, not 1"),
        ({"method": "grid"}, "with method 'random', not 'grid'"),
    ],
    ids=["network", "target", "tasks", "seed", "method"],
)
def test_folder_of_another_tuning_is_refused(tmp_path, change, message):
    tune(Pretended(), trials=3, log=tmp_path)
    before = (tmp_path / "network.json").read_text()
    measurer = Pretended()
    with pytest.raises(ValueError, match=f"log: .* holds a tuning .*{message}; name another folder") as refused:
        tune(measurer, trials=3, log=tmp_path, **change)
    assert "\n" not in str(refused.value)
    assert (tmp_path / "network.json").read_text() == before
    assert not measurer.asked


def test_folder_goes_on_where_the_caches_are_not_told(tmp_path):
    target = extraction().target
    tune(Pretended(), trials=3, log=tmp_path, model=extraction(target=replace(target, caches=(1 << 15, 1 << 20))))
    measurer = Pretended()
    tune(measurer, trials=3, log=tmp_path, model=extraction(target=replace(target, caches=())))
    assert not measurer.asked


def test_log_that_is_no_folder_of_tuning_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"log: .*file is a file; name a folder"):
        tune(Pretended(), log=tmp_path / "file")
    (tmp_path / "network.json").write_text("nonsense")
    with pytest.raises(ValueError, match=r"log: .*network.json does not describe a network"):
        tune(Pretended(), log=tmp_path)


def test_records_of_another_device_are_refused(tmp_path):
    tune(Pretended(name="one"), trials=3, log=tmp_path)
    with pytest.raises(ValueError, match=r"log: .* on 'one', but this is 'other'; use another log"):
        tune(Pretended(name="other"), trials=3, log=tmp_path)


# Ends


def test_a_task_for_which_nothing_works_falls_back_to_its_default():
    with pytest.warns(UserWarning, match=r"conv2d_add: all \d+ trials failed"):
        result = tune(Pretended(broken=["conv2d_add"]))
    relu, add, _ = result.tasks
    assert add.result.best == add.result.default
    assert add.seconds == 2e-2
    assert relu.seconds < 2e-3


@pytest.mark.filterwarnings("ignore:.*trials failed")
def test_a_task_for_which_nothing_works_at_all_is_reported():
    result = tune(Pretended(broken=["conv2d_add"], broken_default=["conv2d_add"]))
    _, add, dense = result.tasks
    assert add.result is None
    assert "RUN_TIMEOUT (stopped after 10 s)" in add.failure
    assert dense.seconds < 2e-3
    assert result.seconds == math.inf


def test_early_stopping_is_that_of_each_task():
    result = tune(Pretended(), trials=10_000, early_stopping=12)
    assert result.stopped == "early stopping"
    for each in result.tasks:
        best_at = [record.measurement.cost for record in each.result.records].index(each.seconds)
        assert each.result.stopped == "early stopping"
        assert len(each.result.records) <= best_at + 1 + 12 + 8  # the results of a batch arrive in any order


def test_a_method_that_has_nothing_more_to_propose():
    def three(space, *, key):
        yield space.sample(key, 3)

    result = tune(Pretended(), method=three)
    assert result.stopped == "exhausted"
    assert [len(each.result.records) for each in result.tasks] == [4, 4, 4]


def test_time_limit_ends_all_tasks():
    result = tune(Pretended(), time_limit=1e-9)
    assert result.stopped == "time limit"
    assert sum(len(each.result.records) for each in result.tasks) == 4  # the defaults, and one configuration
    assert {each.result.stopped for each in result.tasks} == {"time limit"}


def test_one_local_measurer_serves_all_tasks(monkeypatch):
    made = []

    class Counted(Pretended):
        def __init__(self):
            super().__init__()
            made.append(self)

        def close(self):
            made.append("closed")

    monkeypatch.setattr(module, "Local", Counted)
    tune(None, trials=6)
    assert made[1:] == ["closed"]
    assert len(made[0].asked) == 9


# Others


def test_callbacks_hear_of_every_measurement():
    heard = []
    result = tune(Pretended(), callbacks=[heard.append])
    assert len(heard) == 43
    for each in result.tasks:
        assert [progress.record for progress in heard if progress.record.key == each.task.key] == list(each.result.records)


def test_a_smaller_budget_leaves_the_larger_ones_rounds(tmp_path):
    tune(Pretended(), trials=40, log=tmp_path)
    before = (tmp_path / "rounds.jsonl").read_text()
    measurer = Pretended()
    tune(measurer, trials=20, log=tmp_path)
    assert (tmp_path / "rounds.jsonl").read_text() == before
    assert len(measurer.asked) < 20


def recorded(trials):
    """Records of a task that is none of the network's."""
    task = bridge.conv2d(data=(1, 8, 8, 8), weight=(8, 8, 3, 3), target=extraction().target)
    return bridge.tune(task, method="random", trials=trials, measurer=Pretended(), progress=False).records


def test_resuming_with_a_history_ends_alike_and_with_another_is_refused(tmp_path):
    def learning(space, *, key, history):
        return random_search(space, key=jax.random.fold_in(key, sum(len(source.knobs) for source in history)))

    options = {"method": learning, "log": tmp_path / "log"}
    history = recorded(5)
    whole = tune(Pretended(), history=history, **options)
    log = tmp_path / "log" / "records.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:17]))
    with pytest.raises(ValueError, match=r"holds a tuning with history '6 records, .*', not '7 records, .*'; name another"):
        tune(Pretended(), history=recorded(6), **options)
    measurer = Pretended()
    part = tune(measurer, history=history, **options)
    assert len(measurer.asked) == 43 - 17
    assert [each.result.best for each in part.tasks] == [each.result.best for each in whole.tasks]


def test_history_reaches_the_tasks_it_is_of():
    def learning(space, *, key, history):
        learnt.append([len(source.knobs) for source in history])
        return random_search(space, key=key)

    records = recorded(5)
    learnt = []
    tune(Pretended(), trials=6, method=learning, history=records)
    assert learnt == [[5], [5], []]
    with pytest.raises(ValueError, match="history: it holds no record of another task with an operator of the network"):
        tune(Pretended(), method=learning, history=records, model=extraction(labels=["dense"]))
    with pytest.raises(ValueError, match="history: method 'random' does not learn"):
        tune(Pretended(), history=records)


def test_every_task_begins_with_the_model_that_fits_it_and_resuming_with_another_is_refused(tmp_path):
    def beginning(space, *, key, pretrained=None):
        begun.append(None if pretrained is None else float(pretrained.mean))
        return random_search(space, key=key)

    begun = []
    model = Constant().fit(np.zeros((1, 1)), np.ones(1), key=jax.random.key(0))
    task = extraction().tasks[0].task
    save(tmp_path / f"{name_of(task)}.gst", model, features=task.space.feature_names)
    options = {"trials": 6, "method": beginning, "log": tmp_path / "log"}
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"has no model for dense, which would take llvm-skylake-avx512-dense.gst"):
            tune(Pretended(), pretrained=tmp_path, **options)
    assert begun == [1.0, 1.0, None] * 2
    described = json.loads((tmp_path / "log" / "network.json").read_text())
    assert described["asked"] == {"pretrained": str(tmp_path)}
    with pytest.raises(ValueError, match=r"holds a tuning with pretrained 'SHA-256 .*', not None; name another folder"):
        tune(Pretended(), pretrained=False, **options)


@pytest.mark.filterwarnings("ignore:.*trials failed")
def test_progress_is_that_of_the_network(capsys):
    tune(Pretended(broken=["dense"]), trials=24, progress=True)
    first, last, failed = capsys.readouterr().err.splitlines()
    assert first == "small, 3 tasks on llvm, 24 trials"
    assert "Default/Best:  100.000/" in last
    assert "Progress: (24/24)" in last
    assert last.endswith("Done.")
    assert failed.startswith("Failed: 8 x RUN_TIMEOUT")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials: 0 must be greater than 0"),
        ({"seed": -1}, "seed: -1 must lie in 0"),
        ({"method": "randon"}, "Did you mean 'random'"),
        ({"model": extraction(labels=())}, "model: small has no operator that a template covers on llvm"),
    ],
    ids=["trials", "seed", "method", "model"],
)
def test_bad_arguments_are_named_before_any_work(options, message, tmp_path):
    measurer = Pretended()
    with pytest.raises(ValueError, match=message):
        tune(measurer, log=tmp_path / "log", **options)
    assert not measurer.asked
    assert not (tmp_path / "log").exists()
