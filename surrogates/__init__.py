"""Beliefs about a function known from few points: surrogate models. Nothing here knows knobs or TVM."""

from surrogates.base import Prediction, Surrogate
from surrogates.deep_gp import DeepGP
from surrogates.ensemble import BootstrapEnsemble
from surrogates.exact_gp import ExactGP
from surrogates.mlp import MLP
from surrogates.storage import load, save
from surrogates.xgboost import XGBoost

__all__ = [
    "MLP",
    "BootstrapEnsemble",
    "DeepGP",
    "ExactGP",
    "Prediction",
    "Surrogate",
    "XGBoost",
    "load",
    "save",
]
