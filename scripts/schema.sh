#!/usr/bin/env bash
# Write the full SQL of the extension to sql/schema.sql, so that a change of the interface shows in
# review. With --check: fail, with the difference, if what is there is not that.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
use_postgres
use_cargo_pgrx

out=sql/schema.sql
new=$(mktemp)
trap 'rm -f "$new" "$new.raw"' EXIT
"$CARGO_PGRX" pgrx schema --pg-config "$PG_CONFIG" --out "$new.raw" "pg$PG_MAJOR"
# Without line numbers: they change with every edit, and the interface does not. (pgrx says that its
# order is not stable; since 0.18 it sorts.)
sed -E 's|^(-- [^ ]+\.rs):[0-9]+$|\1|' "$new.raw" > "$new"
if [ "${1:-}" = --check ]; then
    diff -u "$out" "$new" || die "$out is not what the code makes: run \`make schema\` and commit it"
else
    cat "$new" > "$out"
    say "wrote $out"
fi
