//! Linker arguments for the library.

use std::process::Command;

fn main() {
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        let mut arguments = vec![
            // The linker drops what no code refers to, and with it the section `.pgrxsc`, from which
            // cargo-pgrx reads the SQL schema. cargo-pgrx would tell it through RUSTFLAGS to drop nothing
            // at all: cargo then compiles every dependency anew, and the library is half as large again.
            // This keeps that one section.
            concat!("-T,", env!("CARGO_MANIFEST_DIR"), "/keep-schema.ld"),
            // Puts two functions of ours between pgrx and Postgres: src/backend/process/caught.rs.
            "--wrap=CopyErrorData",
            "--wrap=errfinish",
            // A name of ours means ours, even if another library of the process has the same.
            "-Bsymbolic",
        ];
        if libc_takes_packed_relocations() {
            // 26,000 relocations in 10 kB rather than 600: a backend that loads the library reads less.
            arguments.extend(["-z", "pack-relative-relocs"]);
        }
        for argument in arguments {
            println!("cargo::rustc-link-arg-cdylib=-Wl,{argument}");
        }
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=keep-schema.ld");
}

/// Whether this machine's C library loads what is linked with `-z pack-relative-relocs`: glibc does from 2.36 on.
/// An older one refuses to.
fn libc_takes_packed_relocations() -> bool {
    let version = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok();
    let version = version.and_then(|output| String::from_utf8(output.stdout).ok());
    version.is_some_and(|version| {
        let minor = version.trim().strip_prefix("glibc 2.").and_then(|minor| minor.parse::<u32>().ok());
        minor.is_some_and(|minor| minor >= 36)
    })
}
