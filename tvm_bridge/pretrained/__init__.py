"""Models that have learned other tasks: those that ship with the package, and folders of one's own.

A model is a file `<kind of target>-<family of devices>-<operator>.gst`: `cuda-sm_90-conv2d_nchw.gst` knows convolutions on GPUs
of compute capability 9.0. One for spaces with all that a template can do has `-enlarged` after the operator. Beside each lies a
card, `.md`, which says what it has learned and how well. `experiments/pretrain.py` makes both.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tvm_bridge import templates
from tvm_bridge.task import Task

if TYPE_CHECKING:
    from surrogates import Surrogate
    from tvm_bridge.target import Target

FOLDER = Path(__file__).parent
"""The models that ship."""

SUFFIX = ".gst"

Pretrained: TypeAlias = "bool | str | os.PathLike[str] | Surrogate"
"""What a search shall begin with: what ships (True), nothing (False), a file, a folder, or a fitted model itself."""


def model_for(task: Task, given: Pretrained = True) -> Surrogate | None:
    """Find the fitted model that the search of a task begins with.

    **Arguments:**

    - `given`: True for the fitting one of those that ship, False for none, a file of `surrogates.save`, a folder in which the
      fitting one is looked for, or a model that was fitted to the features of the task's space.

    **Returns:** the model. None if there is none for this operator, family of devices and space: of those that ship without a
    word, of a folder of one's own with a warning.

    **Raises:** `ValueError` for a damaged file, or a model of other features or not fitted; `FileNotFoundError` for a path at
    which there is nothing.
    """
    if given is False:
        return None
    from surrogates import Surrogate, load  # here: builders never need them

    if isinstance(given, Surrogate):
        return _checked(given, task)
    if not isinstance(given, (bool, str, os.PathLike)):
        raise ValueError(f"pretrained: {type(given).__name__} is no model; give True, False, a path or a fitted surrogate.")
    path = FOLDER if isinstance(given, bool) else Path(given)
    if not path.exists():
        raise FileNotFoundError(f"pretrained: {path} is not there; give a saved model, a folder of them, or leave it out.")
    if path.is_dir():
        folder, name = path, name_of(task)
        path = folder / f"{name}{SUFFIX}"
        if name is None or not path.exists():
            if given is not True:
                fitting = "is of no known family of devices" if name is None else f"would take {path.name}"
                warnings.warn(f"pretrained: {folder} has no model for {task.name}, which {fitting}.", stacklevel=2)
            return None
    try:
        return load(path, features=task.space.feature_names)
    except ValueError as error:
        raise ValueError(f"pretrained: {error}") from error


def name_of(task: Task) -> str | None:
    """The name of the model that fits a task, without its suffix; None if the task's device is of no known family.

    The family is the `arch` of a CUDA target, without the letters of `sm_90a`, and the `mcpu` of an LLVM target: its vector
    unit and caches. How many cores it has is told by the card alone.
    """
    family = _family(task.target)
    if family is None or task.workload is None:
        return None
    plain = not task.enlarged or templates.space(task.workload, task.target).feature_names == task.space.feature_names
    return f"{task.target.kind}-{family}-{task.operator}{'' if plain else '-enlarged'}"


def digest(models: Sequence[Surrogate | None]) -> str | None:
    """What tells the models of some tasks from others; None if no task has one."""
    import jax

    if not any(model is not None for model in models):
        return None
    told = hashlib.sha256()
    for model in models:
        told.update(repr(model).encode())  # of arrays their shapes alone
        for leaf in jax.tree.leaves(model):
            told.update(np.asarray(leaf).tobytes())
    return f"SHA-256 {told.hexdigest()[:16]}"


def _checked(model: Surrogate, task: Task) -> Surrogate:
    """The model, if it can predict a configuration of the task's space."""
    try:
        model.predict(np.asarray(task.space.features(np.zeros((1, len(task.space.knobs)), np.int32))))
    except ValueError as error:
        raise ValueError(f"pretrained: for {task.name}: {error}") from error
    return model


def _family(target: Target) -> str | None:
    attributes = dict(target.attributes)
    if target.kind == "cuda" and "arch" in attributes:
        return str(attributes["arch"]).rstrip("af")
    return str(attributes["mcpu"]) if target.kind == "llvm" and "mcpu" in attributes else None
