#!/bin/sh
# Puts goodspeed's agent (on a board) or verifier (on a server) into /opt/goodspeed, with its
# systemd unit. A second call does nothing, one with other sources upgrades; what was there before
# comes back when the new one does not start. Settings are for `goodspeed-agent init` and
# `goodspeed-verifier init`.
set -eu

HERE=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
TREE=$(dirname -- "$HERE")

usage() {
    cat <<'USAGE'
usage: install.sh agent|verifier [options]

  --offline DIR    take wheels from DIR and nothing from an index; a goodspeed-*.whl must be there
  --compile        a verifier's planner as C (mypyc): a third less processor time for each stream;
                   takes a C compiler and some minutes, and later calls keep it
  --python PYTHON  the interpreter, 3.11 or newer (by default the newest that is found)
  --root DIR       install below DIR, to try it out; no user is made, no service started
  --rollback       go back to what was installed before
  --uninstall      remove program and unit; settings, tokens and models stay
  --dry-run        say what would be done, and do nothing
  -h, --help       show this

TORCH=torch==2.13.0 in the environment chooses what a verifier gets as torch; later calls keep it.
USAGE
}

say() { printf '%s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# Runs a command, or says that it would.
run() {
    if [ "$DRY_RUN" = yes ]; then
        say "would run: $*"
    else
        "$@"
    fi
}

parse() {
    PROGRAM='' OFFLINE='' PYTHON='' ROOT='' DRY_RUN=no TASK=install COMPILE=''
    while [ $# -gt 0 ]; do
        case $1 in
            agent | verifier)
                [ -z "$PROGRAM" ] || fail "one of agent and verifier at a time"
                PROGRAM=$1
                ;;
            --offline | --python | --root)
                case ${2:-} in '' | -*) fail "$1 needs a value" ;; esac
                case $1 in
                    --offline) OFFLINE=$2 ;;
                    --python) PYTHON=$2 ;;
                    --root) ROOT=${2%/} ;;
                esac
                shift
                ;;
            --compile) COMPILE=yes ;;
            --rollback) TASK=rollback ;;
            --uninstall) TASK=uninstall ;;
            --dry-run) DRY_RUN=yes ;;
            -h | --help)
                usage
                exit 0
                ;;
            *) fail "unknown: $1 (install.sh --help)" ;;
        esac
        shift
    done
    [ -n "$PROGRAM" ] || fail "say agent or verifier (install.sh --help)"
    NAME=goodspeed-$PROGRAM
    SERVICES=$NAME # a verifier's targets run on other hosts, too
    if [ "$PROGRAM" = verifier ]; then SERVICES="$NAME goodspeed-worker"; fi
    CURRENT=$ROOT/opt/goodspeed
    RELEASES=$ROOT/opt/goodspeed-releases
    UNITS=$ROOT/etc/systemd/system
}

has_systemd() { [ -z "$ROOT" ] && [ -d /run/systemd/system ]; }

is_running() { has_systemd && systemctl is-active --quiet "$1"; }

# Before anything is installed that could not be made a service.
check_systemd() {
    if [ -n "$ROOT" ] || command -v systemd-sysusers >/dev/null; then return; fi
    fail "there is no systemd, which starts the programs and makes their user: apt install systemd" \
        "(or give --root DIR, to try it out)"
}

is_python() {
    "$1" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "$PYTHON" ]; then
        is_python "$PYTHON" || fail "$PYTHON is no Python 3.11 or newer with venv"
        return
    fi
    for PYTHON in python3.13 python3.12 python3.11 python3; do
        is_python "$PYTHON" && return
    done
    fail "no Python 3.11 or newer with venv: apt install python3-venv, or where the system is" \
        "older: uv python install 3.12, then --python \"\$(uv python find 3.12)\""
}

# The wheel of goodspeed in the directory of wheels, or the tree that this script lies in.
find_source() {
    if [ -n "$OFFLINE" ]; then
        [ -d "$OFFLINE" ] || fail "$OFFLINE is no directory"
        for SOURCE in "$OFFLINE"/goodspeed-*.whl; do
            [ -f "$SOURCE" ] && return
        done
        fail "$OFFLINE has no goodspeed-*.whl: python3 -m pip wheel -w $OFFLINE '${TREE}[$PROGRAM,tls]'"
    fi
    SOURCE=$TREE
    [ -f "$SOURCE/pyproject.toml" ] || fail "run it from a copy of goodspeed, or give --offline DIR"
    if [ "$PROGRAM" = agent ] && ! command -v cc >/dev/null && [ "$DRY_RUN" = no ]; then
        fail "llama.cpp is compiled, and there is no compiler: apt install build-essential"
    fi
}

# Both programs share one environment: an upgrade of one keeps the other. In one order whichever is
# asked for, so that it is the same release.
choose_extras() {
    EXTRAS=''
    for each in agent verifier; do
        if [ "$each" = "$PROGRAM" ] || [ -e "$UNITS/goodspeed-$each.service" ]; then
            EXTRAS=$EXTRAS$each,
        fi
    done
    EXTRAS=${EXTRAS}tls
}

# The torch that was chosen at an earlier call, unless this one chooses.
choose_torch() {
    chosen=$ROOT$(readlink "$CURRENT" 2>/dev/null || true)/torch-chosen
    case $EXTRAS in
        *verifier*) TORCH=${TORCH-$(cat "$chosen" 2>/dev/null || true)} ;;
        *) TORCH='' ;;
    esac
}

# A planner in C, where this call asks for it or an earlier one did; a wheel is what it is.
choose_compiled() {
    chosen=$ROOT$(readlink "$CURRENT" 2>/dev/null || true)/compile-chosen
    if [ "$COMPILE" = yes ] && [ "$PROGRAM" = agent ]; then
        fail "--compile is for a verifier"
    elif [ "$COMPILE" = yes ] && [ -n "$OFFLINE" ]; then
        fail "a wheel is compiled when it is made: HATCH_BUILD_HOOKS_ENABLE=1" \
            "python3 -m pip wheel -w $OFFLINE '${TREE}[$PROGRAM,tls]'"
    elif [ -z "$COMPILE" ] && { [ -n "$OFFLINE" ] || [ ! -e "$chosen" ]; }; then
        return
    fi
    COMPILE=yes
    if ! command -v cc >/dev/null && [ "$DRY_RUN" = no ]; then
        fail "--compile needs a C compiler: apt install build-essential"
    fi
    HATCH_BUILD_HOOKS_ENABLE=1
    export HATCH_BUILD_HOOKS_ENABLE
}

# One line that changes whenever another thing would be installed.
stamp() {
    {
        say "$EXTRAS" "$("$PYTHON" -V)" "$TORCH" "$COMPILE"
        if [ -f "$SOURCE" ]; then
            cksum <"$SOURCE"
        else
            cd "$SOURCE"
            find edge_agent verifier shared devices pyproject.toml -type f ! -name '*.pyc' |
                LC_ALL=C sort | xargs cksum
        fi
    } | cksum | cut -d ' ' -f 1
}

install_release() {
    STAMP=$(stamp)
    RELEASE=$RELEASES/$STAMP
    if [ "$(readlink "$CURRENT" 2>/dev/null)" = "${RELEASE#"$ROOT"}" ] &&
        [ -e "$RELEASE/whole" ]; then
        say "$NAME is up to date"
        return
    fi
    say "installing $NAME with $("$PYTHON" -V)"
    if [ -n "$COMPILE" ]; then say "the planner is compiled: 2 to 4 minutes"; fi
    case $OFFLINE,$EXTRAS in
        ,*agent*) say "llama.cpp is compiled, if pip has not done it before: 4 to 8 minutes, on a board more" ;;
    esac
    if [ ! -e "$RELEASE/whole" ]; then
        build_release
    fi
    PREVIOUS=$(readlink "$CURRENT" 2>/dev/null || true)
    switch_to "${RELEASE#"$ROOT"}"
    if [ -n "$PREVIOUS" ]; then
        run ln -sfn "$PREVIOUS" "$RELEASES/previous"
    fi
    UPGRADED=yes
}

# In a directory of its own: one without the last file, as a power cut leaves it, is built anew.
build_release() {
    run rm -rf "$RELEASE"
    if [ "$DRY_RUN" = no ]; then
        trap 'rm -rf "$RELEASE" "$RELEASE.tmp"' EXIT
        trap 'exit 130' INT TERM
        # Compilers and torch take gigabytes, and in many a system /tmp is memory.
        TMPDIR=${TMPDIR:-$RELEASE.tmp}
        export TMPDIR
    fi
    run mkdir -p "$RELEASES" "$RELEASE.tmp"
    run "$PYTHON" -m venv "$RELEASE"
    pip() {
        run "$RELEASE/bin/python" -m pip install --quiet --disable-pip-version-check \
            --progress-bar off "$@"
    }
    # Not with Intel's matrix tiles: built by many a compiler they end the program.
    NO_TILES=-mno-amx-int8
    if echo | cc "$NO_TILES" -E - >/dev/null 2>&1; then
        NO_TILES="-DCMAKE_C_FLAGS=$NO_TILES -DCMAKE_CXX_FLAGS=$NO_TILES"
    else
        NO_TILES=
    fi
    CMAKE_ARGS=${CMAKE_ARGS:--DLLAVA_BUILD=OFF $NO_TILES}
    export CMAKE_ARGS
    memory_kb=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
    if [ "${memory_kb:-0}" -lt 4500000 ]; then # a compiler takes up to 1.5 GB
        CMAKE_BUILD_PARALLEL_LEVEL=2
        export CMAKE_BUILD_PARALLEL_LEVEL
    fi
    if [ -n "$OFFLINE" ]; then
        pip --no-index --find-links "$OFFLINE" "${SOURCE}[$EXTRAS]"
    else
        if [ -n "$TORCH" ]; then pip "$TORCH"; fi
        pip "${SOURCE}[$EXTRAS]"
    fi
    run "$RELEASE/bin/$NAME" --version
    case $DRY_RUN,$EXTRAS in no,*agent*) check_llama ;; esac
    if [ "$DRY_RUN" = no ] && [ -n "$TORCH" ]; then say "$TORCH" >"$RELEASE/torch-chosen"; fi
    if [ "$DRY_RUN" = no ] && [ -n "$COMPILE" ]; then touch "$RELEASE/compile-chosen"; fi
    run rm -rf "$RELEASE.tmp"
    run touch "$RELEASE/whole"
    trap - EXIT INT TERM
}

# A wheel brings no libraries of the system, and a board without a compiler may not have them.
check_llama() {
    binding=edge_agent.draft_model.llama_binding
    why=$("$RELEASE/bin/python" -P -c "import $binding" 2>&1) || fail "${why##*ModelError: }"
}

# In one step: the link shows the old release or the new one.
switch_to() {
    run ln -sfn "$1" "$CURRENT.new"
    run mv -T "$CURRENT.new" "$CURRENT"
}

install_units() {
    run mkdir -p "$UNITS" "$ROOT/etc/sysusers.d" "$ROOT/etc/tmpfiles.d" "$ROOT/usr/local/bin"
    for service in $SERVICES; do
        run install -m 644 "$HERE/systemd/$service.service" "$UNITS/$service.service"
    done
    run install -m 644 "$HERE/systemd/sysusers.d/goodspeed.conf" "$ROOT/etc/sysusers.d/goodspeed.conf"
    run install -m 644 "$HERE/systemd/tmpfiles.d/goodspeed.conf" "$ROOT/etc/tmpfiles.d/goodspeed.conf"
    if [ "$PROGRAM" = verifier ]; then
        run install -m 644 "$HERE/systemd/$NAME.socket" "$UNITS/$NAME.socket"
    elif grep -qa Jetson "$ROOT/proc/device-tree/model" 2>/dev/null; then
        run mkdir -p "$UNITS/$NAME.service.d"
        run install -m 644 "$HERE/systemd/$NAME.service.d/10-jetson.conf" \
            "$UNITS/$NAME.service.d/10-jetson.conf"
    fi
    for program in goodspeed-agent goodspeed-verifier; do # a verifier's model is pulled, too
        run ln -sfn "/opt/goodspeed/bin/$program" "$ROOT/usr/local/bin/$program"
    done
    if [ -n "$ROOT" ]; then
        run mkdir -p "$ROOT/etc/goodspeed" "$ROOT/var/lib/goodspeed/models"
        return
    fi
    run systemd-sysusers /etc/sysusers.d/goodspeed.conf
    run systemd-tmpfiles --create /etc/tmpfiles.d/goodspeed.conf
    if has_systemd; then run systemctl daemon-reload; fi
}

# A service that ran goes on with what is new, or else with what was there before.
restart_services() {
    for service in $SERVICES; do
        if ! is_running "$service" || run systemctl restart "$service"; then continue; fi
        if [ -z "$PREVIOUS" ]; then fail "$service does not start: journalctl -u $service"; fi
        switch_to "$PREVIOUS"
        for each in $SERVICES; do
            if [ "$each" = "$service" ] || is_running "$each"; then
                run systemctl restart "$each" || true
            fi
        done
        fail "the new $service does not start (journalctl -u $service); the one before is back"
    done
}

# Of what is installed, only the release that runs and the one before are kept.
remove_old_releases() {
    for release in "$RELEASES"/*; do
        case ${release#"$ROOT"} in
            "$(readlink "$CURRENT" || true)" | "$(readlink "$RELEASES/previous" || true)") ;;
            */previous | */\*) ;;
            *) run rm -rf "$release" ;;
        esac
    done
}

install_program() {
    check_systemd
    find_python
    find_source
    choose_extras
    choose_torch
    choose_compiled
    PREVIOUS='' UPGRADED=no
    install_release
    install_units
    if [ "$UPGRADED" = yes ]; then restart_services; fi
    remove_old_releases
    if [ -e "$ROOT/etc/goodspeed/$PROGRAM.toml" ]; then return; fi
    if [ "$PROGRAM" = agent ]; then
        say "next: goodspeed-agent init --verifier ws://HOST:8443 --token -"
    else
        say "next: goodspeed-verifier init"
    fi
}

rollback() {
    PREVIOUS=$(readlink "$RELEASES/previous" 2>/dev/null || true)
    if [ -z "$PREVIOUS" ]; then fail "nothing was installed before"; fi
    NOW=$(readlink "$CURRENT")
    switch_to "$PREVIOUS"
    run ln -sfn "$NOW" "$RELEASES/previous"
    for service in $SERVICES; do
        if is_running "$service"; then run systemctl restart "$service"; fi
    done
    say "$NAME is what it was before"
}

uninstall() {
    for service in $SERVICES; do
        if has_systemd && [ -e "$UNITS/$service.service" ]; then
            run systemctl disable --now "$service"
        fi
        run rm -rf "$UNITS/$service.service" "$UNITS/$service.service.d" "$UNITS/$service.socket"
    done
    other=agent
    if [ "$PROGRAM" = agent ]; then other=verifier; fi
    if [ ! -e "$UNITS/goodspeed-$other.service" ]; then
        run rm -rf "$CURRENT" "$RELEASES" "$ROOT/etc/sysusers.d/goodspeed.conf" \
            "$ROOT/etc/tmpfiles.d/goodspeed.conf" "$ROOT/usr/local/bin/goodspeed-agent" \
            "$ROOT/usr/local/bin/goodspeed-verifier" "$ROOT/var/cache/goodspeed"
    fi
    if has_systemd; then run systemctl daemon-reload; fi
    say "$NAME is gone; settings are in $ROOT/etc/goodspeed and models in $ROOT/var/lib/goodspeed"
}

main() {
    parse "$@"
    if [ "$DRY_RUN" = no ] && [ -z "$ROOT" ] && [ "$(id -u)" != 0 ]; then
        fail "run this as root, for example with sudo"
    fi
    case $TASK in
        install) install_program ;;
        rollback) rollback ;;
        uninstall) uninstall ;;
    esac
}

main "$@"
