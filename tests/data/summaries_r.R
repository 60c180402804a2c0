# Reference values of summaries: Rscript tests/data/summaries_r.R > tests/data/summaries_r.json
suppressMessages({library(lme4); library(lmerTest); library(performance); library(effectsize); library(car)
                  library(glmmTMB); library(jsonlite)})
here <- function(name) file.path("src", "unimix", "datasets", name)
sleep <- read.csv(here("sleepstudy.csv")); sleep$Subject <- factor(sleep$Subject)
sleep$w <- seq(0.5, 2, length.out = nrow(sleep))
pigs <- read.csv(here("dietox.csv")); pigs$Pig <- factor(pigs$Pig); pigs$Cu <- factor(pigs$Cu); pigs$Evit <- factor(pigs$Evit)
cbpp <- read.csv(here("cbpp.csv")); cbpp$period <- factor(cbpp$period); cbpp$herd <- factor(cbpp$herd)
ticks <- read.csv(here("grouseticks.csv")); ticks$YEAR <- factor(ticks$YEAR); for (f in c("BROOD", "INDEX", "LOCATION")) ticks[[f]] <- factor(ticks[[f]])
teeth <- read.csv(here("orthodont.csv")); teeth$Subject <- factor(teeth$Subject); teeth$Sex <- factor(teeth$Sex, levels = c("Male", "Female"))
first <- droplevels(ticks[1:200, ])
penicillin <- read.csv(here("penicillin.csv"))
machines <- read.csv("tests/data/gold/machines.csv"); machines$Machine <- factor(machines$Machine)
seizure <- read.csv("tests/data/gold/seizure.csv")
ohio <- read.csv("tests/data/gold/ohio.csv")
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9))
gtight <- glmerControl(optimizer = "bobyqa", tolPwrss = 1e-10, optCtrl = list(rhoend = 1e-8, maxfun = 1e5))

# by definition: performance counts the first of several independent terms only, and refuses singular fits
nakagawa <- function(fit, null = NULL) {
  X <- getME(fit, "X"); n <- nrow(X); linear <- is.null(null)
  s2 <- if (linear) sigma(fit)^2 else 1
  A <- getME(fit, "Lambdat") %*% getME(fit, "Zt"); Gp <- getME(fit, "Gp")
  part <- vapply(seq_len(length(Gp) - 1), function(k) s2 * sum(A[(Gp[k] + 1):Gp[k + 1], , drop = FALSE]^2) / n, 0)
  fl <- getME(fit, "flist")
  olre <- vapply(names(fl)[attr(fl, "assign")], function(g) nlevels(fl[[g]]) == n, NA) & !linear
  dist <- if (linear) s2 else log1p(1 / exp(unname(fixef(null))))
  F <- var(drop(X %*% fixef(fit))); R <- sum(part[!olre]); E <- dist + sum(part[olre])
  list(marginal = F / (F + R + E), conditional = (F + R) / (F + R + E), adjusted = R / (R + E),
       unadjusted = R / (F + R + E), distribution = dist)
}
package <- function(fit) { r <- r2_nakagawa(fit); list(marginal = r$R2_marginal[[1]], conditional = r$R2_conditional[[1]]) }
num <- function(x) unname(as.numeric(x))
frame <- function(d) lapply(as.data.frame(d), function(x) if (is.numeric(x)) num(x) else as.character(x))


growth <- lmer(Weight ~ Time * Cu + Evit + (1 | Pig), pigs, control = tight)
weighted <- lm(Reaction ~ Days, sleep, weights = w)
shed <- glm(cbind(incidence, size - incidence) ~ period, binomial, cbpp)
wheeze <- glm(resp ~ age * smoke, binomial, ohio)
fits <- glm(seizures ~ post * trt, poisson, seizure)
brood <- glmer(TICKS ~ YEAR + cHEIGHT + (1 | BROOD), ticks, poisson, control = gtight)
herds <- glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial, control = gtight)
nb <- glmmTMB(TICKS ~ YEAR + (1 | BROOD), ticks, family = nbinom2)
rate <- glmmTMB(Weight ~ Time + (1 | Pig), pigs, family = Gamma("log"))
# lm.influence of a glm puts deviance residuals in the place of the working ones; this is the one-step approximation
cbpp$working <- shed$linear.predictors + residuals(shed, "working")
working <- lm(working ~ period, cbpp, weights = shed$weights)
F <- c(0.3, 1.2, 6.3, 108); df1 <- c(1, 2, 3, 1); df2 <- c(100, 25.5, 12, 79)
slopes <- lmer(Reaction ~ Days + (Days | Subject), sleep, control = tight)

out <- list(
  r2 = list(
    uncorrelated = nakagawa(lmer(Reaction ~ Days + (Days || Subject), sleep, control = tight)),
    machines = nakagawa(lmer(score ~ Machine + (0 + Machine | Worker), machines, control = tight)),
    seizure = nakagawa(glmer(seizures ~ post * trt + (1 | id), seizure, poisson, offset = log_weeks, control = gtight),
                       glmer(seizures ~ 1 + (1 | id), seizure, poisson, offset = log_weeks, control = gtight)),
    ticks = nakagawa(glmer(TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX), first, poisson, control = gtight),
                     glmer(TICKS ~ 1 + (1 | BROOD) + (1 | INDEX), first, poisson, control = gtight)),
    seizure_package = package(glmer(seizures ~ post * trt + (1 | id), seizure, poisson, offset = log_weeks)),
    nb = package(nb), gamma = package(rate),
    weighted = list(r2 = summary(weighted)$r.squared, adjusted = summary(weighted)$adj.r.squared),
    wheeze = list(tjur = num(r2_tjur(wheeze)), nagelkerke = num(r2_nagelkerke(wheeze)), mcfadden = num(r2_mcfadden(wheeze)$R2)),
    fits = list(nagelkerke = num(r2_nagelkerke(fits)), mcfadden = num(r2_mcfadden(fits)$R2), cox_snell = num(r2_coxsnell(fits)))),
  icc = frame(icc(lmer(diameter ~ 1 + (1 | plate) + (1 | sample), penicillin, control = tight), by_group = TRUE)),
  standardized = list(growth = frame(standardize_parameters(growth, method = "basic")),
                      pseudo = frame(standardize_parameters(lmer(distance ~ age * Sex + (1 | Subject), teeth, control = tight), method = "pseudo")),
                      weighted = frame(standardize_parameters(weighted, method = "basic")),
                      shed = frame(standardize_parameters(glm(resp ~ age * smoke, binomial, ohio), method = "basic", exponentiate = FALSE, ci_method = "wald"))),
  shares = list(F = F, df1 = df1, df2 = df2,
                eta2 = frame(F_to_eta2(F, df1, df2, alternative = "two.sided")),
                omega2 = frame(F_to_omega2(F, df1, df2, alternative = "two.sided")),
                epsilon2 = frame(F_to_epsilon2(F, df1, df2, alternative = "two.sided"))),
  eta_squared = frame(eta_squared(growth, alternative = "two.sided")),
  overdispersion = list(brood = unclass(check_overdispersion(brood))[1:4], shed = unclass(check_overdispersion(glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial, control = gtight)))[1:4]),
  zeros = unclass(check_zeroinflation(brood))[1:2],
  vif = list(growth = unname(as.matrix(vif(growth))), weighted = num(vif(lm(Weight ~ Time + I(Time^2), pigs))), herds = NULL,
             ticks = unname(as.matrix(vif(brood)))),
  influence = list(
    lm = list(cooks = num(cooks.distance(weighted)), dfbetas = unname(dfbetas(weighted)), covratio = num(covratio(weighted)), hat = num(hatvalues(weighted))),
    glm = list(cooks = num(cooks.distance(shed)), hat = num(hatvalues(shed)), coefficients = unname(lm.influence(working)$coefficients)),
    lmer = list(cooks = num(cooks.distance(slopes)))),
  versions = paste("performance", packageVersion("performance"), "insight", packageVersion("insight"), "effectsize", packageVersion("effectsize"),
                   "car", packageVersion("car"), "lme4", packageVersion("lme4"), R.version.string)
)
cat(toJSON(out, digits = 12, auto_unbox = TRUE))
