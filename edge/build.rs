//! Compiles the descriptors of Envoy's configuration from the .proto files that `envoy-types` carries, and those of
//! the edge's own filters.

use std::{env, error::Error, fs, path::Path, path::PathBuf, process::Command};

use serde_json::Value;

/// What a static configuration can hold; the messages of xDS and of Envoy's other services are left out.
const ROOTS: [&str; 4] = [
    "data-plane-api/envoy/config",
    "data-plane-api/envoy/extensions",
    "data-plane-api/envoy/type",
    "xds/xds/type/matcher",
];
/// Their packages hide others of the same name from protox, and no edge reads them.
const EXCEPT: [&str; 2] = ["envoy/extensions/config/", "envoy/extensions/clusters/dynamic_forward_proxy/"];

/// The contract, and in it the edge's own filters.
const CONTRACT: &str = "../proto";
const OWN: &str = "../proto/omnimesh/edge";

fn main() -> Result<(), Box<dyn Error>> {
    for input in ["build.rs", "../Cargo.lock", OWN] {
        println!("cargo:rerun-if-changed={input}");
    }
    let protos = envoy_types()?.join("proto");
    let mut include = vec![protos.join("cel-spec/proto"), CONTRACT.into()];
    for tree in fs::read_dir(&protos)? {
        include.push(tree?.path());
    }
    let mut files = Vec::new();
    collect(Path::new(OWN), &mut files)?;
    for root in ROOTS {
        collect(&protos.join(root), &mut files)?;
    }
    files.retain(|(path, _)| !EXCEPT.iter().any(|except| path.to_string_lossy().contains(except)));
    // A relative name means what the files before it have defined: those that bring in this package, which hides
    // `envoy.extensions.common`, come last.
    files.sort_by_key(|(path, text)| (text.contains("envoy/extensions/filters/common/"), path.clone()));

    let mut compiler = protox::Compiler::new(include)?;
    let paths = files.iter().map(|(path, _)| path);
    compiler.include_imports(true).include_source_info(false).open_files(paths)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Encoded by protox, so that the options survive: prost's own descriptor types drop extensions.
    fs::write(out.join("envoy.bin"), compiler.encode_file_descriptor_set())?;
    Ok(())
}

/// Where Cargo put the package whose types we decode into: its files are the ones those types were made from.
fn envoy_types() -> Result<PathBuf, Box<dyn Error>> {
    let mut command = Command::new(env::var("CARGO")?);
    command.args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        &env::var("TARGET")?,
    ]);
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let package = packages.find(|package| package["name"] == "envoy-types");
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let manifest = Path::new(manifest.ok_or("envoy-types is not a dependency")?);
    Ok(manifest.parent().ok_or("a manifest has a directory")?.to_path_buf())
}

fn collect(directory: &Path, files: &mut Vec<(PathBuf, String)>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            let text = fs::read_to_string(&path)?;
            files.push((path, text));
        }
    }
    Ok(())
}
