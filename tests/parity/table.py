"""The largest distances of every engine from the reference cases: ``python tests/parity/table.py [backends]``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from gold import as_list, gaussian_cases

import unimix as um


def main(backends: list[str]) -> None:
    """Print one row per engine and case, then the worst per engine."""
    print("| engine | case | fixed (SE) | SE (rel.) | SD (rel.) | log-likelihood | status | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for backend in backends:
        worst = np.zeros(4)
        for case in gaussian_cases():
            samples = backend == "pymc"
            if samples and not case.reml:
                continue
            started = time.perf_counter()
            try:
                fit = case.fit(backend, **({"method": "posterior", "seed": 1} if samples else {}))
            except um.UnimixError as error:
                print(f"| {backend} | {case.id} | {type(error).__name__} | | | | | |")
                continue
            seconds = time.perf_counter() - started
            fixef = case.reference["fixef"]
            estimate, error = (np.array(as_list(fixef[k]), dtype=float) for k in ("estimate", "std_error"))
            ours, theirs = case.standard_deviations(fit)
            row = np.array(
                [
                    (np.abs(fit.fixed.estimate - estimate) / error).max(),
                    np.abs(fit.fixed.std_error / error - 1).max(),
                    (np.abs(ours - theirs) / np.maximum(theirs, 0.01 * fit.sigma)).max(),
                    0.0 if samples else abs(fit.log_likelihood - case.reference["loglik"]),
                ]
            )
            worst = np.maximum(worst, row)
            state = fit.status.state
            if samples:
                s = fit.status
                state += f", R-hat {s.rhat:.3f}, ESS {s.ess_bulk:.0f}, {s.divergences} divergences"
            cells = " | ".join(f"{v:.1e}" for v in row)
            print(f"| {backend} | {case.id} | {cells} | {state} | {seconds:.2f} |", flush=True)
        print(f"| **{backend}** | **worst** | {' | '.join(f'**{v:.1e}**' for v in worst)} | | |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["statsmodels", "lme4", "pymer4", "pymc"])
