"""Names of covariance structures, as a formula writes them in front of a random term."""

from __future__ import annotations

HOMOGENEITY = {
    "diag": ("homdiag", "diag"),
    "cs": ("homcs", "cs"),
    "ar1": ("ar1", "hetar1"),
    "toep": ("homtoep", "toep"),
    "car1": ("car1", "hetcar1"),
    "exp": ("exp", "hetexp"),
    "gau": ("gau", "hetgau"),
}
"""Names with one standard deviation for all columns (``hom=TRUE``) and with one for each, by the form of correlations.

The name of the form itself is that of its default, as in glmmTMB."""
STRUCTURES = ("us", *dict.fromkeys(name for form, names in HOMOGENEITY.items() for name in (form, *names)))
HOMOGENEOUS = tuple(names[0] for names in HOMOGENEITY.values())


def form_of(name: str) -> str:
    """Form of the correlations of a structure: us, diag, cs, ar1, toep, car1, exp or gau."""
    return name.removeprefix("hom").removeprefix("het")


def with_homogeneity(name: str, homogeneous: bool) -> str | None:
    """Name of the structure of the same form with one standard deviation, or with several; None if there is none."""
    names = HOMOGENEITY.get(form_of(name))
    return names and names[0 if homogeneous else 1]


__all__ = ["HOMOGENEITY", "HOMOGENEOUS", "STRUCTURES", "form_of", "with_homogeneity"]
