//! Keeps the library's code mapped when the JVM lets go of the class loader that loaded it: threads of stores and destructors
//! of other threads may still run in it.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
