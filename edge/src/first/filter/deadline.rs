//! The client's deadline: read from `grpc-timeout`, kept by the edge, and handed on as what is left of it.

use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::first::status::Rejection;

pub(crate) const GRPC_TIMEOUT: &str = "grpc-timeout";
/// The specification allows at most this many digits.
const MAX_DIGITS: usize = 8;

/// When the call that started at `started` must be over, if its client said so.
pub(crate) fn read(headers: &HeaderMap, started: Instant) -> Result<Option<Instant>, Rejection> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    let timeout =
        value.to_str().ok().and_then(parse).ok_or_else(|| {
            Rejection::malformed("grpc-timeout is not a number of at most 8 digits and a unit")
        })?;
    if timeout.is_zero() {
        return Err(Rejection::deadline_exceeded());
    }
    // A deadline past the end of the clock is none.
    Ok(started.checked_add(timeout))
}

fn parse(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// The header value for what is left. Rounded up, so that the edge's own timer runs out before the backend's
/// and the client is told of the deadline in the edge's words on every protocol.
pub(crate) fn format(left: Duration) -> String {
    let millis = left.as_micros().div_ceil(1000).max(1);
    if millis < 10_u128.pow(MAX_DIGITS as u32) {
        format!("{millis}m")
    } else {
        format!("{}S", millis.div_ceil(1000).min(99_999_999))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit_and_refuses_the_rest() {
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("99999999M"), Some(Duration::from_secs(99_999_999 * 60)));
        assert_eq!(parse("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parse("9n"), Some(Duration::from_nanos(9)));
        for refused in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1é"] {
            assert_eq!(parse(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn hands_on_what_is_left_rounded_up() {
        assert_eq!(format(Duration::from_micros(1)), "1m");
        assert_eq!(format(Duration::from_micros(1500)), "2m");
        assert_eq!(format(Duration::from_secs(100_000)), "100000S");
    }
}
