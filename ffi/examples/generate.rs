//! Writes what is generated from the sources into the repository: the C header and the list of errors.
//! `cargo run -p memora-ffi --example generate`

#[path = "../tests/generated.rs"]
mod generated;

fn main() -> std::io::Result<()> {
    for file in generated::files() {
        std::fs::write(&file.path, &file.content)?;
        println!("{}", file.path.display());
    }
    Ok(())
}
