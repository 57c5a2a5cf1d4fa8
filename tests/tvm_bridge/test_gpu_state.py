"""The driver is asked and never told; what it does not say is None, and without it there is a sentence."""

import stat
from dataclasses import asdict

import pytest

from tvm_bridge import gpu_state as module
from tvm_bridge.gpu_state import GPUState, gpu_state, visible_gpu

ANSWER = "GPU-5c1e, NVIDIA H200, 570.86.15, P0, 1980, 1980, 3201, 3201, 38, 121.52"


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Puts a script in nvidia-smi's place, alone on the path; it notes how it was called."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    module._cuda_version.cache_clear()

    def says(answer, code=0):
        script = tmp_path / "nvidia-smi"
        script.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
            f'case "$2" in -q) echo "CUDA Version      : 12.8";; *) echo "{answer}";; esac\nexit {code}\n'
        )
        script.chmod(script.stat().st_mode | stat.S_IEXEC)
        return tmp_path / "calls"

    yield says
    module._cuda_version.cache_clear()


def test_state_is_what_the_driver_says(tool):
    tool(ANSWER)
    assert gpu_state() == GPUState(
        "GPU-5c1e", "NVIDIA H200", "570.86.15", "P0", 1980.0, 1980.0, 3201.0, 3201.0, 38.0, 121.52, "12.8"
    )


def test_what_the_driver_does_not_say_is_none(tool):
    tool("GPU-1, A card, 550.1, [N/A], [Not Supported], N/A, 3201, [Unknown Error], 38, ERR!")
    unknown = {name for name, value in asdict(gpu_state()).items() if value is None}
    assert unknown == {"performance_state", "sm_mhz", "most_sm_mhz", "most_memory_mhz", "watts"}


def test_the_driver_is_asked_about_the_visible_device_and_told_nothing(tool, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    calls = tool(ANSWER)
    gpu_state()
    for call in calls.read_text().splitlines():
        device, question, *_ = call.split()
        assert device == "--id=3"
        assert question == "-q" or question.startswith("--query-gpu=")


@pytest.mark.parametrize(("variable", "device"), [(None, "0"), ("", "0"), ("2", "2"), ("GPU-5c1e, 0", "GPU-5c1e")])
def test_first_visible_device_counts(monkeypatch, variable, device):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpu() == device


def test_no_state_has_a_reason(tool, monkeypatch, tmp_path):
    tool("No devices were found", code=6)
    assert gpu_state() == "nvidia-smi refused to answer (exit code 6): No devices were found"
    tool("something else")
    assert gpu_state() == "nvidia-smi did not answer what it was asked: 'something else'"
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert gpu_state() == "there is no nvidia-smi on the path"
