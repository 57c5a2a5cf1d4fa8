"""`tune` keeps its promises on real measurements: the default first, nothing slower, nothing twice, exact resuming."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
import tvm

import tvm_bridge as bridge
from search.methods.random import random_search
from surrogates import XGBoost, save
from tests.tvm_bridge.measure.kernels import calling, small_task
from tests.tvm_bridge.record_strategies import CPU
from tvm_bridge import pretrained
from tvm_bridge.measure.base import ErrorCategory, Measurement, Measurer
from tvm_bridge.records import DEFAULT_INDEX


class Pretended(Measurer):
    """Answers by a formula; counts what it is asked."""

    def __init__(self, seconds, *, default=1.0, name="pretended"):
        self.seconds, self.default, self.name = seconds, default, name
        self.asked = []

    def device(self, task):
        return self.name

    def stream(self, task, configs):
        for position in reversed(range(len(configs))):  # results need not come in order
            config = configs[position]
            self.asked.append(config)
            seconds = self.default if config is None else self.seconds(config)
            if seconds is None:
                yield position, Measurement((), ErrorCategory.RUN_TIMEOUT, "stopped after 10 s", device=self.name)
            else:
                yield position, Measurement((seconds,), device=self.name)


def by_tiles(config):
    """Some formula that differs between configurations."""
    return 1e-3 * (1 + abs(np.log2(config["tile_f"][2] / 4)) + abs(np.log2(config["tile_x"][3] / 2)))


def tune(task, measurer, *, method="random", **options):
    return bridge.tune(task, measurer=measurer, method=method, progress=False, **options)


def test_real_kernels_are_measured_checked_and_not_slower_than_the_default(tmp_path):
    task = small_task()
    with bridge.Local(min_repeat_ms=5, repeat=2, builders=1) as measurer:
        result = tune(task, measurer, trials=6, log=tmp_path / "log.jsonl")
    assert len(result.records) == 7
    assert result.records[0].index == DEFAULT_INDEX
    assert result.errors == {}
    assert result.best.seconds <= result.default.seconds
    assert result.best.gflops == pytest.approx(task.flop / result.best.seconds / 1e9)
    assert result.best.seconds == min(record.measurement.cost for record in result.records)
    logged = bridge.read_records(tmp_path / "log.jsonl")
    assert [(record.index, record.measurement) for record in logged] == [
        (record.index, record.measurement) for record in result.records
    ]
    assert result.seconds_measuring > 0


def test_built_kernel_computes_the_convolution():
    task = small_task()
    config = task.space.to_config(task.space.sample(jax.random.key(0), 1)[0])
    workload, generator = task.workload, np.random.default_rng(0)
    data, weight = (generator.normal(size=shape).astype("f") for shape in workload.shapes[:2])
    expected = workload.reference(data, weight)
    for choice in (None, config, config | {"tile_f": (-1, *config["tile_f"][1:])}):
        kernel = bridge.build(task, choice)
        output = tvm.runtime.empty(workload.shapes[2], "float32")

        kernel["main"](tvm.runtime.tensor(data), tvm.runtime.tensor(weight), output)
        np.testing.assert_allclose(output.numpy(), expected, atol=1e-4)


def test_default_wins_where_it_is_fastest():
    result = tune(small_task(), Pretended(by_tiles, default=1e-6), trials=8)
    assert result.best == result.default
    assert (result.best.config, result.best.index) == (None, DEFAULT_INDEX)


def test_default_is_measured_once_beyond_the_budget(tmp_path):
    measurer = Pretended(by_tiles)
    for trials in (4, 8):
        result = tune(small_task(), measurer, trials=trials, log=tmp_path / "log.jsonl")
        assert len(result.records) == trials + 1
    assert measurer.asked[0] is None
    assert measurer.asked.count(None) == 1
    assert len(measurer.asked) == 9


def test_best_is_the_fastest_of_all():
    task, measurer = small_task(), Pretended(by_tiles)
    result = tune(task, measurer, trials=40)
    assert result.best.seconds == min(by_tiles(config) for config in measurer.asked if config)
    assert task.space.to_config(task.space.from_index(result.best.index)) == result.best.config


def test_same_seed_same_proposals_and_another_seed_others():
    runs = [tune(small_task(), Pretended(by_tiles), trials=20, seed=seed).records for seed in (3, 3, 4)]
    indices = [{record.index for record in records} for records in runs]
    assert indices[0] == indices[1] != indices[2]


@pytest.mark.parametrize("cut", [0, 1, 7, 19])
def test_resuming_from_any_prefix_ends_with_the_same_records(tmp_path, cut):
    whole = tune(small_task(), Pretended(by_tiles), trials=20, log=tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "part.jsonl").write_text("".join(lines[:cut]))
    measurer = Pretended(by_tiles)
    part = tune(small_task(), measurer, trials=20, log=tmp_path / "part.jsonl")
    assert {record.index for record in part.records} == {record.index for record in whole.records}
    assert part.best == whole.best
    assert len(measurer.asked) == 21 - cut
    assert len(bridge.read_records(tmp_path / "part.jsonl")) == 21


def tune_for_real(log):
    with bridge.Local(min_repeat_ms=30, repeat=2, builders=1) as measurer:
        bridge.tune(small_task(), method="random", trials=10, log=log, measurer=measurer, progress=False)


def test_killed_search_resumes_and_measures_nothing_twice(tmp_path):
    log = tmp_path / "log.jsonl"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    script = f"import sys; from {__name__} import tune_for_real; tune_for_real(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", script, log], env=environment) as process:
        deadline = time.monotonic() + 120
        while (len(log.read_bytes().splitlines()) if log.exists() else 0) < 3:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    before = len(bridge.read_records(log))
    assert 3 <= before < 11
    tune_for_real(log)
    resumed = [record.index for record in bridge.read_records(log)]
    assert len(resumed) == len(set(resumed)) == 11
    undisturbed = tune(small_task(), Pretended(by_tiles), trials=10)
    assert set(resumed) == {record.index for record in undisturbed.records}


def test_ctrl_c_passes_through_and_keeps_every_finished_record(tmp_path):
    def interrupt(progress):
        if progress.trial == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(small_task(), Pretended(by_tiles), trials=20, log=tmp_path / "log.jsonl", callbacks=[interrupt])
    assert len(bridge.read_records(tmp_path / "log.jsonl")) == 6


def test_log_of_another_device_is_refused(tmp_path):
    tune(small_task(), Pretended(by_tiles, name="one"), trials=4, log=tmp_path / "log.jsonl")
    with pytest.raises(ValueError, match=r"log: .* on 'one', but this is 'other'; use another log"):
        tune(small_task(), Pretended(by_tiles, name="other"), trials=4, log=tmp_path / "log.jsonl")


def test_one_log_serves_several_tasks(tmp_path):
    other = bridge.conv2d(data=(1, 8, 8, 8), weight=(8, 8, 3, 3), target="llvm")
    for task in (small_task(), other):
        tune(task, Pretended(by_tiles), trials=6, log=tmp_path / "log.jsonl")
    best = bridge.best_records(tmp_path / "log.jsonl")
    assert set(best) == {small_task().key, other.key}
    measurer = Pretended(by_tiles)
    tune(other, measurer, trials=6, log=tmp_path / "log.jsonl")
    assert measurer.asked == []


def test_failing_default_is_told():
    with pytest.warns(
        UserWarning, match=r"default schedule failed \(RUN_TIMEOUT: stopped after 10 s\); the result is not compared"
    ):
        result = tune(small_task(), Pretended(by_tiles, default=None), trials=5)
    assert result.default is None
    assert result.best.config is not None


def test_best_record_of_a_task_can_be_built_even_if_it_is_the_default(tmp_path):
    tune(small_task(), Pretended(by_tiles, default=1e-9), trials=4, log=tmp_path / "log.jsonl")
    best = bridge.best_records(tmp_path / "log.jsonl")[small_task().key]
    assert best.config is None
    assert bridge.build(small_task(), best.config)["main"]


def test_log_of_another_version_of_the_template_is_refused(tmp_path):
    result = tune(small_task(), Pretended(by_tiles), trials=2)
    for wrong in ({"index": result.records[1].index + 1}, {"config": {"tile_q": (1, 2)}}):
        (tmp_path / "log.jsonl").write_text(replace(result.records[1], **wrong).to_json() + "\n")
        with pytest.raises(ValueError, match=r"log: .* numbers this task's configurations otherwise"):
            tune(small_task(), Pretended(by_tiles), trials=2, log=tmp_path / "log.jsonl")


def test_function_with_an_epilogue_is_another_task():
    assert calling("abs", 1).key != small_task().key
    assert calling("abs", 1).key == calling("abs", 1).key != calling("abs", 2).key


def test_repeat_in_a_batch_is_measured_once(tmp_path):
    def repeating(space, *, key):
        rows = space.sample(key, 2)
        yield rows[[0, 1, 0]]

    measurer = Pretended(by_tiles)
    result = tune(small_task(), measurer, method=repeating, trials=3, log=tmp_path / "log.jsonl")
    assert len(measurer.asked) == 3  # the default and two
    assert len(bridge.read_records(tmp_path / "log.jsonl")) == 3
    assert len(result.records) == 4


def test_failures_are_counted_at_the_end(capsys):
    def every_other(config):
        return by_tiles(config) if config["unroll_explicit"] else None

    result = bridge.tune(small_task(), method="random", measurer=Pretended(every_other), trials=20)
    failed = result.errors[ErrorCategory.RUN_TIMEOUT]
    assert 0 < failed < 20
    assert capsys.readouterr().err.splitlines()[-1] == f"Failed: {failed} x RUN_TIMEOUT (stopped after 10 s)"


def test_all_failed_without_a_default_says_why():
    with pytest.raises(bridge.TuningError, match=r"all 5 trials failed: 5 x RUN_TIMEOUT \(stopped after 10 s\)"):
        tune(small_task(), Pretended(lambda config: None, default=None), trials=5)


def test_all_failed_with_a_default_leaves_the_default():
    with pytest.warns(UserWarning, match="all 5 trials failed: 5 x RUN_TIMEOUT"):
        result = tune(small_task(), Pretended(lambda config: None), trials=5)
    assert result.best == result.default
    assert result.errors == {ErrorCategory.RUN_TIMEOUT: 5}


def test_early_stopping_counts_from_the_last_best():
    result = tune(small_task(), Pretended(lambda config: 1e-3), trials=1000, early_stopping=10)
    assert result.stopped == "early stopping"
    assert len(result.records) == 12  # the default, the first best, ten without a better one


def test_time_limit_ends_the_search():
    def slow(config):
        time.sleep(0.05)
        return 1e-3

    result = tune(small_task(), Pretended(slow), trials=1000, time_limit=0.5)
    assert result.stopped == "time limit"
    assert 2 < len(result.records) < 100


def test_callbacks_hear_of_every_measurement(tmp_path):
    heard = []
    result = tune(small_task(), Pretended(by_tiles), trials=7, callbacks=[heard.append], log=tmp_path / "log.jsonl")
    assert [progress.record for progress in heard] == list(result.records)
    assert [progress.trial for progress in heard] == list(range(8))
    assert heard[-1].best == max(progress.current for progress in heard[1:])
    again = []
    tune(small_task(), Pretended(by_tiles), trials=7, callbacks=[again.append], log=tmp_path / "log.jsonl")
    assert all(progress.reused for progress in again)


def test_history_reaches_methods_that_learn(tmp_path):
    other = bridge.conv2d(data=(1, 8, 8, 8), weight=(8, 8, 3, 3), target="llvm")
    records = tune(other, Pretended(by_tiles), trials=6).records
    learnt = []

    def learning(space, *, key, history):
        learnt.extend(history)
        yield from random_search(space, key=key)

    tune(small_task(), Pretended(by_tiles), trials=4, method=learning, history=records)
    (source,) = learnt
    assert len(source.knobs) == 6
    assert source.throughput.max() == pytest.approx(other.gflops(min(record.measurement.cost for record in records[1:])))
    with pytest.raises(ValueError, match="history: method 'random' does not learn"):
        tune(small_task(), Pretended(by_tiles), method="random", history=records)
    with pytest.raises(ValueError, match="history: it holds no record of another conv2d_nchw"):
        tune(other, Pretended(by_tiles), method=learning, history=records)


def ranking(space, *, key, history=(), pretrained=None):
    """Measures what a model holds best; without one, anything."""
    rows = space.sample(key, 200)
    score = np.zeros(200) if pretrained is None else -np.asarray(pretrained.predict(space.features(rows)).mean)
    yield rows[np.argsort(score, kind="stable")[:20]]


@pytest.fixture
def model(monkeypatch, tmp_path):
    """A model that ships: the larger the second factor of the first tile, the better."""
    task = small_task()
    x = task.space.features(task.space.sample(jax.random.key(7), 64))
    fitted = XGBoost(rounds=4).fit(x, x[:, 1], key=jax.random.key(0))
    save(tmp_path / f"{pretrained.name_of(task)}.gst", fitted, features=task.space.feature_names)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    return fitted


def test_the_fitting_model_is_taken_unless_there_is_a_history_or_none_is_wanted(model):
    other = bridge.conv2d(data=(1, 8, 8, 8), weight=(8, 8, 3, 3), target="llvm")
    records = tune(other, Pretended(by_tiles), trials=3).records
    begun = []

    def noting(space, *, key, history=(), pretrained=None):
        begun.append((len(history), pretrained is not None))
        yield from random_search(space, key=key)

    options = ({}, {"pretrained": False}, {"history": records}, {"history": records, "pretrained": model})
    for more in options:
        tune(small_task(), Pretended(by_tiles), trials=1, method=noting, **more)
    tune(small_task("cuda -arch=sm_90"), Pretended(by_tiles), trials=1, method=noting)
    tune(small_task(), Pretended(by_tiles), trials=1, method=partial(noting, pretrained="one's own"))
    assert begun == [(0, True), (0, False), (1, False), (1, True), (0, False), (0, True)]


def test_a_model_changes_what_is_proposed_and_resuming_with_it_is_exact(model, tmp_path):
    options = {"method": ranking, "trials": 20}
    whole, plain = (tune(small_task(), Pretended(by_tiles), **options, pretrained=given) for given in (True, False))
    first = {False: plain, True: whole}
    factors = {given: np.mean([each.config["tile_f"][1] for each in result.records[1:]]) for given, result in first.items()}
    assert factors[True] > 1.5 * factors[False]
    lines = [each.to_json() + "\n" for each in whole.records]
    (tmp_path / "log.jsonl").write_text("".join(lines[:9]))
    measurer = Pretended(by_tiles)
    part = tune(small_task(), measurer, **options, log=tmp_path / "log.jsonl")
    assert len(measurer.asked) == 21 - 9
    assert {each.index for each in part.records} == {each.index for each in whole.records}


def test_a_method_that_cannot_begin_with_a_model_does_without_what_ships(model):
    tune(small_task(), Pretended(by_tiles), trials=1, method="random")
    for method in ("random", partial(ranking, pretrained=model)):
        measurer = Pretended(by_tiles)
        with pytest.raises(ValueError, match=r"pretrained: method .* takes no fitted model, or has one already; leave"):
            tune(small_task(), measurer, method=method, pretrained=model)
        assert measurer.asked == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials: 0 must be greater than 0"),
        ({"early_stopping": 0}, "early_stopping: 0 must be greater than 0"),
        ({"time_limit": -1.0}, "time_limit: -1.0 must be greater than 0"),
        ({"seed": -1}, "seed: -1 must lie in 0"),
        ({"seed": 1 << 32}, "seed: 4294967296 must lie in 0"),
        ({"method": "randon"}, "method: 'randon' is not one of random, .*Did you mean 'random'"),
        ({"method": "gausstune", "pretrained": XGBoost()}, "pretrained: for conv2d_nchw.llvm: XGBoost knows nothing yet"),
    ],
)
def test_bad_arguments_are_named_before_any_work(options, message):
    measurer = Pretended(by_tiles)
    with pytest.raises(ValueError, match=message):
        tune(small_task(), measurer, **options)
    assert measurer.asked == []


def test_default_seconds_is_the_defaults_time():
    assert bridge.default_seconds(small_task(), measurer=Pretended(by_tiles, default=2e-3)) == 2e-3
    with pytest.raises(bridge.TuningError, match="RUN_TIMEOUT, stopped after 10 s"):
        bridge.default_seconds(small_task(), measurer=Pretended(by_tiles, default=None))


def test_a_log_serves_both_spaces_of_a_task(tmp_path):
    log = tmp_path / "log.jsonl"
    shape = {"data": (1, 16, 8, 8), "weight": (16, 16, 3, 3), "padding": 1, "target": CPU}
    plain, enlarged = (bridge.conv2d(**shape, enlarged=enlarged) for enlarged in (False, True))
    assert plain.key == enlarged.key
    first = tune(plain, Pretended(by_tiles), trials=3, log=log)
    both = tune(enlarged, Pretended(by_tiles), trials=9, log=log)
    assert {record.config["winograd"] for record in both.records[1:]} == {0, 2, 4}
    direct = [record.index for record in both.records[1:] if not (record.config["winograd"] or record.config["layout"])]

    def theirs(space, *, key):
        yield space.from_index(direct)

    again = Pretended(by_tiles)
    resumed = tune(plain, again, trials=3, log=log)
    assert {record.index for record in resumed.records} == {record.index for record in first.records}
    assert tune(plain, again, method=theirs, trials=len(direct), log=log).best.index in {*direct, DEFAULT_INDEX}
    assert not again.asked


def test_a_configuration_beyond_the_space_is_refused_by_name():
    shape = {"data": (1, 16, 8, 8), "weight": (16, 16, 3, 3), "padding": 1, "target": CPU}
    plain, enlarged = (bridge.conv2d(**shape, enlarged=enlarged) for enlarged in (False, True))
    configs = [enlarged.space.to_config(row) for row in enlarged.space.sample(jax.random.key(0), 9)]
    for config in configs:
        if config["winograd"]:
            with pytest.raises(ValueError, match=r"config: .* is of the enlarged space .*make the task with enlarged=True"):
                bridge.build(plain, config)
    assert {config["winograd"] for config in configs} == {0, 2, 4}


def test_a_measurer_that_says_nothing_of_the_default_is_told():
    class Silent(Pretended):
        def stream(self, task, configs):
            yield from ()

    with pytest.raises(RuntimeError, match="measurer: it gave no result for TVM's default schedule"):
        tune(small_task(), Silent(by_tiles), trials=3)
