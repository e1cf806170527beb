//! Keeps the section `.pgrxsc`, from which cargo-pgrx reads the SQL schema, in the library.

fn main() {
    // The linker may drop what no code refers to. cargo-pgrx would tell it so through RUSTFLAGS, for
    // which cargo builds every dependency anew; this is for the library alone.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-link-arg-cdylib=-Wl,--no-gc-sections");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
