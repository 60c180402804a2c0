"""FitResult: a fitted model with all its analyses as methods.

This is the one file that sees all analyses. Each method is a function of a :class:`unimix.fitted.model.FittedModel`,
with its signature and documentation in its own module under ``unimix.analysis``; here it becomes a method.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Self, TypeVar

from unimix.analysis.certificate import certify
from unimix.analysis.checks import check as checks
from unimix.analysis.checks import collinearity as collinear
from unimix.analysis.checks import dispersion
from unimix.analysis.checks import influence as influences
from unimix.analysis.comparisons import comparisons as changes
from unimix.analysis.comparisons import marginaleffects
from unimix.analysis.intervals import bootstrap as bootstraps
from unimix.analysis.intervals import confint as intervals
from unimix.analysis.means import emmeans as means
from unimix.analysis.plot_data.plots import Plots
from unimix.analysis.prediction import draws as drawing
from unimix.analysis.prediction import loo as leaving_one_out
from unimix.analysis.prediction import posterior_groups, prior
from unimix.analysis.prediction import predict as prediction
from unimix.analysis.prediction import simulate as simulation
from unimix.analysis.summaries import augment as augmenting
from unimix.analysis.summaries import effect_sizes as sizes
from unimix.analysis.summaries import r2 as variance
from unimix.analysis.summaries import report as reporting
from unimix.analysis.tests import anova as terms
from unimix.analysis.tests import hypotheses as hypothesis_tests
from unimix.display import Printed
from unimix.errors import OptionError
from unimix.fitted import rebuild_design, text, whole_results
from unimix.fitted.accessor import Accessor
from unimix.fitted.model import Effects, FittedModel
from unimix.foreign_names import suggests_names

__all__ = ["Effects", "FitResult", "register_accessor"]

Room = TypeVar("Room")


@suggests_names
class FitResult(Printed, FittedModel):
    """A fitted model, in the same shape whichever engine fitted it.

    The attributes are described at :class:`unimix.fitted.model.FittedModel`, the methods at the functions that are
    assigned here.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("Reaction ~ Days + (Days | Subject)", um.load_dataset("sleepstudy"))
        >>> round(fit.sigma, 2), fit.converged, fit.n_groups
        (25.59, True, {'Subject': 18})
        >>> fit.variance_components[["group", "term1", "sdcor"]].round(2)
              group      term1  sdcor
        0   Subject  Intercept  24.74
        1   Subject       Days   5.92
        2   Subject  Intercept   0.07
        3  Residual       None  25.59
    """

    # text
    summary = text.summary
    _view = text.view
    __repr__ = text.sentence
    with_data = rebuild_design.with_data

    # one file for result, draws and data
    save = whole_results.save

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file of :meth:`save`; no engine is needed, and nothing in it is run.

        Everything is checked: checksums, names, shapes, that the draws are those of the result, and that the columns
        are those that were fitted.

        Args:
            path: The file.

        Returns:
            The result, with its draws and its data as far as they were saved.

        Raises:
            OptionError: If ``path`` is not a path.
            DataError: If there is no such file, or it is damaged, was changed, or has another version.

        Example:
            >>> import tempfile
            >>> import unimix as um
            >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     loaded = um.FitResult.load(fit.save(f"{folder}/fit.zip"))
            >>> loaded.emmeans("Days").table.equals(fit.emmeans("Days").table)
            True
        """
        return whole_results.load(cls, path)

    # means, comparisons and tests
    emmeans = means.emmeans
    slopes = means.slopes
    contrasts = means.contrasts
    comparisons = changes.comparisons
    to_marginaleffects = marginaleffects.to_marginaleffects
    anova = terms.anova
    hypotheses = hypothesis_tests.hypotheses

    # intervals
    confint = intervals.confint
    bootstrap = bootstraps.bootstrap

    # predictions and draws
    predict = prediction.predict
    augment = augmenting.augment
    draws = drawing.coefficient_draws
    posterior_predictive = drawing.replicated
    prior_predictive = prior.prior_predictive
    model_graph = prior.model_graph
    simulate = simulation.simulate
    loo = leaving_one_out.loo
    posterior = property(posterior_groups.posterior)

    # summaries
    r2 = variance.r2
    icc = variance.icc
    effect_sizes = sizes.effect_sizes
    report = reporting.report

    # checks
    certificate = certify.certificate
    check = checks.check
    collinearity = collinear.collinearity
    influence = influences.influence
    overdispersion = dispersion.overdispersion
    check_zeros = dispersion.check_zeros

    # pictures: fit.plot.groups(), .shrinkage(), .caterpillar(), .diagnostics() and others
    plot = Accessor(Plots)


_OWN = frozenset({*dir(FitResult), *(f.name for f in fields(FitResult))})


@suggests_names
def register_accessor(name: str) -> Callable[[type[Room]], type[Room]]:
    """Add methods of your own to every fit: ``fit.<name>.method()``.

    The decorated class is called with the fit when the attribute is first used, once per fit, and the instance is kept
    with the fit; so it can store what is costly to compute.

    Args:
        name: Name of the attribute.

    Returns:
        A decorator that returns the class unchanged.

    Raises:
        OptionError: If the name is not a valid identifier, or unimix uses it already.

    Warns:
        UserWarning: If another class was registered under the name; it is replaced.

    Example:
        >>> import unimix as um
        >>> @um.register_accessor("rows_per")
        ... class RowsPer:
        ...     def __init__(self, fit):
        ...         self.fit = fit
        ...
        ...     def level(self, group):
        ...         return self.fit.n_obs / self.fit.n_groups[group]
        >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
        >>> fit.rows_per.level("Subject")
        10.0
    """
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        raise OptionError(f"register_accessor({name!r}): give a name that can follow a dot, such as 'my_checks'.")
    if name in _OWN:
        raise OptionError(f"register_accessor({name!r}): unimix itself uses fit.{name}. Choose another name.")

    def decorator(room: type[Room]) -> type[Room]:
        taken = FitResult.__dict__.get(name)
        before = None if taken is None else taken.make
        # The same class registered twice is a notebook cell that was run twice: no warning.
        if before is not None and _path(before) != _path(room):
            warnings.warn(f"fit.{name} was {_path(before)} and is now {_path(room)}.", UserWarning, stacklevel=2)
        accessor = Accessor(room)
        accessor.__set_name__(FitResult, name)
        setattr(FitResult, name, accessor)
        return room

    return decorator


def _path(room: Callable[..., object]) -> str:
    return f"{room.__module__}.{room.__qualname__}"
