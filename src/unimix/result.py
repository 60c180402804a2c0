"""FitResult: a fitted model with everything that can be asked of it.

The one file that sees all analyses. Each verb is a function of a :class:`unimix.fitted.model.FittedModel` in the room
of its kind, with its signature and documentation there. Here it becomes a method.
"""

from __future__ import annotations

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
from unimix.analysis.plot_data.accessor import Plots
from unimix.analysis.prediction import draws as drawing
from unimix.analysis.prediction import loo as leaving_one_out
from unimix.analysis.prediction import predict as prediction
from unimix.analysis.prediction import prior
from unimix.analysis.prediction import simulate as simulation
from unimix.analysis.summaries import augment as augmenting
from unimix.analysis.summaries import effect_sizes as sizes
from unimix.analysis.summaries import r2 as variance
from unimix.analysis.summaries import report as reporting
from unimix.analysis.tests import anova as terms
from unimix.analysis.tests import hypotheses as hypothesis_tests
from unimix.fitted import rebuild_design, text
from unimix.fitted.model import Effects, FittedModel
from unimix.foreign_names import suggests_names

__all__ = ["Effects", "FitResult"]


@suggests_names
class Verbs:
    """The analyses as methods; a class of its own, because pydantic takes a model's assignments for fields."""

    # text
    summary = text.summary
    __str__ = text.summary
    __repr__ = text.sentence
    _repr_html_ = text.html
    with_data = rebuild_design.with_data

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
    zero_check = dispersion.zero_inflation


class FitResult(Verbs, FittedModel):
    """A fitted model, in the same shape whichever engine fitted it.

    What it holds is described at :class:`unimix.fitted.model.FittedModel`, its methods at the functions above.
    """

    @property
    def plot(self) -> Plots:
        """Pictures: ``fit.plot.groups()``, ``.shrinkage()``, ``.caterpillar()``, ``.diagnostics()`` and others."""
        return Plots(self)
