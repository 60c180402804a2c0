# Writes design_r.json: lme4's fixed and random columns for formulas that unimix must read alike.
#   Rscript design_r.R design_r.json
suppressMessages({
  library(lme4)
  library(jsonlite)
})
out <- commandArgs(trailingOnly = TRUE)[1]
set.seed(20240607)
n <- 48
d <- data.frame(
  y = rnorm(n), x = rnorm(n, 3, 2), z = runif(n, 1, 5),
  f = factor(sample(rep(c("a", "b", "c"), n / 3)), levels = c("b", "a", "c")),
  h = factor(sample(rep(c("u", "v"), n / 2))),
  k = sample(rep(c(1, 2, 5, 9), n / 4)),
  g = factor(rep(c("g1", "g2", "g3", "g4", "g5", "g6"), each = n / 6)),
  s = factor(rep(c("s1", "s2"), n / 2)),
  r = factor(sample(rep(c("r1", "r2", "r3", "r4"), n / 4)))
)
formulas <- c(
  "y ~ x + (1 | g)",
  "y ~ 0 + x + (1 | g)",
  "y ~ x * f + (1 | g)",
  "y ~ x:f + (1 | g)",
  "y ~ 0 + f + (1 | g)",
  "y ~ 0 + x:f + (1 | g)",
  "y ~ f * h + (1 | g)",
  "y ~ f + f:h + (1 | g)",
  "y ~ f:h + (1 | g)",
  "y ~ f / x + (1 | g)",
  "y ~ f / h + (1 | g)",
  "y ~ (x + f + h)^2 + (1 | g)",
  "y ~ x * f * h + (1 | g)",
  "y ~ x * f - x + (1 | g)",
  "y ~ f * h - f + (1 | g)",
  "y ~ (x + z) %in% f + (1 | g)",
  "y ~ poly(x, 2) + (1 | g)",
  "y ~ poly(x, 2) * h + (1 | g)",
  "y ~ log(z) + I(x^2) + sqrt(z) + (1 | g)",
  "y ~ scale(x) + (1 | g)",
  "y ~ factor(k) + (1 | g)",
  "log(y^2 + 1) ~ x + (x | g)",
  "y ~ x + (x | g)",
  "y ~ x + (0 + x | g)",
  "y ~ x + z + (x + z || g)",
  "y ~ x + (f | g)",
  "y ~ x + (0 + f | g)",
  "y ~ x + (1 | g) + (0 + x | g)",
  "y ~ x + (1 | g) + (1 | r)",
  "y ~ x + (1 | g/s)",
  "y ~ x + (x | g:s)",
  "y ~ x + (1 | r/g)",
  "y ~ x + (poly(x, 2) | g)",
  "y ~ x + (log(z) | g) + (1 | r)",
  "y ~ x + (x * h | g)",
  "y ~ x + (1 | k)",
  "y ~ f + x + I(2 * x) + (1 | g)"
)
control <- lmerControl(
  check.nobs.vs.nRE = "ignore", check.nobs.vs.nlev = "ignore",
  check.nobs.vs.rankZ = "ignore", check.scaleX = "ignore"
)
one <- function(text) {
  m <- suppressMessages(lFormula(as.formula(text), d, control = control))
  re <- m$reTrms
  blocks <- lapply(seq_along(re$Ztlist), function(i) {
    zt <- as.matrix(re$Ztlist[[i]])
    terms <- re$cnms[[i]]
    q <- length(terms)
    z <- sapply(seq_len(q), function(j) colSums(zt[seq(j, nrow(zt), by = q), , drop = FALSE]))
    group <- re$flist[[attr(re$flist, "assign")[i]]]
    list(group = names(re$cnms)[i], terms = I(terms), z = unname(z), level = as.character(group),
         levels = levels(group))
  })
  list(formula = text, y = unname(model.response(m$fr)), names = I(colnames(m$X)),
       x = unname(matrix(m$X, nrow(m$X))), blocks = blocks)
}
data <- lapply(d, function(v) if (is.factor(v)) list(levels = levels(v), values = as.character(v)) else v)
result <- list(r = R.version.string, lme4 = as.character(packageVersion("lme4")), data = data,
               cases = lapply(formulas, one))
write(toJSON(result, digits = NA, auto_unbox = TRUE, matrix = "columnmajor"), out)
