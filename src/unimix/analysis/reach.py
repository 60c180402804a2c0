"""Which models unimix has a criterion of its own for."""

from __future__ import annotations

from unimix.model.design import Design


def out_of_reach(design: Design) -> str:
    """Why there is none, or an empty string."""
    if design.zero is not None:
        return "unimix has no criterion of its own for zero inflation"
    if design.dispersion is not None:
        return "unimix has no criterion of its own for a model of the dispersion"
    structures = sorted({b.structure for b in design.blocks} - {"us"})
    if structures:
        return f"unimix has no criterion of its own for {' and '.join(structures)} covariances"
    if design.family.name == "student_t":
        return "unimix has no criterion of its own for Student's t"
    return ""


__all__ = ["out_of_reach"]
