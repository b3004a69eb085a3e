"""Checks of a config by the probes that it names, before a run begins."""

from lrjax.errors import check, nearest
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.step.curvature_losses import ADAMS, LIKELIHOODS, MATRICES
from lrjax.probes.batch_sizes import batch_sizes, grid


def _settings(config: Config) -> None:
    settings = config.spectra
    for key, least in (("k", 1), ("examples", 0), ("batch_size", 0), ("noise_batches", 2), ("noise_batch_size", 1)):
        check(settings[key] >= least, f"spectra.{key}={settings[key]} must be {least} or more")
    k, most = settings.k, settings.max_steps
    check(most >= k, f"spectra.max_steps={most} is fewer than the spectra.k={k} eigenvalues asked for")
    check(
        0 < settings.tol < 1, f"spectra.tol={settings.tol} must lie between 0 and 1: it is relative to the eigenvalue"
    )
    check(0 <= settings.seed < 2**32, f"spectra.seed={settings.seed} must lie in 0..{2**32 - 1}")
    check(bool(settings.matrices), f"spectra.matrices is empty; name one or more of {', '.join(MATRICES)}")
    for name in settings.matrices:
        check(name in MATRICES, f"unknown matrix {name!r} in spectra.matrices; {nearest(str(name), MATRICES)}")
    check(len(set(settings.matrices)) == len(settings.matrices), f"spectra.matrices={settings.matrices} repeats one")


def spectrum(config: Config, num_train: int) -> None:
    """Matrices that the loss, the optimizer and the mode of BatchNorm allow."""
    _settings(config)
    settings = config.spectra
    coupled = [name for name in settings.matrices if MATRICES[name].of_examples and settings.batch_statistics]
    check(
        not coupled,
        f"{' and '.join(coupled)} is made of per-example gradients, which spectra.batch_statistics=True does not leave; "
        "set it to False, or measure the noise of mini-batches with probes.noise",
    )
    likely = "fisher" not in settings.matrices or config.loss in LIKELIHOODS
    check(likely, f"Fisher needs a likelihood loss, not {config.loss!r}; name ggn in spectra.matrices instead")
    moments = "preconditioned_hessian" not in settings.matrices or config.optimizer.name in ADAMS
    check(
        moments, f"preconditioned_hessian needs one of {', '.join(ADAMS)}; optimizer.name is {config.optimizer.name!r}"
    )


def noise(config: Config, num_train: int) -> None:
    """Two batches or more of the evaluation subset."""
    _settings(config)
    settings = config.spectra
    batch_sizes(min(settings.examples, num_train) or num_train, settings.noise_batches, settings.noise_batch_size)


def break_even(config: Config, num_train: int) -> None:
    """Two batches or more of the training set."""
    _settings(config)
    batch_sizes(num_train, config.spectra.noise_batches, config.spectra.noise_batch_size)


def noise_grid(config: Config, num_train: int) -> None:
    """Pairs (L, M) that fit the training set."""
    grid(config.spectra.noise_grid, num_train)
