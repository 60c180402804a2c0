# lme4, lmerTest, pbkrtest and R's lm and glm: fit and extraction in one round trip.

# Degrees of freedom of the rows of `contrasts`: list(df, std_error).
denominator_df <- function(model, contrasts, method) {
  if (method == "satterthwaite") {
    tested <- if (inherits(model, "lmerModLmerTest")) model else lmerTest::as_lmerModLmerTest(model)
    rows <- lapply(seq_len(nrow(contrasts)), function(i)
      lmerTest::contest1D(tested, contrasts[i, ], ddf = "Satterthwaite"))
    return(list(df = vapply(rows, function(r) r[["df"]], 0), std_error = numeric()))
  }
  adjusted <- as.matrix(pbkrtest::vcovAdj(model))
  plain <- as.matrix(vcov(model))
  df <- vapply(seq_len(nrow(contrasts)), function(i)
    as.numeric(pbkrtest::Lb_ddf(contrasts[i, ], plain, pbkrtest::vcovAdj(model))), 0)
  list(df = df, std_error = sqrt(rowSums((contrasts %*% adjusted) * contrasts)), vcov = adjusted)
}

# What a Newton step from the end of the search promises, in units of the log-likelihood, and the least eigenvalue
# of the Hessian as a part of the largest. lme4's own check looks at single derivatives, which grow with the data.
promised <- function(derivs) {
  if (is.null(derivs$gradient) || !all(is.finite(derivs$gradient)) || !all(is.finite(derivs$Hessian)))
    return(c(NA_real_, NA_real_))
  spectrum <- eigen(as.matrix(derivs$Hessian), symmetric = TRUE)
  values <- spectrum$values
  part <- as.numeric(crossprod(spectrum$vectors, derivs$gradient))
  largest <- max(abs(values))
  # Along a flat direction the deviance falls by its slope times a step of 1 at most, theta being of order 1.
  flat <- abs(values) < 1e-8 * largest
  c(sum(ifelse(flat, abs(part), part^2 / (2 * ifelse(flat, 1, abs(values))))) / 2, min(values) / largest)
}

# Everything we read from a merMod, in the order of the blocks g0, g1, ...; the conditional covariances of the modes
# only where they are asked for: lme4 takes five times as long for them as for the fit.
extract <- function(model, n_blocks, contrasts, df_method, cond_var) {
  modes <- lme4::ranef(model, condVar = cond_var)
  components <- lme4::VarCorr(model)
  groups <- paste0("g", seq_len(n_blocks) - 1L)
  info <- model@optinfo
  ahead <- promised(info$derivs)
  out <- list(
    beta = as.numeric(lme4::fixef(model)),
    beta_cov = as.numeric(as.matrix(vcov(model))),
    sigma = sigma(model),
    theta = as.numeric(lme4::getME(model, "theta")),
    covariances = lapply(groups, function(g) as.numeric(components[[g]])),
    modes = lapply(groups, function(g) as.numeric(as.matrix(modes[[g]]))),
    mode_covs = lapply(groups, function(g) as.numeric(attr(modes[[g]], "postVar"))),
    log_likelihood = as.numeric(logLik(model)),
    is_reml = lme4::isREML(model),
    singular = lme4::isSingular(model),
    optimizer = as.character(info$optimizer),
    code = as.numeric(c(info$conv$opt, 0)[1]),
    evaluations = as.numeric(c(info$feval, NA)[1]),
    warnings = as.character(unlist(c(info$conv$lme4$messages, info$warnings))),
    gradient = as.numeric(if (length(info$derivs$gradient)) max(abs(info$derivs$gradient)) else NA_real_),
    gain = ahead[1], curvature = ahead[2],
    names = names(lme4::fixef(model)),
    df = numeric(), std_error = numeric(), df_error = ""
  )
  if (df_method %in% c("satterthwaite", "kenward-roger") && nrow(contrasts)) {
    found <- tryCatch(denominator_df(model, contrasts, df_method), error = function(e) conditionMessage(e))
    if (is.character(found)) out$df_error <- found
    else {
      out$df <- found$df
      out$std_error <- found$std_error
      if (!is.null(found$vcov)) out$beta_cov <- as.numeric(found$vcov)
    }
  }
  out
}

# One search with lme4, and more from other starts where the first ended on the boundary: an optimizer
# that slid onto it can be stuck below the optimum. `whole`: with lme4's own derivatives and conditional covariances,
# which unimix has at a fraction of the time wherever the effects are not tied together by the thousand.
fit_lmer <- function(y, x, z, codes, n_levels, weights, reml, optimizer, control, start, restarts,
                     contrasts, df_method, whole) {
  collect(function() {
    made <- frame(y, x, z, codes, n_levels, weights)
    data <- made$data
    w <- if (length(weights)) data$w else NULL
    settings <- lme4::lmerControl(
      optimizer = optimizer, optCtrl = control, calc.derivs = whole,
      check.nobs.vs.nlev = "ignore", check.nobs.vs.nRE = "ignore", check.nobs.vs.rankZ = "ignore",
      check.rankX = "ignore", check.scaleX = "ignore", check.formula.LHS = "ignore"
    )
    # lmerTest and update() evaluate the stored call again, in the environment of the stored formula: so the
    # formula and the small arguments stand in it as values, and the environment is the one with the data.
    formula <- as.formula(made$text, env = environment())
    search <- function(from) {
      call <- bquote(lme4::lmer(.(formula), data = data, REML = .(reml), control = settings, start = .(from)))
      if (!is.null(w)) call$weights <- quote(w)
      eval(call, environment(formula))
    }
    model <- search(if (length(start)) start else NULL)
    n_starts <- 1
    if (restarts > 0 && lme4::isSingular(model)) {
      diagonal <- lme4::getME(model, "lower") == 0
      for (scale in c(0.1, 3, 0.01)[seq_len(restarts)]) {
        other <- tryCatch(search(ifelse(diagonal, scale, 0)), error = function(e) NULL)
        n_starts <- n_starts + 1
        if (!is.null(other) && logLik(other) > logLik(model) + 1e-9) model <- other
      }
    }
    c(extract(model, length(z), contrasts, df_method, whole),
      list(model = model, text = made$text, n_starts = n_starts))
  })
}

fit_lm <- function(y, x, weights) {
  collect(function() {
    made <- frame(y, x, list(), list(), integer(), weights)
    data <- made$data
    formula <- as.formula(made$text)
    model <- if (length(weights)) lm(formula, data = data, weights = data$w) else lm(formula, data = data)
    list(beta = as.numeric(coef(model)), beta_cov = as.numeric(vcov(model)), sigma = sigma(model),
         log_likelihood = as.numeric(logLik(model)), df = as.numeric(df.residual(model)),
         model = model, text = made$text)
  })
}

# A generalised model: glmer, or glmer.nb for the negative binomial, whose theta has a search of its own around it.
fit_glmer <- function(y, x, z, codes, n_levels, weights, offset, family, link, n_agq, optimizer, control, tolerance,
                      start, restarts) {
  collect(function() {
    made <- frame(y, x, z, codes, n_levels, weights, offset)
    data <- made$data
    w <- if (length(weights)) data$w else NULL
    off <- if (length(offset)) data$off else NULL
    settings <- lme4::glmerControl(
      optimizer = optimizer, optCtrl = control, calc.derivs = TRUE, tolPwrss = tolerance,
      check.nobs.vs.nlev = "ignore", check.nobs.vs.nRE = "ignore", check.nobs.vs.rankZ = "ignore",
      check.rankX = "ignore", check.scaleX = "ignore", check.formula.LHS = "ignore"
    )
    formula <- as.formula(made$text, env = environment())
    negative <- family == "negative_binomial"
    kind <- if (negative) NULL else family_of(family, link)
    search <- function(from) {
      call <- if (negative) bquote(lme4::glmer.nb(.(formula), data = data, control = settings)) else
        bquote(lme4::glmer(.(formula), data = data, family = kind, nAGQ = .(n_agq), control = settings,
                           start = .(from)))
      if (!is.null(w)) call$weights <- quote(w)
      if (!is.null(off)) call$offset <- quote(off)
      eval(call, environment(formula))
    }
    model <- search(if (length(start)) list(theta = start) else NULL)
    n_starts <- 1
    if (restarts > 0 && !negative && lme4::isSingular(model)) {
      diagonal <- lme4::getME(model, "lower") == 0
      for (scale in c(0.1, 3, 0.01)[seq_len(restarts)]) {
        other <- tryCatch(search(list(theta = ifelse(diagonal, scale, 0))), error = function(e) NULL)
        n_starts <- n_starts + 1
        if (!is.null(other) && logLik(other) > logLik(model) + 1e-9) model <- other
      }
    }
    if (restarts > 0 && !negative && isTRUE(promised(model@optinfo$derivs)[1] > 1e-6)) {
      settings$optimizer <- rep(if (optimizer == "bobyqa") "nloptwrap" else "bobyqa", 2)
      settings$optCtrl <- list()
      from <- list(theta = lme4::getME(model, "theta"))
      if (ncol(x)) from$fixef <- lme4::fixef(model)
      further <- tryCatch(search(from), error = function(e) NULL)
      n_starts <- n_starts + 1
      if (!is.null(further) && logLik(further) > logLik(model)) model <- further
    }
    c(extract(model, length(z), matrix(0, 0, 0), "normal", TRUE),
      list(model = model, text = made$text, n_starts = n_starts,
           size = as.numeric(if (negative) lme4::getME(model, "glmer.nb.theta") else NA)))
  })
}

fit_glm <- function(y, x, weights, offset, family, link) {
  collect(function() {
    made <- frame(y, x, list(), list(), integer(), weights, offset)
    data <- made$data
    formula <- as.formula(made$text, env = environment())
    call <- if (family == "negative_binomial")
      bquote(MASS::glm.nb(.(formula), data = data, link = .(as.name(link)),
                          control = stats::glm.control(epsilon = 1e-12, maxit = 200))) else
      bquote(stats::glm(.(formula), data = data, family = .(family_of(family, link)),
                        control = stats::glm.control(epsilon = 1e-12, maxit = 200)))
    w <- if (length(weights)) data$w else NULL
    off <- if (length(offset)) data$off else NULL
    if (length(weights)) call$weights <- quote(w)
    if (length(offset)) call$offset <- quote(off)
    model <- eval(call, environment(formula))
    c(read_glm(model), list(model = model, text = made$text))
  })
}

read_glm <- function(model) {
  list(beta = as.numeric(coef(model)), beta_cov = as.numeric(vcov(model)),
       log_likelihood = as.numeric(logLik(model)), df = as.numeric(df.residual(model)),
       converged = as.numeric(model$converged && !isTRUE(model$boundary)),
       size = as.numeric(if (is.null(model$theta)) NA else model$theta))
}

extract_glm <- function(model) collect(function() read_glm(model))

extract_model <- function(model, n_blocks, contrasts, df_method, cond_var) {
  collect(function() extract(model, n_blocks, contrasts, df_method, cond_var))
}

# What tells whether another start is worth trying.
boundary <- function(model, n_blocks) {
  collect(function() {
    components <- lme4::VarCorr(model)
    groups <- paste0("g", seq_len(n_blocks) - 1L)
    list(singular = as.numeric(lme4::isSingular(model)), log_likelihood = as.numeric(logLik(model)),
         diagonal = as.numeric(lme4::getME(model, "lower") == 0), sigma = sigma(model),
         covariances = lapply(groups, function(g) as.numeric(components[[g]])))
  })
}

extract_lm <- function(model) {
  collect(function() list(beta = as.numeric(coef(model)), beta_cov = as.numeric(vcov(model)), sigma = sigma(model),
                          log_likelihood = as.numeric(logLik(model)), df = as.numeric(df.residual(model))))
}

# The REML criterion at given theta (lme4's own function), without a fit.
evaluate_lmer <- function(y, x, z, codes, n_levels, weights, theta) {
  collect(function() {
    made <- frame(y, x, z, codes, n_levels, weights, numeric())
    data <- made$data
    formula <- as.formula(made$text, env = environment())
    w <- if (length(weights)) data$w else NULL
    call <- bquote(lme4::lmer(.(formula), data = data, devFunOnly = TRUE))
    if (!is.null(w)) call$weights <- quote(w)
    list(value = as.numeric(eval(call, environment())(theta)))
  })
}
