//! What is wrong with a request, field by field.

use std::fmt::{self, Display};

/// One field of a request that cannot be taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the request, such as `orders[3].lines`.
    pub field: String,
    /// What is wrong, in words the caller can act on.
    pub description: String,
}

/// Collects every violation of a request, so that the caller learns of all at once.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Notes that `field` cannot be taken.
    pub fn add(&mut self, field: impl Into<String>, description: impl Display) {
        self.0.push(Violation { field: field.into(), description: description.to_string() });
    }

    /// Passes a good value on and notes a bad one under `field`.
    pub fn check<T, E: Display>(&mut self, field: impl Into<String>, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(field, error);
                None
            }
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The value, if nothing was noted.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, InvalidRequest> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(InvalidRequest { violations: self.0 }),
        }
    }
}

/// A request that cannot be taken as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct InvalidRequest {
    /// Every violation that was found.
    pub violations: Vec<Violation>,
}

impl InvalidRequest {
    /// A request with one violation.
    pub fn new(field: impl Into<String>, description: impl Display) -> Self {
        Self { violations: vec![Violation { field: field.into(), description: description.to_string() }] }
    }
}

impl Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.violations.as_slice() {
            [] => f.write_str("the request is incomplete"),
            [only] => write!(f, "{}: {}", only.field, only.description),
            [first, rest @ ..] => {
                write!(f, "{}: {} (and {} more)", first.field, first.description, rest.len())
            }
        }
    }
}
