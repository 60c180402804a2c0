# A response times 10 has variances times 100, and so their standard errors: statsmodels' grow by 10.
import statsmodels.formula.api as smf

import unimix as um

data = um.load_dataset("sleepstudy")
for factor in (1, 10):
    data["y"] = factor * data["Reaction"]
    fit = smf.mixedlm("y ~ Days", data, groups="Subject").fit()
    print(f"y x {factor:2}: variance {fit.cov_re.iloc[0, 0]:.1f}, its standard error {fit.bse_re.iloc[0]:.2f}")
