"""Files of papers' tables: what a spreadsheet or a file system would make of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import unimix as um

FIRST = ("=", "+", "-", "@", "\t", "\r")
"""First characters of cells that spreadsheets run as formulas (OWASP, "CSV Injection")."""


@pytest.mark.parametrize("first", FIRST)
def test_no_text_in_a_csv_file_is_run_by_a_spreadsheet(tmp_path: Path, first: str) -> None:
    rng = np.random.default_rng(0)
    name = f"{first}cmd|'/C calc'!A0"
    data = pd.DataFrame({"y": rng.normal(size=60), name: rng.normal(size=60), "g": np.arange(60) % 6})
    fit = um.fit(f"y ~ `{name}` + (1 | g)", data)
    table = um.table({name: fit})
    with table.save(tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    texts = [cell for cell in cells if cell and not cell.replace(".", "").replace("e-", "").lstrip("-").isdigit()]
    assert [text for text in texts if text.startswith(FIRST)] == []
    assert cells.count(f"'{name}") == 3  # the head, the estimate and its error
    assert f"{fit.fixed.estimate[1]}" in cells


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    fit = um.fit("Reaction ~ Days + (1 | Subject)", um.load_dataset("sleepstudy"))
    (tmp_path / "folder.csv").mkdir()
    for write in (um.table(fit).save, fit.to_json):
        with pytest.raises(um.DataError, match=r"'.*folder\.csv' cannot be written: \[Errno"):
            write(tmp_path / "folder.csv")
        with pytest.raises(um.DataError, match="cannot be written"):
            write(tmp_path / "nowhere" / "t.csv")
        with pytest.raises(um.OptionError, match="is not the path of a file"):
            write("a\0b.csv")
