# Reference values of cluster-robust standard errors: Rscript tests/data/robust_r.R > tests/data/robust_r.json
# Debian's clubSandwich 0.5.8, lme4 1.1-31
suppressMessages({library(lme4); library(clubSandwich); library(jsonlite)})
data <- function(name) read.csv(file.path("src", "unimix", "datasets", paste0(name, ".csv")))
sleep <- data("sleepstudy"); sleep$Subject <- factor(sleep$Subject)
pigs <- data("dietox"); pigs[c("Pig", "Cu", "Evit", "Litter")] <- lapply(pigs[c("Pig", "Cu", "Evit", "Litter")], factor)
teeth <- data("orthodont"); teeth$Sex <- factor(teeth$Sex, levels = c("Male", "Female"))
exact <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5))
fits <- list(
  sleep = list(lmer(Reaction ~ Days + (Days | Subject), sleep, control = exact), sleep$Subject, 2),
  pigs = list(lmer(Weight ~ Time * Cu + Evit + (1 + Time | Pig), pigs, control = exact), pigs$Pig, c(3, 4)),
  litters = list(lmer(Weight ~ Time * Cu + (1 | Litter) + (1 | Pig), pigs, control = exact), pigs$Litter, c(5, 6)),
  plain = list(lm(distance ~ Sex * age, teeth), teeth$Subject, c(2, 4))
)
one <- function(entry) {
  kinds <- c("CR0", "CR1", "CR2", "CR3")
  made <- lapply(kinds, function(kind) {
    v <- vcovCR(entry[[1]], cluster = entry[[2]], type = kind)
    t <- as.data.frame(coef_test(entry[[1]], vcov = v, test = "Satterthwaite"))
    w <- as.data.frame(Wald_test(entry[[1]], constraints = constrain_zero(entry[[3]]), vcov = v, test = "HTZ"))
    df <- if ("df_Satt" %in% names(t)) t$df_Satt else t$df
    list(std_error = t$SE, df = df, F = w$Fstat, den_df = w$df_denom, p_value = w$p_val)
  })
  setNames(made, kinds)
}
cat(toJSON(lapply(fits, one), digits = NA, auto_unbox = TRUE, pretty = TRUE))
