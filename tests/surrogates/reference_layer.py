"""The layer as GPJax would write it: one whitened variational family a function, stacked by vmap."""

import equinox as eqx
import gpjax as gpx
import jax.numpy as jnp
from gpjax.parameters import val
from gpjax.variational_families import WhitenedVariationalGaussian

from surrogates.deep_gp_layer import Layer


class ReferenceLayer(eqx.Module):
    """What `Layer` must agree with: p families of GPJax with its own kernel, Cholesky factors and triangular solves."""

    families: WhitenedVariationalGaussian
    projection: jnp.ndarray

    @classmethod
    def of(cls, layer: Layer) -> "ReferenceLayer":
        kernel = gpx.kernels.RBF(lengthscale=val(layer.kernel.lengthscale), variance=val(layer.kernel.variance))
        prior = gpx.gps.Prior(kernel, gpx.mean_functions.Zero(), jitter=layer.jitter)

        def family(mean, root):
            model = prior * gpx.likelihoods.Gaussian()
            return WhitenedVariationalGaussian(model, val(layer.inducing), mean[:, None], root)

        return cls(eqx.filter_vmap(family)(val(layer.mean).T, layer.roots()), layer.projection)

    def moments(self, x):
        def moments(family):
            predicted = family.predict(x)
            return predicted.mean, predicted.variance

        mean, variance = eqx.filter_vmap(moments)(self.families)
        return mean.T + x @ self.projection, variance.T

    def kl(self):
        return eqx.filter_vmap(lambda family: family.prior_kl())(self.families).sum()
