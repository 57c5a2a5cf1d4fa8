"""Of oneDNN's lines only executions of convolutions count, whatever stands around them."""

import sys

import pytest

from experiments.cuda_rivals import cuda_torch
from experiments.torch_convolution import Torch, kernel
from tvm_bridge.convolution import Conv2d

INFO = "onednn_verbose,v1,info,oneDNN v3.11.0 (commit abc)\nonednn_verbose,v1,info,cpu,runtime:OpenMP,nthr:2\n"
REORDER = "onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,src:f32::blocked:abcd::f0 dst:f32,,,64x64x3x3,0.5\n"
CREATED = "onednn_verbose,v1,primitive,create:cache_miss,cpu,convolution,jit:avx512_core,forward_inference,src:f32,,,mb1,90.5\n"


def convolution(milliseconds: float) -> str:
    layouts = "src:f32:a:blocked:aBcd16b::f0 wei:f32:a:blocked:ABcd16b16a::f0 bia:undef::undef::: dst:f32:a:blocked:aBcd16b::f0"
    problem = "alg:convolution_direct,mb1_ic64oc64_ih56oh56kh3sh1dh0ph1_iw56ow56kw3sw1dw0pw1"
    primitive = "onednn_verbose,v1,primitive,exec,cpu,convolution,jit:avx512_core,forward_training"
    return f"{primitive},{layouts},,{problem},{milliseconds}\n"


def test_a_kernels_time_is_the_mean_of_the_middle_half_of_its_executions():
    verbose = INFO + CREATED + "".join(REORDER + convolution(time) for time in (0.1, 9.0, 1.5, 2.5, 1.1))
    assert kernel(verbose) == {"seconds": pytest.approx(1.7e-3), "implementation": "jit:avx512_core"}


def test_lines_of_older_versions_and_with_a_time_stamp_are_read():
    older = "dnnl_verbose,exec,cpu,convolution,jit:avx2,forward_inference,src_f32,,alg:convolution_direct,mb1,0.25\n"
    stamped = convolution(0.75).replace("v1,", "v1,1700000000000.1,")
    assert kernel(older + stamped) == {"seconds": pytest.approx(0.5e-3), "implementation": "jit:avx512_core"}


def test_without_a_convolution_there_is_no_kernel():
    assert kernel(INFO + REORDER + CREATED + "something else\n") is None


def test_an_interpreter_that_cannot_time_is_refused():
    with pytest.raises(ValueError, match=r"--torch-python: /nowhere/python cannot be started"):
        Torch("/nowhere/python")


@pytest.fixture
def interpreter(tmp_path):
    """Makes an interpreter that does something of its own, whatever it is given."""

    def interpreter(code):
        python = tmp_path / "python"
        python.write_text(f"#!{sys.executable}\n{code}\n")
        python.chmod(0o755)
        return str(python)

    return interpreter


@pytest.mark.parametrize("code", ["", "raise ImportError('torch')"])
def test_an_interpreter_without_pytorch_is_refused(code, interpreter):
    with pytest.raises(ValueError, match=r"cannot import PyTorch"):
        Torch(interpreter(code))


def test_a_pytorch_without_onednn_is_refused(interpreter):
    with pytest.raises(ValueError, match=r"has a PyTorch without oneDNN"):
        Torch(interpreter('print(\'{"torch": "2", "onednn": false}\', flush=True)\ninput()'))


def test_a_pytorch_without_a_gpu_is_refused_where_one_is_needed(interpreter):
    python = interpreter('print(\'{"torch": "2", "cuda": false}\', flush=True)\ninput()')
    with pytest.raises(ValueError, match=r"has a PyTorch without a GPU that it can use"):
        cuda_torch(python)


ONE_THREAD_ONLY = """
import json
print('{"torch": "2", "onednn": true}', flush=True)
for _ in range(2):
    threads = json.loads(input())["threads"]
    assert threads == 1
    print(json.dumps({"torch": {"seconds": 0.5}}), flush=True)
"""


def test_a_process_that_ends_is_started_again_for_the_next_layer(interpreter):
    workload = Conv2d((1, 2, 5, 5), (3, 2, 3, 3))
    with Torch(interpreter(ONE_THREAD_ONLY)) as torch:
        assert torch.measure(workload, threads=1, seconds=0.1) == {"torch": {"seconds": 0.5}}
        with pytest.raises(RuntimeError, match="process ended"):
            torch.measure(workload, threads=2, seconds=0.1)
        assert torch.measure(workload, threads=1, seconds=0.1) == {"torch": {"seconds": 0.5}}
