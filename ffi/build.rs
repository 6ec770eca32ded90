//! Gives the shared library the name that programs ask for at run time; its number is `MEMORA_ABI_VERSION`.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libmemora.so.0");
    println!("cargo:rerun-if-changed=build.rs");
}
