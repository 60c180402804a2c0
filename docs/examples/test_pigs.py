# ruff: noqa: S101
# --8<-- [start:test]
import unimix as um
from unimix.testing import assert_agree

FORMULA = "Weight ~ Time + (1 + Time | Pig)"


def test_pigs_gain_seven_kilograms_a_week(backend):
    fit = um.fit(FORMULA, um.load_dataset("dietox"), backend=backend, seed=1)
    assert 6.5 < fit.fixed_effects.loc["Time", "lower"] < fit.fixed_effects.loc["Time", "upper"] < 7.5
    assert_agree(fit, um.fit(FORMULA, um.load_dataset("dietox"), backend="statsmodels"))


# --8<-- [end:test]
