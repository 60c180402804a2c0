# ordinal's clm and clmm: cumulative models without and with group effects.

# Terms of the blocks' effects. The column of a lone random intercept is written 1, which is how clmm knows that it may
# use quadrature, and its quicker code.
ordinal_bars <- function(z, lone) {
  if (lone) return("(1 | g0)")
  vapply(seq_along(z), function(k) {
    columns <- paste0("z", k - 1L, "_", seq_len(ncol(z[[k]])) - 1L)
    paste0("(0 + ", paste(columns, collapse = " + "), " | g", k - 1L, ")")
  }, "")
}

# One fit. `start` is empty, or list(coefficients, parameters of the covariances) as clmm takes them.
fit_ordinal <- function(y, n_categories, x, z, codes, n_levels, weights, offset, link, threshold, n_agq, lone, use_matrix,
                        control, start) {
  collect(function() {
    data <- frame(y, x, z, codes, n_levels, weights, offset)$data
    data$y <- factor(y, levels = seq_len(n_categories) - 1L, ordered = TRUE)
    fixed <- if (ncol(x)) paste0("x", seq_len(ncol(x)) - 1L) else character()
    # clmm ignores offset=, and looks for offset() in the wrong column of its data if it stands behind a random term.
    shift <- if (length(offset)) "offset(off)" else character()
    bars <- if (length(z)) ordinal_bars(z, lone) else character()
    text <- paste("y ~", paste(c("1", fixed, shift, bars), collapse = " + "))
    here <- environment()
    formula <- as.formula(text, env = here)
    w <- if (length(weights)) data$w else NULL
    off <- if (length(offset)) data$off else NULL
    call <- if (length(z))
      bquote(ordinal::clmm(.(formula), data = data, link = .(link), threshold = .(threshold), nAGQ = .(n_agq),
                           control = .(c(list(useMatrix = use_matrix, innerCtrl = "noWarn", checkRanef = "message"), control)))) else
      bquote(ordinal::clm(.(formula), data = data, link = .(link), threshold = .(threshold),
                          control = .(c(list(convergence = "silent"), control))))
    if (length(weights)) call$weights <- quote(w)
    if (length(start)) call$start <- if (lone && !use_matrix) unlist(start) else start
    model <- eval(call, here)
    c(if (length(z)) read_clmm(model, n_levels, vapply(z, ncol, 1L)) else read_clm(model), list(model = model, text = text))
  })
}

# Thresholds J alpha and the covariance matrix of (thresholds, coefficients); empty where ordinal has none.
ordinal_coefficients <- function(model, hessian) {
  k <- length(model$alpha)
  p <- length(model$beta)
  inverse <- tryCatch(chol2inv(chol(hessian)), error = function(e) NULL)
  turn <- rbind(cbind(model$tJac, matrix(0, nrow(model$tJac), p)), cbind(matrix(0, p, k), diag(p)))
  keep <- seq_len(k + p)
  list(
    thresholds = as.numeric(model$tJac %*% model$alpha), beta = as.numeric(model$beta),
    coefficients = as.numeric(model$coefficients[keep]),
    covariance = if (is.null(inverse)) numeric() else as.numeric(turn %*% inverse[keep, keep, drop = FALSE] %*% t(turn)),
    log_likelihood = as.numeric(model$logLik)
  )
}

read_clm <- function(model) {
  c(ordinal_coefficients(model, model$Hessian),
    list(covariances = list(), modes = list(), mode_covs = list(), code = as.numeric(model$convergence$code),
         message = paste(model$message, collapse = "; "), gradient = as.numeric(model$maxGradient)))
}

# The effects of a term are kept column by column. clmm orders its terms by their numbers of levels, and the names of
# its lists of covariances are in another order where these are equal (2022.11-16): those of its factors are right.
read_clmm <- function(model, n_levels, widths) {
  order <- names(model$gfList)
  groups <- paste0("g", seq_along(n_levels) - 1L)
  sizes <- (n_levels * widths)[match(order, groups)]
  ends <- cumsum(sizes)
  place <- lapply(match(groups, order), function(i) seq(to = ends[i], length.out = sizes[i]))
  variance <- function(k) {
    one <- model$condVar
    if (is.null(dim(one))) return(as.numeric(one[place[[k]]]))
    q <- widths[k]
    levels <- n_levels[k]
    whole <- as.matrix(one[place[[k]], place[[k]]])
    as.numeric(vapply(seq_len(levels), function(l) whole[l + levels * (seq_len(q) - 1), l + levels * (seq_len(q) - 1)],
                      matrix(0, q, q)))
  }
  factors <- unname(model$ST)[match(groups, order)]
  # standard deviations that are zero are held there: clmm's Hessian, which begins with the coefficients, is without them
  c(ordinal_coefficients(model, model$Hessian),
    list(covariances = lapply(factors, function(f) as.numeric(f %*% t(f))),
         modes = lapply(place, function(i) as.numeric(model$ranef[i])),
         mode_covs = lapply(seq_along(groups), variance),
         code = as.numeric(model$optRes$convergence), message = as.character(model$optRes$message),
         gradient = max(abs(model$gradient)), order = match(order, groups) - 1))
}
