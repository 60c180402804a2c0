# Its Kenward-Roger degrees of freedom are Satterthwaite's; pbkrtest has others.
import mixedlm

import unimix as um

data = um.load_dataset("sleepstudy").iloc[5:].astype({"Subject": str})
fit = mixedlm.lmer("Reaction ~ Days + (Days | Subject)", data)
print("Satterthwaite: ", mixedlm.satterthwaite_df(fit).df)
print("Kenward-Roger: ", mixedlm.kenward_roger_df(fit).df)
right = um.fit("Reaction ~ Days + (Days | Subject)", data, "pls", df_method="kenward-roger")
print("the right ones:", right.fixed.df)
