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
# Without line numbers, which change with every edit, and with the blocks in the order of their
# texts: pgrx promises an order of dependencies only, and two builds of one source differ in the rest.
python3 - "$new.raw" > "$new" <<'EOF'
import re, sys
text = re.sub(r"(?m)^(-- \S+\.rs):\d+$", r"\1", open(sys.argv[1]).read())
end = "/* </end connected objects> */\n"
first, *others = [block.strip("\n") for block in text.split(end) if block.strip()]
print("\n\n".join(f"{block}\n{end.strip()}" for block in [first, *sorted(others)]))
EOF
if [ "${1:-}" = --check ]; then
    diff -u "$out" "$new" || die "$out is not what the code makes: run \`make schema\` and commit it"
else
    cat "$new" > "$out"
    say "wrote $out"
fi
