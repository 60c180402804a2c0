# Binary data with large groups' SD: the search ends far below the maximum, and is called converged.
import lme_python
import pandas as pd

import unimix as um

data = pd.read_csv("tests/data/gold/ohio.csv")
fit = lme_python.glmer("resp ~ age * smoke + (1 | id)", data.astype({"id": str}), "binomial")
own = um.fit("resp ~ age * smoke + (1 | id)", data, "pls", family="binomial")
print("lme-python:", [round(b, 3) for b in fit.coefficients], "converged:", fit.converged)
print("maximum:   ", own.fixed.estimate.round(3))
