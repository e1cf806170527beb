#!/usr/bin/env bash
# Build the extension and lay its files out as they will lie on a server; pack them as a tar archive.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
use_postgres
use_cargo_pgrx

name="secretlink-$(project_version)-pg$PG_MAJOR-$(uname -m)"
out="$ROOT/target/package/$name"

rm -rf "$out"
mkdir -p "$out"
PGRX_BUILD_FLAGS= "$CARGO_PGRX" pgrx package --pg-config "$PG_CONFIG" --out-dir "$out"
cp LICENSE README.md "$out"
tar -C "${out%/*}" --owner=0 --group=0 -czf "$out.tar.gz" "$name"
say "made $out.tar.gz"
