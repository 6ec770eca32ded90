//! Gives the shared library the name that programs ask for at run time; its number is `MEMORA_ABI_VERSION`. And keeps its
//! code mapped after a dlclose: threads of stores and destructors of other threads may still run in it.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libmemora.so.0");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
