# The plain call stops below the optimum, and says so.
import statsmodels.formula.api as smf

import unimix as um

data = um.load_dataset("dietox").dropna(subset=["Weight"])
fit = smf.mixedlm("Weight ~ Time", data, groups="Pig", re_formula="~Time").fit()
print(f"statsmodels: {fit.llf:.3f}, converged={fit.converged}")
print(f"optimum:     {um.fit('Weight ~ Time + (1 + Time | Pig)', data, 'pls').log_likelihood:.3f}")
