//! What a part of a request is compared with: strings, headers, paths, addresses.

mod address;
mod header;
mod path;
mod pattern;
mod query;
mod text;

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;

pub(crate) use address::Cidr;
pub(crate) use header::{CookieMatcher, HeaderMatcher};
pub(crate) use path::PathMatch;
pub(crate) use pattern::{Pattern, Substitution};
pub(crate) use query::{QueryParameterMatcher, decoded_parameter};
pub(crate) use text::StringMatcher;

use crate::problem::{Path, Problem};

/// Some of all calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fraction {
    numerator: u64,
    denominator: u64,
}

impl Fraction {
    pub(crate) const NONE: Self = Self { numerator: 0, denominator: 100 };
    pub(crate) const ALL: Self = Self { numerator: 100, denominator: 100 };

    /// As many as whole parts of `denominator` can say.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
    pub(crate) fn of(share: f64, denominator: u32) -> Self {
        let most = f64::from(denominator);
        Self { numerator: (share * most).clamp(0.0, most) as u64, denominator: denominator.into() }
    }

    pub(crate) fn compile(config: Option<&FractionalPercent>) -> Self {
        let Some(config) = config else { return Self { numerator: 0, denominator: 100 } };
        let denominator = match config.denominator() {
            DenominatorType::Hundred => 100,
            DenominatorType::TenThousand => 10_000,
            DenominatorType::Million => 1_000_000,
        };
        Self { numerator: config.numerator.into(), denominator }
    }

    /// There is no runtime: the default value holds.
    pub(crate) fn of_runtime(config: &RuntimeFractionalPercent) -> Self {
        Self::compile(config.default_value.as_ref())
    }

    /// The same of as many, but not of more than so many of them.
    pub(crate) fn at_most(self, numerator: u32) -> Self {
        Self { numerator: self.numerator.min(numerator.into()), ..self }
    }

    /// Whether a call with this random number is one of them.
    pub(crate) fn takes(self, random: u64) -> bool {
        random % self.denominator < self.numerator
    }
}

/// Compiles each part of a repeated field.
pub(crate) fn each<T, U>(
    config: &[T],
    at: &Path<'_>,
    field: &str,
    compile: impl Fn(&T, &Path<'_>) -> Result<U, Problem>,
) -> Result<Vec<U>, Problem> {
    let at = at.field(field);
    config.iter().enumerate().map(|(index, part)| compile(part, &at.index(index))).collect()
}
