# Reference values of hypotheses and comparisons: Rscript tests/data/hypotheses_r.R > tests/data/hypotheses_r.json
suppressMessages({library(lme4); library(lmerTest); library(car); library(emmeans); library(jsonlite)})
folder <- file.path("src", "unimix", "datasets")
pigs <- read.csv(file.path(folder, "dietox.csv"))
pigs[c("Pig", "Cu", "Evit")] <- lapply(pigs[c("Pig", "Cu", "Evit")], factor)
cbpp <- read.csv(file.path(folder, "cbpp.csv"))
cbpp[c("herd", "period")] <- lapply(cbpp[c("herd", "period")], factor)
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9))
mixed <- lmer(Weight ~ Time * Cu + Evit + (1 + Time | Pig), pigs, control = tight)
flat <- lm(Weight ~ Time * Cu, pigs)
glm1 <- glm(cbind(incidence, size - incidence) ~ period, binomial, cbpp)

# Rows: Cu035 - Cu175 = 0; 2 Time + Time:Cu035 = 14; Intercept = 15 (columns as lme4 orders them)
rows <- rbind(c(0, 0, 1, -1, 0, 0, 0, 0), c(0, 2, 0, 0, 0, 0, 1, 0), c(1, 0, 0, 0, 0, 0, 0, 0))
right <- c(0, 14, 15)
one <- function(ddf) {
  made <- lapply(1:3, function(i) contest(mixed, rows[i, ], rhs = right[i], joint = FALSE, ddf = ddf, confint = FALSE))
  made <- do.call(rbind, made)
  list(estimate = made$Estimate - right,
       std_error = made[["Std. Error"]], df = made$df, statistic = made[["t value"]], p_value = made[["Pr(>|t|)"]])
}
all <- function(ddf) {
  made <- contest(mixed, rows, rhs = right, joint = TRUE, ddf = ddf)
  list(F = made[["F value"]], num_df = made$NumDF, den_df = made$DenDF, p_value = made[["Pr(>F)"]])
}
joint <- function(made) list(F = made$F[2], chisq = made$Chisq[2], num_df = made$Df[2], den_df = made$Res.Df[2],
                             p_value = if (is.null(made$F)) made[["Pr(>Chisq)"]][2] else made[["Pr(>F)"]][2])
pair <- function(made) list(estimate = made$Estimate, std_error = made$SE)
named <- fixef(mixed)
names(named) <- paste0("b", 0:7)
delta <- lapply(c("b1 / b0", "exp(b1 / 10)", "log(b0) * b4 - sqrt(b1)"),
                function(text) deltaMethod(named, text, vcov. = as.matrix(vcov(mixed))))
grid <- emmeans(glm1, ~ period)
table <- function(made) { made <- as.data.frame(made); list(estimate = made[[2]], std_error = made$SE, p_value = made$p.value) }
equal <- as.data.frame(test(contrast(emmeans(mixed, ~ Evit, lmer.df = "satterthwaite"), "trt.vs.ctrl"), delta = 3,
                            side = "equivalence", adjust = "none"))
sleep <- subset(sleepstudy, as.integer(Subject) < 12 | Days < 5)
units <- function(k, scaled) {
  sleep$x <- sleep$Days * k
  fit <- lmer(Reaction ~ x + (1 + Days | Subject), sleep, control = tight)
  by <- if (scaled) 1 / sqrt(diag(as.matrix(vcov(fit)))) else c(1, 1)
  contestMD(fit, diag(by), rhs = c(250, 10 / k) * by)
}
out <- list(
  units = list(one = units(1, FALSE)$DenDF, ten = units(10, FALSE)$DenDF, unit = units(1, TRUE)$DenDF,
               F = units(1, FALSE)[["F value"]]),
  satterthwaite = c(one("Satterthwaite"), joint = list(all("Satterthwaite"))),
  kenward_roger = c(one("Kenward-Roger"), joint = list(all("Kenward-Roger"))),
  linear = joint(linearHypothesis(flat, c("CuCu035 - CuCu175 = 0", "Time = 7"))),
  binomial = joint(linearHypothesis(glm1, c("period2 = period3", "period4 = -1"), test = "Chisq")),
  delta = list(estimate = sapply(delta, function(d) d$Estimate), std_error = sapply(delta, function(d) d$SE)),
  differences = table(contrast(regrid(grid), "trt.vs.ctrl", adjust = "none")),
  ratios = table(contrast(regrid(grid, transform = "log"), "trt.vs.ctrl", adjust = "none", type = "response")),
  equivalence = list(estimate = equal$estimate, p_value = equal$p.value),
  versions = paste("lme4", packageVersion("lme4"), "lmerTest", packageVersion("lmerTest"), "car", packageVersion("car"),
                   "emmeans", packageVersion("emmeans"), R.version.string)
)
cat(toJSON(out, digits = 12, auto_unbox = TRUE))
