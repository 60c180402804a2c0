# Reference values of marginal means with weights: Rscript tests/data/means_r.R > tests/data/means_r.json
suppressMessages({library(lme4); library(lmerTest); library(emmeans); library(jsonlite)})
pigs <- read.csv(file.path("src", "unimix", "datasets", "dietox.csv"))
# Unbalanced, with factors that depend on each other and interact
pigs$week <- (pigs$Time + 2 * (pigs$Cu == "Cu035") + (pigs$Evit == "Evit100")) %% 3
keep <- !(pigs$Cu == "Cu000" & pigs$week == 1 & pigs$Time > 4) & !(pigs$Evit == "Evit200" & pigs$Time %% 2 == 1)
pigs <- pigs[keep, ]
pigs$share <- 1 + pigs$Time %% 4
pigs[c("Pig", "Cu", "Evit")] <- lapply(pigs[c("Pig", "Cu", "Evit")], factor)
mixed <- lmer(Weight ~ Time * Cu + Time * factor(week) * Evit + (1 | Pig), pigs,
              control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9)))
plain <- lm(Weight ~ Time * Cu + Time * factor(week) * Evit, pigs, weights = share)
# One combination of Evit and week is empty
holed <- lm(Weight ~ Time * Cu + factor(week) * Evit, pigs, subset = !(Evit == "Evit200" & week == 2))
kinds <- c("equal", "proportional", "outer", "cells")
means <- function(fit, ...) {
  made <- lapply(kinds, function(kind) {
    m <- as.data.frame(emmeans(fit, "Cu", weights = kind, lmer.df = "satterthwaite", ...))
    t <- as.data.frame(emtrends(fit, "Cu", var = "Time", weights = kind, lmer.df = "satterthwaite", ...))
    list(estimate = m$emmean, std_error = m$SE, slope = t[[2]], slope_error = t$SE)
  })
  setNames(made, kinds)
}
fixed <- emmeans(mixed, "Cu", at = list(Evit = c("Evit000", "Evit200")), weights = "proportional",
                 lmer.df = "satterthwaite")
out <- list(
  mixed = means(mixed), weighted = means(plain),
  at = list(estimate = as.data.frame(fixed)$emmean, std_error = as.data.frame(fixed)$SE),
  holed = means(holed),
  cells = as.data.frame(emmeans(holed, c("Evit", "week"), weights = "cells", lmer.df = "satterthwaite"))$emmean,
  versions = paste("lme4", packageVersion("lme4"), "lmerTest", packageVersion("lmerTest"),
                   "emmeans", packageVersion("emmeans"), R.version.string)
)
cat(toJSON(out, digits = 12, auto_unbox = TRUE, na = "null"))
