//! Generates the Rust stubs from the contract, without protoc: protox compiles, tonic-prost-build generates.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=omnimesh");
    let mut files: Vec<PathBuf> = Vec::new();
    for domain in fs::read_dir("omnimesh")? {
        for file in fs::read_dir(domain?.path().join("v1"))? {
            files.push(file?.path());
        }
    }
    files.sort();

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(false).open_files(&files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Encoded by protox, so that the options survive: prost's own descriptor types drop extensions.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    // The edge looks its filters up by type URL.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".omnimesh.event.v1.Event.payload")
        .bytes(".omnimesh.feature.v1.GetHistoricalFeaturesRequest.spine")
        .bytes(".omnimesh.ingest.v1.RecordsLanded.records")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
