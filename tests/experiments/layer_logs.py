"""Records of layers that nobody measured."""

import jax

from tests.tvm_bridge.record_strategies import record
from tvm_bridge import networks
from tvm_bridge.records import DEFAULT_INDEX
from tvm_bridge.target import Target
from tvm_bridge.task import task_of

ROWS, FAILED = 40, 4
HOPPER = Target.parse("cuda -arch=sm_90")
DEVICE = "NVIDIA H200, driver 570"


def recorded(network, name, target=HOPPER):
    """Records of a layer: the default, configurations that are faster the larger a tile is, and some that failed."""
    task = task_of(networks.layer(network, name).workload, target)
    records = [record(DEFAULT_INDEX, 1.0, task=task, device=DEVICE)]
    for place, index in enumerate(task.space.to_index(task.space.sample(jax.random.key(1), ROWS))):
        seconds = None if place < FAILED else 1e-3 / task.space.to_config(task.space.from_index(index))["tile_f"][2]
        records.append(record(index, seconds, task=task, device=DEVICE))
    return records
