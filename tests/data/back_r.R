# Reference values of means that are turned back: Rscript tests/data/back_r.R > tests/data/back_r.json
# Debian's emmeans 1.8.4, lme4 1.1-31. sigma: of the residual and the intercepts together, for bias.adjust
suppressMessages({library(lme4); library(emmeans); library(jsonlite)})
sleep <- read.csv(file.path("src", "unimix", "datasets", "sleepstudy.csv")); sleep$Subject <- factor(sleep$Subject)
emm_options(lmer.df = "satterthwaite")
one <- function(formula) {
  fit <- lmer(formula, sleep, control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10)))
  grid <- emmeans(fit, "Days", at = list(Days = c(0, 9)))
  means <- as.data.frame(summary(grid, type = "response"))
  pair <- as.data.frame(summary(pairs(regrid(grid)), infer = TRUE))
  ratio <- as.data.frame(summary(pairs(grid, type = "response"), infer = TRUE))
  sd <- sqrt(sigma(fit)^2 + as.numeric(VarCorr(fit)$Subject))
  adjusted <- as.data.frame(summary(grid, type = "response", bias.adjust = TRUE, sigma = sd))
  list(estimate = means[[2]], std_error = means$SE, lower = means$lower.CL, upper = means$upper.CL,
       difference = pair$estimate, difference_error = pair$SE, ratio = ratio[[2]], ratio_error = ratio$SE,
       ratio_lower = ratio$lower.CL, sd = sd, adjusted = adjusted[[2]])
}
out <- list("log(Reaction)" = one(log(Reaction) ~ Days + (1 | Subject)),
            "sqrt(Reaction)" = one(sqrt(Reaction) ~ Days + (1 | Subject)),
            "log10(Reaction)" = one(log10(Reaction) ~ Days + (1 | Subject)),
            "log1p(Reaction)" = one(log1p(Reaction) ~ Days + (1 | Subject)))
cat(toJSON(out, digits = NA, auto_unbox = TRUE, pretty = TRUE))
