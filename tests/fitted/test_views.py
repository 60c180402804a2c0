"""What answers look like: text and HTML say the same, and nothing that a user named is markup in either."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.display import escape_latex, escape_markdown
from unimix.fitted.table_result import TableResult

X, Z, G = "x<script>alert(1)</script>", "z $a$ & b", "g<img src=x onerror=alert(1)>"
HOSTILE = (X, Z, G)
MARKUP = {"div", "table", "thead", "tbody", "tr", "th", "td", "p", "pre"}


def data() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    n = 120
    g = rng.integers(0, 8, n)
    frame = pd.DataFrame(
        {
            X: rng.normal(size=n),
            Z: np.array(["<b>one</b>", "$two$", "three & four"])[rng.integers(0, 3, n)],
            G: [f"<script>{i}</script> $&" for i in g],
        }
    )
    frame["y"] = frame[X] + rng.normal(size=8)[g] + rng.normal(size=n)
    frame["count"] = rng.poisson(np.exp(0.3 + 0.2 * frame[X] + 0.4 * rng.normal(size=8)[g]))
    return frame


FORMULA = f"y ~ `{X}` + `{Z}` + (1 | `{G}`)"


@pytest.fixture(scope="module")
def fit() -> um.FitResult:
    return um.fit(FORMULA, data())


@pytest.fixture(scope="module")
def counts() -> um.FitResult:
    return um.fit(f"count ~ `{X}` + (1 | `{G}`)", data(), family="poisson")


Make = Callable[[um.FitResult, um.FitResult], Any]
SMALLER = f"y ~ `{X}` + (1 | `{G}`)"

# An example of every class that prints itself; of the general one every verb that returns it.
EXAMPLES: dict[str, list[Make]] = {
    "AllFit": [lambda f, c: um.all_fit(FORMULA, data(), backends=["pls"])],
    "BackendTable": [lambda f, c: um.backends()],
    "BayesFactor": [
        lambda f, c: um.bayes_factor(
            *(um.fit(form, data(), "bayes", seed=1) for form in (FORMULA, SMALLER)), accept_default_priors=True
        )
    ],
    "Bootstrap": [lambda f, c: f.bootstrap(20, seed=1)],
    "BootstrapTest": [lambda f, c: um.bootstrap_test(um.fit(SMALLER, data()), f, n=2, seed=1)],
    "Certificate": [lambda f, c: f.certificate()],
    "Checks": [lambda f, c: f.check(), lambda f, c: c.check()],
    "Collinearity": [lambda f, c: f.collinearity()],
    "Comparison": [lambda f, c: um.compare(FORMULA, data(), backends=["pls", "statsmodels"])],
    "Comparisons": [lambda f, c: f.comparisons(), lambda f, c: f.comparisons(X, by=G)],
    "Contrasts": [
        lambda f, c: f.contrasts(Z),
        lambda f, c: f.contrasts(Z, joint=True),
        lambda f, c: f.emmeans([X, Z], at={X: [0, 1]}).contrasts(simple=X).contrasts(by="contrast"),
    ],
    "CrossValidation": [lambda f, c: um.cross_validate(FORMULA, data(), ["pls"], split="rows")],
    "Diagnosis": [lambda f, c: um.doctor()],
    "EffectSizes": [lambda f, c: f.effect_sizes(), lambda f, c: f.effect_sizes("partial")],
    "Explanation": [lambda f, c: um.explain(FORMULA, data())],
    "FitResult": [lambda f, c: f, lambda f, c: c],
    "Heterogeneity": [lambda f, c: um.fit(SMALLER, data(), sigma=1.0).heterogeneity()],
    "ImputedFit": [lambda f, c: um.fit_imputed(SMALLER, [data(), data().assign(y=lambda d: d["y"] ** 2)])],
    "Influence": [lambda f, c: f.influence(), lambda f, c: f.influence(G)],
    "Intervals": [lambda f, c: f.confint()],
    "IntraclassCorrelation": [lambda f, c: f.icc()],
    "JohnsonNeyman": [
        lambda f, c: um.fit(f"y ~ `{X}` * count + (1 | `{G}`)", data()).johnson_neyman(X, by="count"),
    ],
    "ManyFits": [lambda f, c: um.fit_many({Z: FORMULA}, {G: data()}, backends=["pls"])],
    "MarginalMeans": [lambda f, c: f.emmeans(Z), lambda f, c: f.slopes(X)],
    "ModelTable": [lambda f, c: um.table({Z: f, X: c})],
    "Overdispersion": [lambda f, c: c.overdispersion()],
    "Pooling": [lambda f, c: um.pooling(SMALLER, data())],
    "Power": [lambda f, c: um.power(f, X, n_sim=2, seed=1)],
    "PriorPredictive": [lambda f, c: um.prior_predictive(FORMULA, data(), n=20, seed=1)],
    "RandomPca": [lambda f, c: f.random_pca()],
    "RSquared": [lambda f, c: f.r2()],
    "RobustFit": [lambda f, c: f.robust("CR2")],
    "Recommendation": [lambda f, c: um.recommend(FORMULA, data())],
    "Simplification": [lambda f, c: um.simplify(f"y ~ `{X}` + (1 + `{X}` | `{G}`)", data())],
    "SimulatedResiduals": [lambda f, c: f.simulated_residuals(20), lambda f, c: c.simulated_residuals(effects="kept")],
    "TableResult": [
        lambda f, c: f.anova(),
        lambda f, c: f.hypotheses(f"`{X}` = 0"),
        lambda f, c: f.hypotheses(f"`{X}` = 0", joint=True),
        lambda f, c: f.comparisons(X).hypotheses("b0 = 1"),
        lambda f, c: f.predict(data().head(3), interval="confidence"),
        lambda f, c: um.anova(f, um.fit(SMALLER, data()), names=[X, Z]),
        lambda f, c: um.compare_ic(c, um.fit(f"count ~ 1 + (1 | `{G}`)", data(), family="poisson")),
        lambda f, c: um.ranova(f),
        lambda f, c: um.drop1(f, random=True),
        lambda f, c: f.drop1("F"),
        lambda f, c: f.level_means(),
    ],
    "ZeroInflation": [lambda f, c: c.check_zeros()],
}


FIND = """
import importlib, inspect, json, pkgutil
import unimix
from unimix.display import Printed

names = [m.name for m in pkgutil.walk_packages(unimix.__path__, "unimix.")]
modules = []
for n in names:
    if ".testing" not in n and not n.endswith("__main__"):
        try:
            modules.append(importlib.import_module(n))
        except ModuleNotFoundError as error:  # a file of an engine that is not installed
            if error.name.startswith("unimix"):
                raise
classes = {c for m in modules for _, c in inspect.getmembers(m, inspect.isclass) if c.__module__ == m.__name__}
html = [c for c in classes if any("_repr_html_" in b.__dict__ for b in c.__mro__ if b.__module__.startswith("unimix"))]
print(json.dumps({
    "shown": sorted(c.__name__ for c in html),
    "of other make": sorted(c.__name__ for c in html if not issubclass(c, Printed)),
    "own html": sorted(c.__name__ for c in html if "_repr_html_" in c.__dict__),
    "own text": sorted(c.__name__ for c in html if "__str__" in c.__dict__),
    "own repr": sorted(c.__name__ for c in html if c.__repr__ is not Printed.__repr__),
}))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    """Every class of the package that a notebook shows as HTML; in a process of its own, which imports all modules."""
    done = subprocess.run([sys.executable, "-c", FIND], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


class Page(HTMLParser):
    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> list[str]:
        return " ".join(self.text).split()


def test_there_is_an_example_of_every_class_that_prints_itself(found: dict[str, list[str]]) -> None:
    assert set(found["shown"]) - {"Printed", "PooledEstimates"} == set(EXAMPLES)


def test_one_class_makes_text_and_html_of_all(found: dict[str, list[str]]) -> None:
    assert found["of other make"] == []
    assert found["own html"] == ["ModelTable", "Printed"]  # great_tables makes the HTML of papers' tables
    assert found["own text"] == ["Printed"]
    assert found["own repr"] == ["FitResult", "RobustFit"]  # one sentence


def examples() -> list[Any]:
    return [
        pytest.param(name, make, id=f"{name}-{i}") for name, made in EXAMPLES.items() for i, make in enumerate(made)
    ]


@pytest.mark.parametrize(("name", "make"), examples())
def test_names_are_no_markup_and_text_and_html_say_the_same(
    name: str, make: Make, fit: um.FitResult, counts: um.FitResult
) -> None:
    answer = make(fit, counts)
    assert type(answer).__name__ == name
    content = answer._repr_html_()
    page = Page(content)
    assert content.startswith('<div class="tex2jax_ignore mathjax_ignore">')  # $ is no mathematics in a notebook
    if name == "ModelTable":
        assert not {"script", "img", "b"} & set(page.tags)
        assert all(z in " ".join(page.words) for z in (X, Z, G))
        return
    assert set(page.tags) <= MARKUP
    assert page.words == str(answer).split()
    if isinstance(answer, TableResult):
        assert repr(answer) == str(answer)
        assert answer.to_html() == content
        check_exports(answer)


def test_a_notebook_has_the_sampler_the_priors_and_the_dropped_rows_too() -> None:
    rows = data()
    rows.loc[3, X] = np.nan
    posterior = um.fit(SMALLER, rows, "bayes", seed=1)
    page = Page(posterior._repr_html_())
    shown = " ".join(page.words)
    for told in ("R-hat", "divergences", "Priors: ", "1 of 120 rows dropped"):
        assert told in shown, told
    assert page.words == str(posterior).split()


def test_the_lines_of_a_note_stay_lines_in_a_notebook() -> None:
    """HTML joins lines, unless its style says otherwise."""
    page = TableResult(pd.DataFrame({"a": [1.0]}), ["The engine said:\n  first <b>\n  second"]).to_html()
    assert '<p style="white-space: pre-line">The engine said:\n  first &lt;b&gt;\n  second</p>' in page


def check_exports(answer: TableResult) -> None:
    """Every table has as many cells in each row as heads, and names that a reader sees are escaped."""
    latex, markdown = answer.to_latex(), answer.to_markdown()
    shown = str(answer)
    for tabular in re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", latex, flags=re.DOTALL):
        rows = [line for line in tabular.splitlines() if line.endswith(r"\\")]
        assert rows
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    assert len(re.findall(r"(?<!\\)\$", latex)) % 2 == 0
    for name in HOSTILE:
        if name in shown:
            assert escape_latex(name) in latex
            assert escape_markdown(name) in markdown


# -- as a frame ---------------------------------------------------------------------------------


def test_an_answer_reads_as_its_frame(fit: um.FitResult) -> None:
    answer = fit.anova()
    table = answer.table
    assert isinstance(answer, um.TableResult)
    assert isinstance(table, pd.DataFrame)
    pd.testing.assert_series_equal(answer["p_value"], table["p_value"])
    assert answer.loc[f"`{X}`" if f"`{X}`" in answer.index else X, "num_df"] == 1
    assert answer.iloc[0, 0] == table.iloc[0, 0]
    assert "F" in answer
    assert len(answer) == len(table)
    assert answer.shape == table.shape
    assert list(answer.columns) == list(table.columns)
    copy = answer.to_frame()
    copy.loc[:, "F"] = 0.0
    assert (answer["F"] != 0).all()
    assert answer.sort_values("F").equals(answer.table.sort_values("F"))
    assert answer.F.equals(answer["F"])
    assert answer.to_string() == answer.table.to_string()


def test_what_an_answer_is_not_is_said_with_the_line_to_type(fit: um.FitResult) -> None:
    answer = fit.anova()
    for use in (pd.DataFrame, np.asarray, list):
        with pytest.raises(TypeError, match=r"neither a data frame nor an array; its data frame is answer\.table"):
            use(answer)
    for name in ("surprise", "hist"):  # a picture of pandas would not be one of the analysis
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(answer, name)


def test_one_formatter_prints_every_table() -> None:
    table = pd.DataFrame(
        {
            "estimate": [251.40510, -10.46729],
            "df": [17.0, np.inf],
            "p_value": [0.00001, np.nan],
            "n": [3, 4],
            "whole": [2.0, np.nan],
            "word": ["a", None],
        },
        index=pd.Index(["x", "y"], name="term"),
    )
    lines = str(TableResult(table, ["A note."], "Head")).splitlines()
    assert lines == [
        "Head",
        "term  estimate   df  p_value  n  whole  word",
        "x     251.4051   17   <0.001  3      2  a",
        "y     -10.4673  Inf        -  4      -",
        "A note.",
    ]


def test_latex_is_a_table_with_its_notes() -> None:
    table = pd.DataFrame({"estimate": [-1.5, 2e-12], "p_value": [0.5, 0.0001]}, index=["a_b", "c"])
    assert TableResult(table, ["50% & more."], "Head").to_latex(label="tab:x").splitlines() == [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[htbp]",
        r"\centering",
        r"\caption{Head}",
        r"\label{tab:x}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & estimate & p\_value \\",
        r"\midrule",
        r"a\_b & $-$1.5000 & 0.500 \\",
        r"c & $2.000 \times 10^{-12}$ & \textless{}0.001 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}\footnotesize\raggedright",
        r"50\% \& more.\par",
        r"\end{minipage}",
        r"\end{table}",
    ]
