"""A network of three small tasks, and a device that answers by a formula."""

from tests.tvm_bridge.record_strategies import CPU
from tvm_bridge.convolution import Conv2d
from tvm_bridge.dense import Dense
from tvm_bridge.measure.base import ErrorCategory, Measurement, Measurer
from tvm_bridge.network.extract import Extraction, NetworkTask
from tvm_bridge.network.load import Network
from tvm_bridge.task import task_of

WORKLOADS = {
    "conv2d_relu": Conv2d((1, 16, 8, 8), (16, 16, 3, 3), padding=(1, 1, 1, 1)),
    "conv2d_add": Conv2d((1, 16, 8, 8), (32, 16, 1, 1)),
    "dense": Dense((1, 64), (48, 64)),
}
COUNTS = {"conv2d_relu": 3, "conv2d_add": 1, "dense": 1}


def extraction(name="small", labels=tuple(WORKLOADS), target=CPU):
    """A network of these tasks, taken apart."""
    tasks = tuple(
        NetworkTask(task_of(WORKLOADS[label], target, label=label), COUNTS[label], (f"fused_{label}",)) for label in labels
    )
    return Extraction(Network(None, name), target, None, tasks, {"softmax": 1}, {})


class Pretended(Measurer):
    """Takes 1 ms to 2 ms a configuration by its number and 20 ms a default; what is in `broken` fails."""

    def __init__(self, *, broken=(), broken_default=(), name="pretended"):
        self.broken, self.broken_default, self.name = broken, broken_default, name
        self.asked = []

    def device(self, task):
        return self.name

    def stream(self, task, configs):
        for position in reversed(range(len(configs))):  # results need not come in order
            config = configs[position]
            index = None if config is None else task.space.to_index(task.space.from_config(config))
            self.asked.append((task.label, index))
            if task.label in (self.broken_default if config is None else self.broken):
                yield position, Measurement((), ErrorCategory.RUN_TIMEOUT, "stopped after 10 s", device=self.name)
            else:
                seconds = 2e-2 if index is None else 1e-3 * (1 + index * 7919 % 97 / 97)
                yield position, Measurement((seconds,), device=self.name)
