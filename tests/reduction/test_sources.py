"""Sources of every kind give one result, and faults name the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

import unimix as um

FORMULA = "y ~ x + f + (x | g)"


def make() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    g = rng.integers(0, 25, 600)
    data = pd.DataFrame({"g": g, "x": rng.normal(size=600), "f": rng.choice(["u", "v", "w"], 600), "unused": "?"})
    return data.assign(y=data["x"] + rng.normal(size=25)[g] + rng.normal(size=600))


DATA = make()


@pytest.fixture(scope="module")
def expected() -> um.FitResult:
    return um.fit(FORMULA, DATA)


def write(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame] = lambda d: d) -> Path:
    """Three files, the last of which is changed."""
    folder.mkdir(exist_ok=True)
    for i in range(3):
        part = DATA.iloc[i::3].reset_index(drop=True)
        (change(part) if i == 2 else part).to_parquet(folder / f"part{i}.parquet")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("rows"))


def of_folder(path: Path) -> str:
    return str(path)


def of_path(path: Path) -> Path:
    return path / ""


def of_pattern(path: Path) -> str:
    return f"{path}/part*.parquet"


def of_dataset(path: Path) -> Any:
    return ds.dataset(path)


def of_memory_dataset(path: Path) -> Any:
    return ds.dataset(pa.Table.from_pandas(DATA))


def of_lazy(path: Path) -> Any:
    return pl.scan_parquet(path / "*.parquet")


def of_lazy_categories(path: Path) -> Any:
    return pl.scan_parquet(path / "*.parquet").with_columns(pl.col("f").cast(pl.Categorical))


def of_hive(path: Path) -> str:
    where = path.parent / "hive"
    if not where.exists():
        DATA.to_parquet(where, partition_cols=["f"])
    return str(where)


def of_relation(path: Path) -> Any:
    duckdb = pytest.importorskip("duckdb")
    return duckdb.sql(f"SELECT * FROM '{path}/*.parquet' WHERE x IS NOT NULL")


SOURCES = [
    of_folder,
    of_path,
    of_pattern,
    of_dataset,
    of_memory_dataset,
    of_lazy,
    of_lazy_categories,
    of_hive,
    of_relation,
]


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_is_fitted_like_its_rows(source: Any, folder: Path, expected: um.FitResult) -> None:
    fit = um.fit(FORMULA, source(folder))
    assert fit.fixed.terms == expected.fixed.terms
    assert fit.n_obs == 600
    np.testing.assert_allclose(fit.fixed.estimate, expected.fixed.estimate, atol=1e-10 * expected.fixed.std_error.min())
    assert fit.random[0].levels == expected.random[0].levels


def test_only_the_columns_of_the_model_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unimix.reduction.sources import FragmentPart

    asked: list[tuple[str, ...]] = []
    real = FragmentPart.frames

    def spied(self: Any, names: Any, rows: int) -> Any:
        asked.append(tuple(names))
        return real(self, names, rows)

    monkeypatch.setattr(FragmentPart, "frames", spied)
    um.reduce(str(folder), FORMULA)
    assert {n for names in asked for n in names} == {"y", "x", "f", "g"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d.assign(x=d["x"].astype(str)),
            r"'x' holds text in .*part2\.parquet and numbers in .*part0\.parquet",
        ),
        (lambda d: d.drop(columns="f"), r"part2\.parquet has no column 'f'"),
        (lambda d: d.assign(x=np.where(d.index == 3, np.inf, d["x"])), r"In .*part2\.parquet: 'x' holds 1 infinite"),
    ],
)
def test_a_file_that_does_not_fit_is_named(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(um.DataError, match=message):
        um.reduce(str(write(tmp_path, change)), FORMULA)


def test_missing_values_in_the_last_file(tmp_path: Path) -> None:
    path = str(write(tmp_path, lambda d: d.assign(x=np.where(d.index < 3, np.nan, d["x"]))))
    assert um.reduce(path, FORMULA).missing == {"x": 3}
    with pytest.raises(um.DataError, match=r"x 3; the first are in .*part2\.parquet"):
        um.reduce(path, FORMULA, missing="raise")


def test_a_level_of_the_last_file_only(tmp_path: Path) -> None:
    path = str(write(tmp_path, lambda d: d.assign(f=np.where(d.index < 40, "late", d["f"]))))
    assert "f[T.u]" in um.fit(FORMULA, path).fixed.terms  # "late" is the first level


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path) / "part1.parquet"
    path.write_bytes(path.read_bytes()[:800])
    with pytest.raises(um.DataError, match=r"part1\.parquet cannot be read"):
        um.reduce(str(tmp_path), FORMULA)


def test_rows_that_change_between_the_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unimix.reduction import run

    real = run._plan

    def meanwhile(do: Callable[[], Any]) -> None:
        def plan(*arguments: Any) -> Any:
            do()
            return real(*arguments)

        monkeypatch.setattr(run, "_plan", plan)

    path = write(tmp_path)
    meanwhile((path / "part2.parquet").unlink)
    with pytest.raises(um.DataError, match=r"part2\.parquet cannot be read"):
        um.reduce(str(path), FORMULA)
    data = DATA.copy()
    meanwhile(lambda: data.loc.__setitem__((599, "x"), np.nan))
    with pytest.raises(um.DataError, match=r"changed while it was read: 600 rows .* 599 in the second"):
        um.reduce(data, FORMULA)
    meanwhile(lambda: data.loc.__setitem__((3, "g"), 999))
    with pytest.raises(um.DataError, match=r"'g' has levels in the table that were not there .*: 999"):
        um.reduce(data, FORMULA)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ poly(x, 2) + (1 | g)", r"poly\(x, 2\): orthogonal polynomials are computed from all rows at once"),
        ("y ~ bs(x, df=5) + (1 | g)", r"knots would be quantiles.*Give them: bs\(x, knots=c\(\.\.\.\)\)"),
        ("y ~ cr(x, df=4) + (1 | g)", "basis is computed from all rows at once"),
        ("y ~ scale(center(x)) + (1 | g)", "learnt from all rows first"),
        ("y ~ scale(x, TRUE, FALSE) + (1 | g)", "take a column and nothing else"),
    ],
)
def test_what_needs_all_rows_is_refused(formula: str, message: str) -> None:
    with pytest.raises(um.DataError, match=message):
        um.reduce(DATA, formula)


def test_a_function_of_the_user_is_refused() -> None:
    um.register_function("centred_by_me", lambda x: x - x.mean())
    with pytest.raises(um.DataError, match="sees one batch of rows at a time"):
        um.reduce(DATA, "y ~ centred_by_me(x) + (1 | g)")


def test_what_no_reduction_can_fit_is_refused(folder: Path) -> None:
    with pytest.raises(um.UnsupportedModelError, match="looks at every row"):
        um.fit("g ~ x + (1 | f)", str(folder), family="poisson")
    with pytest.raises(um.UnsupportedModelError, match="computes its likelihood row by row"):
        um.fit(FORMULA, str(folder), backend="statsmodels")
    with pytest.raises(um.UnsupportedModelError, match="structured covariance"):
        um.reduce(DATA, "y ~ x + cs(0 + f | g)")
    with pytest.raises(um.DataError, match=r"rows\.csv is no Parquet file"):
        um.fit(FORMULA, "rows.csv")
    counts = DATA.assign(n=DATA["g"])
    lazy = um.fit("n ~ x + (1 | f)", pl.from_pandas(counts).lazy(), family="poisson")
    assert lazy.fitted.shape == (600,)  # a lazy frame is collected where the model needs its rows
    with pytest.raises(um.DataError, match="no file"):
        um.fit(FORMULA, str(folder / "none*.parquet"))


def test_limits_of_time_and_memory(folder: Path) -> None:
    with pytest.raises(um.LimitError, match=r"within time_limit=: it ended in .*part0\.parquet"):
        um.reduce(str(folder), FORMULA, time_limit=1e-9)
    rows = pd.DataFrame({"g": np.arange(60_000) // 2, "x": np.ones(60_000)}).assign(y=np.arange(60_000.0))
    with pytest.raises(um.LimitError, match="grow with the number of different combinations of levels"):
        um.reduce(rows, "y ~ x + (1 | g)", memory_limit="1 MB")


def test_files_are_reduced_in_several_processes(folder: Path, expected: um.FitResult) -> None:
    reduced = um.reduce(str(folder), FORMULA, n_jobs=2)
    np.testing.assert_allclose(um.fit(FORMULA, reduced).fixed.estimate, expected.fixed.estimate, rtol=1e-10)


def test_predictions_are_streamed_to_a_file(folder: Path, expected: um.FitResult, tmp_path: Path) -> None:
    fit = um.fit(FORMULA, str(folder))
    out = fit.predict_to(DATA, tmp_path / "out.parquet", keep=["g"])
    written = pd.read_parquet(out)
    assert list(written) == ["g", "prediction", "residual"]
    np.testing.assert_allclose(written["prediction"], expected.fitted, rtol=1e-9)
    np.testing.assert_allclose(written["residual"], expected.residuals(), atol=1e-9)
    strange = DATA.assign(g=np.where(DATA.index == 599, 999, DATA["g"]))
    with pytest.raises(um.DataError, match="999"):
        fit.predict_to(strange, tmp_path / "other.parquet")
    with pytest.raises(um.OptionError, match="keep='h'"):
        fit.predict_to(DATA, tmp_path / "other.parquet", keep="h")
    assert [p.name for p in tmp_path.iterdir()] == ["out.parquet"]
