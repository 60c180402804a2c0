# Reference values of pooling and leverage: Rscript tests/data/pooling_r.R > tests/data/pooling_r.json
suppressMessages({library(lme4); library(jsonlite)})
folder <- file.path("src", "unimix", "datasets")
sleep <- read.csv(file.path(folder, "sleepstudy.csv"))
sleep$Subject <- factor(sleep$Subject)
pigs <- read.csv(file.path(folder, "dietox.csv"))
pigs$Pig <- factor(pigs$Pig)
penicillin <- read.csv(file.path(folder, "penicillin.csv"))
cbpp <- read.csv(file.path(folder, "cbpp.csv"))
cbpp$period <- factor(cbpp$period)

lists <- function(formula, data) {
  # R finds the pooled residual standard deviation from the residuals of all levels
  fit <- lmList(formula, data, pool = TRUE)
  s <- summary(fit)
  list(levels = rownames(coef(fit)), coef = unname(as.matrix(coef(fit))),
       se = unname(s$coefficients[, "Std. Error", ]), sigma = s$RSE)
}
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9))
out <- list(
  sleep = lists(Reaction ~ Days | Subject, sleep),
  pigs = lists(Weight ~ Time + I(Time^2) | Pig, pigs),
  hat_sleep = unname(hatvalues(lmer(Reaction ~ Days + (Days | Subject), sleep, control = tight))),
  hat_penicillin = unname(hatvalues(lmer(diameter ~ 1 + (1 | plate) + (1 | sample), penicillin, control = tight))),
  hat_cbpp = unname(hatvalues(glm(cbind(incidence, size - incidence) ~ period, binomial, cbpp))),
  versions = paste("lme4", packageVersion("lme4"), R.version.string)
)
cat(toJSON(out, digits = 12, auto_unbox = TRUE))
