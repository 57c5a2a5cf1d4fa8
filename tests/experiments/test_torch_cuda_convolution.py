"""PyTorch is timed with TF32 off and on in both layouts, its calls and their kernels apart, by the clock of the GPU."""

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from experiments.torch_cuda_convolution import EAGER, KERNELS, measure

CALL, KERNEL = 40e-6, 10e-6
"""Seconds of a call and of its kernel, without TF32 in NCHW; TF32 takes half as long, channels last half as long again."""


class FakeTorch:
    """As much of PyTorch as is used, on a GPU whose clock goes on with each call."""

    channels_last = "channels last"

    def __init__(self):
        self.clock, self.captured, self.benchmarks = 0.0, None, set()
        self.nn = SimpleNamespace(functional=SimpleNamespace(conv2d=self.conv2d))
        self.backends = SimpleNamespace(cudnn=SimpleNamespace(allow_tf32=True, benchmark=False))
        self.autograd = SimpleNamespace(DeviceType=SimpleNamespace(CUDA="cuda", CPU="cpu"))
        self.profiler = SimpleNamespace(
            ProfilerActivity=SimpleNamespace(CUDA="cuda"), supported_activities=lambda: ["cuda"], profile=self.profile
        )
        torch = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                self.at = torch.clock

            def synchronize(self):
                pass

            def elapsed_time(self, other):
                return (other.at - self.at) * 1e3

        class CUDAGraph:
            seconds = 0.0

            def replay(self):
                torch.clock += self.seconds

        self.cuda = SimpleNamespace(Event=Event, CUDAGraph=CUDAGraph, graph=self.graph, synchronize=lambda: None)

    def rand(self, shape, device):
        assert device == "cuda"
        return Tensor(shape)

    def conv2d(self, data, weight, *others):
        assert others == (None, [2, 2], (1, 0), [1, 1], 1)
        assert data.layout == weight.layout
        self.benchmarks.add(self.backends.cudnn.benchmark)
        share = 0.5 ** (self.backends.cudnn.allow_tf32 + (data.layout == self.channels_last))
        if self.captured is not None:
            self.captured.seconds += KERNEL * share
        else:
            self.clock += CALL * share

    @contextmanager
    def graph(self, graph):
        self.captured = graph
        yield
        self.captured = None

    @contextmanager
    def profile(self, activities):
        def event(name, device, microseconds):
            return SimpleNamespace(name=name, device_type=device, time_range=SimpleNamespace(elapsed_us=lambda: microseconds))

        yield SimpleNamespace(
            events=lambda: [event("launch", "cpu", 99), event("transform", "cuda", 1), event("convolve", "cuda", 10)]
        )


class Tensor:
    def __init__(self, shape, layout="plain"):
        self.shape, self.layout = shape, layout

    def __sub__(self, _):
        return self

    def contiguous(self, memory_format):
        return Tensor(self.shape, memory_format)


@pytest.fixture
def torch(monkeypatch):
    torch = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


CONVOLUTION = {"data": [1, 2, 9, 9], "weight": [4, 2, 3, 3], "stride": [2, 2], "dilation": [1, 1], "groups": 1}


def test_calls_and_kernels_are_timed_by_precision_and_layout(torch):
    answer = measure(**CONVOLUTION, padding=[1, 0, 1, 0], milliseconds=1.0)
    assert set(answer) == {*EAGER, *KERNELS}
    for names, seconds in ((EAGER, CALL), (KERNELS, KERNEL)):
        found = [answer[name]["seconds"] for name in names]
        assert found == pytest.approx([seconds, seconds / 2, seconds / 2, seconds / 4])
    assert {answer[name]["implementation"] for name in KERNELS} == {"convolve"}
    assert torch.benchmarks == {True}


def test_kernels_that_cannot_be_watched_have_no_name(torch):
    torch.profiler.supported_activities = list
    answer = measure(**CONVOLUTION, padding=[1, 0, 1, 0], milliseconds=1.0)
    assert {answer[name]["implementation"] for name in KERNELS} == {""}


def test_padding_that_pytorch_adds_in_a_pass_of_its_own_is_refused(torch):
    with pytest.raises(ValueError, match=r"padding: \[1, 0, 2, 0\] is not symmetric"):
        measure(**CONVOLUTION, padding=[1, 0, 2, 0], milliseconds=1.0)
