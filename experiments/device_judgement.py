"""What tunings have found, measured again beside others' kernels: all of a layer in turns, in one run.

Of many configurations that are measured once, the best is in part the luckiest. A layer that has new incumbents is judged anew
as a whole: what was measured on another day is not compared.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from experiments.command import Complain
from experiments.device_comparison import Setting
from search.knobs import Config
from tvm_bridge.measure.base import DeviceError

UNTUNED = "untuned"
"""What TVM's default schedule is called among the kernels of a judgement."""
NOTHING = json.dumps(None)
"""What an incumbent is called where there is none: all have failed so far."""


class Rival(Protocol):
    """Somebody else's kernels, judged in turns with ours."""

    def kernels(self, network: str, layer: str) -> Sequence[str]:
        """What its kernels of a layer are called."""
        ...

    def turns(self, network: str, layer: str) -> Generator[dict[str, float]]:
        """Build them, and measure the GFLOPS of each once a turn, 0 for one that fails; closed after the last.

        **Raises:** `RuntimeError` if it can take no turn, `DeviceError` if there is no device.
        """
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What the last layer's judgement says of the rival beside them."""
        ...


@dataclass(frozen=True)
class Judging:
    """The incumbents of all tunings beside rivals' kernels, each layer as a whole.

    - `setting`: whose tunings they are.
    - `rounds`: how often a kernel is measured. The fastest counts: others' work on the machine only ever slows a kernel down.
    - `rivals`: whose turns follow ours.
    - `state`: what is noted of the device after each round.
    """

    setting: Setting
    rounds: int
    rivals: Sequence[Rival] = ()
    state: Callable[[], Any] | None = None

    def judged(
        self, lines: Iterable[Mapping], known: Sequence[Mapping], *, complain: Complain, until: float = math.inf
    ) -> Iterator[dict]:
        """Judge layers that have kernels which their last judgement lacks; none is begun that may not end in time.

        A layer is complained about, and left to the next session, if a rival's process ends meanwhile.

        **Arguments:**

        - `lines`: those of tunings. `known`: earlier judgements.

        **Returns:** a line for each layer, with all kernels' GFLOPS by round.
        """
        longest = max((line["seconds"] for line in known), default=0.0)
        for network, layer, configs in self.pending(lines, known):
            if time.time() + longest > until:
                return
            try:
                line = self._judgement(network, layer, configs)
            except DeviceError:  # all layers would fail
                raise
            except RuntimeError as error:
                complain(f"{network} {layer} was not judged: {error}.")
                continue
            longest = max(longest, line["seconds"])
            yield line

    def pending(self, lines: Iterable[Mapping], known: Iterable[Mapping]) -> list[tuple[str, str, dict[str, Config | None]]]:
        """The layers that are to be judged, each with its configurations by their names."""
        layers: dict[tuple[str, str], dict[str, Config | None]] = {}
        for line in self.setting.finished(lines):
            found = layers.setdefault((line["network"], line["layer"]), {UNTUNED: None} if self.setting.untuned else {})
            found |= {spelled(config): config for config in line["incumbents"] if config is not None}
        last = {line["task"]: line for line in known}
        return [
            (*layer, configs)
            for layer, configs in layers.items()
            if not {*configs, *(kernel for rival in self.rivals for kernel in rival.kernels(*layer))}
            <= set(last.get(" ".join(layer), {"gflops": ()})["gflops"])
        ]

    def _judgement(self, network: str, layer: str, configs: Mapping[str, Config | None]) -> dict[str, Any]:
        task, kernels = self.setting.task(network, layer), list(configs)
        gflops: dict[str, list[float]] = defaultdict(list)
        began, states = time.time(), []
        with ExitStack() as stack:
            measurer = stack.enter_context(self.setting.measurer())
            device = measurer.device(task)
            others = [stack.enter_context(closing(rival.turns(network, layer))) for rival in self.rivals]
            for _ in range(self.rounds):
                for place, again in measurer.stream(task, list(configs.values())):
                    gflops[kernels[place]].append(round(task.gflops(again.cost), 3) if again.ok else 0.0)
                for turn in map(next, others):
                    for kernel, throughput in turn.items():
                        gflops[kernel].append(round(throughput, 3))
                states += [self.state()] if self.state else []
        facts = {name: fact for rival in self.rivals for name, fact in rival.facts.items()}
        print(f"{task.label}: {len(gflops)} kernels", file=sys.stderr, flush=True)
        seconds = round(time.time() - began, 1)
        return {"task": task.label, "device": device, "seconds": seconds, "states": states, **facts, "gflops": dict(gflops)}


@dataclass(frozen=True)
class Judgements:
    """The last judgement of each layer."""

    lines: Sequence[Mapping]

    def of(self, line: Mapping) -> list[float] | None:
        """GFLOPS of a tuning's incumbents: of each the fastest round, 0 where there is none; None if one was not judged."""
        fastest = self.fastest.get(line["task"], {})
        kernels = [spelled(config) for config in line["incumbents"]]
        return [fastest[kernel] for kernel in kernels] if fastest.keys() >= set(kernels) else None

    @cached_property
    def fastest(self) -> dict[str, dict[str, float]]:
        """The fastest round of each kernel of each layer."""
        last = {line["task"]: line["gflops"] for line in self.lines}
        return {task: {NOTHING: 0.0} | {name: max(each) for name, each in kernels.items()} for task, kernels in last.items()}

    def worth(self, lines: Iterable[Mapping]) -> list[dict]:
        """The tunings whose incumbents were judged, with their GFLOPS: after each budget, and after the last."""
        return [{**line, "best": best, "judged": best[-1]} for line in lines if (best := self.of(line))]


def spelled(config: Config | None) -> str:
    """A configuration as a name."""
    return json.dumps(config, sort_keys=True)
