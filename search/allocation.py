r"""One budget for many tasks: each round of measurements goes where it promises to shorten the network most.

Ansor's task scheduler (Zheng et al., OSDI 2020, section 6 and appendix A): the network takes $\sum_i w_i g_i$ seconds, and what
a further round of task i will gain is guessed from its own past, from the rounds it has had, and from similar tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import PRNGKeyArray


@dataclass(frozen=True)
class Claimant:
    """A task as the allocation sees it.

    - `weight`: how often the network runs it.
    - `seconds`: what a run takes without tuning; infinite if that is unknown.
    - `flop`: its floating-point operations, if they are known.
    - `kind`: tasks of one kind are similar, and should reach about as many operations a second; None is like no other.
    """

    weight: float
    seconds: float = math.inf
    flop: float | None = None
    kind: Hashable = None


@dataclass(frozen=True)
class Outcome:
    """What a round brought: measurements spent, the task's best seconds so far, and whether it can have no more."""

    trials: int
    seconds: float
    finished: bool = False


def allocate(
    tasks: Sequence[Claimant],
    trials: int,
    spend: Callable[[int, int], Outcome],
    *,
    key: PRNGKeyArray,
    size: int = 8,
    alpha: float = 0.2,
    beta: float = 2.0,
    window: int = 3,
    epsilon: float = 0.05,
) -> int:
    r"""Deal out a budget of measurements in rounds.

    Every task gets a first round, what takes longest first. After that the next round is that of the steepest gradient,

    $w_i \left(\alpha \frac{g_i(t_i) - g_i(t_i - \Delta)}{\Delta}
    + (1 - \alpha) \min\left(-\frac{g_i(t_i)}{t_i}, \beta \frac{C_i}{\max_{k \in N(i)} V_k} - g_i(t_i)\right)\right)$,

    with $g_i(t_i)$ a task's best seconds after its $t_i$ rounds, $C_i$ its operations, $V_k$ the operations a second of the
    tasks similar to it, and $\Delta$ the window, or the rounds there are. Where the paper is silent: similar tasks promise
    nothing to one that a whole window has brought nothing, or one that cannot be as fast would take all there is; and a task of
    which nothing has worked yet counts as the slowest.

    **Arguments:**

    - `tasks`: what there is to tune; of weight 0 gets nothing.
    - `trials`: the budget.
    - `spend`: takes a task's number and how many measurements it may have, and answers with their outcome.
    - `key`: a JAX random key; the same key and outcomes lead to the same rounds.
    - `size`: measurements of a round; fewer where the budget has not so many for each task.
    - `alpha`, `beta`, `window`: the part that a task's own past has, how near a task is expected to come to similar ones, and
      the rounds that are its past; defaults as in TVM's implementation.
    - `epsilon`: how often chance chooses.

    **Returns:** how much of the budget was spent: all, unless every task is finished.

    **Raises:** `ValueError` for a number out of range.
    """
    if min(trials, size, window) < 1:
        raise ValueError(f"trials, size, window: {trials}, {size}, {window} must be at least 1.")
    if beta <= 0 or not (0 <= alpha <= 1 and 0 <= epsilon <= 1):
        raise ValueError(f"alpha, beta, epsilon: {alpha}, {beta}, {epsilon} must be a part, above 0, and a part.")
    gradient = _Gradient(alpha, beta, window)
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    unfinished = [number for number, task in enumerate(tasks) if task.weight > 0]
    first = sorted(unfinished, key=lambda number: -tasks[number].weight * tasks[number].seconds)
    size = min(size, max(1, trials // max(1, len(unfinished))))
    past: list[list[float]] = [[] for _ in tasks]
    left = trials
    while left and unfinished:
        if first:
            number = first.pop(0)
        elif generator.random() < epsilon:
            number = int(generator.choice(unfinished))
        else:
            slopes = gradient(tasks, past)
            number = min(unfinished, key=slopes.__getitem__)
        outcome = spend(number, min(size, left))
        left -= outcome.trials
        past[number].append(outcome.seconds)
        if outcome.finished or not outcome.trials:
            unfinished.remove(number)
    return trials - left


@dataclass(frozen=True)
class _Gradient:
    """The gradient by every task's rounds; `past` holds each task's best seconds after each of its rounds."""

    alpha: float
    beta: float
    window: int

    def __call__(self, tasks: Sequence[Claimant], past: Sequence[Sequence[float]]) -> list[float]:
        best = [rounds[-1] if rounds else task.seconds for task, rounds in zip(tasks, past, strict=True)]
        slowest = max((task.weight * each for task, each in zip(tasks, best, strict=True) if each < math.inf), default=1.0)
        pace: dict[Hashable, float] = {}  # seconds an operation of the fastest of each kind
        for task, each in zip(tasks, best, strict=True):
            if task.kind is not None and task.flop:
                pace[task.kind] = min(pace.get(task.kind, math.inf), each / task.flop)
        slopes = []
        for task, rounds in zip(tasks, past, strict=True):
            if not rounds:
                slopes.append(0.0)
            elif rounds[-1] == math.inf:
                slopes.append(-(1 - self.alpha) * slowest / len(rounds))
            else:
                slopes.append(task.weight * self._slope(task, rounds, pace.get(task.kind, math.inf)))
        return slopes

    def _slope(self, task: Claimant, rounds: Sequence[float], pace: float) -> float:
        """The gradient of one task that works; `pace` is the best among similar tasks, itself included."""
        now = rounds[-1]
        known = [each for each in rounds if each < math.inf]
        reach = min(self.window, len(known) - 1)
        backward = (now - known[-1 - reach]) / reach if reach else 0.0
        forward = -now / len(rounds)
        if task.flop and not (reach == self.window and backward == 0):
            forward = min(forward, self.beta * task.flop * pace - now)
        return self.alpha * backward + (1 - self.alpha) * forward
