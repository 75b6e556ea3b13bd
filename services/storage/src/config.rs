//! Where a database is.

use serde::{Deserialize, Serialize};

/// Where the services' databases are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sqlite:<directory>`: a file for each service in it. `postgres://…`: a schema for each service in it.
    pub url: String,
}
