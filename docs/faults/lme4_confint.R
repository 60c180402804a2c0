# Holding a fixed effect, the profile forgets the weights.
data <- lme4::sleepstudy
data$w <- rep(c(1, 4), length.out = nrow(data))
fit <- lme4::lmer(Reaction ~ Days + (1 | Subject), data, weights = w, REML = FALSE)
cat("profile:", round(suppressMessages(confint(fit, "Days", quiet = TRUE)), 2), "\n")
cat("Wald:   ", round(confint(fit, "Days", method = "Wald"), 2), "\n")
