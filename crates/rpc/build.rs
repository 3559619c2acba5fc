//! Compiles `proto/` without protoc, and keeps the descriptors for the reflection service.

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 4] = [
    "distributary/v1/types.proto",
    "distributary/v1/link.proto",
    "distributary/v1/cluster.proto",
    "distributary/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=build.rs");

    let mut compiler = protox::Compiler::new([&folder])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(descriptors, compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .btree_map(".")
        // A frame is a slice of what came from the network, not a copy.
        .bytes(".distributary.v1.Frame.payload")
        .bytes(".distributary.v1.ChunksUp.rows")
        .emit_rerun_if_changed(false)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
