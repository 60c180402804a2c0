# The compiled inner loop diverges where the SD of the groups passes 2: the search ends at that wall, "converged".
import mixedlm
import pandas as pd

import unimix as um

data = pd.read_csv("tests/data/gold/ohio.csv")
fit = mixedlm.glmer("resp ~ age * smoke + (1 | id)", data, family=mixedlm.families.Binomial())
print(f"mixedlm: {fit.logLik().value:.2f}, converged={fit.converged}")
print(f"maximum: {um.fit('resp ~ age * smoke + (1 | id)', data, 'pls', family='binomial').log_likelihood:.2f}")
