# What every engine in R needs: R's words collected, our numeric columns under generated names. Everything comes in as
# numbers, so that R's parser, locale and contrasts have no say; everything goes out as one list of plain vectors.

# Run `body`, collecting what R says. The value is list(value, error, notes).
collect <- function(body) {
  notes <- character()
  note <- function(kind) function(condition) {
    notes <<- c(notes, paste0(kind, trimws(conditionMessage(condition))))
    invokeRestart(if (kind == "") "muffleMessage" else "muffleWarning")
  }
  value <- tryCatch(
    withCallingHandlers(body(), warning = note("Warning: "), message = note("")),
    error = function(condition) structure(list(conditionMessage(condition)), class = "unimix_error"),
    interrupt = function(condition) structure(list("interrupted"), class = "unimix_error")
  )
  failed <- inherits(value, "unimix_error")
  list(value = if (failed) NULL else value, error = if (failed) value[[1]] else "", notes = unique(notes))
}

# Columns of a matrix under safe names, and the formula that uses them.
frame <- function(y, x, z, codes, n_levels, weights, offset = numeric()) {
  d <- list(y = y)
  for (j in seq_len(ncol(x))) d[[paste0("x", j - 1L)]] <- x[, j]
  bars <- character()
  for (k in seq_along(z)) {
    columns <- paste0("z", k - 1L, "_", seq_len(ncol(z[[k]])) - 1L)
    for (j in seq_along(columns)) d[[columns[j]]] <- z[[k]][, j]
    group <- paste0("g", k - 1L)
    levels <- as.character(seq_len(n_levels[k]))
    d[[group]] <- structure(codes[[k]], levels = levels, class = "factor")
    bars <- c(bars, paste0("(0 + ", paste(columns, collapse = " + "), " | ", group, ")"))
  }
  fixed <- if (ncol(x)) paste0("x", seq_len(ncol(x)) - 1L) else character()
  text <- paste("y ~", paste(c("0", fixed, bars), collapse = " + "))
  if (length(weights)) d[["w"]] <- weights
  if (length(offset)) d[["off"]] <- offset
  attributes(d) <- list(names = names(d), row.names = .set_row_names(length(y)), class = "data.frame")
  list(data = d, text = text)
}

# Versions of packages, "" where absent.
versions <- function(packages) {
  vapply(packages, function(p) tryCatch(as.character(packageVersion(p)), error = function(e) ""), "")
}

# Load packages, so that the time it takes is not counted as fitting.
prepare <- function(packages) {
  collect(function() list(loaded = vapply(packages, requireNamespace, TRUE, quietly = TRUE)))
}

# R's family object by unimix's names.
family_of <- function(name, link) {
  made <- switch(name, gaussian = stats::gaussian, binomial = stats::binomial, poisson = stats::poisson,
                 gamma = stats::Gamma, inverse_gaussian = stats::inverse.gaussian)
  do.call(made, list(link = if (link == "inverse_squared") "1/mu^2" else link))
}
