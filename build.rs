//! Keeps the section `.pgrxsc`, from which cargo-pgrx reads the SQL schema, in the library.

fn main() {
    // The linker drops what no code refers to. cargo-pgrx would tell it through RUSTFLAGS to drop
    // nothing at all: cargo then compiles every dependency anew, and the library is half as large
    // again. This keeps that one section.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-link-arg-cdylib=-Wl,-T,{}/keep-schema.ld", env!("CARGO_MANIFEST_DIR"));
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=keep-schema.ld");
}
