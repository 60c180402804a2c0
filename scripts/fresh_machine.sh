#!/usr/bin/env bash
# Tries the README's commands on bare Debian machines: scripts/fresh_machine.sh [--demo] [bookworm] [trixie]
#
# For each release debootstrap makes a minimal Debian in a temporary folder, with nothing in it but what the README asks
# for. The committed state of this checkout is cloned into it and the README's commands are typed there as they stand.
# Each release ends in one line: seconds, engines, tests. With --demo the tests are left out. The folder is removed at the
# end, also after an interruption. It needs root, debootstrap, 4 GB of disk for a release and up to an hour.
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

stop() {
    printf '%s\n' "$@" >&2
    exit 2
}

demo_only=false
releases=()
for argument in "$@"; do
    case $argument in
        --demo) demo_only=true ;;
        -*) stop "There is no option $argument. Type: scripts/fresh_machine.sh [--demo] [bookworm] [trixie]" ;;
        *) releases+=("$argument") ;;
    esac
done
((${#releases[@]})) || releases=(bookworm trixie)
[[ $(id -u) == 0 ]] || stop "A bare Debian can be made by root only. Type:" "    sudo make fresh"
command -v debootstrap >/dev/null || stop "debootstrap makes the bare Debian and is missing. Type:" "    apt-get install debootstrap"
for release in "${releases[@]}"; do
    [[ -e /usr/share/debootstrap/scripts/$release ]] || stop "debootstrap does not know a Debian called $release."
done

machine=""
clean_up() {
    [[ -n $machine ]] || return 0
    local process root
    for process in /proc/[0-9]*; do # what still runs in there
        root=$(readlink "$process/root" 2>/dev/null) || continue
        [[ $root == "$machine" ]] && kill -9 "${process#/proc/}" 2>/dev/null
    done
    for mounted in dev/shm dev/pts proc; do
        if mountpoint -q "$machine/$mounted"; then umount -l "$machine/$mounted"; fi
    done
    # never over a mount: what is mounted is not ours
    rm -rf --one-file-system "$machine"
    machine=""
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The commands of the README's first block, of which `sudo` is left out: a bare Debian has none, and root needs none.
readme_commands() {
    git -C "$checkout" show HEAD:README.md |
        awk '/^## Two commands/ { on = 1 } on && /^```$/ { exit } code { print } on && /^```sh$/ { code = 1 }' |
        sed -e 's/[[:space:]]*#.*$//' -e 's/^sudo //' -e '/^$/d'
}

inside() { # runs a line in the machine
    local settings=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
        DEBIAN_FRONTEND=noninteractive CI=true)
    local name
    for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_CERT PIP_DEFAULT_TIMEOUT http_proxy https_proxy no_proxy; do
        [[ -z ${!name:-} ]] || settings+=("$name=${!name}")
    done
    # A shell starts background jobs with Ctrl-C ignored, and the tests that send it would wait for ever.
    env -i --default-signal=INT,QUIT "${settings[@]}" chroot "$machine" /bin/bash -c "$1" &
    wait $! # an interruption is answered at once, not at the end of the line
}

make_machine() {
    machine=$(mktemp -d -t "unimix-$1-XXXXXX")
    debootstrap --variant=minbase --include=ca-certificates "$1" "$machine"
    cp -L /etc/resolv.conf "$machine/etc/resolv.conf"
    # this machine's way to the package indexes: its certificates and pip's settings
    if [[ -e /etc/ssl/certs/ca-certificates.crt ]]; then
        cp -L /etc/ssl/certs/ca-certificates.crt "$machine/etc/ssl/certs/ca-certificates.crt"
    fi
    if [[ -e /etc/pip.conf ]]; then cp -L /etc/pip.conf "$machine/etc/pip.conf"; fi
    mount -t proc proc "$machine/proc"
    mount -t tmpfs tmpfs "$machine/dev/shm" 2>/dev/null || { mkdir -p "$machine/dev/shm" && mount -t tmpfs tmpfs "$machine/dev/shm"; }
    mount -t devpts devpts "$machine/dev/pts" 2>/dev/null || true
    inside "apt-get update -qq"
}

logs=$(mktemp -d -t unimix-fresh-logs-XXXXXX)
echo "Every word is kept in $logs"
failed=0
for release in "${releases[@]}"; do
    log=$logs/$release.log
    echo "$release: making a bare Debian ..."
    if ! make_machine "$release" >"$log" 2>&1; then
        tail -n 5 "$log"
        echo "$release: could not be made"
        failed=1
        clean_up
        continue
    fi
    summary="" place=/root
    while read -r line; do
        [[ $demo_only == true && $line == "make test" ]] && continue
        started=$SECONDS
        echo "$release: $line ..."
        code=0
        inside "cd $place && $line" >>"$log" 2>&1 </dev/null || code=$?
        took=$((SECONDS - started))
        case $line in
            *apt-get*) git clone -q --no-hardlinks "$checkout" "$machine/root/unimix" >>"$log" 2>&1 && place=/root/unimix ;;
            "make test") summary+=", $line $took s ($(grep -aE '^=+ .*(passed|failed|error).* =+$' "$log" | tail -n 1 | tr -d '='))" ;;
            *) summary+=", $line $took s" ;;
        esac
        if ((code)); then
            failed=1
            summary+=" FAILED with $code"
            tail -n 25 "$log"
        fi
    done < <(readme_commands)
    versions=$(inside '. /etc/os-release; echo "Debian $VERSION_ID, Python $(python3 -c "import platform; print(platform.python_version())"), R $(R --version 2>/dev/null | sed -n "1s/R version \([^ ]*\).*/\1/p")"' 2>/dev/null || true)
    engines=$(inside "cd $place && .venv/bin/python -m unimix.doctor" 2>>"$log" | sed -n 's/^Backends that can run: //p')
    echo "$release: $versions$summary; engines: ${engines:-none}"
    clean_up
done
exit $failed
