"""FitResult: a fitted model with all its analyses as methods.

This is the one file that sees all analyses. Each method is a function of a :class:`unimix.fitted.model.FittedModel`,
with its signature and documentation in its own module under ``unimix.analysis``; here it becomes a method.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Never, Self, TypeVar

from unimix.analysis.certificate import certify
from unimix.analysis.checks import check as checks
from unimix.analysis.checks import collinearity as collinear
from unimix.analysis.checks import dispersion
from unimix.analysis.checks import influence as influences
from unimix.analysis.checks import simulated_residuals as quantile_residuals
from unimix.analysis.comparisons import comparisons as changes
from unimix.analysis.comparisons import johnson_neyman as regions
from unimix.analysis.comparisons import marginaleffects
from unimix.analysis.intervals import bootstrap as bootstraps
from unimix.analysis.intervals import confint as intervals
from unimix.analysis.means import emmeans as means
from unimix.analysis.plot_data.plots import Plots
from unimix.analysis.posterior import evidence, sensitivity
from unimix.analysis.posterior import reweighted as reweighting
from unimix.analysis.prediction import draws as drawing
from unimix.analysis.prediction import loo as leaving_one_out
from unimix.analysis.prediction import posterior_groups, prior, to_file
from unimix.analysis.prediction import predict as prediction
from unimix.analysis.prediction import simulate as simulation
from unimix.analysis.robust.robust import robust_part
from unimix.analysis.summaries import augment as augmenting
from unimix.analysis.summaries import citations as citing
from unimix.analysis.summaries import effect_sizes as sizes
from unimix.analysis.summaries import heterogeneity as heterogeneous
from unimix.analysis.summaries import level_means as levels
from unimix.analysis.summaries import page as pages
from unimix.analysis.summaries import r2 as variance
from unimix.analysis.summaries import random_pca as components
from unimix.analysis.summaries import report as reporting
from unimix.analysis.tests import anova as terms
from unimix.analysis.tests import drop_terms
from unimix.analysis.tests import hypotheses as hypothesis_tests
from unimix.display import Printed
from unimix.errors import OptionError, UnimixError
from unimix.fitted import rebuild_design, text, whole_results
from unimix.fitted.accessor import Accessor
from unimix.fitted.model import Effects, FittedModel
from unimix.foreign_names import suggests_names

__all__ = ["Effects", "FitResult", "RobustFit", "register_accessor"]

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
    johnson_neyman = regions.johnson_neyman
    contrasts = means.contrasts
    comparisons = changes.comparisons
    to_marginaleffects = marginaleffects.to_marginaleffects
    anova = terms.anova
    drop1 = drop_terms.drop1
    hypotheses = hypothesis_tests.hypotheses

    def robust(
        self,
        kind: Literal["CR0", "CR1", "CR2", "CR3"] | None = None,
        cluster: Any = None,
    ) -> RobustFit:
        """The fit with cluster-robust standard errors, which hold if variances and correlations are not as assumed.

        The estimates stay as they are. Their covariance matrix comes from the residuals of whole clusters instead of
        the estimated variances, so that it is right for many clusters whatever the responses within a cluster have in
        common. For few clusters CR2 corrects the bias, and tests have the degrees of freedom of Pustejovsky & Tipton
        (2018, J. Bus. Econ. Stat. 36:672-683): Satterthwaite's for one function of the coefficients, Hotelling-Zhang
        for several together. The numbers are those of R's clubSandwich.

        Args:
            kind: Correction for small numbers of clusters: CR0 for none, CR1 for the factor J / (J - 1) with J
                clusters, CR2 for the correction that is unbiased if the model is right, CR3 for the jackknife, which
                errs on the safe side. Generalised models have CR0 and CR1, with z tests: White's covariance matrix of
                all parameters (1982, Econometrica 50:1-25) from the clusters' scores of Laplace's approximation. None
                takes CR2, or CR1 for a generalised model.
            cluster: Grouping factor or column of the formula whose levels are the clusters, or one label per row of the
                data. None takes the grouping factor in which all others are nested.

        Returns:
            The fit with other standard errors, degrees of freedom, tests and intervals, as a :class:`RobustFit`.

        Raises:
            OptionError: If the kind or the clusters are unknown, or clusters share a level of a grouping factor.
            UnsupportedModelError: If the model has no such standard errors.
            UnimixError: If the fit is a posterior.

        Example:
            >>> import unimix as um
            >>> fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
            >>> fit.robust("CR2", cluster="Subject").fixed_effects[["std_error", "df"]].round(3)
                       std_error    df
            term
            Intercept      6.825  17.0
            Days           1.546  17.0
        """
        found = robust_part(self, kind, cluster)
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        content |= {"fixed": found.fixed, "_unsaved": replace(self._unsaved, sandwich=found.sandwich)}
        return RobustFit(**content)

    # intervals
    confint = intervals.confint
    bootstrap = bootstraps.bootstrap

    # predictions and draws
    predict = prediction.predict
    predict_to = to_file.predict_to
    augment = augmenting.augment
    draws = drawing.coefficient_draws
    posterior_predictive = drawing.replicated
    prior_predictive = prior.prior_predictive
    model_graph = prior.model_graph
    simulate = simulation.simulate
    loo = leaving_one_out.loo
    posterior = property(posterior_groups.posterior)
    log_evidence = property(evidence.log_evidence)
    log_evidence_error = property(evidence.log_evidence_error)
    reweighted = reweighting.reweighted
    prior_sensitivity = sensitivity.prior_sensitivity

    # summaries
    r2 = variance.r2
    icc = variance.icc
    random_pca = components.random_pca
    level_means = levels.level_means
    heterogeneity = heterogeneous.heterogeneity
    effect_sizes = sizes.effect_sizes
    report = reporting.report
    citations = citing.citations
    to_html = pages.to_html

    # checks
    certificate = certify.certificate
    check = checks.check
    collinearity = collinear.collinearity
    influence = influences.influence
    overdispersion = dispersion.overdispersion
    check_zeros = dispersion.check_zeros
    simulated_residuals = quantile_residuals.simulated_residuals

    # pictures: fit.plot.groups(), .shrinkage(), .caterpillar(), .diagnostics() and others
    plot = Accessor(Plots)


def _of_the_model(name: str) -> Callable[..., Never]:
    """A method in the place of an analysis that follows from the model's variances."""

    def refuse(*_: object, **__: object) -> Never:
        raise UnimixError(
            f"{name} follows from the estimated variances, which cluster-robust standard errors do not assume: ask the "
            f"fit itself, fit.{name} instead of fit.robust(...).{name}."
        )

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


class RobustFit(FitResult):
    """A fit with cluster-robust standard errors: what :meth:`FitResult.robust` returns.

    Tables, ``emmeans``, ``contrasts``, ``slopes``, ``comparisons``, ``anova``, ``hypotheses``, Wald intervals,
    ``um.table`` and confidence intervals of predictions without group effects have the robust standard errors and their
    degrees of freedom. Analyses that follow from the model's variances (the certificate, draws, prediction intervals)
    are refused, and so is saving: save the fit itself.

    Example:
        >>> import unimix as um
        >>> fit = um.fit("distance ~ Sex * age + (1 | Subject)", um.load_dataset("orthodont"))
        >>> fit.robust("CR2").anova()
        Type III F tests, Hotelling-Zhang degrees of freedom, cluster-robust (CR2, 27 clusters of Subject)
        term     num_df  den_df       F  p_value
        Sex           1    21.7    0.52    0.478
        age           1    21.7  108.66   <0.001
        Sex:age       1    21.7    6.32    0.020
    """

    def confint(self, method: str | None = None, **arguments: Any) -> Any:
        """Wald intervals with the robust standard errors; see :meth:`FitResult.confint`."""
        if method not in (None, "wald"):
            raise OptionError(f"method={method!r}: cluster-robust intervals are Wald intervals. Leave method= out.")
        return super().confint("wald", **arguments)

    def predict(self, newdata: Any = None, **arguments: Any) -> Any:
        """Predictions; confidence intervals are for ``level="population"``. See :meth:`FitResult.predict`."""
        level, interval = arguments.get("level", "group"), arguments.get("interval")
        if interval is not None and self.random and (interval != "confidence" or level not in ("population", [], ())):
            raise OptionError(
                "Cluster-robust intervals are of predictions without group effects: type level='population', "
                "interval='confidence'. Other intervals follow from the model's variances: ask the fit itself."
            )
        if interval == "prediction":
            raise OptionError("A prediction interval follows from the model's variances: ask the fit itself.")
        return super().predict(newdata, **arguments)

    if not TYPE_CHECKING:
        robust = _of_the_model("robust")
        to_marginaleffects = _of_the_model("to_marginaleffects")
        bootstrap = _of_the_model("bootstrap")
        drop1 = _of_the_model("drop1")
        heterogeneity = _of_the_model("heterogeneity")
        augment = _of_the_model("augment")
        draws = _of_the_model("draws")
        posterior_predictive = _of_the_model("posterior_predictive")
        prior_predictive = _of_the_model("prior_predictive")
        model_graph = _of_the_model("model_graph")
        simulate = _of_the_model("simulate")
        loo = _of_the_model("loo")
        level_means = _of_the_model("level_means")
        effect_sizes = _of_the_model("effect_sizes")
        report = _of_the_model("report")
        citations = _of_the_model("citations")
        certificate = _of_the_model("certificate")
        check = _of_the_model("check")
        collinearity = _of_the_model("collinearity")
        influence = _of_the_model("influence")
        overdispersion = _of_the_model("overdispersion")
        check_zeros = _of_the_model("check_zeros")
        simulated_residuals = _of_the_model("simulated_residuals")
        to_json = _of_the_model("to_json")
        posterior = property(_of_the_model("posterior"))
        plot = property(_of_the_model("plot"))


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
