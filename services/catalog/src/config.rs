//! What can be configured about the catalog.

use serde::{Deserialize, Serialize};

/// Configuration of the catalog service: nothing yet, so that a key in it is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}
