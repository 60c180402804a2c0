# Reference values of intervals and bootstrap tests: Rscript tests/data/intervals_r.R > tests/data/intervals_r.json
suppressMessages({library(lme4); library(glmmTMB); library(pbkrtest); library(boot); library(MASS); library(jsonlite)})
gold <- file.path("tests", "data", "gold")
sleep <- read.csv(file.path(gold, "sleepstudy.csv")); sleep$Subject <- factor(sleep$Subject)
dye2 <- read.csv(file.path(gold, "dyestuff2.csv"))
budworm <- read.csv(file.path(gold, "budworm.csv"))
cbpp <- read.csv(file.path(gold, "cbpp.csv")); cbpp$period <- factor(cbpp$period); cbpp$herd <- factor(cbpp$herd)
ticks <- read.csv(file.path(gold, "grouseticks.csv"))
ticks$BROOD <- factor(ticks$BROOD); ticks$YEAR <- factor(ticks$YEAR)

table_of <- function(m) list(names = rownames(m), lower = unname(m[, 1]), upper = unname(m[, 2]))
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9))
profiled <- function(m, ...) table_of(suppressWarnings(confint(m, oldNames = FALSE, quiet = TRUE, ...)))

sleep$w <- 1 + (seq_len(nrow(sleep)) %% 3)
sleep$off <- 3 * sleep$Days
weighted <- lmer(Reaction ~ Days + (1 | Subject), sleep, weights = w, offset = off, REML = FALSE, control = tight)
ml <- glmmTMB(Reaction ~ Days + (1 + Days | Subject), sleep)
reml <- glmmTMB(Reaction ~ Days + (1 | Subject), sleep, REML = TRUE)
binomial_tmb <- glmmTMB(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, family = binomial)
counts <- glmmTMB(TICKS ~ YEAR + cHEIGHT + (1 | BROOD), ticks, family = nbinom2)
plain <- glm(cbind(ndead, ntotal - ndead) ~ sex + log2_dose, binomial, budworm)

set.seed(1)
t0 <- 2.3; draws <- t0 - 1.2 + rgamma(999, 4) / 3; left <- t0 + rgamma(18, 3) / 50
made <- structure(list(t0 = t0, t = matrix(draws), R = 999, call = call("boot")), class = "boot")
n <- length(left); l <- (n - 1) * (mean(left) - left)
bca <- boot.ci(made, conf = 0.9, type = c("norm", "basic", "perc", "bca"), t0 = t0, t = draws, L = l)

orthodont <- read.csv(file.path(gold, "orthodont.csv"))
few <- subset(orthodont, Subject %in% unique(orthodont$Subject)[c(1:3, 20:22)])
few_large <- lmer(distance ~ age + Sex + (1 | Subject), few, REML = FALSE)
few_small <- lmer(distance ~ age + (1 | Subject), few, REML = FALSE)
pb <- PBmodcomp(few_large, few_small, nsim = 4000, seed = 1)

out <- list(
  weighted = profiled(weighted),
  dyestuff2 = profiled(lmer(Yield ~ 1 + (1 | Batch), dye2, REML = FALSE)),
  budworm = table_of(suppressMessages(confint(plain))),
  counts = table_of(confint(counts, method = "profile", parm = "beta_")),
  wald_ml = table_of(confint(ml, full = TRUE, estimate = FALSE)),
  wald_reml = table_of(confint(reml, full = TRUE, estimate = FALSE)),
  wald_binomial = table_of(confint(binomial_tmb, full = TRUE, estimate = FALSE)),
  boot = list(t0 = t0, t = draws, left = left, normal = bca$normal[2:3], basic = bca$basic[4:5],
              percentile = bca$percent[4:5], bca = bca$bca[4:5]),
  few = list(subjects = as.character(unique(few$Subject)), lrt = pb$test$stat[1], chi = pb$test$p.value[1],
             p = pb$test$p.value[2]),
  versions = paste("lme4", packageVersion("lme4"), "glmmTMB", packageVersion("glmmTMB"), "pbkrtest",
                   packageVersion("pbkrtest"), R.version.string)
)
cat(toJSON(out, digits = 12, auto_unbox = TRUE))
