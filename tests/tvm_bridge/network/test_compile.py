"""A compiled network computes what the untuned one does, wherever its schedules come from, and needs TVM's runtime alone."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from tvm.s_tir import ScheduleError

from tests.tvm_bridge.network.small_network import SHAPE, small_network
from tests.tvm_bridge.record_strategies import write_log
from tests.tvm_bridge.relax_run import run
from tvm_bridge import templates
from tvm_bridge.measure.base import DeviceError, ErrorCategory, Measurement
from tvm_bridge.network import compile as compiling
from tvm_bridge.network import jobs
from tvm_bridge.network.benchmark import benchmark
from tvm_bridge.network.compile import compile_network
from tvm_bridge.network.database import best_schedules, export_database, foreign_database, open_database
from tvm_bridge.network.extract import extract_tasks
from tvm_bridge.records import Record
from tvm_bridge.target import Target
from tvm_bridge.task import task_of


def _record(task, knobs, seconds):
    index = -1 if knobs is None else int(task.space.to_index(knobs[None])[0])
    config = None if knobs is None else task.space.to_config(knobs)
    return Record(task.key, index, config, Measurement((seconds,), ErrorCategory.NO_ERROR, "", 0.0, 0.0, ""))


@pytest.fixture(scope="module")
def extraction():
    return extract_tasks(small_network(), "llvm")


@pytest.fixture(scope="module")
def records(extraction):
    """A direct configuration of every task, and one with Winograd's algorithm, faster, where there is one."""
    found = []
    for each in extraction.tasks:
        sampled = each.task.space.sample(jax.random.key(0), 20)
        configs = [each.task.space.to_config(row) for row in sampled]
        algorithms = {config.get("winograd", 0): row for row, config in zip(sampled, configs, strict=True)}
        found += [_record(each.task, row, 1e-3 / (1 + m)) for m, row in algorithms.items()]
    return found


@pytest.fixture(scope="module")
def untuned(extraction):
    return compile_network(extraction)


@pytest.fixture(scope="module")
def tuned(extraction, records):
    return compile_network(extraction, log=records, check=False)


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(1).normal(size=SHAPE).astype("float32")


def test_the_tuned_network_agrees_with_the_untuned(extraction, tuned, untuned, data):
    assert set(tuned.tuned) == {name for each in extraction.tasks for name in each.functions}
    assert untuned.tuned == ()
    np.testing.assert_allclose(tuned(data), untuned(data), rtol=1e-4, atol=1e-3)


def test_winograds_algorithm_is_in_the_database_beside_a_direct_schedule(extraction, records):
    first = extraction.tasks[0].task
    fast, direct = best_schedules(first, records)
    assert fast.seconds < direct.seconds
    assert direct.start is first.function
    assert fast.start is not first.function


def test_a_default_that_is_faster_stays(extraction, records, untuned):
    defaults = [_record(each.task, None, 1e-9) for each in extraction.tasks]
    with pytest.warns(UserWarning, match="compiled untuned"):
        assert compile_network(extraction, log=[*records, *defaults]).tuned == untuned.tuned


def test_a_database_goes_out_and_comes_back_and_tvm_reads_it(extraction, records, untuned, data, tmp_path):
    export_database(extraction, records, tmp_path / "database")
    back = compile_network(extraction, database=tmp_path / "database", check=False)
    assert set(back.tuned) == {name for each in extraction.tasks for name in each.functions}
    np.testing.assert_allclose(back(data), untuned(data), rtol=1e-4, atol=1e-3)
    with pytest.raises(ValueError, match="has a database already"):
        export_database(extraction, records, tmp_path / "database")
    from tvm import relax

    with extraction.target.tvm, open_database(tmp_path / "database"):
        applied = relax.transform.MetaScheduleApplyDatabase()(extraction.module)
    scheduled = [name for name in extraction.calls if (applied[name].attrs or {}).get("tirx.is_scheduled")]
    assert set(scheduled) == set(back.tuned)
    np.testing.assert_allclose(run(applied, data)[0], untuned(data), rtol=1e-4, atol=1e-3)


def test_the_saved_library_runs_with_the_runtime_alone(tuned, untuned, data, tmp_path):
    tuned.save(tmp_path / "network.so")
    np.save(tmp_path / "data.npy", data)
    script = (
        "import sys, numpy, tvm; from tvm import relax\n"
        "machine = relax.VirtualMachine(tvm.runtime.load_module(sys.argv[1]), tvm.cpu())\n"
        "numpy.save(sys.argv[3], machine['main'](tvm.runtime.tensor(numpy.load(sys.argv[2]))).numpy())\n"
        "assert not any(name.split('.')[0] in ('tvm_bridge', 'search', 'jax') for name in sys.modules)\n"
    )
    paths = [str(tmp_path / name) for name in ("network.so", "data.npy", "result.npy")]
    subprocess.run([sys.executable, "-c", script, *paths], check=True, timeout=120, capture_output=True)
    np.testing.assert_allclose(np.load(paths[2]), untuned(data), rtol=1e-4, atol=1e-3)


def test_the_faster_one_is_returned_and_a_slower_one_is_told(extraction, records, tuned, untuned, monkeypatch):
    monkeypatch.setattr(compiling, "_compiled", lambda _, schedules, __: tuned if schedules else untuned)
    monkeypatch.setattr(compiling, "_compare", lambda *_: (2e-3, 1e-3))
    assert compile_network(extraction, log=records) is tuned
    monkeypatch.setattr(compiling, "_compare", lambda *_: (1e-3, 2e-3))
    with pytest.warns(UserWarning, match="small: tuned it takes 2 ms, by default 1 ms; the default is kept"):
        assert compile_network(extraction, log=records) is untuned


def test_a_database_of_another_target_is_left_out(extraction, records, tmp_path):
    cpu = next(cpu for cpu in ("haswell", "skylake-avx512") if cpu != dict(extraction.target.attributes).get("mcpu"))
    export_database(replace(extraction, target=Target.parse({"kind": "llvm", "mcpu": cpu})), records, tmp_path)
    with pytest.warns(UserWarning, match="records of another target than"), pytest.warns(UserWarning, match="neither has"):
        assert compile_network(extraction, database=tmp_path).tuned == ()


def test_an_exported_database_can_be_replaced(extraction, records, tmp_path):
    export_database(extraction, write_log(tmp_path / "log.jsonl", records), tmp_path)
    first = len(open_database(tmp_path))
    export_database(extraction, records, tmp_path, replace=True)
    assert len(open_database(tmp_path)) == first


def test_a_database_is_for_a_machine_however_much_its_target_says(tmp_path):
    """TVM's own detection adds limits to a CUDA target."""
    extraction = extract_tasks(small_network(), {"kind": "cuda", "arch": "sm_80"})
    row = extraction.tasks[0].task.space.sample(jax.random.key(0), 1)[0]
    detailed = Target.parse({"kind": "cuda", "arch": "sm_80", "max_shared_memory_per_block": 49152})
    export_database(replace(extraction, target=detailed), [_record(extraction.tasks[0].task, row, 1e-3)], tmp_path)
    stored = len(open_database(tmp_path))
    assert len(foreign_database(tmp_path, extraction.target)) == stored > 0


def test_a_configuration_of_ones_own_candidates_is_found():
    first = extract_tasks(small_network(), {"kind": "cuda", "arch": "sm_80"}).tasks[0].task
    steps = {"auto_unroll_max_step": (2000,)}
    more = task_of(first.workload, first.target, function=first.function, enlarged=True, candidates=steps)
    (row,) = more.space.sample(jax.random.key(0), 1)
    mine = replace(_record(more, row, 1e-3), candidates=more.candidates)
    (found, *_) = best_schedules(first, [mine])
    assert found.seconds == 1e-3


@pytest.mark.parametrize(
    "target",
    [{"kind": "cuda", "arch": "sm_80"}, {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}],
    ids=["a GPU", "another kind of machine"],
)
def test_a_network_that_cannot_run_here_can_still_be_compiled(extraction, records, tuned, monkeypatch, target):
    """Without a check, or where there is nothing to compare."""
    if target["kind"] == "cuda" and os.path.exists("/dev/nvidia0"):
        pytest.skip("this machine has a GPU")
    elsewhere = replace(extraction, target=Target.parse(target))
    compiled = replace(tuned, target=elsewhere.target)
    monkeypatch.setattr(compiling, "_compiled", lambda _, schedules, __: compiled if schedules else replace(compiled, tuned=()))
    assert compile_network(elsewhere, log=records, check=False) is compiled
    assert compile_network(elsewhere).tuned == ()
    with pytest.raises(DeviceError if target["kind"] == "cuda" else ValueError, match=r"cannot run .* pass check=False"):
        compile_network(elsewhere, log=records)


def test_both_are_compared_in_a_process_of_their_own(tuned, untuned):
    assert all(seconds > 0 for seconds in compiling._compare(untuned, tuned))


def test_latencies_are_logged_by_name(tuned, untuned, tmp_path):
    measured = benchmark({"default": untuned, "tuned": tuned}, runs=3, log=tmp_path)
    assert [len(latency.seconds) for latency in measured.values()] == [3, 3]
    lines = [json.loads(line) for line in (tmp_path / "latency.jsonl").read_text().splitlines()]
    assert {line["what"]: line["seconds"] for line in lines} == {
        name: latency.seconds.tolist() for name, latency in measured.items()
    }


def test_a_log_that_helps_nothing_is_told(extraction, untuned):
    with pytest.warns(UserWarning, match="neither has a schedule for small"):
        assert compile_network(extraction, log=[]).tuned == untuned.tuned


def test_an_epilogue_that_was_never_measured_takes_the_operators_schedules(extraction, records):
    first = extraction.tasks[0].task
    others = [replace(each, key=each.key._replace(function="another")) for each in records if each.key == first.key]
    assert [tuned.seconds for tuned in best_schedules(first, others)] == [
        tuned.seconds for tuned in best_schedules(first, records)
    ]
    slow = replace(_record(first, None, 1e-9), key=others[0].key)
    assert best_schedules(first, [*others, slow]) == []


def test_a_task_of_which_nothing_worked_takes_the_operators_schedules(extraction, records):
    first = extraction.tasks[0].task
    others = [replace(each, key=each.key._replace(function="another")) for each in records if each.key == first.key]
    row = first.space.sample(jax.random.key(1), 1)[0]
    failed = replace(_record(first, row, 1.0), measurement=Measurement((), ErrorCategory.BUILD_TIMEOUT, "too long"))
    expected = [tuned.seconds for tuned in best_schedules(first, records)]
    for own in ([_record(first, None, 1.0)], [failed], [_record(first, None, 1.0), failed]):
        assert [tuned.seconds for tuned in best_schedules(first, [*own, *others])] == expected


def test_a_schedule_that_does_not_fit_is_passed_over(extraction, records, monkeypatch):
    first = extraction.tasks[0].task
    fast, direct = best_schedules(first, records)
    template = templates.find(first.operator, first.target.kind)

    def schedule(function, config, target):
        if config.get("winograd", 0):
            raise ScheduleError("not of these loops")
        return template.schedule(function, config, target)

    monkeypatch.setattr(templates, "find", lambda *_: SimpleNamespace(rewritten=template.rewritten, schedule=schedule))
    with pytest.warns(UserWarning, match=r"does not fit its function; the next fastest is taken"):
        (found,) = best_schedules(first, records)
    assert fast.seconds < found.seconds == direct.seconds


def test_outputs_that_are_no_numbers_are_found(untuned, monkeypatch):
    monkeypatch.setattr(jobs, "_loaded", lambda path, _: path)
    given = {"a": [np.ones(2), np.ones(2)], "b": [np.ones(2), np.array([1, np.nan])]}
    monkeypatch.setattr(jobs, "outputs_of", lambda path, *_: given[path])
    assert jobs.apart(["a", "a"], untuned.inputs, "llvm") == 0
    assert np.isnan(jobs.apart(["a", "b"], untuned.inputs, "llvm"))


def test_wrong_input_is_told_before_any_work(extraction, untuned, data, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"log: .*nowhere"):
        compile_network(extraction, log=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"database: .* has no database_workload.json"):
        compile_network(extraction, database=tmp_path)
    with pytest.raises(ValueError, match=r"inputs: .* are not the network's"):
        untuned(data[:, :4])
    with pytest.raises(ValueError, match=r"must end in \.so"):
        untuned.save(tmp_path / "network.txt")
