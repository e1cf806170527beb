#!/usr/bin/env bash
# cargo-pgrx, as pgrx' test framework runs it from inside `cargo test`: without what cargo tells the
# test about itself. Otherwise ring and pgrx-pg-sys, whose build scripts watch these variables, would
# be built again, and after the tests once more.
for name in $(compgen -e CARGO_PKG_) $(compgen -e CARGO_MANIFEST_) CARGO CARGO_CRATE_NAME OUT_DIR LD_LIBRARY_PATH; do
    unset "$name"
done
exec "$REAL_CARGO_PGRX" "$@"
