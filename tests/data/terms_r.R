# References of tests/analysis/test_terms.py: drop1 and type I tests of lmerTest, drop1 of lme4, rePCA of lme4.
# Rscript tests/data/terms_r.R > tests/data/terms_r.json
suppressMessages({library(lme4); library(lmerTest)})
folder <- file.path("src", "unimix", "datasets")
dietox <- read.csv(file.path(folder, "dietox.csv"))
dietox[c("Pig", "Cu", "Evit")] <- lapply(dietox[c("Pig", "Cu", "Evit")], factor)
sleep <- read.csv(file.path(folder, "sleepstudy.csv"))
cbpp <- read.csv(file.path(folder, "cbpp.csv"))
cbpp$period <- factor(cbpp$period)
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 2e-3, rhoend = 1e-9), calc.derivs = FALSE)
table_of <- function(x) c(list(term = rownames(x)), as.list(as.data.frame(x)))
pca <- function(m) lapply(rePCA(m), function(p) list(sdev = p$sdev, rotation = abs(unclass(p$rotation))))
pigs <- lmerTest::lmer(Weight ~ Time * Cu + Evit + (1 + Time | Pig), dietox, control = control)
plain <- lme4::lmer(Weight ~ Time * Cu + Evit + (1 + Time | Pig), dietox, REML = FALSE, control = control)
herds <- glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, family = binomial)
slopes <- lme4::lmer(Reaction ~ Days + (Days | Subject), sleep, control = control)
wide <- lme4::lmer(Weight ~ Time + (1 + Time + I(Time^2) | Pig), dietox, control = control)
cat(jsonlite::toJSON(list(
  versions = list(R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4")),
                  lmerTest = as.character(packageVersion("lmerTest"))),
  drop1_f = table_of(drop1(pigs)),
  type1 = table_of(anova(pigs, type = 1)),
  drop1_chisq = table_of(stats::drop1(plain, test = "Chisq")),
  drop1_herds = table_of(stats::drop1(herds, test = "Chisq")),
  pca_sleep = pca(slopes),
  pca_pigs = pca(wide)
), digits = 12, auto_unbox = TRUE, na = "null"), "\n")
