"""What a configuration means on a target, and how fast it is: tasks, templates, measurement, records, `tune`."""

from tvm_bridge.build import build
from tvm_bridge.measure import DeviceError, ErrorCategory, Measurement, Measurer, TuningError
from tvm_bridge.measure.local import Local
from tvm_bridge.measure.replay import Replay
from tvm_bridge.measure.rpc import RPC
from tvm_bridge.progress import Progress
from tvm_bridge.records import Record, RecordLog, best_records, read_records
from tvm_bridge.replay import replay
from tvm_bridge.session import Candidate, TuneResult
from tvm_bridge.target import Target
from tvm_bridge.task import Task, conv2d, dense
from tvm_bridge.tune import default_seconds, methods, tune

__all__ = [
    "RPC",
    "Candidate",
    "DeviceError",
    "ErrorCategory",
    "Local",
    "Measurement",
    "Measurer",
    "Progress",
    "Record",
    "RecordLog",
    "Replay",
    "Target",
    "Task",
    "TuneResult",
    "TuningError",
    "best_records",
    "build",
    "conv2d",
    "default_seconds",
    "dense",
    "methods",
    "read_records",
    "replay",
    "tune",
]
