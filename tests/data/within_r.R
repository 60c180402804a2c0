# Reference values of within and between effects, from columns made by hand:
# Rscript tests/data/within_r.R > tests/data/within_r.json
suppressMessages({library(lme4); library(nlme); library(emmeans); library(jsonlite)})
school <- read.csv(file.path("src", "unimix", "datasets", "mathachieve.csv")); school$School <- factor(school$School)
school$Sex <- factor(school$Sex, levels = c("Male", "Female"))
school <- school[-c(3, 50, 51, 4000), ]  # rows that the tests leave out by missing values
school$mean <- ave(school$SES, school$School); school$dev <- school$SES - school$mean
school$high <- as.numeric(school$MathAch > 15)
num <- function(x) unname(as.numeric(x))
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10))
gtight <- glmerControl(optimizer = "bobyqa", tolPwrss = 1e-10, optCtrl = list(rhoend = 1e-8, maxfun = 1e5))
mixed <- function(fit) list(fixed = num(fixef(fit)), se = num(sqrt(diag(as.matrix(vcov(fit))))),
                            sd = num(as.data.frame(VarCorr(fit))$sdcor), log_likelihood = num(logLik(fit)))
hybrid <- lmer(MathAch ~ dev + mean + (1 | School), school, control = tight)
mundlak <- lmer(MathAch ~ SES + mean + (1 | School), school, control = tight)
slopes <- lmer(MathAch ~ Sex + dev * mean + (1 + dev | School), school, control = tight)
binary <- glmer(high ~ dev + mean + (1 | School), school, binomial, control = gtight)
by_nlme <- lme(MathAch ~ dev + mean, school, random = ~ 1 | School)
new <- data.frame(SES = c(-1, 0.5), School = c("1224", "9586"))
at <- school$mean[match(new$School, school$School)]
cat(toJSON(list(
  hybrid = mixed(hybrid), mundlak = mixed(mundlak), slopes = mixed(slopes), binary = mixed(binary),
  nlme = list(fixed = num(fixef(by_nlme)), se = num(sqrt(diag(vcov(by_nlme))))),
  predicted = num(predict(slopes, data.frame(Sex = "Male", dev = new$SES - at, mean = at, School = new$School))),
  sexes = as.list(as.data.frame(emmeans(slopes, "Sex", lmer.df = "asymptotic"))[c("emmean", "SE")])
), digits = I(14), auto_unbox = FALSE))
