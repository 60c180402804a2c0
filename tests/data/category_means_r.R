# Reference values of marginal means of ordered responses (ordinal 2022.11-16, emmeans 1.8.4), and the simulated data:
# Rscript tests/data/category_means_r.R > tests/data/category_means_r.json
suppressMessages({library(ordinal); library(emmeans); library(jsonlite)})
set.seed(11)
n <- 240
data <- data.frame(dose = rep(c("low", "mid", "high"), length.out = n), arm = rep(c("a", "b"), each = n / 2),
                   rater = sprintf("r%02d", rep(1:16, length.out = n)), x = round(rnorm(n), 3))
latent <- 0.9 * (data$dose == "high") + 0.6 * (data$arm == "b") - 0.5 * data$x + rep(rnorm(16, 0, 0.8), length.out = n)
data$score <- findInterval(latent + rlogis(n), c(-1, 0.4, 1.6)) + 1
made <- transform(data, score = factor(score, ordered = TRUE), dose = factor(dose), arm = factor(arm), rater = factor(rater))
tight <- clmm.control(grtol = 1e-9, maxIter = 500)
fits <- list(mixed = clmm(score ~ dose * arm + x + (1 | rater), data = made, control = tight),
             probit = clm(score ~ dose + arm * x, data = made, link = "probit"))
answers <- lapply(fits, function(fit) {
  one <- function(mode, what) {
    t <- as.data.frame(summary(emmeans(fit, what, mode = mode)))
    list(estimate = t[[intersect(c("prob", "exc.prob", "mean.class"), names(t))]], std_error = t$SE)
  }
  differences <- as.data.frame(pairs(emmeans(fit, ~ dose | score, mode = "prob"), adjust = "none"))
  list(probability = one("prob", ~ score | dose), exceedance = one("exc.prob", ~ cut | dose), mean = one("mean.class", ~ dose),
       pairs = list(estimate = differences$estimate, std_error = differences$SE, p_value = differences$p.value))
})
cat(toJSON(list(data = data, answers = answers), digits = 12, auto_unbox = TRUE))
