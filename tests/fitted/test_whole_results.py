"""Whole results in one file: loaded results answer as before, and damaged files are refused by name."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from certified_models import data
from exact_posteriors import herds, sleepstudy

import unimix as um

NEW = pd.DataFrame({"Days": [2.0, 11.0], "Subject": ["308", "new"]})
QUESTIONS: dict[str, Callable[[um.FitResult], pd.DataFrame]] = {
    "confint": lambda f: f.confint().table,
    "predict": lambda f: f.predict(NEW, new_levels="sample", interval="prediction").table,
    "own rows": lambda f: f.predict(interval="confidence").table,
    "emmeans": lambda f: f.emmeans("Days", at={"Days": [1, 5]}).table,
    "hypotheses": lambda f: f.hypotheses(["sd(Days | Subject) = 5", "effects(Subject)[308, Days]"]).table,
    "comparisons": lambda f: f.comparisons("Days").table,
    "loo": lambda f: pd.DataFrame({"elpd": [f.loo().elpd_loo]}),
    "r2": lambda f: f.r2().table,
    "lines": lambda f: f.plot.groups(draw=False),
    "trace": lambda f: f.plot.trace(draw=False),
    "replicated": lambda f: pd.DataFrame(f.posterior_predictive(20, seed=1)),
    "tidy": lambda f: f.tidy("all"),
    "augment": lambda f: f.augment(),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sleepstudy().save(tmp_path_factory.mktemp("whole") / "fit.zip")


@pytest.fixture(scope="module")
def loaded(file: Path) -> um.FitResult:
    return um.FitResult.load(file)


def members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(content: dict[str, bytes], path: Path, how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_loaded_posterior_answers_as_before(loaded: um.FitResult, question: str) -> None:
    asked = QUESTIONS[question]
    # the columns are made again from the data, which may round the last digit
    pd.testing.assert_frame_equal(asked(loaded), asked(sleepstudy()), rtol=1e-12)


def test_everything_of_a_posterior_is_kept(loaded: um.FitResult, file: Path, tmp_path: Path) -> None:
    fit = sleepstudy()
    assert loaded == fit
    assert str(loaded) == str(fit)
    assert loaded._repr_html_() == fit._repr_html_()
    assert loaded.certificate().verdict == fit.certificate().verdict == "certified"
    for group in ("posterior", "sample_stats", "observed_data", "log_likelihood"):
        assert getattr(loaded.posterior, group).identical(getattr(fit.posterior, group)), group
    assert loaded.posterior.attrs == fit.posterior.attrs
    assert loaded.save(tmp_path / "again.zip").read_bytes() == file.read_bytes()


def test_nothing_in_a_file_is_code(file: Path) -> None:
    """Texts are JSON, and arrays are read without pickles; ``result.json`` is what ``from_json`` reads."""
    for name, content in members(file).items():
        if name.endswith(".json"):
            json.loads(content)
        else:
            np.load(io.BytesIO(content), allow_pickle=False)
    assert um.FitResult.from_json(members(file)["result.json"].decode()) == sleepstudy()


def test_without_the_data_draws_answer_what_needs_none(tmp_path: Path) -> None:
    fit = herds()
    bare = um.FitResult.load(fit.save(tmp_path / "fit.zip", data=False))
    assert "data.json" not in members(tmp_path / "fit.zip")
    cattle = um.load_dataset("cbpp")
    np.testing.assert_allclose(bare.predict(cattle[:5]), fit.predict(cattle[:5]), rtol=1e-12)
    pd.testing.assert_frame_equal(bare.confint().table, fit.confint().table)
    with pytest.raises(um.DataError, match=r"fit\.with_data\(frame\)"):
        bare.emmeans("period")
    means = bare.with_data(cattle).emmeans("period", kind="response").table
    pd.testing.assert_frame_equal(means, fit.emmeans("period", kind="response").table, rtol=1e-12)


ODD = {
    "dates and numbers as factors": "y ~ C(k) + flag + (1 | day)",
    "an ordered factor within another": "y ~ cat + poly(x, 2) + (1 | g/f)",
    "splines, offset": "y ~ bs(x) + log(w) + offset(o) + (1 | long)",
    "a function of the response": "log(w) ~ x + (1 | g:f)",
}


@pytest.mark.parametrize("formula", ODD.values(), ids=ODD)
def test_the_columns_of_any_result_are_kept(formula: str, tmp_path: Path) -> None:
    """Rows left out, an index of its own, long identifiers, arrays: the same design, and so the same certificate."""
    frame = data().assign(
        day=pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(160) % 7, unit="D"),
        k=np.arange(160) % 4,
        flag=np.arange(160) % 3 == 0,
        cat=pd.Categorical(data()["f"], categories=["c", "b", "a"], ordered=True),
        long=2**60 + np.arange(160) % 9,
    )
    frame.loc[3, "y"] = frame.loc[10, "w"] = np.nan
    frame.index = [f"row {i}" for i in range(160)]
    fit = um.fit(formula, frame, "pls", weights=np.linspace(1, 2, 160))
    loaded = um.FitResult.load(fit.save(tmp_path / "fit.zip"))
    assert loaded == fit
    assert loaded.design().fingerprint() == fit.design().fingerprint()
    assert loaded.certificate().verdict == fit.certificate().verdict


def test_damaged_bytes_are_refused_by_the_name_of_the_file(file: Path, tmp_path: Path) -> None:
    """Bits turned over and ends cut off: refused, unless the bit says nothing, as that of a date."""
    raw, rng, told = file.read_bytes(), np.random.default_rng(5), list[str]()
    broken = tmp_path / "broken.zip"
    for i in range(60):
        content = bytearray(raw[: rng.integers(len(raw))] if i % 3 == 0 else raw)
        if i % 3:
            at = rng.integers(len(raw)) if i % 3 == 1 else len(raw) - 1 - rng.integers(2500)
            content[at] ^= 1 << rng.integers(8)
        broken.write_bytes(content)
        try:
            assert um.FitResult.load(broken) == sleepstudy()
        except um.DataError as error:
            told.append(str(error))
    assert len(told) > 50
    assert all("broken.zip" in text for text in told)


def changed(file: Path, name: str, change: Callable[[Any], Any]) -> dict[str, bytes]:
    content = members(file)
    return {**content, name: json.dumps(change(json.loads(content[name]))).encode()}


def array_bytes(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


def place_of(file: Path, variable: str) -> str:
    place: str = json.loads(members(file)["draws.json"])["groups"]["posterior"]["variables"][variable]["values"]
    return place


def test_what_was_changed_is_told(file: Path, tmp_path: Path) -> None:
    """Checksums are right here: the contents contradict each other."""
    whole, fixed, sds = members(file), place_of(file, "fixed"), place_of(file, "sd(Subject)")
    draws = np.load(io.BytesIO(whole[fixed]))
    head, other = whole[fixed][:128], sleepstudy().to_json().replace('"n_draws":4000', '"n_draws":4004')
    cases: list[tuple[dict[str, bytes], str]] = [
        ({**whole, fixed: array_bytes(1.001 * draws)}, r"the draws of Intercept are not those of the result"),
        ({**whole, fixed: array_bytes(draws[:, :-1])}, "draw"),
        ({**whole, fixed: array_bytes(draws[0])}, "has 2 dimensions, not 3"),
        ({**whole, fixed: array_bytes(np.array([{}, print], dtype=object))}, "of a kind that is not written"),
        ({**whole, fixed: head}, "does not fill its 0 bytes"),
        ({**whole, fixed: head.replace(b"(4, 1000, 2)", b"(9**9, 9**9)")}, "head of an array cannot be read|malformed"),
        ({**whole, fixed: b"not an array"}, "magic string"),
        ({**whole, sds: whole[fixed].replace(b"<f8", b"<i8")}, "sd\\(Subject\\) of the draws has other labels"),
        ({k: v for k, v in whole.items() if k != sds}, f"{sds} is not there"),
        ({k: v for k, v in whole.items() if k != "result.json"}, "it has no result.json"),
        ({**whole, "more.txt": b"?"}, "belongs to nothing, 'more.txt'"),
        ({**whole, "result.json": b"{}"}, "model: Field required"),
        ({**whole, "result.json": other.encode()}, "there are 4 x 1000 draws, and the result has 4004"),
        (changed(file, "draws.json", lambda d: {**d, "format": 2}), "format: Input should be 1"),
        (changed(file, "draws.json", lambda d: {**d, "groups": {}}), "no posterior or no statistics"),
        (changed(file, "data.json", lambda d: {**d, "columns": {}}), "Days"),
    ]
    for content, told in cases:
        with pytest.raises(um.DataError, match=told) as caught:
            um.FitResult.load(packed(content, tmp_path / "other.zip"))
        assert "other.zip" in str(caught.value)
    days = next(c["values"] for n, c in json.loads(whole["data.json"])["columns"].items() if n == "Days")
    moved = {**whole, days: array_bytes(np.roll(np.load(io.BytesIO(whole[days])), 1))}
    with pytest.raises(um.DataError, match="Days differs"):
        um.FitResult.load(packed(moved, tmp_path / "other.zip"))
    with pytest.raises(um.DataError, match="its members are compressed"):
        um.FitResult.load(packed(whole, tmp_path / "other.zip", zipfile.ZIP_DEFLATED))


def test_other_files_and_places_are_told(file: Path, tmp_path: Path) -> None:
    text = sleepstudy().to_json(tmp_path / "fit.json")
    with pytest.raises(um.DataError, match=r"fit\.json' is not a file of fit\.save\(\)"):
        um.FitResult.load(text)
    with pytest.raises(um.DataError, match=r"is a file of fit\.save\(\): um\.FitResult\.load"):
        um.FitResult.from_json(file)
    with pytest.raises(um.DataError, match="There is no file"):
        um.FitResult.load(tmp_path / "none.zip")
    with pytest.raises(um.DataError, match="cannot be written"):
        sleepstudy().save(tmp_path / "no folder" / "fit.zip")
    for path in (3, "", "a\0b"):
        with pytest.raises(um.OptionError, match="is not the path of a file"):
            um.FitResult.load(path)  # type: ignore[arg-type]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fit.json"]
