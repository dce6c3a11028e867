//! Puts the presets into the crate: every file in `presets/`, so that one more needs no code.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("presets");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.sort();
    let mut table = String::from("&[\n");
    for file in &files {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name in Unicode");
        writeln!(table, "    ({name:?}, include_bytes!({file:?})),").expect("a string takes all text");
    }
    table.push(']');
    let out = env::var_os("OUT_DIR").expect("cargo says where generated files go");
    fs::write(Path::new(&out).join("presets.rs"), table)
}
