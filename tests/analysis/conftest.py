"""Fits that several files of tests look at."""

from __future__ import annotations

import pytest

import unimix as um

GROWTH = "Weight ~ Time * Cu + Evit + (1 | Pig)"


BROOD = "TICKS ~ YEAR + cHEIGHT + (1 | BROOD)"


HERDS = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.fixture(scope="module")
def growth() -> um.FitResult:
    return um.fit(GROWTH, um.load_dataset("dietox"), "pls")


@pytest.fixture(scope="module")
def brood() -> um.FitResult:
    return um.fit(BROOD, um.load_dataset("grouseticks"), "pls", family="poisson")


@pytest.fixture(scope="module")
def herds() -> um.FitResult:
    return um.fit(HERDS, um.load_dataset("cbpp"), "pls", family="binomial")


@pytest.fixture(scope="module")
def pigs() -> um.FitResult:
    return um.fit("Weight ~ Time * Cu + Evit + (1 + Time | Pig)", um.load_dataset("dietox"), "pls")
