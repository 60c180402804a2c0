# Writes the CSV files of this folder and index.json, from the data sets of R packages.
#
#   Rscript src/unimix/datasets/export.R
#
# Needs the R packages lme4, nlme, geepack, ordinal and jsonlite. Values carry 15 significant digits, an empty field is a missing
# value, and the order of factor levels stands in index.json. Ordered factors (nlme's Subject and School) become plain
# factors with the levels in the same order.

script <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
out <- dirname(normalizePath(script))

read_data <- function(name, package) {
  where <- new.env()
  suppressWarnings(utils::data(list = name, package = package, envir = where))
  x <- if (exists(name, envir = where, inherits = FALSE)) where[[name]] else getExportedValue(package, name)
  data.frame(lapply(as.list(x), as_plain), check.names = FALSE)
}

as_plain <- function(x) {
  if (is.factor(x)) return(factor(as.character(x), levels = levels(droplevels(x))))
  stopifnot(is.numeric(x))
  as.vector(x)
}

column <- function(x, about) {
  kind <- if (is.factor(x)) {
    list(type = "factor", levels = I(levels(x)))
  } else if (all(x == round(x), na.rm = TRUE) && !anyNA(x)) {
    list(type = "integer")
  } else {
    list(type = "number")
  }
  if (anyNA(x)) kind$n_missing <- sum(is.na(x))
  c(kind, list(description = about))
}

# `whole` names ratings, ordered factors of numbers, which are written as whole numbers.
export <- function(r_name, package, description, reference, columns, whole = character()) {
  x <- read_data(r_name, package)[names(columns)]
  x[whole] <- lapply(x[whole], function(rating) as.integer(as.character(rating)))
  file <- paste0(tolower(r_name), ".csv")
  stopifnot(!grepl("[\",\n]", unlist(lapply(Filter(is.factor, x), levels))))
  connection <- file(file.path(out, file), "wb", encoding = "UTF-8")
  on.exit(close(connection))
  utils::write.csv(x, connection, row.names = FALSE, na = "", quote = FALSE, eol = "\n")
  list(
    file = file,
    rows = nrow(x),
    description = description,
    columns = Map(column, x, columns),
    source = list(
      package = package, version = as.character(utils::packageVersion(package)), object = r_name, reference = reference
    ),
    licence = utils::packageDescription(package)$License
  )
}

index <- list(
  cbpp = export(
    "cbpp", "lme4",
    "Contagious bovine pleuropneumonia: new cases in 15 herds over four periods.",
    "Lesnoff et al. (2004), Preventive Veterinary Medicine 64, 27-40",
    c(
      herd = "herd", incidence = "new serological cases in the period", size = "animals in the herd at its start",
      period = "period 1 to 4"
    )
  ),
  dietox = export(
    "dietox", "geepack",
    "Weekly weights of 72 pigs under three doses of vitamin E and three of copper.",
    "Lauridsen, Hojsgaard and Sorensen (1999), Journal of Animal Science 77, 906-916",
    c(
      Pig = "pig", Evit = "dose of vitamin E", Cu = "dose of copper", Litter = "litter",
      Start = "weight at the start, kg", Weight = "weight, kg", Feed = "feed eaten so far, kg; missing in week 1",
      Time = "week"
    )
  ),
  grouseticks = export(
    "grouseticks", "lme4",
    "Ticks on the heads of red grouse chicks, in broods at locations over three years.",
    "Elston et al. (2001), Parasitology 122, 563-569",
    c(
      INDEX = "chick: one level per row", TICKS = "number of ticks", BROOD = "brood", HEIGHT = "height above sea level, m",
      YEAR = "year", LOCATION = "location", cHEIGHT = "height minus its mean, m"
    )
  ),
  mathachieve = export(
    "MathAchieve", "nlme",
    "Mathematics achievement of 7185 students in 160 schools (High School and Beyond).",
    "Bryk and Raudenbush (1992), Hierarchical Linear Models; Pinheiro and Bates (2000), appendix A.10",
    c(
      School = "school", Minority = "member of a minority", Sex = "sex",
      SES = "socio-economic status of the student", MathAch = "mathematics achievement score",
      MEANSES = "mean socio-economic status of the school"
    )
  ),
  orthodont = export(
    "Orthodont", "nlme",
    "Growth of a facial distance in 27 children, measured at ages 8, 10, 12 and 14.",
    "Potthoff and Roy (1964), Biometrika 51, 313-326",
    c(
      distance = "distance from pituitary to pterygomaxillary fissure, mm", age = "age, years", Subject = "child",
      Sex = "sex"
    )
  ),
  pastes = export(
    "Pastes", "lme4",
    "Strength of a chemical paste: three casks in each of ten batches, two tests a cask.",
    "Davies and Goldsmith (1972), table 6.5",
    c(
      strength = "paste strength", batch = "delivery batch",
      cask = "cask; labels repeat in every batch: nested in batch", sample = "batch and cask together"
    )
  ),
  penicillin = export(
    "Penicillin", "lme4",
    "Diameter of growth inhibition: six samples of penicillin on each of 24 plates (crossed).",
    "Davies and Goldsmith (1972), table 6.6",
    c(diameter = "diameter of the zone of inhibition, mm", plate = "assay plate", sample = "penicillin sample")
  ),
  sleepstudy = export(
    "sleepstudy", "lme4",
    "Reaction times of 18 subjects over ten days of sleep deprivation.",
    "Belenky et al. (2003), Journal of Sleep Research 12, 1-12",
    c(Reaction = "mean reaction time, ms", Days = "days of sleep deprivation", Subject = "subject")
  ),
  wine = export(
    "wine", "ordinal",
    "Bitterness of white wine, rated from 1 to 5 by nine judges: two bottles of each of four treatments.",
    "Randall (1989), Biometrical Journal 31, 781-793",
    c(
      rating = "bitterness, 1 (least) to 5", temp = "temperature when the grapes were crushed",
      contact = "whether juice and skins were in contact", bottle = "bottle", judge = "judge"
    ),
    whole = "rating"
  )
)

json <- jsonlite::toJSON(index, auto_unbox = TRUE, pretty = TRUE)
writeLines(enc2utf8(json), file.path(out, "index.json"), useBytes = TRUE)
cat(sprintf("%-12s %5d rows\n", names(index), vapply(index, `[[`, 1L, "rows")), sep = "")
