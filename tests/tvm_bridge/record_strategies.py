"""Records, logs and tables for tests: builders with defaults, and Hypothesis strategies for what a log can hold."""

import gzip
import json
from dataclasses import replace

import jax
from hypothesis import strategies as st

from tests.tvm_bridge.strategies import convolutions, products
from tvm_bridge.convolution import Conv2d
from tvm_bridge.measure.base import ErrorCategory, Measurement
from tvm_bridge.records import DEFAULT_INDEX, Record, TaskKey
from tvm_bridge.target import Target
from tvm_bridge.task import Task, task_of
from tvm_bridge.workload import WORKLOADS

RTX = Target.parse("cuda -arch=sm_86")
SMALL = Conv2d((1, 4, 6, 6), (8, 4, 3, 3), padding=(1, 1, 1, 1))
"""A convolution whose space is small; its recorded times are made up."""

AUTOTVM_LINE = (
    '{"input": ["cuda -keys=cuda,gpu -arch=sm_86 -max_num_threads=1024 -thread_warp_size=32", "conv2d_nchw.cuda", '
    '[["TENSOR", [1, 128, 28, 28], "float32"], ["TENSOR", [128, 128, 3, 3], "float32"], '
    '[1, 1], [1, 1, 1, 1], [1, 1], "float32"], {}], '
    '"config": {"index": 594848, "code_hash": null, "entity": ['
    '["tile_f", "sp", [-1, 1, 2, 1]], ["tile_y", "sp", [-1, 2, 1, 14]], ["tile_x", "sp", [-1, 7, 1, 1]], '
    '["tile_rc", "sp", [-1, 8]], ["tile_ry", "sp", [-1, 1]], ["tile_rx", "sp", [-1, 1]], '
    '["auto_unroll_max_step", "ot", 0], ["unroll_explicit", "ot", 0]]}, '
    '"result": [[0.0089085], 0, 1.5, 1650000000.0], "version": 0.2, "tvm_version": "0.10.0"}'
)
"""A line as AutoTVM of TVM 0.10 wrote it."""


def small_task(*, target: Target = RTX, workload: Conv2d = SMALL) -> Task:
    """The task that `record` is about."""
    return task_of(workload, target)


CPU = Target.parse({"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 2})
TILED = Conv2d((1, 16, 8, 8), (16, 16, 3, 3), padding=(1, 1, 1, 1))
"""A convolution for which Winograd's algorithm is in the enlarged space."""


def both_algorithms(task: Task) -> list[Record]:
    """Records of a task in its enlarged space, of every algorithm one at least."""
    drawn = task.space.sample(jax.random.key(0), sum(task.space.shares))
    return [record(index, 1e-3 * (place + 1), task=task) for place, index in enumerate(task.space.to_index(drawn))]


def record(index: int = 0, seconds: float | None = 1e-3, *, task: Task | None = None, **fields) -> Record:
    """A record of a configuration of a task; without seconds it failed, at run time unless `error` says otherwise."""
    task = task or small_task()
    if seconds is None:
        fields = {"error": ErrorCategory.RUNTIME_DEVICE} | fields
    measurement = Measurement(() if seconds is None else (seconds,), **fields)
    config = None if index < 0 else task.space.to_config(task.space.from_index(index))
    return Record(task.key, index, config, measurement)


def write_log(path, records):
    """Write records as lines, all at once; gzipped in one member if the path ends in .gz."""
    text = "".join(each.to_json() + "\n" for each in records).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


TABLE = {
    "task_id": "lab/gemm/A100",
    "device": "an A100",
    "kernel": "gemm",
    "knobs": ["block", "order"],
    "config": [[8, 0], [8, 1], [16, 0], [16, 1], [32, 1]],
    "time_s": [0.5, None, 0.25, 2.0, None],
    "error": [0, 4, 0, 0, "CompilationFailedConfig"],
}
"""A table in the form of the published ones, which have AutoTVM's numbers for errors or words; [32, 0] was not measured."""


def write_table(path, **changes):
    """Write `TABLE` with some columns replaced; gzipped if the path ends in .gz."""
    text = json.dumps(TABLE | changes).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


words = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=6).filter(lambda word: not word.isdigit())
attribute_names = st.sampled_from(["arch", "max_threads_per_block", "mcpu", "model", "mtriple", "num-cores", "opt-level"])
finite = st.floats(allow_nan=False, allow_infinity=False)

targets = st.builds(
    lambda kind, attributes, caches: Target(kind, tuple(sorted(attributes.items())), tuple(caches)),
    st.sampled_from(["llvm", "cuda", "table"]),
    st.dictionaries(attribute_names, words | st.integers(0, 999), max_size=3),
    st.lists(st.integers(1, 2**40), max_size=3),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3),
    max_leaves=8,
)

others = words.filter(lambda name: name not in WORKLOADS)  # Hypothesis tries words of the program: "dense"
task_keys = st.builds(TaskKey.of, targets, others, st.lists(json_values, max_size=3)) | st.builds(
    lambda target, workload: TaskKey.of(target, workload.operator, workload.args),
    targets,
    convolutions() | convolutions(depthwise=True) | convolutions(layout="NHWC") | products(),
)

configs = st.dictionaries(
    st.text(max_size=8),
    st.lists(st.integers(1, 64), min_size=1, max_size=4).map(tuple) | st.integers() | finite,
    max_size=4,
)

measurements = st.builds(
    Measurement,
    st.lists(st.floats(1e-9, 100), min_size=1, max_size=3).map(tuple),
    all_cost=finite,
    timestamp=finite,
    device=st.text(max_size=8),
)
failures = st.builds(
    lambda measurement, error, message: replace(measurement, seconds=(), error=error, message=message),
    measurements,
    st.sampled_from(list(ErrorCategory)[1:]),
    st.text(max_size=20),
)

records = st.builds(Record, task_keys, st.integers(0, 2**70), configs, measurements | failures) | st.builds(
    Record, task_keys, st.just(DEFAULT_INDEX), st.none(), measurements | failures
)


def as_logged(record: Record) -> Record:
    """The record as a log gives it back: the outermost factor of a split is left to be resolved."""
    if record.config is None:
        return record
    config = {name: (-1, *value[1:]) if isinstance(value, tuple) else value for name, value in record.config.items()}
    return replace(record, config=config)
