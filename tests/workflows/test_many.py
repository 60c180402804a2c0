"""fit_many: names, failures, tables."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import polars as pl
import pytest
from fragile import FORMULAS, INTERCEPT, make

import unimix as um
from unimix.backends.base import Backend
from unimix.backends.pls import Pls
from unimix.errors import OptionError, UnimixError
from unimix.testing import simulate_slopes


class Absent(Pls):
    info = Pls.info.__class__(
        name="absent",
        engine="absent",
        title="an engine that is not installed",
        packages=("no_such_package",),
        distributions=(),
        install="pip install no_such_package",
        url="",
    )

    def load(self) -> ModuleType:
        return Backend.load(self)


# -- results -----------------------------------------------------------------------------------


def test_every_fit_is_that_of_fit() -> None:
    data = {"a": make(1), "b": pl.from_pandas(make(2)), "c": {k: v.to_numpy() for k, v in make(3).items()}}
    many = um.fit_many({"i": INTERCEPT, "s": FORMULAS["slope"]}, data, ["pls", "statsmodels"], method="ML")
    assert list(many) == [(f, d, b) for f in ("i", "s") for d in data for b in ("pls", "statsmodels")]
    alone = um.fit(FORMULAS["slope"], data["b"], "pls", method="ML")
    found = many["s", "b", "pls"]
    np.testing.assert_array_equal(found.fixed.estimate, alone.fixed.estimate)
    row = many.table.query("formula == 's' and data == 'b' and backend == 'pls'").iloc[0]
    assert (row["state"], row["n_obs"]) == (alone.status.state, 120)
    assert (row["log_likelihood"], row["aic"], row["bic"]) == (alone.log_likelihood, alone.aic, alone.bic)
    assert row["seconds"] > 0
    assert many.failed.empty


def test_a_limit_is_of_each_fit_and_no_part_of_its_key(tmp_path):
    data = {"small": simulate_slopes(), "large": simulate_slopes(n_groups=4000, n_per_group=10)}
    formula, path = "y ~ x + (1 + x | g)", tmp_path / "fits.jsonl"
    first = um.fit_many(formula, data, "statsmodels", time_limit=0.5, path=path)
    table = first.table.set_index("data")
    assert table.loc["small", "state"] == "converged"
    assert table.loc["large", "error_type"] == "LimitError"
    again = um.fit_many(formula, data, "statsmodels", path=path)
    assert not len(again.failed)
    assert "1 of 2 fits were in the file already." in again.notes
    with pytest.raises(um.OptionError, match="time_limit"):
        um.fit_many(formula, data, "statsmodels", time_limit=-1)


def test_what_fails_is_a_row() -> None:
    crossed = "y ~ x + (1 + x | g) + (1 | h)"
    data = make(1).assign(h=lambda d: d.index % 7)
    many = um.fit_many([INTERCEPT, crossed, FORMULAS["wrong"]], data, ["statsmodels", Absent])
    kinds = {
        k: t for *k, t in many.table[["formula", "backend", "error_type"]].itertuples(index=False) for k in [tuple(k)]
    }
    assert kinds == {
        (INTERCEPT, "statsmodels"): "",
        (crossed, "statsmodels"): "UnsupportedModelError",
        (FORMULAS["wrong"], "statsmodels"): "FormulaError",
        (INTERCEPT, "absent"): "EngineNotInstalledError",
        (crossed, "absent"): "EngineNotInstalledError",
        (FORMULAS["wrong"], "absent"): "FormulaError",
    }
    assert list(many.failed.columns) == ["formula", "data", "backend", "error_type", "error"]
    assert len(many.failed) == 5
    with pytest.raises(UnimixError, match=r"by absent failed. EngineNotInstalledError: .*no_such_package"):
        many[INTERCEPT, "absent"]
    assert "2 failed in absent: EngineNotInstalledError" in str(many)
    assert "1 refused by statsmodels: " in str(many)
    assert dict(many.table["state"].value_counts()) == {"failed": 4, "refused": 1, "converged": 1}
    assert [k for k, _ in many.items()] == [(INTERCEPT, "data", "statsmodels")]


def test_a_data_set_that_cannot_be_loaded_fails_alone(tmp_path: Path) -> None:
    def broken() -> pd.DataFrame:
        return pd.read_csv(tmp_path / "absent.csv")

    for path in (None, tmp_path / "fits.jsonl"):
        many = um.fit_many(INTERCEPT, {"good": make(1), "bad": broken}, ["pls"], path=path)
        assert many["good"].converged
        assert list(many.failed["data"]) == ["bad"]
        assert "The data set 'bad' cannot be loaded: FileNotFoundError" in many.failed["error"][0]


def test_names_may_be_left_out_where_there_is_one() -> None:
    many = um.fit_many(INTERCEPT, [make(1), make(2)], ["pls", Pls(conditioning=False)])
    assert many.backends == ("pls", "pls (2)")
    assert many["1", "pls (2)"] == many[INTERCEPT, 1, "pls (2)"]
    assert (INTERCEPT, "2", "pls") in many
    assert len(many) == 4
    with pytest.raises(
        OptionError, match=r"'plz' is not the name of a formula, data set or backend here. Did you mean 'pls'"
    ):
        many["1", "plz"]
    with pytest.raises(OptionError, match="does not name one fit"):
        many["pls"]
    one = um.fit_many(INTERCEPT, make(1), "pls")
    assert one["pls"] == one[INTERCEPT] == one["data"]


def test_tidy_tables_are_joined() -> None:
    many = um.fit_many(FORMULAS, [make(1), make(2)], "pls")
    tidy = many.tidy(["fixed", "ran_pars"])
    assert list(tidy.columns[:3]) == ["formula", "data", "backend"]
    assert set(tidy["formula"]) == {"intercept", "slope"}
    expected = many["slope", "2", "pls"].tidy(["fixed", "ran_pars"])
    found = tidy.query("formula == 'slope' and data == '2'").drop(columns=["formula", "data", "backend"])
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected.reset_index(drop=True))


def test_engines_are_compared(tmp_path: Path) -> None:
    many = um.fit_many(FORMULAS, {"a": make(1)}, ["pls", "statsmodels", Absent], path=tmp_path / "f.jsonl")
    same = many.compare("intercept")
    assert list(same) == ["pls", "statsmodels", "absent"]
    assert same.failures["absent"].error == "EngineNotInstalledError"
    assert same.verdicts.loc["statsmodels", "verdict"] == "numerically equal"
    with pytest.raises(OptionError, match="There are several: formula="):
        many.compare()
    with pytest.raises(OptionError, match=r"'slop' is not the name of a formula here. Did you mean 'slope'"):
        many.compare("slop", "a")


def test_seeds_are_of_positions_and_the_same_in_processes() -> None:
    data = [make(1), make(1)]
    many = um.fit_many(INTERCEPT, data, ["bayes"], seed=5)
    again = um.fit_many(INTERCEPT, [*data, make(2)], ["bayes"], seed=5, n_jobs=2)
    assert many["1"].engine.seed != many["2"].engine.seed
    for name in ("1", "2"):
        np.testing.assert_array_equal(many[name].fixed.estimate, again[name].fixed.estimate)
    assert not np.array_equal(many["1"].fixed.estimate, many["2"].fixed.estimate)
    other = um.fit_many(INTERCEPT, data, ["bayes"], seed=6)
    assert other["1"].engine.seed != many["1"].engine.seed


def test_long_tables_are_printed_in_part() -> None:
    many = um.fit_many([INTERCEPT], [make(i) for i in range(23)], "pls")
    assert str(many).startswith("23 fits: 1 formula, 23 data sets, 1 backend; ")
    assert "... 3 more rows: .table" in repr(many)
    assert "<table" in many._repr_html_()
    assert "3 more rows" in many._repr_html_()


def test_the_bar_is_on_standard_error_and_in_no_result(capfd: pytest.CaptureFixture[str]) -> None:
    many = um.fit_many(INTERCEPT, [make(i) for i in range(3)], "statsmodels", progress=True)
    out, err = capfd.readouterr()
    assert not out
    assert "fit_many" in err
    assert "3/3" in err
    assert "fits/" in err
    assert all("fit_many" not in note for _, fit in many.items() for note in fit.notes)
    um.fit_many(INTERCEPT, make(1), "pls")
    assert capfd.readouterr() == ("", "")


# -- arguments ---------------------------------------------------------------------------------


def test_all_faults_at_once(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        um.fit_many(
            ["y ~ (1 | g", INTERCEPT, INTERCEPT],
            {"a": make(1), "b": "b.csv"},
            ["plz", "pls", "pls"],
            family="binomal",
            method="remel",
            seed=-1,
            n_jobs=0,
            missing="keep",
            path=tmp_path / "nowhere" / "fits.jsonl",
            versions={"c": "1"},
            random_seed=3,  # type: ignore[call-arg]
        )
    told = str(caught.value)
    for words in (
        "formula: ", "given twice; names must differ",
        "data set 'b' is a str", "no backend 'plz'", "with the same options",
        "binomal", "method='remel'", "seed=-1", "n_jobs=0", "missing='keep'", "there is no folder",
        "versions: 'c' is not a data set", "fit_many has no argument 'random_seed'; type seed=3",
    ):  # fmt: skip
        assert words in told, words


@pytest.mark.parametrize(
    ("formulas", "data", "backends", "words"),
    [
        ([], None, "pls", "formulas: give at least one"),
        (3, None, "pls", "a list of formulas"),
        ([INTERCEPT, 3], None, "pls", "a formula is a string, not int"),
        (INTERCEPT, [], "pls", "data: give at least one data set"),
        (INTERCEPT, {}, "pls", "data: give at least one data set"),
        (INTERCEPT, None, [], "backends: name at least one engine"),
    ],
)
def test_nothing_to_fit(formulas: object, data: object, backends: object, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        um.fit_many(formulas, make(1) if data is None else data, backends)  # type: ignore[arg-type]


def test_formula_and_data_swapped() -> None:
    with pytest.raises(OptionError, match="swapped"):
        um.fit_many(make(1), INTERCEPT)  # type: ignore[arg-type]
