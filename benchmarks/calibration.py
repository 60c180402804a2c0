"""Calibration of the samplers: ``python -m benchmarks.calibration [--data-sets 200] [SAMPLER:FAMILY ...]``.

For every family of ``bayes``, its NUTS, and three families of ``pymc``, parameters are drawn from their priors and data
from them; the ranks of the true values among the draws are uniform if the posterior is right (see
:mod:`unimix.testing.calibration`). The table has the smallest p-value, times the number of parameters: a value below
0.001 is a fault.
"""

from __future__ import annotations

import argparse
import logging
import time

import unimix as um
from unimix.testing.calibration import CALIBRATIONS, p_values

SAMPLERS = {
    "bayes": lambda: um.backends.Bayes(draws=200, chains=2, retry=False),
    "nuts": lambda: um.backends.Bayes(draws=200, chains=2, tune=200, retry=False, sampler="nuts"),
    # one way to write the model, so that it is compiled once
    "pymc": lambda: um.backends.PyMC(
        draws=200, chains=2, tune=200, cores=1, retry=False, parametrization="noncentered"
    ),
}
WANTED = (
    *(f"bayes:{family}" for family in CALIBRATIONS),
    *(f"nuts:{family}" for family in ("gaussian", "binomial", "negative_binomial")),
    *(f"pymc:{family}" for family in ("gaussian", "binomial", "poisson")),
)


def main() -> None:
    """Print a line for each sampler and family."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--data-sets", type=int, default=200, help="number of data sets of each family (200)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("wanted", nargs="*", default=list(WANTED), metavar="SAMPLER:FAMILY")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    print("| sampler | family | data sets | smallest p, adjusted | of | mean rank | s |")
    print("|---|---|---:|---:|---|---:|---:|")
    for name in arguments.wanted:
        sampler, _, family = name.partition(":")
        started = time.process_time()
        ranks = CALIBRATIONS[family].ranks(SAMPLERS[sampler](), arguments.data_sets, arguments.seed)
        found = p_values(ranks)
        worst = str(found.idxmin())
        adjusted = min(1.0, float(found.min()) * len(found))
        cells = [sampler, family, str(len(ranks)), f"{adjusted:.3g}", worst, f"{ranks[worst].mean():.2f}"]
        print(f"| {' | '.join(cells)} | {time.process_time() - started:.0f} |", flush=True)


if __name__ == "__main__":
    main()
