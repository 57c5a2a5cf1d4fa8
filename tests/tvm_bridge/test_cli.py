"""The command: what it prints, and one line with exit code 2 for everything that is typed wrong."""

import json
import re
from pathlib import Path

import pytest

import tvm_bridge
from search.methods import METHODS
from tests.tvm_bridge.record_strategies import AUTOTVM_LINE, record, small_task, write_log, write_table
from tvm_bridge import Measurement, Measurer, NetworkResult, read_records
from tvm_bridge.cli import main
from tvm_bridge.measure.compiling import Compiling
from tvm_bridge.network.result import TunedTask
from tvm_bridge.networks import NETWORKS
from tvm_bridge.records import DEFAULT_INDEX, Record
from tvm_bridge.target import Target

# The command prints warnings itself.
pytestmark = pytest.mark.filterwarnings("default")

COMMANDS = ["tune", "network", "compile", "benchmark", "best", "replay", "report", "devices", "methods"]
SHAPE = "tune conv2d --data 1,4,6,6 --weight 8,4,3,3"


@pytest.fixture(autouse=True)
def no_measuring(monkeypatch):
    """An argument that should have been refused must not start compilers."""

    def refuse(*_):
        raise AssertionError("this would have been measured")

    monkeypatch.setattr(Compiling, "device", refuse)
    monkeypatch.setattr(Compiling, "stream", refuse)


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Runs a command line in an empty folder; returns its exit code, its output and its complaints."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        try:
            code = main(line.split() if isinstance(line, str) else line)
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


# Wrong input


TYPED_WRONG = {
    "": "COMMAND",
    "tuen": "tuen",
    "tune": "--data N,C,H,W",
    "tune conv3d": "conv3d",
    "tune conv2d": "--data N,C,H,W",
    "tune conv2d --data 1,4,6,6": "--weight",
    "tune conv2d --weight 8,4,3,3": "--data",
    "tune conv2d --data 1x4x6x6 --weight 8,4,3,3": "1,64,56,56",
    "tune conv2d --data 1,4,6 --weight 8,4,3,3": "four extents",
    "tune conv2d --data 1,4,6,6 --weight 8,3,3,3": "weight",
    "tune conv2d --data 1,4,0,6 --weight 8,4,3,3": "must be positive",
    f"{SHAPE} --stride 0": "stride",
    f"{SHAPE} --stride 1,1,1": "stride",
    f"{SHAPE} --stride one": "--stride",
    f"{SHAPE} --padding -1": "padding",
    f"{SHAPE} --padding 1,1,1": "padding",
    f"{SHAPE} --dilation 9": "larger",
    f"{SHAPE} --groups 3": "groups",
    f"{SHAPE} --groups 0": "--groups",
    f"{SHAPE} --layout HWCN": "NHWC",
    f"{SHAPE} --layout NHWC": "(KH, KW, 6, C_out)",
    f"{SHAPE} --target rocm": "rocm",
    f"{SHAPE} --target {{": "target",
    f"{SHAPE} --method guessing": "random, grid",
    f"{SHAPE} --method gird": "'grid'",
    f"{SHAPE} --trials 0": "--trials",
    f"{SHAPE} --trials many": "--trials",
    f"{SHAPE} --trials 1.5": "--trials",
    f"{SHAPE} --trials ²": "--trials",
    f"{SHAPE} --seed x": "--seed",
    f"{SHAPE} --seed 99999999999999999999": "seed",
    f"{SHAPE} --early-stopping 0": "--early-stopping",
    f"{SHAPE} --time-limit 0": "--time-limit",
    f"{SHAPE} --time-limit nan": "--time-limit",
    f"{SHAPE} --history other.jsonl": "history",
    f"{SHAPE} --pretrained missing.gst": "pretrained: missing.gst is not there",
    f"{SHAPE} --pretrained log.jsonl": "pretrained: log.jsonl: damaged, or not a saved surrogate",
    f"{SHAPE} --method random --pretrained model.gst": "pretrained: method 'random' takes no fitted model",
    f"{SHAPE} --log .": "directory",
    f"{SHAPE} --rpc 127.0.0.1:9190": "--key",
    f"{SHAPE} --rpc 127.0.0.1 --key board": "127.0.0.1:9190",
    f"{SHAPE} --key board": "--rpc",
    f"{SHAPE} --number 0": "--number",
    f"{SHAPE} --repeat 0": "--repeat",
    f"{SHAPE} --min-repeat-ms -1": "--min-repeat-ms",
    f"{SHAPE} --build-limit 0": "--build-limit",
    f"{SHAPE} --run-limit -1": "--run-limit",
    f"{SHAPE} --builders 0": "--builders",
    f"{SHAPE} --trails 5": "--trails",
    f"{SHAPE} --tri 5": "--tri",
    f"{SHAPE} --layer rb1-conv1": "--network",
    "tune dense": "--data N,K",
    "tune dense --data 4,8": "--weight M,K",
    "tune dense --data 4,8 --weight 6,9": "weight: shape (6, 9)",
    "tune dense --data 4,8 --weight 6,8,1,1": "two extents",
    "tune dense --data 4,8 --weight 6,8 --padding 1": "--padding",
    f"{SHAPE} --network resnet-18": "not both",
    "tune --network resnet18": "resnet-18",
    "tune --network resnet-18 --layer rb1_conv1": "Did you mean 'rb1-conv1'",
    "tune --network resnet-18 --layer rb1-conv1 --padding 1": "--padding",
    "tune --network resnet-18 --layer rb1-conv1 --data 1,64,56,56": "--data",
    "network": "NETWORK",
    "network resnet-18 --trials 0": "--trials",
    "network resnet-18 --method guessing": "random, grid",
    "network resnet-18 --layer rb1-conv1": "--layer",
    "network resnet-18 --rpc 127.0.0.1:9190": "--key",
    "network resnet-18 --shape data": "data=1,3,224,224",
    "compile resnet-18": "--output",
    "compile resnet-18 -o missing/resnet.so": "there is no folder",
    "compile resnet-18 -o resnet.so --export database": "--log",
    "compile resnet-18 -o resnet.dll": ".so",
    "compile resnet-18 -o resnet.so --log missing": "missing is not there",
    "compile resnet18 -o resnet.so": "resnet-18",
    "benchmark": "NETWORK",
    "benchmark resnet-18 --runs 0": "--runs",
    "benchmark resnet-18 --log missing": "missing is not there",
    "best": "LOG",
    "best missing.jsonl": "missing.jsonl",
    "best .": "directory",
    "best empty.jsonl": "empty.jsonl: no record",
    "best failed.jsonl": "failed.jsonl: no record",
    "replay": "RECORDS",
    "replay missing.jsonl": "missing.jsonl",
    "replay missing.json": "missing.json",
    "replay empty.jsonl": "empty.jsonl: no record",
    "replay text.json": "text.json: not a table",
    "replay text.json.gz": "text.json.gz: not a table",
    "replay table.json --method random --missing ignore": "ignore",
    "replay table.json --method guessing": "random, grid",
    "replay table.json --method random --trials 0": "--trials",
    "replay table.json --method random --seed 99999999999999999999": "seed",
    "replay table.json --method random --history log.jsonl": "history",
    "replay table.json --method random --log here.jsonl": "--log",
    "devices --rpc nowhere": "127.0.0.1:9190",
    "devices --rpc 127.0.0.1:1": "127.0.0.1:1",
    "devices --rpc 127.0.0.1:99999": "127.0.0.1:99999",
    "methods extra": "extra",
}


@pytest.mark.parametrize(("line", "hint"), TYPED_WRONG.items(), ids=TYPED_WRONG)
def test_wrong_input_gets_one_line_and_exit_code_2(command, tmp_path, line, hint, monkeypatch):
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "text.json").write_bytes(b"hello")
    (tmp_path / "text.json.gz").write_bytes(b"hello")
    write_log(tmp_path / "failed.jsonl", [record(1, None)])
    write_log(tmp_path / "log.jsonl", [record(1)])
    write_table(tmp_path / "table.json")
    monkeypatch.setattr("tvm_bridge.devices.local_devices", list)
    code, output, complaints = command(line)
    assert (code, output) == (2, "")
    (complaint,) = complaints.splitlines()
    assert complaint.startswith("gausstune")
    assert hint in complaint


def test_error_of_several_lines_is_told_in_one(command, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("first line,\n    second line")

    monkeypatch.setattr(tvm_bridge, "tune", fail)
    write_table(tmp_path / "table.json")
    assert command("replay table.json --method random") == (2, "", "gausstune: first line, second line\n")


def test_nothing_that_works_is_exit_code_1(command, tmp_path):
    write_table(tmp_path / "table.json", time_s=[None] * 5, error=[4] * 5)
    code, output, complaints = command("replay table.json --method random")
    assert (code, output) == (1, "")
    assert "all 5 trials failed" in complaints.splitlines()[-1]


def test_ctrl_c_says_that_the_log_goes_on(command, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tvm_bridge, "tune", interrupt)
    code, _, complaints = command(f"{SHAPE} --log kept.jsonl")
    assert code == 130
    assert "kept.jsonl keeps what was measured" in complaints


# Help


@pytest.mark.parametrize("line", ["--help", *(f"{name} --help" for name in COMMANDS)])
def test_help_of_every_command(command, line):
    code, output, complaints = command(line)
    assert (code, complaints) == (0, "")
    assert output.startswith(f"usage: gausstune {line.removesuffix('--help')}".rstrip())


def test_help_names_every_command_and_shows_examples(command):
    _, output, _ = command("--help")
    assert all(re.search(rf"^ +{name}\b", output, re.MULTILINE) for name in COMMANDS)
    assert "gausstune tune --network resnet-18 --layer rb1-conv1" in output


@pytest.mark.parametrize("name", ["tune", "network", "replay"])
def test_help_explains_every_option(command, name):
    """An option's line goes on, or the next line does, with words."""
    _, output, _ = command(f"{name} --help")
    options = output[output.index("options:") :]
    explained = re.findall(r"^  (?:-\w, )?(--[\w-]+).*?(?:  |\n {10,})(\S.*)", options, re.MULTILINE)
    assert {option for option, _ in explained} == set(re.findall(r"--[\w-]+", output.split("\n\n")[0])) | {"--help"}


# best


@pytest.fixture
def logs(tmp_path):
    """Two logs with two tasks, one of them best left as it is."""
    turing = small_task(target=Target.parse("cuda -arch=sm_75"))
    write_log(tmp_path / "a.jsonl", [record(1, 4e-4), record(2, 3e-4), record(3, None)])
    write_log(tmp_path / "b.jsonl.gz", [record(4, 2e-4, task=turing), record(DEFAULT_INDEX, 1e-4, task=turing)])


@pytest.mark.usefixtures("logs")
def test_best_prints_the_fastest_of_every_task(command):
    code, output, complaints = command("best a.jsonl b.jsonl.gz")
    assert (code, complaints) == (0, "")
    ampere, fastest, turing, default = output.splitlines()
    assert ampere.startswith("conv2d_nchw")
    assert ampere.endswith("on cuda -arch=sm_86")
    assert "[1, 4, 6, 6]" in ampere
    assert turing.endswith("on cuda -arch=sm_75")
    assert fastest.strip().startswith("300.0 us, configuration 2: {")
    assert json.loads(fastest[fastest.index("{") :]).keys() == record(2).config.keys()
    assert default.strip().startswith("100.0 us")
    assert "TVM's default schedule" in default


@pytest.mark.usefixtures("logs")
def test_best_as_json_is_a_log(command, tmp_path):
    code, output, complaints = command("best --json a.jsonl b.jsonl.gz")
    assert (code, complaints) == (0, "")
    assert [Record.from_json(line).index for line in output.splitlines()] == [2, DEFAULT_INDEX]
    (tmp_path / "best.jsonl").write_text(output)
    assert command("best --json best.jsonl")[1] == output


def test_damaged_lines_are_warned_of_and_passed_over(command, tmp_path):
    (tmp_path / "log.jsonl").write_text(f"{AUTOTVM_LINE}\nnonsense\n{AUTOTVM_LINE[:99]}\n")
    code, output, complaints = command("best log.jsonl")
    assert code == 0
    assert "configuration 594848" in output
    assert [line.split(" left out")[0] for line in complaints.splitlines()] == [
        "gausstune: warning: log.jsonl:2:",
        "gausstune: warning: log.jsonl:3:",
    ]


# tune


class Formula(Measurer):
    """Stands for a device: the higher a configuration's index modulo 13, the faster it is."""

    default = 2e-3

    def device(self, task):
        return "a formula"

    def stream(self, task, configs):
        for position, config in enumerate(configs):
            index = DEFAULT_INDEX if config is None else task.space.to_index(task.space.from_config(config))
            seconds = self.default if config is None else 1e-3 / (1 + index % 13)
            yield position, Measurement((seconds,), device="a formula")


@pytest.fixture
def formula(monkeypatch):
    """What is measured with in place of this machine; holds the arguments it was made with."""
    formula = Formula()

    def make(*arguments, **options):
        formula.made = arguments, options
        return formula

    monkeypatch.setattr("tvm_bridge.arguments.Local", make)
    monkeypatch.setattr("tvm_bridge.arguments.RPC", make)
    return formula


def test_tune_prints_the_best_beside_the_default(command, formula):
    code, output, _ = command(f"{SHAPE} --target cuda --method grid --trials 20 --padding 1")
    assert code == 0
    headline, default, best, counted = output.splitlines()
    assert headline == f"conv2d_nchw.cuda: {small_task().flop / (1e-3 / 13) / 1e9:.1f} GFLOPS, 76.9 us"
    assert "2000.0 us, 26.0 times slower" in default
    assert int(re.search(r"configuration (\d+): {", best)[1]) % 13 == 12
    assert "20 measured (none failed)" in counted
    assert counted.endswith("ended by trials")


def test_tune_takes_a_dense(command, formula):
    code, output, _ = command("tune dense --data 64,128 --weight 96,128 --target cuda --method grid --trials 20")
    assert code == 0
    assert output.splitlines()[0] == f"dense.cuda: {2 * 64 * 96 * 128 / (1e-3 / 13) / 1e9:.1f} GFLOPS, 76.9 us"


@pytest.mark.parametrize(
    "what", ["conv2d --data 1,16,8,8 --weight 16,16,3,3 --padding 1", "--network resnet-18 --layer rb1-conv1"]
)
def test_tune_takes_the_enlarged_space(command, formula, what):
    code, output, _ = command(f"tune {what} --enlarged --method random --trials 6")
    assert code == 0
    assert '"winograd": ' in output


def test_tune_takes_candidates(command, formula):
    options = "--candidates tile_rc=1x4 --candidates auto_unroll_max_step=7,9"
    code, output, _ = command(f"{SHAPE} --target cuda --method random --trials 4 {options}")
    assert code == 0
    assert '"tile_rc": [1, 4]' in output
    assert re.search(r'"auto_unroll_max_step": [79],', output)
    assert command(f"{SHAPE} --target cuda --candidates tile_rc=1xx")[0] == 2
    code, _, complaint = command(f"{SHAPE} --target cuda --candidates tile_q=1")
    assert (code, "candidates: 'tile_q' is not a knob" in complaint) == (2, True)


def test_tune_says_where_the_default_is_the_best(command, formula):
    formula.default = 1e-9
    _, output, _ = command(f"{SHAPE} --target cuda --method random --trials 3")
    assert "best left as TVM's default schedule" in output


def test_tune_goes_on_from_its_log(command, formula, tmp_path):
    line = f"{SHAPE} --target cuda --method random --log log.jsonl --trials"
    command(f"{line} 3")
    kept = read_records(tmp_path / "log.jsonl")
    assert [each.index == DEFAULT_INDEX for each in kept] == [True, False, False, False]
    command(f"{line} 5")
    assert read_records(tmp_path / "log.jsonl")[:4] == kept
    assert len(read_records(tmp_path / "log.jsonl")) == 6


def test_tune_takes_the_layers_of_a_network(command, formula):
    _, every, complaints = command("tune --network alexnet --target cuda --method random --trials 1")
    titles = [f"alexnet {layer.name}" for layer in NETWORKS["alexnet"]]
    assert [line.split(":")[0] for line in every.splitlines() if not line.startswith(" ")] == titles
    assert "[Task  5/ 5]" in complaints
    _, one, _ = command("tune --network alexnet --layer conv3 --target cuda --method random --trials 1")
    assert one.splitlines()[0] == every.splitlines()[8]


@pytest.mark.parametrize("line", [f"{SHAPE} --target cuda", "replay table.json --method random"], ids=["tune", "replay"])
def test_searching_arguments_reach_the_search(command, tmp_path, monkeypatch, line):
    heard = {}

    def listen(task, **options):
        heard.update(options)
        raise ValueError("heard")

    monkeypatch.setattr(tvm_bridge, "tune", listen)
    write_table(tmp_path / "table.json")
    command(
        f"{line} --method grid --trials 7 --seed 3 --early-stopping 5 --time-limit 2.5 --history a.jsonl b.jsonl --pretrained m"
    )
    expected = {
        "method": "grid",
        "trials": 7,
        "seed": 3,
        "early_stopping": 5,
        "time_limit": 2.5,
        "history": ["a.jsonl", "b.jsonl"],
        "pretrained": "m",
    }
    assert {name: heard[name] for name in expected} == expected


MEASURING = "--number 2 --repeat 5 --min-repeat-ms 0 --build-limit 3 --run-limit 4.5 --builders 6 --cache-flush --no-check"


@pytest.mark.parametrize(("where", "address"), [("", ()), ("--rpc 127.0.0.1:9190 --key board", ("127.0.0.1", 9190, "board"))])
def test_measuring_arguments_reach_the_measurer(command, formula, where, address):
    command(f"{SHAPE} --target cuda --method random --trials 1 {MEASURING} {where}")
    options = {"number": 2, "repeat": 5, "min_repeat_ms": 0, "build_limit": 3.0, "run_limit": 4.5, "builders": 6}
    assert formula.made == (address, options | {"cache_flush": True, "check": False})


# network


def test_network_is_tuned_as_it_is_asked_for(command, formula, monkeypatch):
    heard = []

    def listen(*arguments, **options):
        heard.append((arguments, options))
        return tuned

    failed = TunedTask(small_task(), 1, ("fused_conv2d",), None, "conv2d: all 7 trials failed.")
    tuned = NetworkResult("small", (failed,), {"softmax": 1}, 1.0, 2.0, "trials")
    monkeypatch.setattr(tvm_bridge, "tune_network", listen)
    limits = "--method grid --trials 7 --seed 3 --early-stopping 5 --time-limit 2.5 --history a.jsonl --pretrained none"
    code, output, _ = command(f"network small.onnx --target cuda --log kept --plain {limits} {MEASURING}")
    (arguments, options), limited = heard[0], {"method": "grid", "trials": 7, "seed": 3, "early_stopping": 5, "time_limit": 2.5}
    assert arguments == ("small.onnx", "cuda")
    limited |= {"history": ["a.jsonl"], "pretrained": False}
    assert options == limited | {"log": Path("kept"), "measurer": formula, "enlarged": False}
    assert code == 1  # nothing works
    assert output.splitlines() == [*str(tuned).splitlines(), "1.0 s searching, 2.0 s measuring"]
    command("network resnet-18")
    (arguments, options) = heard[1]
    assert (arguments, options["log"], options["enlarged"], options["trials"]) == (("resnet-18", "llvm"), None, True, 600)
    assert options["pretrained"] is True


# replay, methods, devices


@pytest.mark.parametrize("method", ["random", "grid"])
def test_replay_prints_the_best_of_every_task(command, tmp_path, method):
    write_table(tmp_path / "table.json")
    write_log(tmp_path / "log.jsonl", [record(index, 1e-3 / (1 + index)) for index in range(5)])
    code, output, _ = command(f"replay log.jsonl table.json --method {method} --trials 99")
    assert code == 0
    lines = output.splitlines()
    assert f"{small_task().flop / 2e-4 / 1e9:.1f} GFLOPS, 200.0 us" in lines[0]
    assert lines[1].strip().startswith("configuration 4: ")
    assert "gemm on an A100: 4.0 runs/s, 250000.0 us" in lines
    measured = re.search(r"5 measured \((.*)\), .* ended by exhausted$", lines[-1])
    assert set(measured[1].split(", ")) == {"1 RUNTIME_DEVICE", "1 UNKNOWN"}


def test_replay_shows_its_progress_on_the_error_stream(command, tmp_path):
    write_table(tmp_path / "table.json")
    _, _, complaints = command("replay table.json --method random --trials 2")
    assert "Progress: (2/2)" in complaints.splitlines()[-2]
    assert complaints.splitlines()[-1] == "Failed: 1 x UNKNOWN (CompilationFailedConfig)"


def test_replay_obeys_its_limits(command, tmp_path):
    write_table(tmp_path / "table.json", time_s=[1.0] * 5, error=[0] * 5)
    assert "2 measured" in command("replay table.json --method random --trials 2")[1]
    assert "3 measured" in command("replay table.json --method random --early-stopping 2")[1]


def test_replay_of_the_same_seed_is_the_same(command, tmp_path):
    write_table(tmp_path / "table.json")
    runs = {
        seed: [command(f"replay table.json --method random --trials 2 --seed {seed}")[1].splitlines()[:2] for _ in range(2)]
        for seed in range(8)
    }
    assert all(first == second for first, second in runs.values())
    assert len({str(first) for first, _ in runs.values()}) > 1


def test_methods_are_listed_with_a_sentence_each(command):
    code, output, _ = command("methods")
    assert code == 0
    assert [line.split()[0] for line in output.splitlines()] == list(METHODS)
    assert all(line.endswith(".") for line in output.splitlines())


def test_networks_are_named_in_the_error(command):
    complaint = command("tune --network nothing")[2]
    assert all(name in complaint for name in NETWORKS)


def test_devices_are_listed(command):
    code, output, _ = command("devices")
    assert code == 0
    cpu, gpu = output.splitlines()
    assert cpu.startswith("llvm")
    assert f"target '{Target('llvm').resolve()}'" in cpu
    assert gpu.startswith("cuda")
