# nlme's lme and gls: fit and extraction in one round trip. The call comes as text, its columns under generated names.

# nlme's gls stops with an error where its search ends early (its control has no returnObject, 3.1-162), and keeps
# nlminb's tolerances to itself. This is gls itself, with an nlminb and an optim that pass the end of the search on.
patient_gls <- function(settings, ended) {
  fit <- nlme::gls
  heard <- function(found) {
    ended$code <- found$convergence
    ended$message <- as.character(c(found$message, ""))[1]
    found$convergence <- 0
    found
  }
  environment(fit) <- list2env(list(
    nlminb = function(start, objective, control) heard(stats::nlminb(start, objective, control = settings)),
    optim = function(par, fn, method, control) heard(stats::optim(par, fn, method = method, control = settings))
  ), parent = asNamespace("nlme"))
  fit
}

fit_nlme <- function(text, columns, factors, starts, levels, settings, search) {
  collect(function() {
    data <- columns
    for (name in factors) data[[name]] <- factor(data[[name]])
    attributes(data) <- list(names = names(data), row.names = .set_row_names(length(data$y)), class = "data.frame")
    # the formulas of the call stand in it as values, so that R's further functions find them
    here <- list2env(c(list(data = data), starts), parent = asNamespace("nlme"))
    call <- parse(text = text)[[1]]
    mixed <- identical(call[[1]], quote(lme))
    ended <- new.env()
    call[[2]] <- as.formula(call[[2]], env = here)
    call$data <- quote(data)
    call$control <- settings
    if (!mixed) {
      here$gls <- patient_gls(search, ended)
      call$control$returnObject <- NULL
    }
    model <- eval(call, here)
    model$call[[1]] <- if (mixed) quote(nlme::lme) else quote(nlme::gls)
    c(read_nlme(model, levels), list(model = model, code = as.numeric(c(ended$code, 0)[1]),
                             message = as.character(c(ended$message, ""))[1]))
  })
}

# Everything we read from an lme or gls; covariances relative to sigma^2 and effects of the grouping factors `names`.
read_nlme <- function(model, names) {
  parts <- model$modelStruct
  mixed <- inherits(model, "lme")
  sds <- numeric()
  groups <- numeric()
  if (!is.null(parts$varStruct)) {
    each <- if (inherits(parts$varStruct, "varComb")) unclass(parts$varStruct) else list(parts$varStruct)
    for (one in each) if (inherits(one, "varIdent")) {
      known <- coef(one, unconstrained = FALSE, allCoef = TRUE)
      sds <- as.numeric(known)
      groups <- as.numeric(names(known))
    }
  }
  correlation <- numeric()
  if (!is.null(parts$corStruct)) {
    correlation <- as.numeric(coef(parts$corStruct, unconstrained = FALSE))
    # an autoregression of order T - 1 has any autocorrelations at the lags 1 to T - 1
    if (inherits(parts$corStruct, "corARMA") && length(correlation) > 1)
      correlation <- as.numeric(stats::ARMAacf(ar = correlation, lag.max = length(correlation)))[-1]
  }
  list(
    beta = as.numeric(if (mixed) model$coefficients$fixed else model$coefficients),
    beta_cov = as.numeric(if (mixed) model$varFix else model$varBeta),
    sigma = as.numeric(model$sigma),
    log_likelihood = as.numeric(model$logLik),
    relative = lapply(names, function(g) as.numeric(as.matrix(parts$reStruct[[g]]))),
    effects = lapply(names, function(g) as.numeric(model$coefficients$random[[g]])),
    levels = lapply(names, function(g) as.numeric(sub(".*/", "", rownames(model$coefficients$random[[g]])))),
    sds = sds, sd_groups = groups, correlation = correlation
  )
}
