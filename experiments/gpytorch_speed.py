"""Times GPyTorch's deep Gaussian process and XGBoost's trees for `surrogate_speed.py`, in an interpreter that has them.

Made, beside the project's environment, with

    python -m venv out/competitors && out/competitors/bin/pip install torch gpytorch xgboost-cpu

(torch from its index of CPU wheels). Reads one JSON line a request, the name of a function below and its arguments, and answers
each with one line: the seconds of one call.
"""

import json
import sys
import time

import gpytorch
import numpy as np
import torch
import xgboost
from gpytorch.models.deep_gps import DeepGP, DeepGPLayer
from gpytorch.variational import CholeskyVariationalDistribution, VariationalStrategy

BATCH = 256
"""Rows GPyTorch predicts at once; it is slower with 1024 and with 4096."""


class Layer(DeepGPLayer):
    """Functions with an RBF kernel each, one lengthscale a feature, and a full q(u): GPyTorch's example of a layer."""

    def __init__(self, inputs: int, outputs: int | None, inducing: int) -> None:
        shape = torch.Size([] if outputs is None else [outputs])
        points = torch.randn(*shape, inducing, inputs)
        q = CholeskyVariationalDistribution(inducing, batch_shape=shape)
        super().__init__(VariationalStrategy(self, points, q, learn_inducing_locations=True), inputs, outputs)
        self.mean_module = gpytorch.means.ConstantMean() if outputs is None else gpytorch.means.LinearMean(inputs)
        kernel = gpytorch.kernels.RBFKernel(batch_shape=shape, ard_num_dims=inputs)
        self.covar_module = gpytorch.kernels.ScaleKernel(kernel, batch_shape=shape)

    def forward(self, x):
        """The prior at x."""
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


class Composition(DeepGP):
    """Layers one after another."""

    def __init__(self, features: int, hidden: list[int], inducing: int) -> None:
        super().__init__()
        widths = [features, *hidden]
        self.layers = torch.nn.ModuleList(Layer(d, p, inducing) for d, p in zip(widths, [*hidden, None], strict=True))
        self.likelihood = gpytorch.likelihoods.GaussianLikelihood()

    def forward(self, x):
        """The last layer at samples of the others."""
        for layer in self.layers:
            x = layer(x)
        return x


class Competitors:
    """The models, and what is timed of them."""

    def __init__(self, *, features: int, hidden: list[int], inducing: int, batch: int, trees: int, depth: int) -> None:
        torch.manual_seed(0)
        self.model = Composition(features, hidden, inducing)
        self.x = torch.randn(batch, features)
        self.y = torch.sin(self.x[:, 0])
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=0.01)
        bound = gpytorch.mlls.VariationalELBO(self.model.likelihood, self.model, batch)
        self.loss = gpytorch.mlls.DeepApproximateMLL(bound)
        x = np.random.default_rng(0).normal(size=(10_000, features)).astype(np.float32)
        settings = {"max_depth": depth, "eta": 0.3, "nthread": 2}
        self.booster = xgboost.train(settings, xgboost.DMatrix(x, np.sin(x).sum(axis=1)), num_boost_round=trees)

    def steps(self, *, count: int) -> float:
        """Seconds of one of so many steps of Adam, one sample each."""
        self.model.train()
        started = time.perf_counter()
        with gpytorch.settings.num_likelihood_samples(1):
            for _ in range(count):
                self.optimiser.zero_grad()
                (-self.loss(self.model(self.x), self.y)).backward()
                self.optimiser.step()
        return (time.perf_counter() - started) / count

    @torch.no_grad()
    def predict(self, *, rows: int, samples: int) -> float:
        """Seconds of mean and variance at so many rows."""
        self.model.eval()
        x = torch.randn(rows, self.x.shape[1])
        started = time.perf_counter()
        with gpytorch.settings.num_likelihood_samples(samples):
            for part in x.split(BATCH):
                predicted = self.model(part)
                predicted.mean.mean(dim=0)
                (predicted.variance + predicted.mean**2).mean(dim=0)
        return time.perf_counter() - started

    def trees(self, *, rows: int, threads: int) -> float:
        """Seconds of the trees' scores of so many rows."""
        x = np.random.default_rng(0).normal(size=(rows, self.x.shape[1])).astype(np.float32)
        self.booster.set_param({"nthread": threads})
        self.booster.inplace_predict(x[:1000])
        started = time.perf_counter()
        self.booster.inplace_predict(x)
        return time.perf_counter() - started


def main() -> None:
    """Serve requests until the input ends; the first line has the models' shapes."""
    shapes = json.loads(sys.stdin.readline())
    torch.set_num_threads(shapes.pop("threads"))
    competitors = Competitors(**shapes)
    versions = {"torch": torch.__version__, "gpytorch": gpytorch.__version__, "xgboost": xgboost.__version__}
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(getattr(competitors, name)(**arguments)), flush=True)


if __name__ == "__main__":
    main()
