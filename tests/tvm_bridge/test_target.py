"""Targets: all the ways to write one, the way back, and what a bare kind stands for on this machine."""

import json

import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tvm_bridge.record_strategies import attribute_names, words
from tvm_bridge import gpu_state
from tvm_bridge import target as target_module
from tvm_bridge.target import FALLBACK_CUDA_ARCH, Target, host_cores

LAW = settings(deadline=None)
values = words | st.integers(0, 10**6) | st.booleans() | st.lists(words, min_size=1, max_size=3)
fields = st.builds(
    lambda kind, attributes: {"kind": kind} | attributes,
    st.sampled_from(["llvm", "cuda", "rocm"]),
    st.dictionaries(attribute_names, values, max_size=4),
)


@LAW
@given(fields)
def test_text_round_trip(fields):
    """A record's text names the same target as the task that was tuned: otherwise nothing is found again."""
    target = Target.parse(fields)
    assert Target.parse(str(target)) == target
    assert hash(Target.parse(str(target))) == hash(target)


@LAW
@given(fields)
def test_dictionary_and_json_round_trip(fields):
    target = Target.parse(fields)
    assert target.to_json() == fields
    assert Target.parse(target.to_json()) == Target.parse(json.dumps(fields)) == Target.parse(target) == target


@LAW
@given(fields, st.lists(st.integers(1, 2**40), min_size=1, max_size=4))
def test_caches_are_told_and_do_not_tell_targets_apart(fields, sizes):
    """Where a container hides the sizes, the same task is the same."""
    bare, target = Target.parse(fields), Target.parse(fields | {"cache-bytes": sizes})
    assert target.to_json() == fields | {"cache-bytes": sizes}
    assert Target.parse(str(target)).caches == target.caches == tuple(sizes)
    assert target == bare
    assert hash(target) == hash(bare)
    assert not bare.caches


@LAW
@given(fields, st.randoms(use_true_random=False))
def test_order_of_attributes_does_not_matter(fields, random):
    shuffled = list(fields.items())
    random.shuffle(shuffled)
    assert Target.parse(dict(shuffled)) == Target.parse(fields)


SPELLINGS = {
    "AutoTVM's": "cuda -keys=cuda,gpu -arch=sm_86 -max_num_threads=1024 -thread_warp_size=32",
    "AutoTVM's with a model": "cuda -keys=cuda,gpu -arch=sm_86 -max_num_threads=1024 -thread_warp_size=32 -tag=nvidia/rtx",
    "short": "cuda -arch=sm_86",
    "spaced": "  cuda   -arch=sm_86 ",
    "dictionary": {"arch": "sm_86", "kind": "cuda"},
    "JSON": '{"kind": "cuda", "arch": "sm_86"}',
    "TVM 0.27's": '{"kind":"cuda","tag":"","keys":["cuda","gpu"],"max_num_threads":1024,"thread_warp_size":32,"arch":"sm_86"}',
    "with a host": {"kind": "cuda", "arch": "sm_86", "host": {"kind": "llvm"}},
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings_are_one_target(spelling):
    assert Target.parse(spelling) == Target("cuda", (("arch", "sm_86"),))
    assert hash(Target.parse(spelling)) == hash(Target("cuda", (("arch", "sm_86"),)))


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "llvm", "mcpu": "znver4", "num-cores": 2},
        {"kind": "llvm", "mcpu": "skylake", "mattr": ["+avx2"]},
        {"kind": "llvm", "mcpu": "skylake", "mattr": ["+avx2", "+fma"]},
        {"kind": "llvm", "mcpu": "skylake", "fast-math": True, "opt-level": 2},
        {"kind": "cuda", "arch": "sm_90", "max_threads_per_block": 512},
    ],
    ids=json.dumps,
)
def test_targets_of_tvm_are_taken_and_made(fields):
    import tvm

    theirs = tvm.target.Target(fields)
    ours = Target.parse(theirs)
    assert ours == Target.parse(fields)
    assert str(ours.tvm) == str(theirs)
    assert str(Target.parse(str(ours)).tvm) == str(theirs)


def test_words_of_autotvm_reach_tvm():
    """AutoTVM wrote a list of one feature like any word."""
    target = Target.parse("llvm -mcpu=skylake -mattr=+avx2 -num-cores=4")
    assert list(target.tvm.attrs["mattr"]) == ["+avx2"]
    assert target.tvm.attrs["num-cores"] == 4


def test_tvm_is_not_told_of_caches():
    told, bare = Target.parse("llvm -mcpu=skylake -cache-bytes=32768,1048576"), Target.parse("llvm -mcpu=skylake")
    assert str(told.tvm) == str(bare.tvm)


@pytest.mark.parametrize("sizes", [0, [0], [1024, -1], "all", "1024,", None, [None], [1.5], True, [float("inf")]])
def test_sizes_of_caches_that_are_none_are_an_error(sizes):
    with pytest.raises(ValueError, match=r"target: cache-bytes: .* must be whole numbers from 1, a size for each level"):
        Target.parse({"kind": "llvm", "cache-bytes": sizes})


@pytest.mark.parametrize("nonsense", ["", "   ", "{", '{"mcpu": "znver4"}', {}, {"mcpu": "znver4"}])
def test_anything_else_is_an_error_that_shows_it(nonsense):
    with pytest.raises(ValueError, match=r"target: .* is not a target; write 'llvm', 'cuda' or"):
        Target.parse(nonsense)


# This machine


def test_bare_llvm_is_this_machine():
    import tvm

    target = Target.parse("llvm").resolve()
    assert target.to_json() == {
        "kind": "llvm",
        "mcpu": tvm.get_global_func("target.llvm_get_system_cpu")(),
        "num-cores": host_cores(),
    } | ({"cache-bytes": list(target.caches)} if target.caches else {})
    assert target.threads == host_cores() >= 1


def test_each_core_of_this_machine_has_its_part_of_the_caches(monkeypatch):
    monkeypatch.setattr(target_module, "caches", lambda threads: {1: threads * 1024, 2: threads * 4096, 3: 1 << 20})
    assert Target.parse("llvm -num-cores=4").resolve().caches == (1024, 4096, 1 << 18)
    assert Target.parse("llvm -num-cores=4 -cache-bytes=512").resolve().caches == (512,)
    for elsewhere in ("llvm -mtriple=aarch64-linux-gnu", "llvm -mcpu=x86-64", "cuda -arch=sm_80"):
        assert not Target.parse(elsewhere).resolve().caches


@pytest.mark.parametrize("cores", [0, -2, "two", 1.5, True])
def test_number_of_cores_that_is_none_is_an_error(cores):
    with pytest.raises(ValueError, match=f"target: num-cores: {cores!r} must be a whole number from 1"):
        Target.parse({"kind": "llvm", "num-cores": cores}).resolve()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"kind": "llvm", "mcpu": "znver2", "num-cores": 64}, {"kind": "llvm", "mcpu": "znver2", "num-cores": 64}),
        ({"kind": "cuda", "arch": "sm_75"}, {"kind": "cuda", "arch": "sm_75"}),
    ],
)
def test_what_was_said_is_kept(given, expected):
    assert Target.parse(given).resolve().to_json() == expected


def test_cross_compiling_does_not_take_this_machines_cpu():
    assert "mcpu" not in Target.parse("llvm -mtriple=aarch64-linux-gnu").resolve().to_json()


@pytest.mark.parametrize("text", ["llvm", "cuda", "llvm -mtriple=aarch64-linux-gnu -num-cores=4"])
def test_resolving_twice_changes_nothing(text):
    resolved = Target.parse(text).resolve()
    assert resolved.resolve() == resolved
    assert Target.parse(str(resolved)) == resolved


def test_parsing_fills_nothing_in():
    assert Target.parse("llvm").to_json() == {"kind": "llvm"}


@pytest.mark.parametrize("kind", ["rocm", "vulkan", "LLVM"])
def test_kind_without_templates_is_an_error(kind):
    with pytest.raises(ValueError, match=f"target: kind {kind!r} is not supported; use 'llvm' or 'cuda'"):
        Target.parse(kind).resolve()


@pytest.fixture
def gpu_query(tmp_path, monkeypatch):
    """Puts a program in the place of nvidia-smi, or nothing."""

    def answer(script=None):
        if script is not None:
            tool = tmp_path / "nvidia-smi"
            tool.write_text(f"#!/bin/sh\n{script}\n")
            tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    target_module._cuda_arch.cache_clear()
    yield answer
    target_module._cuda_arch.cache_clear()


@pytest.mark.parametrize(
    ("script", "arch"),
    [
        ("echo 9.0", "sm_90"),
        ("echo 8.6; echo 7.5", "sm_86"),
        ('[ "$1" = --id=1 ] && echo 7.5', "sm_75"),
        ("echo '[N/A]'", FALLBACK_CUDA_ARCH),
        ("echo 'No devices were found'; exit 6", FALLBACK_CUDA_ARCH),
        ("exit 0", FALLBACK_CUDA_ARCH),
        (None, FALLBACK_CUDA_ARCH),
        ("exec /bin/sleep 60", FALLBACK_CUDA_ARCH),
    ],
    ids=["one GPU", "two GPUs", "a visible GPU", "no number", "no GPU", "no answer", "no tool", "a driver that hangs"],
)
def test_bare_cuda_takes_the_first_visible_gpus_architecture(gpu_query, monkeypatch, script, arch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    monkeypatch.setattr(gpu_state, "DRIVER_LIMIT", 60.0 if script is None or "sleep" not in script else 0.2)
    gpu_query(script)
    assert Target.parse("cuda").resolve() == Target("cuda", (("arch", arch),))


def test_part_of_a_gpu_has_the_first_gpus_architecture(gpu_query, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-6a1c")
    gpu_query('[ "$1" = --id=0 ] && echo 9.0')
    assert Target.parse("cuda").resolve() == Target("cuda", (("arch", "sm_90"),))


def test_threads_are_the_cores_of_a_cpu():
    assert Target.parse("llvm -num-cores=6").threads == 6
    assert Target.parse("cuda -arch=sm_86").threads == 1


def test_tvms_own_object_is_this_machine_too():
    assert Target.parse(tvm.target.Target("llvm")).resolve() == Target.parse("llvm").resolve()


def test_unknown_cpu_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"target: LLVM knows no CPU 'znver44'; did you mean one of \['znver4'"):
        Target.parse("llvm -mcpu=znver44").resolve()


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("350000 100000", 3), ("50000 100000", 1), ("max 100000", None), ("", None)]
)
def test_container_quota_bounds_the_cores(tmp_path, quota, cores):
    (tmp_path / "cpu.max").write_text(quota)
    assert target_module._container_cores(tmp_path / "cpu.max") == cores
    assert target_module._container_cores(tmp_path / "none") is None
