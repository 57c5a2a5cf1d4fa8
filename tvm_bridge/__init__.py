"""What a configuration means on a target, and how fast it is: tasks, templates, measurement, records, `tune`."""

from tvm_bridge.build import build
from tvm_bridge.measure import DeviceError, ErrorCategory, Measurement, Measurer, TuningError
from tvm_bridge.measure.local import Local
from tvm_bridge.measure.replay import Replay
from tvm_bridge.measure.rpc import RPC
from tvm_bridge.network.benchmark import Latency, benchmark, hypervolume
from tvm_bridge.network.compile import CompiledNetwork, compile_network
from tvm_bridge.network.database import export_database
from tvm_bridge.network.extract import Extraction, NetworkTask, extract_tasks
from tvm_bridge.network.layouts import LayoutChoice, choose_layouts, in_layout
from tvm_bridge.network.load import Network, load_network
from tvm_bridge.network.result import NetworkResult
from tvm_bridge.network.tune import tune_network
from tvm_bridge.progress import Progress
from tvm_bridge.record_log import RecordLog
from tvm_bridge.records import Record, best_records, read_records
from tvm_bridge.replay import replay
from tvm_bridge.session import Candidate, TuneResult
from tvm_bridge.target import Target
from tvm_bridge.task import Task, conv2d, dense
from tvm_bridge.tune import default_seconds, methods, tune

__all__ = [
    "RPC",
    "Candidate",
    "CompiledNetwork",
    "DeviceError",
    "ErrorCategory",
    "Extraction",
    "Latency",
    "LayoutChoice",
    "Local",
    "Measurement",
    "Measurer",
    "Network",
    "NetworkResult",
    "NetworkTask",
    "Progress",
    "Record",
    "RecordLog",
    "Replay",
    "Target",
    "Task",
    "TuneResult",
    "TuningError",
    "benchmark",
    "best_records",
    "build",
    "choose_layouts",
    "compile_network",
    "conv2d",
    "default_seconds",
    "dense",
    "export_database",
    "extract_tasks",
    "hypervolume",
    "in_layout",
    "load_network",
    "methods",
    "read_records",
    "replay",
    "tune",
    "tune_network",
]
