//! What can be configured about inventory.

use serde::{Deserialize, Serialize};

/// Configuration of the inventory service: nothing yet, so that a key in it is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}
