"""What only a process of its own can tell `surrogate_speed.py`: time of an import, of a first call, and peak memory.

Called with a question and its arguments; answers with one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np


def imported() -> float:
    """Seconds of importing every surrogate that needs no extra."""
    started = time.perf_counter()
    from surrogates import (  # noqa: F401
        MLP,
        BootstrapEnsemble,
        Constant,
        DeepGP,
        ExactGP,
        Feasibility,
        Residual,
        SparseGP,
        SquareRoot,
        Stacked,
        load,
        save,
    )

    return time.perf_counter() - started


def adapted(path: str, n: str) -> list[float]:
    """Seconds of adapting a saved model to n points, the first time and the second."""
    import jax

    from surrogates import DeepGP, load

    model, times = cast(DeepGP, load(path)), []
    for seed in range(2):
        x, y = data(int(n), seed)
        started = time.perf_counter()
        jax.block_until_ready(model.adapt(x, y, key=jax.random.key(seed)))
        times.append(time.perf_counter() - started)
    return times


def predicted(path: str, n: str) -> float:
    """Peak bytes of predicting n rows, less the rows themselves."""
    from surrogates import load

    model = load(path)
    x = data(int(n))[0]
    model.predict(x)
    return peak() - x.nbytes


def trained(n: str) -> float:
    """Peak bytes of training on n rows, less the rows themselves."""
    import jax

    from surrogates import DeepGP

    x, y = data(int(n))
    DeepGP(epochs=1, batch=4096, inducing=32).fit(x, y, key=jax.random.key(0))
    return peak() - x.nbytes - y.nbytes


def data(n: int, seed: int = 0, features: int = 20) -> tuple[Any, Any]:
    """Random points and a smooth function of some of their features, made without copies."""
    x = np.random.default_rng(seed).standard_normal((n, features), np.float32)
    return x, 2 + np.sin(x[:, 0]) + 0.3 * x[:, 1] * x[:, 2]


def peak() -> float:
    """The most bytes that were resident; `getrusage` would count the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return 1024.0 * int(status.split("VmHWM:")[1].split()[0])


QUESTIONS: dict[str, Callable] = {question.__name__: question for question in (imported, adapted, predicted, trained)}

if __name__ == "__main__":
    print(json.dumps(QUESTIONS[sys.argv[1]](*sys.argv[2:])))
