//! Says what the gateway would do with a request: which listener, chain, virtual host and route take it and why, which
//! filters see it, and where it goes. Nothing is served and nobody is called.

mod find;
mod report;

use crate::bootstrap::Loaded;
use crate::problem::Problem;
pub use report::{Endpoint, Explanation, FilterStep, Outcome, Place, TriedRoute};

/// The request that is asked about.
#[derive(Clone, Debug, Default)]
pub struct Question {
    pub method: String,
    /// With its query.
    pub path: String,
    /// `Host`, or `:authority`; without it the listener's address.
    pub authority: Option<String>,
    pub headers: Vec<(String, String)>,
    /// Its name; without it the first one.
    pub listener: Option<String>,
}

/// Explains, or says what is wrong with the configuration or the question.
pub fn explain(loaded: &Loaded, question: &Question) -> Result<Explanation, Problem> {
    find::find(loaded, question)
}
