# x:f without x has a slope for each of the three levels: one is lost. The negative binomial's theta stays at 1.
import mixedlm

from unimix.testing import simulate_rich

data = simulate_rich()
print(mixedlm.lmer("y ~ x:f + (1 | g)", data).fixef())
print("theta:", mixedlm.glmer_nb("count ~ x + (1 | g)", data).family.theta)
