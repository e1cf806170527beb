#!/usr/bin/env bash
# Does the code compile for PostgreSQL 19, with the pgrx that knows it? Run by `make check-19`, inside a
# root of Debian forky: there are a newer rustc than ours, which that pgrx needs, and PostgreSQL 19.
# The version of pgrx is switched in a copy, so that the usual build stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

PGRX_19=0.19.4
tools="rustc cargo gcc libc6-dev clang libclang-dev pkg-config libssl-dev"
pg_config=/usr/lib/postgresql/19/bin/pg_config
if ! [ -x "$pg_config" ]; then
    sed 's/ forky / experimental /' /etc/apt/sources.list > /etc/apt/sources.list.d/experimental.list
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y $tools
    # From there by name: with it as the target, apt would take every other package from there, too.
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
        {postgresql-server-dev-19,postgresql-client-19,libpq-dev,libpq5}/experimental
fi

copy=target/pg19
mkdir -p "$copy"
# With their times, so that cargo builds again only what has changed.
git ls-files -z | xargs -0 cp --parents --preserve=timestamps --target-directory "$copy"
cd "$copy"
sed -i -E "s/^(pgrx(-tests)? = )\"=[0-9.]+\"/\1\"=$PGRX_19\"/" Cargo.toml
sed -i 's/^pg18 = .*/&\npg19 = ["pgrx\/pg19", "pgrx-tests\/pg19"]/' Cargo.toml
export PGRX_PG_CONFIG_PATH="$pg_config" PATH="/usr/bin:$PATH"
/usr/bin/cargo check --target-dir target --no-default-features --features pg19
