"""Contrasts as emmeans knows them: against emmeans, and against each other."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unimix as um
from unimix.errors import OptionError
from unimix.stats.compact_letters import compact_letters
from unimix.stats.multiplicity import critical_value, dunnett_probability

R: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "contrasts_r.json").read_text())
KINDS = ("revpairwise", "trt.vs.ctrlk", "eff", "del.eff", "consec", "mean_chg", "helmert")


@pytest.fixture(scope="module")
def crossed() -> um.FitResult:
    return um.fit("Weight ~ Time + Cu * Evit + (1 | Pig)", um.load_dataset("dietox"), "pls")


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_emmeans(kind: str, crossed: um.FitResult) -> None:
    """1e-6 of a standard error: the optima of lme4 and pls differ by 1e-8."""
    found = crossed.contrasts("Cu", kind, adjust="none").table
    error = np.array(R[kind]["std_error"])
    assert (np.abs(found["estimate"] - R[kind]["estimate"]) < 1e-6 * error).all()
    np.testing.assert_allclose(found["std_error"], error, rtol=1e-6)
    np.testing.assert_allclose(found["p_value"], R[kind]["p_value"], rtol=1e-5)


def test_simple_effects_and_their_joint_tests(crossed: um.FitResult) -> None:
    means = crossed.emmeans(["Cu", "Evit"])
    found = means.contrasts(simple="Evit", adjust="none").table
    assert found["Cu"].tolist() == ["Cu000"] * 3 + ["Cu035"] * 3 + ["Cu175"] * 3
    np.testing.assert_allclose(found["std_error"], R["simple"]["std_error"], rtol=1e-6)
    np.testing.assert_allclose(found["estimate"], R["simple"]["estimate"], atol=1e-5)
    joint = means.contrasts("consec", simple="Evit", joint=True).table
    np.testing.assert_allclose(joint["F"], R["joint"]["F"], atol=6e-4)  # emmeans prints three decimals
    # emmeans takes the smallest degrees of freedom of the rows instead of Fai and Cornelius's
    np.testing.assert_allclose(joint["den_df"], R["joint"]["den_df"], rtol=1e-3)
    np.testing.assert_allclose(joint["p_value"], R["joint"]["p_value"], rtol=1e-3)
    # which contrasts span the space does not matter to F
    other = means.contrasts("eff", simple="Evit", joint=True).table
    np.testing.assert_allclose(other["F"], joint["F"], rtol=1e-8)
    whole = crossed.contrasts("~ Cu * Evit", interaction="consecutive", joint=True).table
    assert whole["F"].iloc[0] == pytest.approx(crossed.anova()["F"]["Cu:Evit"], rel=1e-8)
    each = means.contrasts(simple="each", adjust="none").table
    assert each["of"].tolist() == ["Cu"] * 9 + ["Evit"] * 9
    np.testing.assert_allclose(each["estimate"].iloc[9:], found["estimate"])
    assert (each["Cu"].iloc[:9] == ".").all()


def test_joint_tests_of_ratios_and_responses(herds: um.FitResult) -> None:
    link = herds.contrasts("period", joint=True).table
    assert link["chisq"].iloc[0] == pytest.approx(herds.anova()["chisq"]["period"], rel=1e-8)
    ratios = herds.contrasts("period", kind="response", joint=True).table
    assert ratios["chisq"].iloc[0] == pytest.approx(link["chisq"].iloc[0], rel=1e-8)
    over = herds.contrasts("period", average="groups", joint=True).table
    gradient = herds.contrasts("period", "reference", average="groups", adjust="none").table
    assert over["df"].iloc[0] == 3
    assert over["chisq"].iloc[0] > (gradient["statistic"] ** 2).max()  # at least that of each by itself


def test_letters_say_which_means_differ(crossed: um.FitResult) -> None:
    rng = np.random.default_rng(0)
    for m in (2, 3, 4, 6, 7):
        for _ in range(30):
            differ = np.triu(rng.random((m, m)) < rng.random(), 1)
            differ |= differ.T
            letters = compact_letters(differ, list(range(m)))
            for i, j in itertools.combinations(range(m), 2):
                assert bool(set(letters[i]) & set(letters[j])) != differ[i, j]
            used = sorted(set("".join(letters)))
            assert used == [chr(97 + k) for k in range(len(used))]
    line = um.fit("Weight ~ factor(Time) + (1 | Pig)", um.load_dataset("dietox"), "pls")
    found = line.emmeans("Time", at={"Time": [1, 2, 3]}).letters()
    assert found["letters"].tolist() == ["c", "b", "a"]  # the pigs grow by several standard errors a week
    assert crossed.emmeans("Cu").letters()["letters"].tolist() == ["a", "a", "a"]


def test_what_is_no_contrast_is_refused(crossed: um.FitResult) -> None:
    means = crossed.emmeans(["Cu", "Evit"])
    with pytest.raises(um.OptionError, match="simple='Pig': choose 'each' or 'Cu', 'Evit'"):
        means.contrasts(simple="Pig")
    with pytest.raises(um.OptionError, match="simple= needs means of several factors"):
        crossed.contrasts("Cu", simple="Cu")
    with pytest.raises(um.OptionError, match="interaction= and simple= ask for different contrasts"):
        means.contrasts(simple="Cu", interaction="pairwise")
    with pytest.raises(um.OptionError, match="choose pairwise, revpairwise, reference"):
        crossed.contrasts("Cu", "treat")
    assert "within a level of Evit" in str(means.contrasts(simple="Cu"))


def test_dunnettx_is_the_approximation_of_emmeans() -> None:
    """Printed by emmeans 1.8.4: ``emmeans:::.pdunnx(c(0.5, 2, 3.5), 3, 20)``, ``.pdunnx(2.2, 4, Inf)``."""
    found = [dunnett_probability(t, 3, 20.0) for t in (0.5, 2.0, 3.5)]
    np.testing.assert_allclose(found, [0.1031722, 0.8521088, 0.9936811], atol=1e-6)
    assert dunnett_probability(2.2, 4, np.inf) == pytest.approx(0.9059928, abs=1e-6)
    reach = critical_value("dunnettx", 0.95, 20.0, np.eye(3), 4)
    assert dunnett_probability(reach, 3, 20.0) == pytest.approx(0.95, abs=1e-9)


def test_dunnettx_is_near_the_exact_test_and_for_references_only(crossed: um.FitResult) -> None:
    exact = crossed.contrasts("Cu", "reference", adjust="mvt").table
    near = crossed.contrasts("Cu", "reference", adjust="dunnettx").table
    np.testing.assert_allclose(near["p_value"], exact["p_value"], atol=0.02)  # for two comparisons, as documented
    np.testing.assert_allclose(near["upper"], exact["upper"], rtol=0.05)
    with pytest.raises(OptionError, match="comparisons with a reference"):
        crossed.contrasts("Cu", adjust="dunnettx")
