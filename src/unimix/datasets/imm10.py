"""The school data of the hierarchical-modelling tutorial: 260 students in 10 schools.

The file states no licence, so it is not part of unimix. It is read from the folder named by ``UNIMIX_DATA``, or else
fetched once from the tutorial's public repository into the user's cache.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pandas as pd

from unimix.errors import DataError

NAME = "imm10"
ROWS = 260
DESCRIPTION = (
    "Mathematics scores and homework of 260 students in 10 schools. Not bundled: read from $UNIMIX_DATA or fetched."
)
SOURCE = (
    "NELS:88 extract of Kreft and de Leeuw (1998), Introducing Multilevel Modeling; "
    "mlmldata.csv of github.com/SuryaThiru/hierarchical-model-blog"
)
LICENCE = "none stated"

URL = "https://raw.githubusercontent.com/SuryaThiru/hierarchical-model-blog/master/mlmldata.csv"
FILES = ("imm10.csv", "mlmldata.csv")
SCHOOLS = ("7472", "7829", "7930", "24725", "25456", "25642", "62821", "68448", "68493", "72292")
NUMBERS = ("ses", "meanses")
COLUMNS = (
    "schid", "stuid", "ses", "meanses", "homework", "white", "parented", "public", "ratio", "percmin", "math", "sex",
    "race", "sctype", "cstr", "scsize", "urban", "region", "schnum",
)  # fmt: skip

# This is the checksum of the values, not of the file. Copies of these data differ in quotes and line ends, which does
# not matter, but a changed value must be noticed. The public file and its exports have the same checksum.
SHA256 = "67b23e53934d8fb709b65433d0b816002d3bebc6bce33d33e18259b74e8d98a8"


def load() -> pd.DataFrame:
    """Return the data, 260 rows and 19 columns; the school ``schid`` is a factor, all other columns are numbers.

    Raises:
        DataError: If the file can neither be found nor fetched, or does not hold the published values.
    """
    path, fetched = _find(), False
    if path is None:
        path, fetched = _fetch(), True
    try:
        return _read(path)
    except DataError:
        if fetched:
            path.unlink(missing_ok=True)  # a bad copy must not stay in the cache
        raise


def checksum(text: pd.DataFrame) -> str:
    """Return the SHA-256 of the values: the names of the columns, then each row with twelve significant digits."""
    lines = [",".join(text.columns)]
    lines += [",".join(format(float(value), ".12g") for value in row) for row in text.itertuples(index=False)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _find() -> Path | None:
    folder = os.environ.get("UNIMIX_DATA", "").strip()
    if not folder:
        return None
    candidates = [Path(folder).expanduser() / name for name in FILES]
    return next((path for path in candidates if path.is_file()), None)


def _fetch() -> Path:
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # pooch announces downloads of unknown checksum; _read checks the values
    try:
        return Path(pooch.retrieve(URL, known_hash=None, fname=FILES[0], path=pooch.os_cache("unimix")))
    except (OSError, ValueError) as error:  # the errors of requests are OSErrors
        folder = os.environ.get("UNIMIX_DATA", "").strip()
        looked = f" The folder of UNIMIX_DATA, {folder}, holds neither {' nor '.join(FILES)}." if folder else ""
        raise DataError(
            "The data set 'imm10' is not bundled with unimix, because it states no licence, and it could not be "
            f"fetched ({type(error).__name__}).{looked}\nSave {URL}\nas {FILES[0]} in a folder of yours and name that "
            "folder before you start Python:\n    export UNIMIX_DATA=/path/to/folder"
        ) from error
    finally:
        logger.setLevel(level)


def _read(path: Path) -> pd.DataFrame:
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        digest = checksum(text) if tuple(text.columns) == COLUMNS and len(text) == ROWS else None
    except (ValueError, OSError):  # not a table, or not numbers
        digest = None
    if digest != SHA256:
        raise DataError(
            f"The file {path} does not hold the 'imm10' data that unimix knows ({ROWS} rows, {len(COLUMNS)} columns, "
            "all values as published): it was changed or is another file, and results computed from it would not be "
            "comparable.\nRemove it, or read it as your own data:\n"
            f"    pandas.read_csv({str(path)!r})"
        )
    values = {name: text[name].astype("float64") for name in COLUMNS}
    data = {name: x if name in NUMBERS else x.astype("int64") for name, x in values.items() if name != "schid"}
    labels = values["schid"].astype("int64").astype(str)
    return pd.DataFrame({"schid": pd.Categorical(labels, categories=list(SCHOOLS), ordered=False), **data})
