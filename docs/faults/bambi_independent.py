# (1 + x | g) is two independent effects, without a correlation; the prior of a constant column is infinitely wide.
import bambi as bmb

import unimix as um

data = um.load_dataset("sleepstudy").assign(one=1.0)
model = bmb.Model("Reaction ~ Days + (1 + Days | Subject)", data)
model.build()
print([v.name for v in model.backend.model.free_RVs])
print(
    bmb.Model("Reaction ~ Days + (0 + one | Subject)", data).components["mu"].group_specific_terms["one|Subject"].prior
)
