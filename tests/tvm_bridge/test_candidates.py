"""Candidates of one's own: the report's sizes, what knobs refuse, and logs that serve every space of a task."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import tvm_bridge as bridge
from tests.tvm_bridge.record_strategies import CPU, RTX, SMALL, TILED, record, small_task, write_log
from tests.tvm_bridge.test_tune import Pretended, by_tiles, tune
from tvm_bridge import templates
from tvm_bridge.candidates import covering, given, replaced
from tvm_bridge.history import sources
from tvm_bridge.records import Record
from tvm_bridge.replay import replay
from tvm_bridge.task import task_of, task_recorded

INCREMENTED = {"auto_unroll_max_step": (1000, 0, 512, 1500)}
"""More options, in an order that numbers all configurations otherwise."""

REPORTED = {"num_thread_n": (4,), "num_thread_c": (4,)}
"""The report's candidates; of the knobs that are not the report's, the others say nothing."""
NOT_REPORTED = {"layout", "fetch_data", "fetch_weight", "row_padding", "stages", "split_reduction"}
TENSOR_CORES = {"warps_f", "warps_p", "fragments_f", "fragments_p", "depth", "kernel_innermost", "tensor_cores"}


def incremented():
    return task_of(SMALL, RTX, candidates=INCREMENTED)


def configs(space, count=16):
    return [space.to_config(row) for row in space.sample(jax.random.key(0), count)]


# Spaces


@pytest.mark.parametrize(
    ("weight", "padding", "size"), [((512, 512, 3, 3), 1, 3_379_200), ((2048, 512, 1, 1), 0, 1_397_760)], ids=str
)
def test_spaces_of_the_reports_listings(weight, padding, size):
    shape = {"data": (1, 512, 7, 7), "weight": weight, "padding": padding, "target": RTX}
    enlarged = bridge.conv2d(**shape, enlarged=True).space
    absent = {knob.name: (knob.absent,) for knob in enlarged.knobs if knob.name in NOT_REPORTED | TENSOR_CORES}
    task = bridge.conv2d(**shape, enlarged=True, candidates=absent | REPORTED)
    assert task.space.size == size
    assert set(task.space.names) - absent.keys() == {*bridge.conv2d(**shape).space.names, *REPORTED, "vthread_n", "vthread_c"}
    assert len(task.space.sample(jax.random.key(0), 8)) == 8


# What has to be asked for


def test_tensor_cores_are_asked_for():
    """An enlarged space is of float32 alone; naming the knob adds the rest, and changes no index."""
    shape = {"data": (1, 16, 8, 8), "weight": (16, 16, 3, 3), "padding": 1, "target": RTX, "enlarged": True}
    usual, asked = bridge.conv2d(**shape), bridge.conv2d(**shape, candidates={"tensor_cores": (0, 1)})
    assert usual.candidates == asked.candidates == {}
    assert not usual.space.choice(usual.space.sample(jax.random.key(0), 64))["tensor_cores"].any()
    rows = asked.space.sample(jax.random.key(0), 64)
    chosen = asked.space.choice(rows)["tensor_cores"]
    assert chosen.any()
    assert not chosen.all()
    for row, tf32 in zip(rows, chosen, strict=True):
        config = asked.space.to_config(row)
        own = usual.own(config)
        assert (own is None) == bool(tf32)
        assert own is None or usual.space.to_index(usual.space.from_config(own)) == asked.space.to_index(row)


def test_records_of_tensor_cores_have_them_in_their_task():
    asked = bridge.conv2d(
        data=(1, 16, 8, 8),
        weight=(16, 16, 3, 3),
        padding=1,
        target=RTX,
        enlarged=True,
        candidates={"tensor_cores": (1,)},
    )
    configs = [asked.space.to_config(row) for row in asked.space.sample(jax.random.key(0), 2)]
    task = task_recorded(asked.key, configs, enlarged=True)
    assert all(task.own(config) == config for config in configs)


@pytest.mark.parametrize("target", [RTX, CPU], ids=["cuda", "llvm"])
def test_configurations_mean_the_same_in_every_space(target):
    """Whatever has a configuration agrees on whether it is valid."""
    plain = templates.space(TILED, target, enlarged=True)
    more = replaced(plain, INCREMENTED)
    rows = np.random.default_rng(0).integers(0, plain.shape, (512, len(plain.shape)))
    same = np.stack([more.from_config(plain.to_config(row)) for row in rows])
    np.testing.assert_array_equal(more.valid(same), plain.valid(rows))
    assert more.size * 3 == plain.size * 4


def test_a_split_keeps_the_ways_that_are_named():
    ways = [(-1, 4), [1, 4], (4, 1)]
    with pytest.raises(ValueError, match=r"candidates: tile_rc is given an option twice .* name it once"):
        task_of(SMALL, RTX, candidates={"tile_rc": ways})
    task = task_of(SMALL, RTX, candidates={"tile_rc": ways[1:]})
    assert {config["tile_rc"] for config in configs(task.space, 64)} == {(1, 4), (4, 1)}
    assert task.candidates == {"tile_rc": ((1, 4), (4, 1))}
    assert task.space.valid(np.stack([task.space.from_config(config) for config in configs(task.space)])).all()


def test_candidates_of_the_template_are_none():
    assert task_of(SMALL, RTX, candidates={"auto_unroll_max_step": [0, 512, np.int64(1500)]}).candidates == {}
    assert bridge.conv2d(data=(1, 4, 6, 6), weight=(8, 4, 3, 3), target=RTX, candidates=None).candidates == {}
    assert bridge.dense(data=(4, 8), weight=(8, 8), target=RTX, candidates=INCREMENTED).candidates == INCREMENTED


def test_candidates_that_no_configuration_can_have_are_refused():
    with pytest.raises(ValueError, match="no configuration can have any of the options given for tile_f"):
        task_of(TILED, CPU, candidates={"tile_f": [(16, 1, 1, 1)]})


def test_parts_of_a_space_keep_their_algorithms():
    space = templates.space(TILED, CPU, enlarged=True)
    one = replaced(space, {"winograd": (4, 0), "auto_unroll_max_step": (7, 0, 512, 1500)})
    assert {config["winograd"] for config in configs(one)} == {0, 4}
    assert 0 < len(one.parts) < len(space.parts)
    assert one.shares == (space.shares[0], space.shares[-1])
    unrolling = one.names.index("auto_unroll_max_step")
    assert all(part[unrolling] == (0, 1, 2, 3) for part in one.parts)
    assert all(one.valid(one.sample(jax.random.key(0), 32)))


@pytest.mark.parametrize(
    ("candidates", "complaint"),
    [
        ({"tile_q": (1,)}, r"'tile_q' is not a knob of this space; it has tile_f, "),
        ({"num_thread_n": (4,)}, r"'num_thread_n' is not a knob of this space"),
        ({"auto_unroll_max_step": 512}, r"auto_unroll_max_step needs a list of at least one option, not 512"),
        ({"auto_unroll_max_step": ()}, r"needs a list of at least one option, not \(\)"),
        ({"auto_unroll_max_step": "512"}, r"needs a list of at least one option, not '512'"),
        ({"auto_unroll_max_step": (0, 1.5)}, r"cannot be 1.5; it can be a whole number from 0 to"),
        ({"auto_unroll_max_step": (True,)}, r"cannot be True"),
        ({"auto_unroll_max_step": (-1,)}, r"cannot be -1"),
        ({"auto_unroll_max_step": (1 << 31,)}, r"cannot be 2147483648"),
        ({"auto_unroll_max_step": (0, 0)}, r"is given an option twice"),
        ({"unroll_explicit": (0, 2)}, r"unroll_explicit cannot be 2; it can be one of \[0, 1\]"),
        ({"tile_f": [(1, 2, 3, 4)]}, r"tile_f cannot be \(1, 2, 3, 4\); it can be a way to write 8 as a product of 4"),
        ({"tile_f": [8]}, r"tile_f cannot be 8"),
        (["tile_f"], r"\['tile_f'\] is not a dictionary of a knob's name to its options"),
    ],
    ids=str,
)
def test_errors_name_the_knob_and_the_candidate(candidates, complaint):
    with pytest.raises(ValueError, match=f"candidates: .*{complaint}"):
        bridge.conv2d(data=(1, 4, 6, 6), weight=(8, 4, 3, 3), padding=1, target=RTX, candidates=candidates)


# Logs


def test_a_log_serves_spaces_that_number_otherwise(tmp_path):
    log, plain, more = tmp_path / "log.jsonl", task_of(SMALL, RTX), incremented()
    assert plain.key == more.key
    first = tune(plain, Pretended(by_tiles), trials=6, log=log)
    known = [record.config for record in first.records[1:]]

    def theirs(space, *, key):
        yield np.stack([space.from_config(config) for config in known] + list(space.sample(key, 6)))

    measurer = Pretended(by_tiles)
    both = tune(more, measurer, method=theirs, trials=12, log=log)
    assert measurer.asked
    assert not any(config in known for config in measurer.asked)
    assert any(config["auto_unroll_max_step"] == 1000 for config in measurer.asked)
    again = Pretended(by_tiles)
    resumed = tune(more, again, method=theirs, trials=12, log=log)
    assert again.asked == []
    assert {record.index for record in resumed.records} == {record.index for record in both.records}
    assert tune(plain, again, trials=6, log=log).best == first.best
    assert again.asked == []


def test_records_tell_their_candidates_and_are_checked_by_them(tmp_path):
    more = task_of(SMALL, RTX, candidates=INCREMENTED | {"tile_rc": [(4, 1), (1, 4)]})
    measured = tune(more, Pretended(by_tiles), trials=3, log=tmp_path / "log.jsonl").records[1]
    line = measured.to_json()
    assert Record.from_json(line).candidates == more.candidates
    assert "candidates" not in record(3).to_json()
    (tmp_path / "wrong.jsonl").write_text(replace(measured, index=measured.index + 1).to_json() + "\n")
    with pytest.raises(ValueError, match="numbers this task's configurations otherwise"):
        tune(more, Pretended(by_tiles), trials=3, log=tmp_path / "wrong.jsonl")


def test_the_enlarged_space_of_a_report_has_no_configuration_of_the_plain_one():
    plain, reported = small_task(), task_of(SMALL, RTX, enlarged=True, candidates=REPORTED)
    for config in configs(plain.space, 4):
        assert reported.own(config) is None
        enlarged = task_of(SMALL, RTX, enlarged=True)
        new = {knob.name: knob.absent for knob in enlarged.space.knobs[len(plain.space.knobs) :]}
        assert enlarged.own(config) == config | new
    for config in configs(reported.space, 4):
        assert plain.own(config) is None
        with pytest.raises(ValueError, match="candidates that have it"):
            bridge.build(plain, config)


def test_a_log_is_replayed_in_a_space_that_has_it(tmp_path):
    more = incremented()
    records = [replace(record(index, task=more), candidates=more.candidates) for index in range(0, more.space.size, 997)]
    (task,) = replay(write_log(tmp_path / "log.jsonl", [*records, record(5)]))
    assert task.candidates == {"auto_unroll_max_step": (0, 512, 1500, 1000)}
    assert task.space.size == len(records) + 1


def test_other_tasks_teach_with_all_they_have():
    other = task_of(replace(SMALL, stride=(2, 2)), RTX, candidates=INCREMENTED)
    rows = other.space.sample(jax.random.key(0), 32)
    (source,) = sources([record(index, task=other) for index in other.space.to_index(rows)], incremented())
    assert len(source.knobs) == 32
    assert source.space.feature_names == other.space.feature_names


def test_covering_is_what_the_configurations_need():
    plain, more = small_task().space, incremented().space
    assert covering(plain, configs(plain)) == {}
    assert covering(plain, configs(more, 64)) == {"auto_unroll_max_step": (0, 512, 1500, 1000)}
    assert given(plain, INCREMENTED) == INCREMENTED
