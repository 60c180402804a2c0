# glmer leaves the dispersion out of its inner loop: the SD of the groups, 0.5, is far too small.
set.seed(1)
g <- factor(rep(1:100, each = 10))
mu <- exp(1 + rnorm(100, sd = 0.5)[g])
y <- rgamma(1000, shape = 0.5, scale = mu / 0.5)
fit <- lme4::glmer(y ~ 1 + (1 | g), family = Gamma("log"))
other <- glmmTMB::glmmTMB(y ~ 1 + (1 | g), family = Gamma("log"))
cat("lme4:   ", round(attr(lme4::VarCorr(fit)$g, "stddev"), 3), " log-likelihood", round(as.numeric(logLik(fit)), 2), "\n")
cat("glmmTMB:", round(attr(glmmTMB::VarCorr(other)$cond$g, "stddev"), 3), " log-likelihood", round(as.numeric(logLik(other)), 2), "\n")
