# glmmTMB: fit and extraction in one round trip.

# glmmTMB's family object by unimix's names.
tmb_family <- function(name, link) {
  made <- switch(name, negative_binomial = glmmTMB::nbinom2, negative_binomial_1 = glmmTMB::nbinom1,
                 beta = glmmTMB::beta_family, beta_binomial = glmmTMB::betabinomial,
                 generalised_poisson = glmmTMB::genpois, student_t = glmmTMB::t_family, tweedie = glmmTMB::tweedie,
                 truncated_poisson = glmmTMB::truncated_poisson,
                 truncated_negative_binomial = glmmTMB::truncated_nbinom2, NULL)
  if (is.null(made)) family_of(name, link) else do.call(made, list(link = link))
}

# The random terms under generated names; ar1 needs its columns as the one factor that they are the indicators of, and
# ou, exp and gau as a factor whose levels are coordinates.
tmb_terms <- function(data, z, structures, coordinates) {
  bars <- character()
  for (k in seq_along(z)) {
    columns <- paste0("z", k - 1L, "_", seq_len(ncol(z[[k]])) - 1L)
    if (structures[k] == "ar1") {
      columns <- paste0("t", k - 1L)
      data[[columns]] <- factor(max.col(z[[k]], "first"), levels = seq_len(ncol(z[[k]])))
    }
    if (structures[k] %in% c("ou", "exp", "gau")) {
      columns <- paste0("t", k - 1L)
      data[[columns]] <- glmmTMB::numFactor(coordinates[[k]][max.col(z[[k]], "first")])
    }
    bars <- c(bars, paste0(structures[k], "(0 + ", paste(columns, collapse = " + "), " | g", k - 1L, ")"))
  }
  list(data = data, bars = bars)
}

# Correlated residuals are effects of each row beside residuals without a variance, independent ones with several
# variances a model of the dispersion: a list of the terms, the formula of the dispersion ("" for the given one) and data.
tmb_residual <- function(data, residual) {
  none <- list(data = data, bars = character(), dispersion = "")
  if (!length(residual)) return(none)
  times <- factor(residual$times, levels = seq_len(residual$n_times))
  if (residual$structure == "diag") {
    data$k <- times
    return(list(data = data, bars = character(), dispersion = "~ 0 + k"))
  }
  data$r <- factor(residual$codes)
  data$k <- if (length(residual$coordinates)) glmmTMB::numFactor(residual$coordinates[residual$times]) else times
  list(data = data, bars = paste0(residual$structure, "(0 + k | r)"), dispersion = "~ 0")
}

fit_tmb <- function(y, x, z, codes, n_levels, weights, offset, structures, coordinates, residual, family, link, zero,
                    dispersion, reml, method, control, start, start_beta) {
  collect(function() {
    made <- frame(y, x, z, codes, n_levels, weights, offset)
    terms <- tmb_terms(made$data, z, structures, coordinates)
    correlated <- tmb_residual(terms$data, residual)
    data <- correlated$data
    terms$bars <- c(terms$bars, correlated$bars)
    fixed <- if (ncol(x)) paste0("x", seq_len(ncol(x)) - 1L) else character()
    text <- paste("y ~", paste(c("0", fixed, terms$bars), collapse = " + "))
    one_sided <- function(columns, letter) {
      if (!length(columns)) return(if (letter == "u") "~0" else "~1")
      names <- paste0(letter, seq_len(ncol(columns)) - 1L)
      for (j in seq_along(names)) data[[names[j]]] <<- columns[, j]
      paste("~ 0 +", paste(names, collapse = " + "))
    }
    zero_text <- one_sided(zero, "u")
    dispersion_text <- if (nzchar(correlated$dispersion)) correlated$dispersion else one_sided(dispersion, "v")
    here <- environment()
    formula <- as.formula(text, env = here)
    call <- bquote(glmmTMB::glmmTMB(
      .(formula), data = data, family = .(tmb_family(family, link)), REML = .(reml),
      ziformula = .(as.formula(zero_text, env = here)), dispformula = .(as.formula(dispersion_text, env = here)),
      control = settings
    ))
    if (length(weights)) call$weights <- quote(w)
    if (length(offset)) call$offset <- quote(off)
    # In the data's environment a variable `start` also keeps R's families from looking for means of their own.
    from <- list()
    if (length(start)) from$theta <- start
    if (length(start_beta)) from$beta <- start_beta
    if (length(from)) call$start <- from
    w <- if (length(weights)) data$w else NULL
    off <- if (length(offset)) data$off else NULL
    optimizer <- if (method == "nlminb") stats::nlminb else stats::optim
    arguments <- if (method == "nlminb") list() else list(method = method)
    settings <- glmmTMB::glmmTMBControl(optCtrl = control, optimizer = optimizer, optArgs = arguments,
                                        rank_check = "skip", conv_check = "skip")
    model <- eval(call, here)
    c(read_tmb(model, length(z)), list(model = model, text = text, zero = zero_text, dispersion = dispersion_text))
  })
}

# The coefficients of the dispersion: glmmTMB renamed them in 1.1.10 (its NEWS).
tmb_dispersion <- c("betad", "betadisp")

# Everything we read from a glmmTMB, in the order of the blocks g0, g1, ...
read_tmb <- function(model, n_blocks) {
  report <- model$sdr
  inside <- model$fit$par
  index <- function(known) which(names(inside) %in% known)
  dispersed <- index(tmb_dispersion)
  covariance <- as.matrix(report$cov.fixed)
  gradient <- as.numeric(report$gradient.fixed)
  components <- glmmTMB::VarCorr(model)$cond
  effects <- if (n_blocks) glmmTMB::ranef(model, condVar = FALSE)$cond else list()
  groups <- if (n_blocks) paste0("g", seq_len(n_blocks) - 1L) else character()
  positive <- isTRUE(report$pdHess) && all(is.finite(covariance))
  beta <- as.numeric(glmmTMB::fixef(model)$cond)
  vcov <- tryCatch(as.numeric(as.matrix(stats::vcov(model)$cond)), error = function(e) numeric())
  list(
    residual = as.numeric(if (is.null(components[["r"]])) numeric() else matrix(components[["r"]], nrow(components[["r"]]))),
    beta = beta, beta_cov = if (positive || all(is.finite(vcov))) vcov else numeric(),
    covariances = lapply(groups, function(g) as.numeric(matrix(components[[g]], nrow(components[[g]])))),
    modes = lapply(groups, function(g) as.numeric(as.matrix(effects[[g]]))),
    log_likelihood = -as.numeric(model$fit$objective),
    sigma = as.numeric(tryCatch(glmmTMB::sigma(model), error = function(e) NA))[1],
    # the power of a Tweedie model, or the degrees of freedom of Student's t
    shape = as.numeric(tryCatch(glmmTMB::family_params(model), error = function(e) numeric())),
    code = as.numeric(model$fit$convergence), message = as.character(model$fit$message),
    positive = as.numeric(positive), gradient = max(abs(gradient)),
    gain = if (positive) as.numeric(0.5 * crossprod(gradient, covariance %*% gradient)) else NA_real_,
    zero_beta = as.numeric(glmmTMB::fixef(model)$zi),
    zero_cov = as.numeric(as.matrix(covariance[index("betazi"), index("betazi")])),
    # with the coefficients of the mean; empty if these were integrated out (REML)
    zero_cross = as.numeric(as.matrix(covariance[index("beta"), index("betazi")])),
    dispersion_beta = as.numeric(inside[dispersed]),
    dispersion_cov = as.numeric(as.matrix(covariance[dispersed, dispersed]))
  )
}

# Whether this glmmTMB models log sigma (2, since 1.1.9) or log sigma^2 (1) of a Gaussian response, as a fit shows.
tmb_sigma_power <- function() {
  collect(function() {
    d <- data.frame(y = c(-3, -1, 0, 1, 3, 4))
    m <- glmmTMB::glmmTMB(y ~ 1, data = d)
    dispersed <- m$fit$par[names(m$fit$par) %in% tmb_dispersion]
    list(power = as.numeric(round(2 * log(glmmTMB::sigma(m)) / dispersed)))
  })
}
