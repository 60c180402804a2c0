#!/usr/bin/env bash
# Installs R, the R packages that unimix uses and graphviz, where they are missing and where this may be done (apt, as root or with
# passwordless sudo). Otherwise it prints what to type. It never fails: without R everything else goes on.
set -uo pipefail

packages=(lme4 glmmTMB lmerTest pbkrtest emmeans broom.mixed parameters performance insight)

# Prints those R packages for which the R expression is FALSE, a line each; all of them when there is no R. Only marked
# lines count, because a user's Rprofile may print anything.
packages_without() {
    { Rscript -e "for (p in commandArgs(TRUE)) if (!$1) cat('\n=>', p, '\n')" "${packages[@]}" ||
        printf '=> %s\n' "${packages[@]}"; } 2>/dev/null | awk '$1 == "=>" { print $2 }'
}

# system.file() looks a package up without loading it: a blink, where requireNamespace() takes seconds
missing_packages() { packages_without 'nzchar(system.file(package = p))'; }

# Prints the lower-case names of packages behind a prefix: "lme4 lmerTest" "r-" gives "r-lme4 r-lmertest".
named() {
    local package
    for package in $1; do
        printf '%s%s ' "$2" "$(printf '%s' "$package" | tr '[:upper:]' '[:lower:]')"
    done
}

say_what_to_type() {
    local missing="$1" quoted
    quoted=$(printf '"%s", ' $missing)
    cat <<TEXT

R packages are missing: $(printf '%s ' $missing)
The backends lme4, glmmtmb and pymer4 need them; statsmodels and PyMC work without. Install them in one of these ways, then
type \`make setup\` again:

  Debian, Ubuntu:  sudo apt-get install r-base-core r-base-dev $(named "$missing" r-cran-)
  conda-forge:     conda install -c conda-forge r-base $(named "$missing" r-)
  CRAN, inside R:  install.packages(c(${quoted%, }))

TEXT
}

root=()
if [[ "$(id -u)" != 0 ]]; then
    root=(sudo -n)
fi
apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -qq "$@"; }

# The program that draws the graph of a PyMC model. Nothing else needs it, so nothing is said where it cannot be had.
if ! command -v dot >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1 && "${root[@]}" true 2>/dev/null; then
    apt install --no-install-recommends graphviz >/dev/null 2>&1 ||
        { apt update && apt install --no-install-recommends graphviz; } >/dev/null 2>&1
fi

missing=$(missing_packages)
if [[ -z "$missing" ]]; then
    exit 0
fi

if ! command -v apt-get >/dev/null 2>&1 || ! "${root[@]}" true 2>/dev/null; then
    say_what_to_type "$missing"
    exit 0
fi

echo "Installing R and its packages: $(printf '%s ' $missing)"
read -r -a debian <<<"r-base-core r-base-dev $(named "$missing" r-cran-)"
install() { apt install --no-install-recommends "${debian[@]}" >"$log" 2>&1; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! install; then
    # the lists of packages may be old or empty
    apt update >/dev/null 2>&1
    if ! install; then
        echo "apt-get could not install them:"
        tail -n 5 "$log"
    fi
fi

missing=$(missing_packages)
if [[ -n "$missing" ]]; then
    say_what_to_type "$missing"
    exit 0
fi
broken=$(packages_without 'suppressMessages(requireNamespace(p, quietly = TRUE))')
if [[ -n "$broken" ]]; then
    echo "Installed, but these R packages do not load: $(printf '%s ' $broken)"
    echo "Type \`.venv/bin/python -m unimix.doctor\` after the setup: it says why and how to mend it."
fi
exit 0
