"""A sheet answers every feature once: by its name, by that of its group, or by the default."""

from __future__ import annotations

import re

import pytest

import unimix as um
from unimix.backends import Capabilities, Feature, Never, NotYet, Yes, registry
from unimix.design.features import FEATURE_GROUPS

GROUPS = {name: Yes() for name in FEATURE_GROUPS}


def test_the_answer_of_a_feature_wins_over_that_of_its_group_and_that_over_the_default() -> None:
    never, later = Never("it maximises a likelihood"), NotYet("nobody has written it")
    sheet = Capabilities(default=Yes(), bayesian=never, priors=later)
    assert [sheet[f] for f in FEATURE_GROUPS["bayesian"]] == [never, never, later]
    assert sheet[Feature.OFFSET] == Yes()
    assert list(sheet) == list(Feature)
    assert sheet.gaps(frozenset({Feature.PRIORS, Feature.REML})) == [(Feature.PRIORS, "nobody has written it")]


def test_no_feature_is_in_two_groups_and_none_is_called_like_a_group() -> None:
    members = [feature for group in FEATURE_GROUPS.values() for feature in group]
    assert len(members) == len(set(members))
    assert not set(FEATURE_GROUPS) & {f.name.lower() for f in Feature}


def test_a_gap_is_named() -> None:
    with pytest.raises(TypeError, match="does not answer: no_random_part, offset"):
        Capabilities(**GROUPS, weights=Yes())


def test_a_name_that_is_no_feature_is_refused() -> None:
    with pytest.raises(TypeError, match=r"'offsets' is neither a feature nor a group of them.*offset"):
        Capabilities(default=Yes(), offsets=Yes())


def test_a_configured_class_tells_a_wrong_option_as_options_do() -> None:
    data = {"y": [1.0, 2.0, 4.0], "x": [1.0, 2.0, 3.0]}
    for make in (
        lambda: um.backends.Pls(conditionning=False),
        lambda: um.fit("y ~ x", data, options={"conditionning": 0}),
    ):
        with pytest.raises(um.OptionError, match="not an option of pls"):
            make()
    with pytest.raises(um.OptionError, match=r"^draws=4: Input should be greater than or equal to 100\.$"):
        um.backends.Bayes(draws=4)


def test_a_reason_recommends_no_engine() -> None:
    """A refusal lists the engines that can fit the whole model; one reason alone may name an engine that cannot."""
    answers = [
        answer
        for engine in registry.sound().values()
        for answer in [*engine.capabilities.values(), *engine.families.values()]
        if not isinstance(answer, Yes)
    ]
    assert len(answers) > 300
    assert not {a.reason for a in answers if "backend=" in a.reason}


def test_ratings_are_refused_with_the_engines_that_have_them() -> None:
    data = {"y": [1, 2, 3, 1, 2, 3, 2, 1] * 3, "x": list(range(24)), "g": list("abcd") * 6}
    with pytest.raises(um.UnsupportedModelError) as refused:
        um.fit("y ~ x + (1 | g)", data, "lme4", family="cumulative")
    assert set(re.findall(r"backend='(\w+)'", str(refused.value))) == {"lme4", "pls", "ordinal"}
