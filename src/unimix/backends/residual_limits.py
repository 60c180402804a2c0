"""What unimix's own likelihood of correlated residuals can evaluate, and with it certify."""

from __future__ import annotations

from unimix.design.arrays import Design
from unimix.design.grouping_factors import is_nested

MOST_PARAMETERS, MOST_TIMES = 400, 2000
"""Largest numbers of parameters of the residuals' covariance, and of its times, for which a search takes minutes."""


def residual_limits(design: Design) -> list[str]:
    """Reasons to refuse a covariance of the residuals: its size, or group effects that tie its groups together."""
    block = design.residual
    if block is None:
        return []
    structure, reasons = block.structure, []
    outside = [b.text for b in design.blocks if not is_nested(b.codes, block.codes)]
    if outside:
        reasons.append(
            f"residual={block.text!r} with {', '.join(outside)}: several {block.group} share these effects, and the "
            f"likelihood is computed for one {block.group} at a time. Use group effects within {block.group}, or none"
        )
    if structure.n_times > MOST_TIMES:
        reasons.append(
            f"residual={block.text!r} has {structure.n_times:,} different times, and matrices of more than "
            f"{MOST_TIMES:,} take long. Round the times"
        )
    elif structure.n_parameters > MOST_PARAMETERS:
        reasons.append(
            f"residual={block.text!r} has {structure.n_parameters:,} parameters, and a search over more than "
            f"{MOST_PARAMETERS} takes long. Use a structure with fewer, such as ar1, car1 or cs"
        )
    return reasons
