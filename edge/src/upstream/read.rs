//! Readings of Envoy's messages that several parts of a cluster share.

use std::time::Duration;

use envoy_types::pb::google::protobuf;

use crate::problem::{Path, Problem};
use crate::value;

/// Whether nobody wrote a field.
pub(super) fn is_unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Returns with a problem where one of the fields is set: this gateway does not know what to do with it.
macro_rules! refuse {
    ($message:expr, $at:expr, $($field:ident),+ $(,)?) => {
        $(if !$crate::upstream::read::is_unset(&$message.$field) {
            return Err($at.field(stringify!($field)).problem("is not supported: remove it"));
        })+
    };
}
pub(super) use refuse;

/// A time that has to be longer than nothing.
pub(super) fn positive(
    value: Option<&protobuf::Duration>,
    at: &Path<'_>,
    default: Duration,
) -> Result<Duration, Problem> {
    match value.map(value::duration) {
        Some(Duration::ZERO) => Err(at.problem("must be greater than 0s")),
        Some(duration) => Ok(duration),
        None => Ok(default),
    }
}
