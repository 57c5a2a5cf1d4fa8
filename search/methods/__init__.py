"""Search methods: one file each, and one line in `METHODS`.

A method is a function `(space, *, key, **options)` that returns a coroutine: it yields configurations to measure and receives
their throughput. One that learns from other tasks' measurements takes a keyword `history`, a sequence of `Source`; one that
can begin with a model that has learned them takes a keyword `pretrained`, a fitted surrogate or None.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import TypeAlias

from search.driver import Search
from search.methods.autotvm import autotvm
from search.methods.bted import bted_search
from search.methods.bted_bao import bted_bao
from search.methods.chameleon import chameleon
from search.methods.deep_gaussian_transfer import deep_gaussian_transfer
from search.methods.gausstune import gausstune
from search.methods.genetic_algorithm import genetic_algorithm
from search.methods.grid import grid_search
from search.methods.history_guided_genetic_algorithm import history_guided_genetic_algorithm
from search.methods.random import random_search

Method: TypeAlias = Callable[..., Search]

METHODS: dict[str, Method] = {
    "random": random_search,
    "grid": grid_search,
    "ga": genetic_algorithm,
    "autotvm": autotvm,
    "bted": bted_search,
    "bted-bao": bted_bao,
    "dgp-transfer": deep_gaussian_transfer,
    "chameleon": chameleon,
    "gga": history_guided_genetic_algorithm,
    "gausstune": gausstune,
}


def find(method: str | Method) -> Method:
    """The method of this name; a function is a method already.

    **Raises:** `ValueError` naming the methods there are.
    """
    if callable(method):
        return method
    if method in METHODS:
        return METHODS[method]
    close = difflib.get_close_matches(str(method), METHODS, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"method: {method!r} is not one of {', '.join(METHODS)}.{hint}")


def learns_from_history(method: Method) -> bool:
    """Whether the method takes other tasks' measurements."""
    return "history" in inspect.signature(method).parameters


def takes_model(method: Method) -> bool:
    """Whether the method can begin with a fitted model, and has none yet: a `functools.partial` may have given it one."""
    parameter = inspect.signature(method).parameters.get("pretrained")
    return parameter is not None and (parameter.default is None or parameter.default is inspect.Parameter.empty)
