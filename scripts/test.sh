#!/usr/bin/env bash
# Everything that must hold before a change is taken. Stops at the first failure.
#
#     scripts/test.sh                  # everything
#     scripts/test.sh library [NAME]   # unit and in-backend tests; those alone whose path has NAME in it
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
use_postgres
use_cargo_pgrx

# End-to-end tests that run at the same time. Each has two servers or so, mostly waiting.
E2E_THREADS=${E2E_THREADS:-4}

current=
passed=()
# Not the exit status: ended by a signal, bash calls the trap with that of the last command.
complete=

finish() {
    stop_pgrx_server
    if [ -n "$complete" ]; then
        say "all passed on PostgreSQL $PG_MAJOR in ${SECONDS} s: ${passed[*]}"
    else
        say "FAILED: $current (passed before: ${passed[*]:-nothing})"
    fi
}
trap finish EXIT

step() {
    current=$1
    local began=$SECONDS
    say "$current"
    "${@:2}"
    passed+=("$current ($((SECONDS - began)) s)")
}

# Unit and in-backend tests. `cargo pgrx test` would select one package alone, and with it other
# features of the dependencies; pgrx' test framework is just as content with `cargo test` and its
# variables. It runs its server as another user than root, who may not see our target/.
library_tests() {
    pgdata=$(mktemp -d /tmp/sl-pgrx-XXXXXX)
    export CARGO_PGRX_TEST_PGDATA="$pgdata"
    if [ "$(id -u)" -eq 0 ]; then
        chown postgres "$pgdata"
        export CARGO_PGRX_TEST_RUNAS=postgres
    elif ! [ -w "$("$PG_CONFIG" --pkglibdir)" ]; then
        # As ourselves, but with sudo to install the test build.
        export CARGO_PGRX_TEST_RUNAS="$(id -un)"
    fi
    REAL_CARGO_PGRX="$CARGO_PGRX" CARGO_PGRX="$ROOT/scripts/cargo-pgrx.sh" \
        cargo test --workspace $FEATURES,pg_test --lib -- "$@"
    stop_pgrx_server
}

# pgrx stops its server when its tests end in order; an interrupted one is left to us.
pgdata=
stop_pgrx_server() {
    [ -n "$pgdata" ] || return 0
    local pid_file
    for pid_file in "$pgdata"/*/postmaster.pid; do
        [ -f "$pid_file" ] && kill -s QUIT "$(head -n 1 "$pid_file")" || true
    done
    $SUDO rm -rf "$pgdata"
    pgdata=
}

if [ "${1:-}" = library ]; then
    step unit-and-in-backend library_tests "${@:2}"
    complete=yes
    exit
fi

step format cargo fmt --all --check
step texts lint_texts
step lints lint
step documentation document
step fuzz-targets check_fuzz_targets
step unit-and-in-backend library_tests
# pgrx has left its test build in the system directories: put the real one there.
step install install_extension dev
step schema scripts/schema.sh --check
step end-to-end cargo test --workspace $FEATURES,pg_test --test '*' --no-fail-fast -- --test-threads="$E2E_THREADS"
complete=yes
