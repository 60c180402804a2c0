# Reference values of contrasts of contrasts, empty cells, joint tests and letters (emmeans 1.8.4, lme4 1.1-31):
# Rscript tests/data/contrasts_of_contrasts_r.R > tests/data/contrasts_of_contrasts_r.json
suppressMessages({library(lme4); library(lmerTest); library(emmeans); library(multcomp); library(jsonlite)})
pigs <- read.csv(file.path("src", "unimix", "datasets", "dietox.csv"))
pigs$stage <- factor(cut(pigs$Time, c(0, 4, 8, 12), labels = c("early", "mid", "late")))
pigs[c("Pig", "Cu", "Evit")] <- lapply(pigs[c("Pig", "Cu", "Evit")], factor)
# Unbalanced: rows are left out by week and dose
pigs <- pigs[!(pigs$Cu == "Cu035" & pigs$Time %% 3 == 1) & !(pigs$Evit == "Evit200" & pigs$Time %% 4 == 2), ]
holed <- pigs[!(pigs$Cu == "Cu035" & pigs$stage == "late"), ]
# Stages under each dose have names of their own
nested <- transform(pigs, part = factor(paste(substr(Cu, 3, 5), stage)))
nested <- nested[nested$part != "035 mid", ]
nested$part <- factor(nested$part)
emm_options(lmer.df = "satterthwaite")
fit <- function(formula, data) {
  made <- suppressMessages(lmer(formula, data, control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10))))
  made@call$formula <- formula  # where emmeans reads the transformation of the response
  made
}
one <- function(x, ...) {
  t <- as.data.frame(summary(x, infer = TRUE, ...))
  t <- t[!is.na(t$SE), ]
  first <- function(...) t[[intersect(c(...), names(t))[1]]]
  list(label = as.character(t[[max(which(grepl("contrast", names(t))), 1)]]),
       estimate = first("estimate", "ratio", "emmean", "response"), std_error = t$SE, df = t$df, p_value = t$p.value,
       lower = t$lower.CL, upper = t$upper.CL)
}
tests <- function(x) {
  t <- as.data.frame(x)
  list(F = t$F.ratio, num_df = t$df1, den_df = t$df2, p_value = t$p.value)
}
# emmeans takes the smallest degrees of freedom of the rows; lmerTest has Fai and Cornelius's
satterthwaite <- function(m, x) {
  each <- split(seq_len(nrow(x@linfct)), x@grid$stage)
  t <- do.call(rbind, lapply(each, function(i) contest(m, x@linfct[i, ], joint = TRUE)))
  list(F = t[["F value"]], num_df = t$NumDF, den_df = t$DenDF, p_value = t[["Pr(>F)"]])
}
crossed <- function(m, delta, ...) {
  both <- emmeans(m, c("Cu", "stage"))
  within <- contrast(both, "consec", by = "Cu")
  given <- function(x, adjust) one(x, adjust = adjust, ...)
  list(within = given(contrast(within, "pairwise", by = "contrast"), adjust = "tukey"),
       reference = given(contrast(within, "trt.vs.ctrl1", by = "contrast"), adjust = "sidak"),
       groups = given(contrast(within, "pairwise", by = "Cu"), adjust = "none"),
       all = given(contrast(within, "pairwise", by = NULL), adjust = "holm"),
       third = given(contrast(contrast(within, "pairwise", by = "contrast"), "consec", by = "contrast1"),
                   adjust = "none"),
       pairs = given(contrast(contrast(emmeans(m, "Cu"), "pairwise"), "pairwise"), adjust = "tukey"),
       effects = given(contrast(contrast(emmeans(m, "Cu"), "del.eff"), "pairwise"), adjust = "none"),
       equivalence = test(contrast(within, "pairwise", by = "contrast"), delta = delta, side = "equivalence",
                          adjust = "none")$p.value)
}
m <- fit(Weight ~ Cu * stage + Evit + (1 | Pig), pigs)
logged <- fit(log(Weight) ~ Cu * stage + Evit + (1 | Pig), pigs)
empty <- fit(Weight ~ Cu * stage + Evit + (1 | Pig), holed)
empty_log <- fit(log(Weight) ~ Cu * stage + Evit + (1 | Pig), holed)
middle <- fit(Weight ~ Cu * stage + Evit + (1 | Pig), pigs[!(pigs$Cu == "Cu035" & pigs$stage == "mid"), ])
inside <- fit(Weight ~ Cu / part + Evit + (1 | Pig), nested)
cells <- function(m, ...) {
  both <- emmeans(m, c("Cu", "stage"))
  list(consec = one(contrast(both, "consec", by = "Cu", adjust = "none"), ...),
       pairs = one(contrast(emmeans(m, "Cu"), "pairwise", adjust = "none"), ...),
       by_stage = one(contrast(both, "pairwise", by = "stage", adjust = "none"), ...),
       poly = one(contrast(both, "poly", by = "Cu"), ...),
       del_eff = one(contrast(both, "del.eff", by = "stage", adjust = "none"), ...),
       within = one(contrast(contrast(both, "consec", by = "Cu"), "pairwise", by = "contrast", adjust = "tukey"), ...))
}
letters_of <- function(m) trimws(as.data.frame(cld(emmeans(m, c("Cu", "stage")), Letters = letters, reversed = TRUE,
                                                   sort = FALSE))$.group)
values <- c(0, 1, 4)
out <- list(
  plain = crossed(m, 3), response = crossed(logged, log(1.1), type = "response"),
  joint = tests(joint_tests(m, by = "Cu")), joint_log = tests(joint_tests(logged, by = "Cu")),
  joint_empty = tests(test(contrast(emmeans(empty, c("Cu", "stage")), "consec", by = "Cu"), joint = TRUE)),
  joint_middle = tests(test(contrast(emmeans(middle, c("Cu", "stage")), "consec", by = "Cu"), joint = TRUE)),
  joint_nested = tests(test(contrast(emmeans(inside, ~ part | Cu), "pairwise"), joint = TRUE)),
  joint_stage = satterthwaite(m, contrast(emmeans(m, c("Cu", "stage")), "consec", by = "stage")),
  scores = one(contrast(emmeans(m, "stage"), as.data.frame(contr.poly(3, scores = values)))),
  poly = one(contrast(emmeans(m, "stage"), "poly")),
  poly_log = one(contrast(emmeans(logged, "stage"), "poly"), type = "response"),
  effects_log = one(contrast(emmeans(logged, "stage"), "del.eff", adjust = "none"), type = "response"),
  empty = cells(empty), empty_log = cells(empty_log, type = "response"),
  nested = list(cu = one(emmeans(inside, "Cu")), parts = one(emmeans(inside, "part")),
                pairs = one(contrast(emmeans(inside, "Cu"), "pairwise"), adjust = "tukey"),
                within = one(contrast(emmeans(inside, ~ part | Cu), "pairwise", adjust = "none"))),
  letters = letters_of(m), letters_log = letters_of(logged), letters_empty = letters_of(empty)
)
cat(toJSON(out, digits = NA, auto_unbox = TRUE, pretty = TRUE, na = "null"))
