"""bambi: a prior's scale of 5e-8 is shown as 0.0, and the sampler does not find the way where units are large.

The response is of the order of 1e-3, the predictor of 1e5. R-hat should be near 1, as it is with both divided by their
standard deviation: the priors are scaled by the data, so that it is the same model.
"""

import arviz as az
import bambi as bmb
import numpy as np
import pandas as pd

PARTS = "parameters" if hasattr(bmb.Model, "parameters") else "components"  # bambi 0.21 has renamed them

if __name__ == "__main__":
    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(20), 8)
    x = rng.normal(size=160)
    y = 2 + 0.9 * x + 1.2 * rng.normal(size=20)[g] + rng.normal(size=160)
    for scale, data in (
        ("user's units", pd.DataFrame({"y": 50 + 1e-3 * y, "x": 1e5 * x, "g": g.astype(str)})),
        ("unit spread", pd.DataFrame({"y": (y - y.mean()) / y.std(), "x": x / x.std(), "g": g.astype(str)})),
    ):
        model = bmb.Model("y ~ x + (1 | g)", data)
        print(scale, "prior of x:", getattr(model, PARTS)["mu"].common_terms["x"].prior)
        draws = model.fit(random_seed=1, cores=1, progressbar=False)
        print(scale, "largest R-hat:", max(float(az.rhat(draws.posterior[n].to_numpy())) for n in ("x", "sigma")))
