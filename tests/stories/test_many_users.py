"""What a sceptic found in resumed runs: fits that were taken for others."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.backends.limits import read_time

F = "y ~ x + (1 | g)"


def frame(seed: int, slope: float) -> pd.DataFrame:
    rng, n = np.random.default_rng(seed), 120
    g, x = np.repeat(np.arange(12), 10), rng.normal(size=n)
    y = slope * x + rng.normal(size=12)[g] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g, "f": rng.choice(list("abc"), n)})


A, B = frame(1, 1.0), frame(2, 5.0)


@pytest.mark.parametrize("lazy", [True, False])
def test_one_version_of_several_data_sets(tmp_path, lazy):
    data = {"a": (lambda: A) if lazy else A, "b": (lambda: B) if lazy else B}
    wanted = [um.fit(F, d, "pls").log_likelihood for d in (A, B)]
    for run in range(2):
        many = um.fit_many(F, data, "pls", path=tmp_path / "f.jsonl", versions="2026-05")
        assert [many[F, k, "pls"].log_likelihood for k in "ab"] == pytest.approx(wanted, rel=1e-12)
        assert bool(many.notes) == (run == 1)


def test_a_registered_function_that_changes(tmp_path):
    formula, path = "y ~ my_own(x) + (1 | g)", tmp_path / "f.jsonl"

    def power(k: int):
        return lambda v: v**k

    found = []
    for function in (power(2), power(3), np.exp, power(2)):
        um.register_function("my_own", function)
        many = um.fit_many(formula, A, "pls", path=path)
        assert many[formula].log_likelihood == pytest.approx(um.fit(formula, A, "pls").log_likelihood, rel=1e-12)
        found.append(many.notes)
    known = [any("1 of 1 fits were in the file already" in note for note in notes) for notes in found]
    assert known == [False, False, False, True]


@pytest.mark.parametrize("values", [[10, 9, 2, 1], [1.5, 2.0, 3.0, 4.0], [True, False, True, False]])
def test_objects_that_are_written_alike(tmp_path, values):
    numbers = pd.Series(values * 30, dtype=object)
    formula, path = "y ~ x + h + (1 | g)", tmp_path / "f.jsonl"
    for column in (numbers, numbers.map(str).astype(object)):
        data = A.assign(h=column)
        many = um.fit_many(formula, data, "pls", path=path)
        assert list(many[formula].fixed_effects.index) == list(um.fit(formula, data, "pls").fixed_effects.index)


def test_a_file_is_read_as_the_last_call_left_it(tmp_path):
    path, other = tmp_path / "f.jsonl", "y ~ x + f + (1 | g)"
    edited = A.assign(y=A["y"] + 3 * A["x"] ** 2)
    calls = [
        ({"m1": F, "m2": other}, {"a": A}),
        ({"m1": other, "m2": F}, {"a": A}),
        ({"m1": F}, {"a": edited}),
        ({"m1": F}, {"a": A, "copy": A}),
    ]
    for formulas, data in calls:
        made = um.fit_many(formulas, data, "pls", path=path)
        read = um.read_many(path)
        for (formula, name, backend), fit in made.items():
            assert read[formula, name, backend].log_likelihood == fit.log_likelihood
    before = path.read_bytes()
    um.fit_many(*calls[-1], "pls", path=path)
    assert path.read_bytes() == before


def test_registered_functions_go_to_other_processes(tmp_path):
    pytest.importorskip("joblib")
    um.register_function("my_square", lambda v: v**2)
    formula = "y ~ my_square(x) + (1 | g)"
    data = {"a": A, "b": lambda: B}
    many = um.fit_many(formula, data, "pls", path=tmp_path / "f.jsonl", n_jobs=2)
    for name, frame in (("a", A), ("b", B)):
        assert many[name].log_likelihood == pytest.approx(um.fit(formula, frame, "pls").log_likelihood, rel=1e-12)
    again = um.fit_many(formula, data, "pls", path=tmp_path / "f.jsonl", n_jobs=2)
    assert again.notes == ("2 of 2 fits were in the file already.",)


def test_the_order_of_contrasts_is_that_of_columns(tmp_path):
    path, formula = tmp_path / "f.jsonl", "y ~ f + (1 | g)"
    for order in (("b-a", "c-a"), ("c-a", "b-a")):
        weights = {"b-a": [-1, 1, 0], "c-a": [-1, 0, 1]}
        many = um.fit_many(formula, A, "pls", path=path, contrasts={"f": {k: weights[k] for k in order}})
        assert list(many[formula].fixed_effects.index)[1:] == [f"f[{k}]" for k in order]


@pytest.mark.parametrize(("given", "seconds"), [(np.int64(5), 5.0), (2, 2.0), (dt.timedelta(minutes=1), 60.0)])
def test_time_limits_of_all_kinds_of_numbers(given, seconds):
    assert read_time(given) == (seconds, [])


@pytest.mark.parametrize("given", [0, -1, np.nan, np.inf, True, "30"])
def test_what_is_no_time_limit(given):
    assert read_time(given)[1]
