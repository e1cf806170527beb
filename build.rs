//! Linker arguments for the library.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        for argument in [
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
        ] {
            println!("cargo::rustc-link-arg-cdylib=-Wl,{argument}");
        }
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=keep-schema.ld");
}
