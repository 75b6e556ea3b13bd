//! What can be configured about customers.

use serde::{Deserialize, Serialize};

/// Configuration of the customer service. Its rules are the contract's, so there is nothing to choose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}
