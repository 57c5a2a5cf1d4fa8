"""A search's log tells what it has cost, and whether it came to its end; only then is it not done again."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from tvm.s_tir import meta_schedule

from experiments import log, metaschedule, metaschedule_network
from tvm_bridge import Target, conv2d, templates
from tvm_bridge.build import compiled
from tvm_bridge.measure.compiling import subject_of
from tvm_bridge.network.database import FILES

ROUNDS = [{"trials": 64, "seconds": 50.0}, {"trials": 30, "seconds": 20.5}]
END = {"trials": 0, "seconds": 0.0, "finished": 128}


@pytest.fixture
def searched(tmp_path):
    """Makes the folder of a search with such a log."""

    def searched(lines):
        log.extend(tmp_path / "batches.jsonl", lambda _: lines)
        return tmp_path

    return searched


def test_nothing_was_spent_before_a_search(tmp_path):
    assert metaschedule.spent(tmp_path / "absent") == (0, 0)
    assert not metaschedule.finished(tmp_path / "absent", 1)


def test_all_rounds_count_whether_the_search_was_stopped_or_not(searched):
    assert metaschedule.spent(searched(ROUNDS)) == (94, 70.5)
    assert metaschedule.spent(searched([END])) == (94, 70.5)


def test_a_smaller_budget_took_the_first_rounds(searched):
    folder = searched(ROUNDS)
    assert [metaschedule.spent(folder, trials) for trials in (1, 64, 65)] == [(64, 50.0), (64, 50.0), (94, 70.5)]


def test_a_smaller_budget_found_the_first_lines_of_the_database(searched, tmp_path):
    folder = searched(ROUNDS)
    workloads, tuning_records = FILES
    (folder / workloads).write_text("workloads\n")
    (folder / tuning_records).write_text("".join(f"{number}\n" for number in range(94)))
    first = metaschedule_network.first_rounds(folder, 50, tmp_path / "first")
    assert (first / workloads).read_text() == "workloads\n"
    assert (first / tuning_records).read_text().split() == [str(number) for number in range(64)]


def test_a_stopped_search_is_not_finished_however_much_it_measured(searched):
    assert not metaschedule.finished(searched(ROUNDS), 64)


def test_a_finished_search_is_one_of_as_many_trials_be_it_that_it_found_fewer(searched):
    folder = searched([*ROUNDS, END])
    assert [metaschedule.finished(folder, trials) for trials in (64, 128, 129)] == [True, True, False]
    before = (folder / "batches.jsonl").read_bytes()
    metaschedule.tune(None, folder, 128)
    assert (folder / "batches.jsonl").read_bytes() == before


@pytest.fixture
def no_intrinsics(monkeypatch):
    """Instructions of tensor cores, which take half a minute to load, and which kernels on float32 do not use."""
    monkeypatch.setitem(sys.modules, "tvm.s_tir.tensor_intrin", ModuleType("tensor_intrin"))


def test_on_a_gpu_it_knows_what_a_block_can_have_and_its_space_is_made(no_intrinsics, capfd):
    target = Target.parse({"kind": "cuda", "arch": "sm_90"})
    subject = subject_of(conv2d(data=(1, 8, 8, 8), weight=(8, 8, 3, 3), padding=1, target=target))

    def context(target):
        rules = [meta_schedule.schedule_rule.CrossThreadReduction([4, 8]), meta_schedule.schedule_rule.AutoBind()]
        generator = meta_schedule.space_generator.PostOrderApply(
            sch_rules=rules, postprocs=[meta_schedule.postproc.VerifyGPUCode()], mutator_probs={}
        )
        return meta_schedule.TuneContext(metaschedule.function(subject), target=target.tvm, space_generator=generator)

    assert context(metaschedule.known(target)).generate_design_space()
    assert "will not be applied" not in capfd.readouterr().err
    with pytest.raises(ValueError, match="max_threads_per_block"):
        context(target)
    tighter = metaschedule.known(Target.parse({"kind": "cuda", "arch": "sm_90", "max_threads_per_block": 512}))
    assert dict(tighter.attributes)["max_threads_per_block"] == 512


def test_on_a_cpu_weights_are_free_in_layout_and_the_target_is_as_it_was():
    target = Target.parse("llvm -mcpu=x86-64-v3 -num-cores=1")
    on_cpu, on_gpu = (
        metaschedule.function(subject_of(conv2d(data=(1, 8, 8, 8), weight=(8, 8, 3, 3), target=each)))
        for each in (target, "cuda -arch=sm_90")
    )
    assert "layout_free_buffers" in on_cpu.attrs
    assert "layout_free_buffers" not in on_gpu.attrs
    assert metaschedule.known(target) is target


def test_kernels_are_compiled_as_the_search_does_without_asynchronous_copies(tmp_path, monkeypatch):
    target = Target.parse({"kind": "cuda", "arch": "sm_80"})
    subject = subject_of(conv2d(data=(1, 8, 4, 4), weight=(8, 8, 1, 1), target=target, enlarged=True))
    config = {
        **{"tile_f": (2, 1, 4, 1), "tile_y": (4, 1, 1, 1), "tile_x": (1, 1, 4, 1), "tile_rc": (2, 4)},
        **{"tile_ry": (1, 1), "tile_rx": (1, 1), "auto_unroll_max_step": 0, "unroll_explicit": 0, "stages": 2},
    }
    scheduled = templates.find(subject.operator, "cuda").schedule(subject.prim_func(), config, target)
    database = SimpleNamespace(JSONDatabase=lambda **_: SimpleNamespace(query_schedule=lambda *_: scheduled))
    sources = []

    def noted(functions, target, **how):
        sources.append(compiled(functions, target, **how).mod.imports[0].inspect_source())
        return SimpleNamespace(export_library=lambda path: None)

    monkeypatch.setattr(meta_schedule, "database", database)
    monkeypatch.setattr(metaschedule, "compiled", noted)
    metaschedule.build(subject, tmp_path, "a library")
    noted({"main": scheduled.mod["main"]}, target)  # as our own are
    assert ["ptx_cp_async_legacy" in source for source in sources] == [False, True]
