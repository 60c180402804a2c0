# The search for theta of a negative binomial model ends at 10,000: large counts end below the maximum, "converged".
import glmm
import numpy as np

import unimix as um

rng = np.random.default_rng(1)
x = rng.normal(size=300)
mu = np.exp(14 + 0.1 * x)
data = {"x": x, "y": rng.negative_binomial(3e4, 3e4 / (3e4 + mu)).astype(float)}
fit = glmm.fit(data, "y ~ x", "negativebinomial")
own = um.fit("y ~ x", data, "pls", family="negative_binomial")
print(f"glmm:    {fit.loglik:.2f}, theta {fit.dispersion:.0f}, converged={fit.converged}")
print(f"maximum: {own.log_likelihood:.2f}, theta {own.criteria.parameters['theta']:.0f}")
