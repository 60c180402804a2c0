"""The lines that install what is missing are right for the system and for the bounds of the project."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from unimix import installation as metadata_lines
from unimix import r_installation
from unimix.backends.registry import registered

ROOT = Path(__file__).resolve().parents[2]
needs_r = pytest.mark.skipif(shutil.which("R") is None, reason="R is not installed")

APT_CACHE = """#!/bin/sh
shift
for name; do
  case $name in *performance) continue ;; *report) echo "$name:
  Installed: (none)
  Candidate: (none)" ;; *) echo "$name:
  Installed: (none)
  Candidate: 1.0-1
  Version table:
     1.0-1 500" ;; esac
done
"""


@pytest.fixture
def tools(monkeypatch, tmp_path):
    """A machine that has certain programs only, and an apt that knows every R package but performance and report."""

    def make(*names, lists=True):
        (tmp_path / "bin").mkdir()
        for name in names:
            program = tmp_path / "bin" / name
            program.write_text(APT_CACHE if name == "apt-cache" else "#!/bin/sh\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
        monkeypatch.setattr(
            shutil, "which", lambda name, path=None: str(tmp_path / "bin" / name) * (name in names) or None
        )
        (tmp_path / "lists").mkdir()
        if lists:
            (tmp_path / "lists" / "main_Packages").touch()
        monkeypatch.setattr(r_installation, "APT_LISTS", tmp_path / "lists")
        monkeypatch.delenv("CONDA_PREFIX", raising=False)

    return make


def test_apt_gets_what_it_knows_and_posit_the_rest(tools):
    tools("apt-get", "apt-cache")
    apt, posit = r_installation.install_lines(["lmerTest", "performance", "report"]).splitlines()
    assert re.fullmatch(r"(sudo )?apt-get install r-cran-lmertest", apt)
    assert posit.startswith('Rscript -e \'chooseCRANmirror(ind = 1); install.packages("pak")')
    assert 'pak::pkg_install(c("performance", "report"))' in posit
    assert re.fullmatch(
        r"(sudo )?apt-get install r-base-core r-base-dev r-cran-lme4", r_installation.install_lines(["R", "lme4"])
    )


def test_an_apt_without_lists_gets_one_package_at_a_time(tools):
    tools("apt-get", "apt-cache", lists=False)
    update, each = r_installation.install_lines(["lme4", "performance"]).splitlines()
    assert update.endswith("apt-get update")
    assert re.fullmatch(
        r"for package in r-cran-lme4 r-cran-performance; do (sudo )?apt-get install -y \$package; done", each
    )


@pytest.mark.parametrize(("programs", "tool"), [(("conda",), "conda"), (("conda", "mamba"), "mamba"), ((), "conda")])
def test_an_r_of_conda_gets_conda_forge(tools, monkeypatch, programs, tool):
    tools("apt-get", "apt-cache", *programs)
    monkeypatch.setenv("CONDA_PREFIX", "/opt/conda")
    assert r_installation.install_lines(["R", "lmerTest"]) == f"{tool} install -c conda-forge r-base r-lmertest"
    assert "apt-get" in r_installation.install_lines(["lmerTest"], Path("/usr/lib/R"))


def test_any_other_r_gets_cran(tools):
    tools()
    line = r"""Rscript -e 'chooseCRANmirror(ind = 1); install.packages(c("lmerTest"))'"""
    assert r_installation.install_lines(["lmerTest"]) == line
    assert r_installation.install_lines(["R"]).startswith("# first install R")


@pytest.mark.r
@needs_r
def test_the_lines_for_r_packages_are_r_that_parses(tools):
    found = r_installation.find_r()
    for line in (r_installation.cran_line(["a", "b"]), r_installation.posit_line(["a"])):
        code = line.partition("'")[2].rpartition("'")[0]
        parsed = r_installation.run([found.rscript, "-e", f"invisible(parse(text = r'---({code})---'))"], 60)
        assert parsed[0] == 0, parsed


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_lines_name_packages_with_the_bounds_of_the_project_file(versions, project):
    from packaging.requirements import Requirement

    def expand(names):
        for text in names:
            one = Requirement(text)
            if one.marker and not one.marker.evaluate():
                continue
            inner = (r for extra in one.extras for r in expand(project["optional-dependencies"][extra]))
            yield from inner if one.name == "unimix" else [one]

    for extra, names in project["optional-dependencies"].items():
        wanted = {r.name.replace("_", "-"): r.specifier for r in expand(names)}
        versions.update(dict.fromkeys(wanted))
        line = metadata_lines.pip_line(extra)
        typed = [Requirement(word.strip('"')) for word in line.removeprefix("pip install ").split(" ")]
        assert {r.name for r in typed} == set(wanted), extra
        assert "unimix" not in line
        for one in typed:
            assert set(map(str, wanted[one.name])) <= set(map(str, one.specifier)), extra


def test_lines_leave_out_what_is_there(versions):
    versions.update({"matplotlib": "3.10.9", "graphviz": "0.19"})
    assert metadata_lines.pip_line("plot") == 'pip install "graphviz>=0.20"'


def test_every_backend_has_lines_to_type():
    from unimix.backends.registry import backend_class

    for name in registered():
        lines = backend_class(name).install_lines()
        assert lines.startswith(("pip install", "sudo ", "apt-get", "conda", "#", "Rscript")), lines
        assert "unimix[" not in lines


@pytest.mark.usefixtures("no_r")
def test_an_engine_in_r_asks_for_r_first():
    from unimix.backends.r.lme4 import Lme4

    lines = Lme4.install_lines().splitlines()
    assert "lme4" in "".join(lines[:-1])
    assert lines[-1].startswith("python -m unimix.doctor")
    assert not any("rpy2==" in line for line in lines)
