"""Run this package's tests in a process of their own, as if it were installed.

``python tests/plugin_package/run.py [pytest arguments]``. What pip would write is made from pyproject.toml in a
temporary folder, so that neither the network nor the environment is touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent


def install_into(folder: Path) -> None:
    """Lay the package out in a folder for the PYTHONPATH: the module and its metadata with the entry points."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module = project["name"].replace("-", "_")
    shutil.copy(HERE / f"{module}.py", folder)
    told = folder / f"{module}-{project['version']}.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in points.items()) for group, points in groups]
    (told / "entry_points.txt").write_text("\n".join(lines) + "\n")


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run pytest on the contract with the package in place."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install_into(folder)
        shutil.copy(HERE / "test_densepls.py", folder)
        paths = [name, *filter(None, [os.environ.get("PYTHONPATH")])]
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments, "test_densepls.py"],
            cwd=folder,
            # small matrices: threads of the linear algebra cost more than they bring, most of all on a busy machine
            env={"OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            text=True,
            capture_output=True,
            check=False,
        )


if __name__ == "__main__":
    done = run(sys.argv[1:])
    sys.stdout.write(done.stdout + done.stderr)
    sys.exit(done.returncode)
