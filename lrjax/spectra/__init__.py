"""Curvature and gradient noise of any JAX model.

An *operator* is a matrix of a loss; bound to parameters and batches it multiplies vectors; an *algorithm* works on any bound
operator (`lanczos`, `extreme_values`, `density`, `trace`, `diagonal`, `quadratic_form` ...).

Which matrix is which
---------------------
With per-example losses l_i, their gradients g_i, outputs f_i, J_i = d f_i / d theta, g = mean g_i, and means over examples:

====================  =============================================  =====================================================
Hessian H             mean of d2 l_i / d theta^2                     curvature of the loss; has negative eigenvalues
GGN                   mean of J_i^T (d2 l_i / d f^2) J_i             H without the curvature of the network; psd
Fisher F              mean of E_{y ~ p(y|f_i)} g_i(y) g_i(y)^T       labels drawn from the model, not from the data; psd
empirical Fisher      mean of g_i g_i^T                              true labels; no estimate of F; psd
covariance K          mean of (g_i - g)(g_i - g)^T                   the gradient noise of SGD; psd
preconditioned H      P^(-1/2) H P^(-1/2)                            what Adam holds at its edge of stability
====================  =============================================  =====================================================

They are often confused: H and GGN measure how the loss bends, K how gradients disagree. Four
identities tie them together, here on softmax regression with three classes:

>>> import jax, jax.numpy as jnp, optax
>>> x, y = jax.random.normal(jax.random.key(0), (6, 2)), jnp.array([0, 1, 2, 0, 1, 2])
>>> example_loss = lambda w, batch: optax.softmax_cross_entropy_with_integer_labels(batch[0] @ w, batch[1])
>>> loss = lambda w, batch: jnp.mean(example_loss(w, batch))
>>> predict = lambda w, batch: batch[0] @ w
>>> output_loss = lambda f, batch: jnp.mean(optax.softmax_cross_entropy_with_integer_labels(f, batch[1]))
>>> w = jnp.array([[1.0, 0.0, -1.0], [0.5, 1.0, 0.0]])
>>> def dense(operator):
...     return operator.bind(w, [(x, y)]).matmat(jnp.eye(w.size))
>>> close = lambda a, b: bool(jnp.allclose(a, b, atol=1e-6))

1. The GGN is the Fisher information where the loss is the negative log-likelihood of an exponential family, such as softmax
   cross-entropy:

>>> close(dense(ggn(predict, output_loss)), dense(fisher(predict)))
True

2. The Hessian is the GGN plus (d l / d f) times the curvature of the outputs, which a linear model has none of:

>>> close(dense(hessian(loss)), dense(ggn(predict, output_loss)))
True

3. The empirical Fisher is K plus the outer product of the mean gradient:

>>> g = jax.grad(loss)(w, (x, y)).ravel()
>>> close(dense(empirical_fisher(example_loss)), dense(gradient_covariance(example_loss)) + jnp.outer(g, g))
True

4. The empirical Fisher is not the Fisher information; they agree only where the model is right about its labels:

>>> close(dense(empirical_fisher(example_loss)), dense(fisher(predict)))
False

K of mini-batches of M examples is smaller by a factor of about M; `gram` measures it from a few mini-batch gradients as the
break-even paper does, and gives both scales. How much to trust a measurement on a subset: `evaluation_subset`, `spread`,
`intervals`. Where curvature meets the learning rate: `edge`, `stability_lhs`.

References:
    Kunstner, Balles & Hennig 2019, Limitations of the empirical Fisher approximation for natural gradient descent.
    Martens 2020, New insights and perspectives on the natural gradient method.
    Jastrzebski et al. 2020, The Break-Even Point on Optimization Trajectories.
"""

from lrjax.spectra.adam import adam_preconditioner, adam_state
from lrjax.spectra.binding import Operator, bind
from lrjax.spectra.bound import Bound, from_function, matrix
from lrjax.spectra.density import Curve, Density, LogCurve, density
from lrjax.spectra.diagonal import Diagonal, diagonal
from lrjax.spectra.directions import (
    BatchSharpness,
    batch_sharpness,
    curvature_along,
    quadratic_form,
)
from lrjax.spectra.distributions import DISTRIBUTIONS, Distribution
from lrjax.spectra.eigenpairs import Eigen
from lrjax.spectra.example_gradients import covariance_trace, gradient_norms
from lrjax.spectra.gram import Gram, batch_gradients, gram
from lrjax.spectra.lanczos import lanczos
from lrjax.spectra.landscape import Landscape, loss_landscape
from lrjax.spectra.linear_path import LinearPath, linear_path
from lrjax.spectra.noise_scale import NoiseScale, gradient_noise_scale, noise_scale_of_norms
from lrjax.spectra.norms import Frobenius, effective_rank, frobenius
from lrjax.spectra.one_line import top_eigenvalues
from lrjax.spectra.operators import (
    empirical_fisher,
    fisher,
    ggn,
    gradient_covariance,
    hessian,
    preconditioned,
)
from lrjax.spectra.preconditioner import PRECONDITIONERS, preconditioner
from lrjax.spectra.random_vectors import Estimate
from lrjax.spectra.resampling import Interval
from lrjax.spectra.selection import Selection
from lrjax.spectra.stability import (
    EDGES,
    break_even_learning_rate,
    break_even_sharpness,
    edge,
    stability_lhs,
)
from lrjax.spectra.subset import (
    SmallSubsetWarning,
    Spread,
    batches_of,
    evaluation_subset,
    intervals,
    spread,
    warn_if_small,
)
from lrjax.spectra.trace import Trace, trace
from lrjax.spectra.values_only import extreme_values

__all__ = [
    "DISTRIBUTIONS",
    "EDGES",
    "PRECONDITIONERS",
    "BatchSharpness",
    "Bound",
    "Curve",
    "Density",
    "Diagonal",
    "Distribution",
    "Eigen",
    "Estimate",
    "Frobenius",
    "Gram",
    "Interval",
    "Landscape",
    "LinearPath",
    "LogCurve",
    "NoiseScale",
    "Operator",
    "Selection",
    "SmallSubsetWarning",
    "Spread",
    "Trace",
    "adam_preconditioner",
    "adam_state",
    "batch_gradients",
    "batch_sharpness",
    "batches_of",
    "bind",
    "break_even_learning_rate",
    "break_even_sharpness",
    "covariance_trace",
    "curvature_along",
    "density",
    "diagonal",
    "edge",
    "effective_rank",
    "empirical_fisher",
    "evaluation_subset",
    "extreme_values",
    "fisher",
    "from_function",
    "frobenius",
    "ggn",
    "gradient_covariance",
    "gradient_noise_scale",
    "gradient_norms",
    "gram",
    "hessian",
    "intervals",
    "lanczos",
    "linear_path",
    "loss_landscape",
    "matrix",
    "noise_scale_of_norms",
    "preconditioned",
    "preconditioner",
    "quadratic_form",
    "spread",
    "stability_lhs",
    "top_eigenvalues",
    "trace",
    "warn_if_small",
]
