from __future__ import annotations

import functools
import http.server
import json
import os
import threading
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from unimix.datasets import imm10, list_datasets, load_dataset
from unimix.errors import DataError

INDEX = json.loads(files("unimix.datasets").joinpath("index.json").read_text(encoding="utf-8"))
ROWS = {
    "cbpp": 56,
    "grouseticks": 403,
    "dietox": 861,
    "mathachieve": 7185,
    "orthodont": 108,
    "pastes": 60,
    "penicillin": 144,
    "sleepstudy": 180,
    "wine": 72,
}
FOLDER = os.environ.get("UNIMIX_DATA", "")
SCHOOLS = Path(FOLDER) / "imm10.csv"
needs_schools = pytest.mark.skipif(
    not (FOLDER and SCHOOLS.is_file()), reason="UNIMIX_DATA names no folder with imm10.csv"
)
needs_dictionary = pytest.mark.skipif(
    not (FOLDER and (Path(FOLDER) / "data_dictionary.json").is_file()),
    reason="UNIMIX_DATA names no folder with reference data",
)


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """Neither the user's data folder nor the user's cache."""
    monkeypatch.delenv("UNIMIX_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "unimix" / "imm10.csv"


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Serve a text as the tutorial's public file; returns the function that stops serving."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    servers = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    def start(text):
        folder = tmp_path / "public"
        folder.mkdir()
        (folder / "mlmldata.csv").write_bytes(text.encode())
        server = http.server.HTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        monkeypatch.setattr(imm10, "URL", f"http://127.0.0.1:{server.server_port}/mlmldata.csv")

        def stop():
            server.shutdown()
            server.server_close()
            servers.remove(server)

        return stop

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def published():
    """The tutorial's file as published: school numbers without quotes."""
    lines = SCHOOLS.read_text().splitlines()
    return "\n".join([lines[0], *(line.replace('"', "") for line in lines[1:])]) + "\n"


# --- bundled data -----------------------------------------------------------------------------------------------------


def test_the_bundled_data_are_the_seven():
    assert sorted(INDEX) == sorted(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_rows_columns_and_types_are_those_of_the_index(name):
    data = load_dataset(name)
    entry = INDEX[name]
    assert len(data) == ROWS[name] == entry["rows"]
    assert list(data.columns) == list(entry["columns"])
    assert data.index.equals(pd.RangeIndex(len(data)))
    for column, kind in entry["columns"].items():
        if kind["type"] == "factor":
            assert isinstance(data[column].dtype, pd.CategoricalDtype), column
            assert not data[column].cat.ordered, column
            assert list(data[column].cat.categories) == kind["levels"], column
            assert all(isinstance(level, str) for level in data[column].cat.categories), column
            assert set(data[column]) == set(kind["levels"]), f"{column}: a level has no row"
        else:
            assert data[column].dtype == {"integer": "int64", "number": "float64"}[kind["type"]], column
        assert data[column].isna().sum() == kind.get("n_missing", 0), column


def test_dietox():
    pigs = load_dataset("dietox")
    assert list(pigs.columns) == ["Pig", "Evit", "Cu", "Litter", "Start", "Weight", "Feed", "Time"]
    assert pigs["Pig"].nunique() == 72
    assert list(pigs["Cu"].cat.categories) == ["Cu000", "Cu035", "Cu175"]
    assert pigs["Feed"].isna().sum() == 72
    assert set(pigs.loc[pigs["Feed"].isna(), "Time"]) == {1}
    assert pigs.loc[1, "Weight"] == 27.59999
    assert pigs.loc[1, "Feed"] == 5.200005


def test_sleepstudy():
    sleep = load_dataset("sleepstudy")
    assert sleep.loc[0, "Reaction"] == 249.56
    assert sleep["Reaction"].mean() == pytest.approx(298.507891666667, abs=1e-11)
    assert list(sleep["Subject"].cat.categories[:3]) == ["308", "309", "310"]


def test_penicillin_is_crossed_and_pastes_nested():
    plates = load_dataset("Penicillin")
    assert (pd.crosstab(plates["plate"], plates["sample"]) == 1).all(axis=None)
    paste = load_dataset("Pastes")
    assert list(paste["cask"].cat.categories) == ["a", "b", "c"]
    assert (paste["sample"].astype(str) == paste["batch"].astype(str) + ":" + paste["cask"].astype(str)).all()


def test_cbpp():
    herds = load_dataset("cbpp")
    assert list(herds.columns) == ["herd", "incidence", "size", "period"]
    assert (herds["incidence"].sum(), herds["size"].sum()) == (99, 842)


def test_ordered_factors_of_r_are_plain_in_the_same_order():
    children = load_dataset("Orthodont")
    assert list(children["Subject"].cat.categories[:3]) == ["M16", "M05", "M02"]
    assert children["Subject"].cat.categories[-1] == "F11"
    students = load_dataset("MathAchieve")
    assert list(students["School"].cat.categories[:3]) == ["8367", "8854", "4458"]
    assert students["School"].nunique() == 160
    assert students["School"].cat.categories[-1] == "9586"


def test_mathachieve():
    students = load_dataset("mathachieve")
    assert list(students.columns) == ["School", "Minority", "Sex", "SES", "MathAch", "MEANSES"]
    assert students["MathAch"].mean() == pytest.approx(12.747853, abs=5e-7)
    assert dict(students["Minority"].value_counts()) == {"No": 5211, "Yes": 1974}


@pytest.mark.parametrize("name", ["Penicillin", "PENICILLIN", "penicillin", " penicillin "])
def test_case_does_not_matter(name):
    assert len(load_dataset(name)) == 144


def test_each_call_gives_a_fresh_frame():
    first = load_dataset("sleepstudy")
    first["Reaction"] = 0.0
    del first["Days"]
    again = load_dataset("sleepstudy")
    assert again.loc[0, "Reaction"] == 249.56
    assert "Days" in again.columns


def test_an_unknown_name_is_answered_with_the_nearest_and_the_list():
    with pytest.raises(DataError, match="no data set called 'diettox'") as caught:
        load_dataset("diettox")
    text = str(caught.value)
    assert "Did you mean 'dietox'?" in text
    assert all(name in text for name in [*ROWS, "imm10"])
    assert "list_datasets()" in text


@pytest.mark.parametrize("name", ["", "../errors", "index.json", "dietox.csv", None, 3])
def test_strange_names_are_refused_in_words(name):
    with pytest.raises(DataError, match="Available: cbpp, dietox, grouseticks, imm10"):
        load_dataset(name)


def test_the_list_states_source_and_licence():
    listed = list_datasets().set_index("name")
    assert list(listed.columns) == ["rows", "description", "source", "licence"]
    assert list(listed.index) == sorted([*ROWS, "imm10"])
    assert dict(listed["rows"]) == {**ROWS, "imm10": 260}
    assert listed["licence"]["dietox"] == "GPL (>= 3)"
    assert listed["licence"]["imm10"] == "none stated"
    assert "Belenky" in listed["source"]["sleepstudy"]
    assert listed.notna().all(axis=None)


@needs_dictionary
@pytest.mark.parametrize("name", ["cbpp", "dietox", "orthodont", "pastes", "penicillin", "sleepstudy"])
def test_the_reference_copy_holds_the_same(name):
    dictionary = json.loads((Path(FOLDER) / "data_dictionary.json").read_text(encoding="utf-8"))[f"{name}.csv"]
    text = pd.read_csv(Path(FOLDER) / f"{name}.csv", dtype=str, keep_default_na=False)
    data = load_dataset(name)
    for column in data.columns:
        kind = dictionary["columns"][column]
        if kind["type"] == "factor":
            assert list(data[column].cat.categories) == kind["levels"], column
            assert list(data[column]) == list(text[column]), column
        else:
            expected = [float(value) if value else np.nan for value in text[column]]
            np.testing.assert_array_equal(data[column], expected, err_msg=column)


# --- imm10: not bundled -----------------------------------------------------------------------------------------------


def test_imm10_is_not_in_the_package():
    assert not [file.name for file in files("unimix.datasets").iterdir() if file.name in imm10.FILES]


@needs_schools
def test_imm10_from_the_folder():
    schools = load_dataset("imm10")
    assert schools.shape == (260, 19)
    assert list(schools["schid"].cat.categories) == list(imm10.SCHOOLS)
    assert not schools["schid"].cat.ordered
    assert schools["schid"].value_counts()["62821"] == 67
    assert schools.loc[0, "ses"] == -0.129999995231628
    assert schools["math"].dtype == schools["homework"].dtype == "int64"
    assert schools["math"].mean() == pytest.approx(51.3, abs=1e-12)


@needs_schools
@pytest.mark.parametrize("name", ["imm10.csv", "mlmldata.csv"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_imm10_may_be_formatted_in_other_ways(monkeypatch, tmp_path, name, line_end):
    expected = load_dataset("imm10")
    (tmp_path / name).write_bytes(published().replace("\n", line_end).encode())
    monkeypatch.setenv("UNIMIX_DATA", str(tmp_path))
    pd.testing.assert_frame_equal(load_dataset("imm10"), expected)


@needs_schools
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("7472,3,-0.129999995231628", "7472,3,-0.129999", 1),
        lambda text: text.replace(",48,", ",49,", 1),
        lambda text: "\n".join(text.splitlines()[:-1]) + "\n",
        lambda text: text.replace('"math"', '"maths"', 1),
        lambda text: text.replace(",48,", ",many,", 1),
        lambda text: "<html>not found</html>",
        lambda text: "",
    ],
    ids=["last digits", "one score", "a row less", "a name", "no number", "a web page", "empty"],
)
def test_a_changed_imm10_is_refused(monkeypatch, tmp_path, change):
    changed = change(published())
    assert changed != published()
    (tmp_path / "imm10.csv").write_text(changed)
    monkeypatch.setenv("UNIMIX_DATA", str(tmp_path))
    with pytest.raises(DataError, match="does not hold the 'imm10' data"):
        load_dataset("imm10")
    assert (tmp_path / "imm10.csv").exists(), "a file of the user's is never removed"


@needs_schools
def test_imm10_is_fetched_once_and_quietly(own_cache, serve, capfd):
    stop = serve(published())
    first = load_dataset("imm10")
    assert own_cache.is_file()
    stop()
    pd.testing.assert_frame_equal(load_dataset("IMM10"), first)
    assert capfd.readouterr() == ("", "")


@needs_schools
def test_a_changed_public_file_is_refused_and_not_kept(own_cache, serve):
    serve(published().replace(",48,", ",49,", 1))
    with pytest.raises(DataError, match="was changed or is another file"):
        load_dataset("imm10")
    assert not own_cache.exists()


@pytest.mark.usefixtures("own_cache")
def test_without_folder_and_network_the_error_says_what_to_set(monkeypatch):
    monkeypatch.setattr(imm10, "URL", "http://127.0.0.1:9/mlmldata.csv")
    with pytest.raises(DataError, match="could not be fetched") as caught:
        load_dataset("imm10")
    text = str(caught.value)
    assert "states no licence" in text
    assert "export UNIMIX_DATA=" in text
    assert "imm10.csv" in text


@pytest.mark.usefixtures("own_cache")
def test_a_folder_without_the_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("UNIMIX_DATA", str(tmp_path))
    monkeypatch.setattr(imm10, "URL", "http://127.0.0.1:9/mlmldata.csv")
    with pytest.raises(DataError, match=r"holds neither imm10\.csv nor mlmldata\.csv") as caught:
        load_dataset("imm10")
    assert str(tmp_path) in str(caught.value)
