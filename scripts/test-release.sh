#!/usr/bin/env bash
# Run `make test` inside a root of another Debian release, and so on that release's PostgreSQL:
#
#     scripts/test-release.sh forky        # PostgreSQL 18
#     scripts/test-release.sh trixie       # PostgreSQL 17
#
# Needs root. The root and its builds are below target/releases/ and are used again the next time. The
# Rust toolchain, its registry and the machine's CA certificates are this machine's.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

name=${1:?usage: scripts/test-release.sh RELEASE[-SUFFIX] [COMMAND]}
# A suffix makes another root of the release, for what would disturb the first.
release=${name%%-*}
command=${2:-make test}
root="$ROOT/target/releases/$name"
[ "$(id -u)" -eq 0 ] || die "debootstrap and chroot need root"

# Where this machine gets Debian's packages from, so that no mirror is named here.
mirror() {
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' \
        | sed -n 's/^Debian //p' | grep -v -- -security | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }'
}

make_root() {
    if ! command -v debootstrap >/dev/null; then
        say "installing debootstrap"
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends debootstrap
    fi
    say "making a root of Debian $release in $root"
    rm -rf "$root.part"
    # A debootstrap that is older than the release lacks a script of its name: trixie's serves. The
    # releases after ours are signed with keys that this machine may lack.
    local script=/usr/share/debootstrap/scripts/$release
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/trixie
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
    mkdir -p "$root.part"
    debootstrap --variant=minbase --no-check-gpg "$release" "$root.part" "$(mirror)" "$script" >"$root.log" 2>&1 \
        || { tail -n 20 "$root.log" >&2; die "debootstrap failed, see $root.log"; }
    cat >"$root.part/etc/apt/apt.conf.d/90secretlink" <<'CONF'
Acquire::Check-Valid-Until "false";
APT::Install-Recommends "false";
CONF
    mv "$root.part" "$root"
}

[ -d "$root" ] || make_root

toolchain=$(rustc --print sysroot)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
# The registry alone: cargo would take the programs in its home for its own, and rustup's do not work there.
mkdir -p "$cargo_home/registry" "$ROOT/target/tools" "$root-target/tools" "$root/opt/rust"
# The first build of the tests there begins with what is built here: the paths are the same, and so are most crates. What
# was compiled against this machine's OpenSSL is not taken.
if [ "$command" = "make test" ] && [ -d target/debug ] && [ ! -d "$root-target/debug" ]; then
    say "copying what is built to begin with"
    rm -rf "$root-target/debug.part"
    cp -a target/debug "$root-target/debug.part"
    rm -rf "$root-target"/debug.part/{.fingerprint,build}/openssl-sys-*
    mv "$root-target/debug.part" "$root-target/debug"
fi
cp /etc/ssl/certs/ca-certificates.crt "$root/opt/ca-certificates.crt"
export ROOT root toolchain cargo_home command
# The mounts are seen by this process and its children alone, and end with them.
exec unshare --mount --pid --fork --kill-child bash -euo pipefail -c '
    mount --make-rprivate /
    # So that / is a mount in there: a test gives itself mounts of its own.
    mount --bind "$root" "$root"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    # At the same paths as outside, so that cargo takes what was built there for its own.
    mkdir -p "$root$ROOT" "$root$cargo_home/registry"
    mount --bind "$ROOT" "$root$ROOT"
    mount --bind "$root-target" "$root$ROOT/target"
    mount --bind "$ROOT/target/tools" "$root$ROOT/target/tools"
    mount --bind -o ro "$toolchain" "$root/opt/rust"
    mount --bind "$cargo_home/registry" "$root$cargo_home/registry"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
    unset CARGO_TARGET_DIR PG_CONFIG PGRX_HOME RUSTUP_HOME
    export PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    export HOME=/root CARGO_HOME="$cargo_home" LC_ALL=C.UTF-8
    exec chroot "$root" bash -euo pipefail -c "
        cd \"$ROOT\"
        if ! command -v make >/dev/null; then
            apt-get update -q
            DEBIAN_FRONTEND=noninteractive apt-get install -q -y make git ca-certificates
        fi
        cp /opt/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
        exec $command"'
