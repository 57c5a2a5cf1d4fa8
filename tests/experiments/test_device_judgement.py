"""All kernels of a layer are measured in turns in one run, anew as a whole if one is new, and the fastest turn counts."""

import math

import pytest

from experiments.device_comparison import Setting
from experiments.device_judgement import UNTUNED, Judgements, Judging, spelled
from tests.experiments.pretended import Pretended
from tvm_bridge import Target
from tvm_bridge.measure.base import DeviceError

NETWORK, LAYER = "resnet-18", "rb4-sc"
TUNING = {"task": f"{NETWORK} {LAYER}", "network": NETWORK, "layer": LAYER, "stopped": "trials", "budgets": [2, 4]}


def never(text):
    raise AssertionError(text)


class Rival:
    """Has one kernel, whose turns become slower; notes when it is let go."""

    def __init__(self):
        self.closed = 0

    def kernels(self, network, layer):
        return ["theirs"]

    def turns(self, network, layer):
        try:
            for turn in range(10):
                yield {"theirs": 100.0 - turn}
        finally:
            self.closed += 1

    @property
    def facts(self):
        return {"versions": "1.0"}


@pytest.fixture
def setting(tmp_path):
    target = Target.parse("llvm -mcpu=x86-64-v3 -num-cores=1")
    return Setting("llvm", tmp_path, target, ((NETWORK, LAYER),), (2, 4), min_repeat_ms=1, untuned=True)


@pytest.fixture
def configs(setting):
    space = setting.task(NETWORK, LAYER).space
    return [space.to_config(space.from_index(index)) for index in (3, 1, 7)]


@pytest.fixture
def measurer(monkeypatch):
    measurer = Pretended()
    monkeypatch.setattr(Setting, "measurer", lambda _: measurer)
    return measurer


def test_everybody_takes_turns_and_a_layer_is_judged_anew_if_a_kernel_is_new(setting, configs, measurer):
    first, second, third = configs
    rival, states = Rival(), iter("abcdef")
    judging = Judging(setting, 3, [rival], lambda: next(states))
    lines = [{**TUNING, "incumbents": [None, first]}, {**TUNING, "incumbents": [second, first]}]
    (line,) = judging.judged(lines, [], complain=never)
    assert [config for _, config in measurer.asked] == [None, first, second] * 3
    assert list(line["gflops"]) == [UNTUNED, spelled(first), spelled(second), "theirs"]
    assert line["gflops"]["theirs"] == [100.0, 99.0, 98.0]
    assert (line["states"], line["versions"], rival.closed) == (["a", "b", "c"], "1.0", 1)
    assert list(judging.judged(lines, [line], complain=never)) == []
    lines.append({**TUNING, "incumbents": [third, third]})
    (anew,) = judging.judged(lines, [line], complain=never)
    assert set(anew["gflops"]) == {*line["gflops"], spelled(third)}


def test_a_rival_that_is_new_has_the_layer_judged_anew(setting, configs, measurer):
    lines = [{**TUNING, "incumbents": configs[:1]}]
    (alone,) = Judging(setting, 1).judged(lines, [], complain=never)
    assert Judging(setting, 1).pending(lines, [alone]) == []
    ((network, layer, _),) = Judging(setting, 1, [Rival()]).pending(lines, [alone])
    assert (network, layer) == (NETWORK, LAYER)


def test_a_rival_that_ends_costs_its_layer_alone(setting, configs, measurer):
    class Ending(Rival):
        def turns(self, network, layer):
            if layer == LAYER:
                raise RuntimeError("the process ended")
            yield from super().turns(network, layer)

    other = {**TUNING, "task": "resnet-18 rb3-sc", "layer": "rb3-sc"}
    space, complaints = setting.task(NETWORK, "rb3-sc").space, []
    lines = [{**TUNING, "incumbents": configs}, {**other, "incumbents": [space.to_config(space.from_index(5))]}]
    (line,) = Judging(setting, 1, [Ending()]).judged(lines, [], complain=complaints.append)
    assert line["task"] == "resnet-18 rb3-sc"
    assert complaints == ["resnet-18 rb4-sc was not judged: the process ended."]


def test_without_a_device_nothing_is_judged(setting, configs, measurer, monkeypatch):
    def device(task):
        raise DeviceError("there is no GPU")

    monkeypatch.setattr(measurer, "device", device)
    with pytest.raises(DeviceError, match="no GPU"):
        list(Judging(setting, 1).judged([{**TUNING, "incumbents": configs}], [], complain=never))


@pytest.mark.parametrize("other", [{"stopped": "time limit"}, {"budgets": [2, 8]}])
def test_unfinished_tunings_and_those_with_other_budgets_are_not_judged(setting, configs, other):
    assert Judging(setting, 1).pending([{**TUNING, **other, "incumbents": configs}], []) == []


def test_a_layer_is_not_begun_that_may_not_end_in_time(setting, configs, measurer):
    lines, another = [{**TUNING, "incumbents": configs}], {"task": "another", "seconds": 1e12, "gflops": {}}
    assert list(Judging(setting, 1).judged(lines, [another], complain=never, until=1e11)) == []
    assert len(list(Judging(setting, 1).judged(lines, [another], complain=never, until=math.inf))) == 1


def test_a_kernel_that_fails_is_worth_nothing(setting, configs, measurer):
    measurer.refused = TUNING["task"]
    (line,) = Judging(setting, 2).judged([{**TUNING, "incumbents": configs[:1]}], [], complain=never)
    assert line["gflops"][spelled(configs[0])] == [0.0, 0.0]


def test_a_tuning_is_worth_what_its_incumbents_are_when_measured_again():
    fast, slow = {"tile": [1, 2]}, {"tile": [2, 1]}
    earlier = {"task": TUNING["task"], "gflops": {spelled(each): [1000.0] for each in (fast, slow)}}
    last = {"task": TUNING["task"], "gflops": {spelled(fast): [6.0, 1.0, 8.0], spelled(slow): [3.0, 2.0, 1.0]}}
    lines = [
        {**TUNING, "incumbents": [None, fast, slow, slow, fast]},
        {**TUNING, "incumbents": [{"tile": [4, 4]}]},  # found since
        {**TUNING, "task": "another", "incumbents": [fast]},
    ]
    (found,) = Judgements([earlier, last]).worth(lines)
    assert (found["best"], found["judged"]) == ([0.0, 8.0, 3.0, 3.0, 8.0], 8.0)
