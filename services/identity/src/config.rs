//! What can be configured about the resolution of persons.

use serde::{Deserialize, Serialize};

/// Configuration of the identity service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Records that may share one e-mail address, phone number or card. A key that more of them share is nobody's
    /// own (a shop's counter, a company's switchboard) and links none of them. Default: 50.
    pub max_records_per_key: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_records_per_key: 50 }
    }
}
