"""Beliefs about a function known from few points: surrogate models. Nothing here knows knobs or TVM."""

from surrogates.base import Prediction, Surrogate
from surrogates.deep_gp import DeepGP
from surrogates.ensemble import BootstrapEnsemble
from surrogates.exact_gp import ExactGP
from surrogates.feasibility import Feasibility
from surrogates.mlp import MLP
from surrogates.residual import Residual
from surrogates.sparse_gp import SparseGP
from surrogates.square_root import SquareRoot
from surrogates.storage import load, save
from surrogates.xgboost import XGBoost

__all__ = [
    "MLP",
    "BootstrapEnsemble",
    "DeepGP",
    "ExactGP",
    "Feasibility",
    "Prediction",
    "Residual",
    "SparseGP",
    "SquareRoot",
    "Surrogate",
    "XGBoost",
    "load",
    "save",
]
