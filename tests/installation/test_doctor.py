from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import unimix.doctor  # noqa: F401  the package attribute is the function; the module is looked up below
from unimix import installation as metadata_lines
from unimix.backends.registry import registered, sound
from unimix.doctor import Diagnosis, Item, doctor

module = sys.modules["unimix.doctor"]
R_PACKAGES = [name for engine in sound().values() for name in (*engine.info.r_packages, *engine.info.r_optional)]

ROOT = Path(__file__).resolve().parents[2]
needs_r = pytest.mark.skipif(shutil.which("R") is None, reason="R is not installed")


def status(diagnosis: Diagnosis) -> dict[str, str]:
    return {item.name: item.status for item in diagnosis.items}


# --- this machine -----------------------------------------------------------------------------------------------------


def test_versions_are_those_of_the_metadata(healthy):
    for name in ("numpy", "scipy", "pandas", "formulaic", "statsmodels"):
        assert healthy[name].version == metadata.version(name)
        assert healthy[name].status == "ok"
    assert healthy["python"].version == sys.version.split()[0]
    assert healthy.ready["statsmodels"]


@pytest.mark.r
@needs_r
def test_r_and_its_packages_are_found_and_rpy2_loads_this_r(healthy):
    said = subprocess.run(["R", "--version"], capture_output=True, text=True, check=True).stdout
    assert f"R version {healthy['R'].version} " in said
    if healthy["rpy2"].status == "ok":
        assert healthy["rpy2"].message == f"loads R {healthy['R'].version}"
    for name in R_PACKAGES:
        if healthy[name].status == "ok":
            assert re.fullmatch(r"\d+(\.\d+)+", healthy[name].version)


def test_every_item_that_is_wrong_says_why(healthy):
    for item in healthy.items:
        assert item.status == "ok" or item.message, item


def test_every_need_of_a_backend_is_looked_at(healthy):
    names = {item.name for item in healthy.items}
    assert set(healthy.needs) == set(registered())
    for backend, parts in healthy.needs.items():
        assert set(parts) <= names, backend


def test_the_text_is_an_aligned_table_with_a_verdict(healthy):
    table, verdict = str(healthy).split("\n\n")[:2]
    lines = table.splitlines()
    assert len(lines) == len(healthy.items) + 1
    column = lines[0].index("status")
    for line, item in zip(lines[1:], healthy.items, strict=True):
        assert line.startswith(item.name)
        assert line[column:].startswith(item.status)
    assert verdict.startswith("Backends that can run: ")
    assert "statsmodels" in verdict
    assert str(healthy) == "\n".join(line.rstrip() for line in str(healthy).splitlines())


def test_items_are_found_in_any_case_and_nothing_else(healthy):
    assert healthy["LME4"].name == "lme4"
    with pytest.raises(KeyError):
        healthy["brms"]


def test_a_diagnosis_is_frozen_and_round_trips(healthy):
    assert Diagnosis.model_validate_json(healthy.model_dump_json()) == healthy
    with pytest.raises(ValueError, match="frozen"):
        healthy.items = ()


def test_html_is_escaped():
    shown = Diagnosis(items=(Item(name="x", status="broken", message="a <b> & c", fix='pip "x<1"'),))._repr_html_()
    assert "a &lt;b&gt; &amp; c" in shown
    assert "<b>" not in shown
    assert "&quot;x&lt;1&quot;" in shown


def test_as_a_program():
    done = subprocess.run([sys.executable, "-m", "unimix.doctor"], capture_output=True, text=True, check=True)
    assert re.search("Backends that can run: .*statsmodels", done.stdout)
    assert done.stderr == ""


def test_the_doctor_loads_no_engine():
    engines = ["rpy2", "pymer4", "pymc", "pytensor", "arviz", "nutpie", "statsmodels", "matplotlib"]
    code = f"import sys, unimix.doctor as d; d.doctor(); print([m for m in {engines} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- R absent or broken -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_r")
def test_without_r_the_rest_goes_on(versions):
    versions["rpy2"] = None
    diagnosis = doctor()
    found = status(diagnosis)
    assert found["R"] == found["rpy2"] == "missing"
    assert all(found[name] == "missing" for name in R_PACKAGES)
    assert diagnosis["lme4"].message == "R package, install R first"
    assert diagnosis["rpy2"].fix == "", "which rpy2 fits is known only when R is"
    assert diagnosis.ready["statsmodels"]
    assert '"lme4", "Matrix"' in diagnosis["R"].fix
    absent = re.search(r"Not yet: ([\w, ]+)", str(diagnosis))
    assert absent is not None
    assert absent.group(1).split(", ") == sorted(name for name, fine in diagnosis.ready.items() if not fine)
    assert not any(diagnosis.ready[name] for name in ("glmmtmb", "lme4", "pymer4"))


@pytest.mark.usefixtures("no_r")
def test_rpy2_without_r_is_broken(versions):
    versions.update({"rpy2": "3.6.4", "rpy2-robjects": "3.6.5", "rpy2-rinterface": "3.6.5"})
    item = doctor()["rpy2"]
    assert item.status == "broken"
    assert item.version == "3.6.4 (3.6.5)"
    assert "repair R first" in item.message


def test_an_r_home_that_leads_nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("R_HOME", str(tmp_path))
    item = doctor()["R"]
    assert item.status == "broken"
    assert item.message == f"R_HOME points to {tmp_path}, which holds no bin/R"
    assert item.fix == "unset R_HOME"


def test_an_r_that_does_not_start(monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "R"
    program.write_text("#!/bin/sh\necho 'libR.so: cannot open shared object file' >&2\nexit 127\n")
    program.chmod(0o755)
    monkeypatch.setenv("R_HOME", str(tmp_path))
    item = doctor()["R"]
    assert item.status == "broken"
    assert item.message.endswith("does not start: libR.so: cannot open shared object file")


@pytest.mark.r
@needs_r
def test_a_profile_that_prints_does_not_confuse(monkeypatch, tmp_path, healthy):
    profile = tmp_path / "profile.R"
    profile.write_text('cat("Welcome!\\nunimixed: lme4 0.0\\n"); message("hello")\n')
    monkeypatch.setenv("R_PROFILE_USER", str(profile))
    assert doctor()["lme4"] == healthy["lme4"]


@pytest.mark.r
@needs_r
def test_an_lme4_that_cannot_fit_is_broken(monkeypatch, tmp_path, healthy):
    if healthy["lme4"].status != "ok":
        pytest.skip("lme4 is not installed")
    library = tmp_path / "lme4"
    library.mkdir()
    (library / "DESCRIPTION").write_text("Package: lme4\nVersion: 1.1.99\nBuilt: R 4.0.0; ; 2020-01-01; unix\n")
    monkeypatch.setenv("R_LIBS", str(tmp_path))
    item = doctor()["lme4"]
    assert (item.version, item.status) == ("1.1.99", "broken")
    assert "installed, but cannot fit" in item.message
    assert 'install.packages(c("Matrix", "lme4"), type = "source")' in item.fix


@pytest.mark.r
@needs_r
def test_an_r_package_that_is_missing_keeps_away_only_what_needs_it(monkeypatch, healthy, tmp_path):
    real = module._ask_r

    def without(found, names, trials):
        versions, broken = real(found, names, trials)
        return {name: version for name, version in versions.items() if name not in ("lmerTest", "performance")}, broken

    monkeypatch.setattr(module, "_ask_r", without)
    diagnosis = doctor()
    changed = {name for name, fine in diagnosis.ready.items() if fine != healthy.ready[name]}
    assert changed <= {"pymer4"}
    assert not diagnosis.ready["pymer4"]
    assert "required by backend='pymer4'" in diagnosis["lmerTest"].message
    assert diagnosis["performance"].optional
    assert "fit.native" in diagnosis["performance"].message
    text = str(diagnosis)
    assert text.index("# lmerTest") < text.index("Optional:") < text.index("performance", text.index("Optional:"))


# --- rpy2 and R must fit ----------------------------------------------------------------------------------------------


def test_a_new_rpy2_on_an_old_r_is_named_with_the_pair_that_works(versions, other_r):
    other_r("4.2.2")
    versions.update({"rpy2": "3.6.9", "rpy2-robjects": "3.6.6", "rpy2-rinterface": "3.6.7"})
    diagnosis = doctor()
    item = diagnosis["rpy2"]
    assert diagnosis["R"].version == "4.2.2"
    assert item.status == "broken"
    assert item.message == "rpy2-rinterface 3.6.7 needs R 4.5 or newer, this is R 4.2.2"
    assert item.fix == "pip install rpy2==3.6.4 rpy2-robjects==3.6.5 rpy2-rinterface==3.6.5"
    assert f"# rpy2\n{item.fix}" in str(diagnosis)


def test_half_an_rpy2_is_broken(versions, other_r):
    other_r("4.5.1")
    versions.update({"rpy2": "3.6.9", "rpy2-robjects": None, "rpy2-rinterface": "3.6.7"})
    item = doctor()["rpy2"]
    assert item.message == "half installed: rpy2-robjects is missing"
    assert item.fix.startswith("pip install")
    assert "rpy2-rinterface>=3.6.6" in item.fix


def test_an_absent_rpy2_gets_the_line_for_this_r(versions, other_r):
    other_r("4.5.0")
    versions["rpy2"] = None
    item = doctor()["rpy2"]
    assert item.status == "missing"
    assert "rpy2-rinterface>=3.6.6,<3.7" in item.fix


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import os; os.abort()", "exit code -6"),
        ("raise ImportError('undefined symbol: R_getVar')", "ImportError: undefined symbol: R_getVar"),
    ],
)
def test_an_rpy2_that_crashes_does_not_take_python_down(monkeypatch, tmp_path, versions, other_r, body, said):
    other_r("4.4.1")
    versions.update({"rpy2": "3.6.4", "rpy2-robjects": "3.6.5", "rpy2-rinterface": "3.6.5"})
    (tmp_path / "path" / "rpy2").mkdir(parents=True)
    (tmp_path / "path" / "rpy2" / "__init__.py").write_text(body + "\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    item = doctor()["rpy2"]
    assert item.status == "broken"
    assert item.message == f"does not load R 4.4.1: {said}"
    assert item.fix.startswith("pip install --force-reinstall --no-cache-dir --no-deps rpy2==3.6.4")


@pytest.mark.r
@needs_r
def test_an_rpy2_built_for_another_r_is_seen(versions, other_r, healthy):
    if healthy["rpy2"].status != "ok":
        pytest.skip("rpy2 does not load here")
    other_r("4.9.0")
    versions.update({"rpy2": "3.6.9", "rpy2-robjects": "3.6.6", "rpy2-rinterface": "3.6.7"})
    item = doctor()["rpy2"]
    assert item.status == "broken"
    assert "4.9.0" in item.message


# --- Python packages --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_r")
def test_every_package_can_be_absent(versions):
    for name in ("pymc", "arviz", "nutpie", "matplotlib", "pymer4", "formulaic"):
        versions[name] = None
    diagnosis = doctor()
    for name in versions:
        item = diagnosis[name]
        assert (item.status, item.version) == ("missing", None)
        assert item.fix.startswith("pip install "), name
    assert diagnosis["pymc"].fix == 'pip install "pymc>=5.28,<7"'
    assert diagnosis["formulaic"].fix == 'pip install "formulaic>=1.2,<2"'
    assert diagnosis["nutpie"].optional
    assert not any(diagnosis.ready.values())
    assert "Backends that can run: none." in str(diagnosis)


@pytest.mark.usefixtures("no_r")
@pytest.mark.parametrize(
    ("name", "version", "message", "fix"),
    [
        ("arviz", "2.0.0", "unimix needs >=0.20,<2", 'pip install "arviz>=0.20,<2"'),
        ("pymc", "7.0.0", "unimix needs >=5.28,<7", 'pip install "pymc>=5.28,<7"'),
        ("bambi", "0.22.0", "unimix needs >=0.17.2,<0.22", 'pip install "bambi>=0.17.2,<0.22"'),
        ("pymer4", "0.8.2", "unimix needs >=0.9.2,<0.10", 'pip install "pymer4>=0.9.2,<0.10"'),
        ("pandas", "1.5.3", "unimix needs >=2.2.3,<4", 'pip install "pandas>=2.2.3,<4"'),
    ],
)
def test_versions_that_do_not_work_are_broken(versions, name, version, message, fix):
    versions[name] = version
    diagnosis = doctor()
    item = diagnosis[name]
    assert (item.status, item.version, item.fix) == ("broken", version, fix)
    assert item.message == message
    assert diagnosis.problems[0].status == "broken"


@pytest.mark.usefixtures("no_r")
@pytest.mark.parametrize("version", ["0.20", "0.23.4", "1.3.0", "1.99.0rc1"])
def test_versions_that_work_are_fine(versions, version):
    versions["arviz"] = version
    assert doctor()["arviz"].status == "ok"


@pytest.mark.mcmc
@pytest.mark.usefixtures("no_r")
def test_arviz_of_the_other_generation_is_named(versions):
    """PyMC's own metadata say which ArviZ it needs; the line to type installs that one."""
    here = metadata_lines.installed_version("pymc")
    versions["arviz"] = "1.3.0" if here.startswith("5.") else "0.23.4"
    item = doctor()["pymc"]
    assert item.status == "broken"
    assert re.fullmatch(rf"pymc {re.escape(here)} needs arviz>=\S+", item.message)
    assert item.fix == f'pip install "{item.message.rpartition(" ")[2]}"'


@pytest.mark.usefixtures("no_r")
def test_arvizs_old_plots_need_an_older_matplotlib(versions):
    """Seen with ArviZ 0.23.4, arviz-plots 0.8.0 and matplotlib 3.11.2; without arviz-plots all three import."""
    versions |= {"arviz": "0.23.4", "arviz-plots": "0.8.0", "matplotlib": "3.11.2"}
    found = metadata_lines.unmet("arviz")
    line = metadata_lines.install_line(r for r in found if r.name == "matplotlib")
    assert line == 'pip install "matplotlib>=3.9,<3.11"'
    for name, version in (("matplotlib", "3.10.9"), ("arviz-plots", None), ("matplotlib", None)):
        versions |= {"arviz-plots": "0.8.0", "matplotlib": "3.11.2"} | {name: version}
        assert not any(r.name == "matplotlib" and "<3.11" in str(r) for r in metadata_lines.unmet("arviz"))


@pytest.mark.usefixtures("no_r")
def test_what_an_engine_needs_in_turn_is_looked_at(versions):
    if metadata_lines.installed_version("pymc") is None:
        versions["scipy"] = "1.13"
        assert doctor()["scipy"].status == "ok"
        return
    versions["pytensor"] = "9.9"
    item = doctor()["pymc"]
    assert item.status == "broken"
    assert re.match(r"pymc \S+ needs pytensor[<>]", item.message)
    assert item.fix.startswith('pip install "pytensor')
    assert not doctor().ready["pymc"]


@pytest.mark.usefixtures("no_r")
def test_what_the_wheel_of_pymer4_forgets_is_named(versions):
    versions.update({"pymer4": "0.9.2", "great-tables": None, "formulae": None})
    diagnosis = doctor()
    assert diagnosis["pymer4"].status == "ok"
    assert diagnosis["formulae"].status == diagnosis["great-tables"].status == "missing"
    assert "great-tables" in diagnosis.needs["pymer4"]
    assert not diagnosis.ready["pymer4"]


def test_the_absent_report_is_optional(healthy):
    item = healthy["report"]
    assert item.optional
    assert "used only by the method report of fit.native (pymer4)" in item.message


# --- the lines to type ------------------------------------------------------------------------------------------------


def test_the_name_is_callable_after_its_module_was_imported():
    code = "import unimix.doctor, unimix as um; print(type(um.doctor()).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "Diagnosis", done.stderr


def test_what_is_optional_is_not_to_be_mended():
    extra = Item(name="a", status="missing", fix="pip install a", optional=True)
    needed = Item(name="b", status="broken", fix="pip install b")
    assert "To mend" not in str(Diagnosis(items=(extra,)))
    assert "Optional:\n\n# a\npip install a" in str(Diagnosis(items=(extra,)))
    assert str(Diagnosis(items=(extra, needed))).endswith(
        "To repair, paste:\n\n# b\npip install b\n\nOptional:\n\n# a\npip install a"
    )
