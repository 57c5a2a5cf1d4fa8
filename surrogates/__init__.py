"""Beliefs about a function known from few points: surrogate models. Nothing here knows knobs or TVM."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surrogates.base import Prediction, Surrogate
    from surrogates.constant import Constant
    from surrogates.deep_gp import DeepGP
    from surrogates.ensemble import BootstrapEnsemble
    from surrogates.exact_gp import ExactGP
    from surrogates.feasibility import Feasibility
    from surrogates.mlp import MLP
    from surrogates.residual import Residual
    from surrogates.sparse_gp import SparseGP
    from surrogates.square_root import SquareRoot
    from surrogates.stacked import Stacked
    from surrogates.storage import load, save
    from surrogates.xgboost import XGBoost

__all__ = [
    "MLP",
    "BootstrapEnsemble",
    "Constant",
    "DeepGP",
    "ExactGP",
    "Feasibility",
    "Prediction",
    "Residual",
    "SparseGP",
    "SquareRoot",
    "Stacked",
    "Surrogate",
    "XGBoost",
    "load",
    "save",
]

_HOMES = {
    "MLP": "mlp",
    "BootstrapEnsemble": "ensemble",
    "Constant": "constant",
    "DeepGP": "deep_gp",
    "ExactGP": "exact_gp",
    "Feasibility": "feasibility",
    "Prediction": "base",
    "Residual": "residual",
    "SparseGP": "sparse_gp",
    "SquareRoot": "square_root",
    "Stacked": "stacked",
    "Surrogate": "base",
    "XGBoost": "xgboost",
    "load": "storage",
    "save": "storage",
}


def __getattr__(name: str) -> Any:
    """Load a model's file when it is asked for: GPJax takes a second, and processes that build kernels need none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'surrogates' has no attribute {name!r}")
    return getattr(importlib.import_module(f"surrogates.{_HOMES[name]}"), name)
