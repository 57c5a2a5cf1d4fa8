"""Measuring candidates: on this machine, over RPC, or from what was recorded. A failure is a value with a category."""

from tvm_bridge.measure.base import DeviceError, ErrorCategory, Measurement, Measurer, TuningError

__all__ = ["DeviceError", "ErrorCategory", "Measurement", "Measurer", "TuningError"]
