# Reference tables of broom and broom.mixed: Rscript tests/data/broom_r.R > tests/data/broom_r.json
suppressMessages({library(lme4); library(lmerTest); library(broom); library(broom.mixed); library(jsonlite)})
folder <- file.path("src", "unimix", "datasets")
sleep <- read.csv(file.path(folder, "sleepstudy.csv"))
sleep$Subject <- factor(sleep$Subject)
sleep$w <- 1 + (seq_len(nrow(sleep)) %% 4) / 2
sleep$o <- seq_len(nrow(sleep)) %% 7
penicillin <- read.csv(file.path(folder, "penicillin.csv"))
cbpp <- read.csv(file.path(folder, "cbpp.csv"))
cbpp$period <- factor(cbpp$period)
ticks <- read.csv(file.path(folder, "grouseticks.csv"))
pigs <- read.csv(file.path(folder, "dietox.csv"))

told <- function(x) lapply(as.data.frame(x), function(v) if (is.factor(v)) as.character(v) else unname(v))
# Tables of one model; of augment the first 40 rows
all <- function(m, mixed, std = NULL) {
  rows <- as.data.frame(augment(m))
  rows <- rows[, grepl("^[.]", names(rows)), drop = FALSE]
  out <- list(glance = told(glance(m)), augment = told(head(rows, 40)))
  if (mixed) {
    for (e in c("fixed", "ran_pars", "ran_vals", "ran_coefs"))
      out[[e]] <- told(tidy(m, effects = e, conf.int = e != "ran_coefs"))
  } else {
    out$fixed <- told(tidy(m, conf.int = FALSE))
    out$wald <- told(confint.default(m))
  }
  out
}
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9))
gtight <- glmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 2e-3, rhoend = 1e-9, maxfun = 1e5), tolPwrss = 1e-11)
binary <- suppressWarnings(
  glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, family = binomial, control = gtight))
out <- list(
  lmer = all(lmer(Reaction ~ Days + (Days | Subject), sleep, control = tight), TRUE),
  lmer_ml = all(lmer(Reaction ~ Days + offset(o) + (Days || Subject), sleep, weights = w, REML = FALSE, control = tight), TRUE),
  lmer_crossed = all(lmer(diameter ~ 1 + (1 | plate) + (1 | sample), penicillin, control = tight), TRUE),
  glmer = all(binary, TRUE),
  odds_ratios = told(tidy(binary, effects = "fixed", conf.int = TRUE, exponentiate = TRUE)),
  lm = all(lm(Reaction ~ Days, sleep, weights = w, offset = o), FALSE),
  binomial = all(glm(cbind(incidence, size - incidence) ~ period, binomial, cbpp), FALSE),
  poisson = all(glm(TICKS ~ cHEIGHT, poisson, ticks), FALSE),
  gamma = all(glm(Weight ~ Time, Gamma("log"), pigs), FALSE),
  versions = paste("broom.mixed", packageVersion("broom.mixed"), "broom", packageVersion("broom"), "lme4",
                   packageVersion("lme4"), R.version.string)
)
cat(toJSON(out, digits = 12, auto_unbox = TRUE, na = "null"))
