//! What can be configured: the sources.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Definition, Error};

/// Configuration of the ingest service.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The source systems. Default: none.
    pub sources: Vec<Definition>,
}

/// Every definition (`*.toml`) in `directory`, with relative paths below it.
pub fn read_sources(directory: &Path) -> Result<Vec<Definition>, Error> {
    let unreadable = |error: std::io::Error| {
        Error::Definition(format!("{}: cannot be read: {error}", directory.display()))
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Ok(Definition::parse(&text, &path.display().to_string())?.below(directory))
    };
    paths.iter().map(read).collect()
}

/// The demo's sources: the silos in `directory`. A shop that is in PostgreSQL is named by `shop_url`.
pub fn demo_sources(directory: &Path, shop_url: Option<&str>) -> Result<Vec<Definition>, Error> {
    const TEXTS: [(&str, &str); 6] = [
        ("shop.toml", include_str!("../sources/shop.toml")),
        ("marketplace.toml", include_str!("../sources/marketplace.toml")),
        ("pos.toml", include_str!("../sources/pos.toml")),
        ("events.toml", include_str!("../sources/events.toml")),
        ("loyalty.toml", include_str!("../sources/loyalty.toml")),
        ("stock.toml", include_str!("../sources/stock.toml")),
    ];
    let mut sources = Vec::new();
    for (origin, text) in TEXTS {
        let mut source = Definition::parse(text, origin)?.below(directory);
        if let (Some(sql), Some(url)) = (&mut source.sql, shop_url) {
            sql.url = url.to_owned();
        }
        sources.push(source);
    }
    Ok(sources)
}
