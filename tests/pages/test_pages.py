"""Pages that can be sent: complete, self-contained, escaped, and true to the numbers of the results."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import unimix as um
from unimix.pages.differences import MOST_ROWS, Strip, picture, place
from unimix.testing import simulate_slopes
from unimix.workflows.comparison.page import lead
from unimix.workflows.comparison.verdicts import Verdict

HOSTILE = "x&\"'<script>alert(1)</script>"
VOID = {"meta", "img", "br"}


class Outline(HTMLParser):
    """Reads a page: elements that stay open, texts of table cells, and addresses that would be loaded."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []
        self.cells: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href") and v]
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if any(tag in ("td", "th") for tag in self.open):
            self.cells[-1] += data


@pytest.fixture(scope="module")
def hostile() -> um.Comparison:
    """A comparison of a model whose predictor is called like a script."""
    data = simulate_slopes(n_groups=12, seed=2).rename(columns={"x": HOSTILE})
    return um.compare(f"y ~ `{HOSTILE}` + (1 | g)", data, backends=["pls", "statsmodels"])


def test_a_page_of_a_comparison_is_whole_and_loads_nothing(hostile: um.Comparison, tmp_path: Path) -> None:
    page = hostile.to_html(tmp_path / "c.html").read_text(encoding="utf-8")
    outline = Outline(page)
    assert outline.open == []
    assert outline.addresses == []
    assert outline.seen.count("script") == 1  # ours, which sorts tables
    assert "certified" in page
    assert "um.compare(" in page


def test_a_page_holds_the_numbers_of_every_engine(hostile: um.Comparison) -> None:
    cells = Outline(hostile.to_html()).cells
    for fit in hostile.results.values():
        for value, error in zip(fit.fixed.estimate, fit.fixed.std_error, strict=True):
            assert f"{value:.4f} ({error:.4f})".replace("-", "\N{MINUS SIGN}") in cells
        bounds = fit.confint().table.loc["sd(Intercept | g)", ["lower", "upper"]].tolist()
        shown = [[float(v) for v in cell.split(" to ")] for cell in cells if re.fullmatch(r"[\d.]+ to [\d.]+", cell)]
        assert any(pair == pytest.approx(bounds, abs=5e-5) for pair in shown)  # four decimals


def test_a_page_of_a_fit_is_whole_and_escaped(hostile: um.Comparison) -> None:
    page = hostile["pls"].to_html()
    outline = Outline(page)
    assert outline.open == []
    assert all(address.startswith("data:image/png;base64,") for address in outline.addresses)
    assert len(outline.addresses) == 2  # residuals and group effects
    assert outline.seen.count("script") == 1
    assert all(check in outline.cells for check in hostile["pls"].check().table.index)


def test_a_loaded_fit_says_what_its_page_cannot_have(hostile: um.Comparison) -> None:
    loaded = um.FitResult.from_json(hostile["pls"].to_json())
    page = loaded.to_html()
    assert "with_data" in page
    assert Outline(page).open == []


def test_a_loaded_comparison_has_a_page_without_certificates(hostile: um.Comparison) -> None:
    fresh = um.compare(*hostile.results.values())
    page = um.Comparison.from_json(fresh.to_json()).to_html()
    assert "comparison.with_data(frame) can be certified" in page


def test_the_line_of_a_page_fits_the_model_again() -> None:
    data = pd.DataFrame({"y": [0, 1, 1, 0, 1, 0, 1, 1] * 6, "g": np.repeat(np.arange(6), 8), "w": 2.0})
    fit = um.fit("y ~ 1 + (1 | g)", data, family="binomial(probit)", weights="w", ci_level=0.9)
    line = re.search(r"um\.fit\(.*\)", unescape(fit.to_html()))
    assert line is not None
    again = eval(line.group(), {"um": um, "data": data})
    assert again.fixed.estimate == pytest.approx(fit.fixed.estimate, rel=1e-12)
    assert (again.fixed.lower == fit.fixed.lower).all()


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ({"a": ("reference", ()), "b": ("numerically equal", ())}, "All 2 engines agree."),
        (
            {"a": ("reference", ()), "b": ("expected to differ", ())},
            "All 2 engines agree. b differs as expected.",
        ),
        (
            {"a": ("reference", ()), "b": ("suspicious", ("far",)), "c": ("numerically equal", ())},
            "b does not agree with the others, which are measured against a.",
        ),
        (
            {"a": ("reference", ()), "b": ("failed", ("no result",))},
            "Only a gave a result, so that nothing is compared. b gave no result.",
        ),
    ],
)
def test_the_first_sentence(kinds: dict[str, tuple[str, tuple[str, ...]]], said: str) -> None:
    assert lead({k: Verdict(kind, "", faults) for k, (kind, faults) in kinds.items()}, "a") == said


def test_marks_stand_in_the_order_of_their_sizes_and_the_band_ends_at_the_tolerance() -> None:
    sizes = pd.DataFrame({"a": [1e-9, 0.5], "b": [0.0, np.nan]}, index=["x", "z"])
    shown = picture([Strip("Fixed effects", 0.01, sizes)])
    first, second = shown["parts"][0]["rows"]
    places = {mark["label"]: mark["place"] for mark in first["marks"]}
    assert places["b"] == 0.0 < places["a"] < shown["parts"][0]["band"] < second["marks"][0]["place"]
    assert place(1e-12) == 0.0
    assert place(1e3) == 100.0
    assert len(second["marks"]) == 1  # a number that an engine does not have is not drawn


def test_the_largest_differences_of_many_are_drawn() -> None:
    sizes = pd.DataFrame({"a": np.logspace(-8, -1, 40)}, index=[f"x{i}" for i in range(40)])
    part = picture([Strip("Fixed effects", 0.01, sizes)])["parts"][0]
    assert part["left_out"] == 40 - MOST_ROWS
    assert [row["name"] for row in part["rows"]] == [f"x{i}" for i in range(40 - MOST_ROWS, 40)]
