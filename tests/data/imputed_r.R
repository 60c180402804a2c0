# Reference values of multiple imputation, by mice 3.15 and mitml 0.4-4, which are not part of the set-up:
#   Rscript tests/data/imputed_r.R tests/data/imputed_frames.csv > tests/data/imputed_r.json
# Data: rows of students within schools, 5 imputations by mice (nhanes: 20 imputations of mice's example).
suppressMessages({library(mice); library(mitml); library(lme4); library(broom.mixed); library(jsonlite)})
file <- commandArgs(trailingOnly = TRUE)[1]
if (!file.exists(file)) {
  set.seed(4)
  g <- rep(1:25, each = 6)
  x <- round(rnorm(150) + rnorm(25)[g] * 0.5, 3)
  f <- factor(sample(c("a", "b", "c"), 150, TRUE))
  y <- round(1 + 0.6 * x + 0.5 * (f == "b") + rnorm(25)[g] + rnorm(150), 3)
  data <- data.frame(g, x, f, y)
  data$x[runif(150) < 0.25] <- NA
  data$y[runif(150) < 0.1] <- NA
  imp <- mice(data, m = 5, seed = 1, printFlag = FALSE, method = c("", "norm", "", "norm"))
  long <- complete(imp, "long", include = TRUE)
  long$x <- round(long$x, 4); long$y <- round(long$y, 4)
  write.csv(long[, c(".imp", "g", "f", "x", "y")], file, row.names = FALSE, quote = FALSE)
}
long <- read.csv(file)
frames <- split(long[long$.imp > 0, ], long$.imp[long$.imp > 0])
frames <- as.mitml.list(lapply(frames, function(d) transform(d, f = factor(f), g = factor(g))))
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10))

lms <- with(frames, lm(y ~ x + f))
mixed <- with(frames, lmer(y ~ x + f + (1 | g), control = tight))
small <- with(frames, lmer(y ~ x + (1 | g), control = tight))
table <- function(fits, dfcom) {
  s <- summary(pool(fits, dfcom = dfcom), type = "all", conf.int = TRUE)
  list(estimate = s$estimate, std_error = s$std.error, df = s$df, p_value = s$p.value, lower = s$`2.5 %`,
       upper = s$`97.5 %`, riv = s$riv, share = s$lambda, fmi = s$fmi, within = s$ubar, between = s$b)
}
ratio <- function(t) list(F = t$test[1, "F.value"], num_df = t$test[1, "df1"], den_df = t$test[1, "df2"],
                          p_value = t$test[1, "P(>F)"], riv = t$test[1, "RIV"])
extra <- suppressWarnings(testEstimates(mixed, extra.pars = TRUE))$extra.pars
lml <- with(frames, lm(y ~ x))
out <- list(
  lm = table(lms, 146), mixed_infinite = table(mixed, Inf), mixed_40 = table(mixed, 40),
  lm_d1 = ratio(testModels(lms, lml, method = "D1", df.com = 146)),
  lm_d3 = ratio(testModels(lms, lml, method = "D3")),
  mixed_d1 = ratio(testModels(mixed, small, method = "D1")),
  mixed_d3 = ratio(suppressWarnings(testModels(mixed, small, method = "D3"))),
  constraint = ratio(testConstraints(mixed, constraints = c("fb", "fc"), method = "D1")),
  variances = list(g = extra["Intercept~~Intercept|g", 1], residual = extra["Residual~~Residual", 1]),
  versions = paste("mice", packageVersion("mice"), "mitml", packageVersion("mitml"), "lme4", packageVersion("lme4"))
)
cat(toJSON(out, digits = 12, auto_unbox = TRUE))
