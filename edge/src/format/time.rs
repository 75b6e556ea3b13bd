//! Points in time as `%START_TIME(…)%` writes them.

use std::fmt::Write;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// How a point in time is written, in UTC.
#[derive(Clone, Debug)]
pub(crate) struct TimeFormat(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    /// What `strftime` writes.
    Plain(String),
    /// So many digits of the fraction of a second; none: as many as are needed.
    Fraction { seconds: bool, digits: Option<usize> },
}

impl TimeFormat {
    pub(crate) fn parse(format: &str) -> Result<Self, String> {
        let format = if format.is_empty() { "%Y-%m-%dT%H:%M:%E3SZ" } else { format };
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = format;
        while let Some(start) = rest.find('%') {
            plain.push_str(&rest[..start]);
            let directive = &rest[start + 1..];
            if let Some((fraction, after)) = fraction(directive) {
                if !plain.is_empty() {
                    pieces.push(Piece::Plain(std::mem::take(&mut plain)));
                }
                pieces.push(fraction);
                rest = after;
            } else {
                let len = 1 + directive.chars().next().map_or(0, char::len_utf8);
                plain.push_str(&rest[start..start + len]);
                rest = &rest[start + len..];
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Plain(plain));
        }
        let format = Self(pieces);
        match format.try_write(Timestamp::UNIX_EPOCH) {
            Ok(_) => Ok(format),
            Err(error) => Err(format!("no valid time format: {error}")),
        }
    }

    pub(crate) fn write(&self, time: SystemTime) -> Option<String> {
        self.try_write(Timestamp::try_from(time).ok()?).ok()
    }

    fn try_write(&self, time: Timestamp) -> Result<String, jiff::Error> {
        let zoned = time.to_zoned(TimeZone::UTC);
        let mut out = String::with_capacity(32);
        for piece in &self.0 {
            // Writing to a String cannot fail.
            let _ = match piece {
                Piece::Plain(format) => {
                    out.push_str(&jiff::fmt::strtime::format(format, &zoned)?);
                    Ok(())
                }
                Piece::Fraction { seconds, digits } => {
                    let nanos = format!("{:09}", zoned.subsec_nanosecond());
                    let fraction = match digits {
                        Some(digits) => &nanos[..(*digits).min(nanos.len())],
                        None => nanos.trim_end_matches('0'),
                    };
                    match (seconds, fraction.is_empty()) {
                        (false, _) => out.write_str(fraction),
                        (true, true) => write!(out, "{:02}", zoned.second()),
                        (true, false) => write!(out, "{:02}.{fraction}", zoned.second()),
                    }
                }
            };
        }
        Ok(out)
    }
}

/// `f` and `3f` write the fraction alone, `E3S` and `E*S` seconds with it.
fn fraction(directive: &str) -> Option<(Piece, &str)> {
    if let Some(after) = directive.strip_prefix('f') {
        return Some((Piece::Fraction { seconds: false, digits: Some(9) }, after));
    }
    let (extended, rest) = match directive.strip_prefix('E') {
        Some(rest) => (true, rest),
        None => (false, directive),
    };
    let (digits, rest) = match rest.strip_prefix('*') {
        Some(rest) if extended => (None, rest),
        _ => {
            let digit = rest.chars().next()?.to_digit(10)?;
            (Some(usize::try_from(digit).ok()?), &rest[1..])
        }
    };
    if let Some(after) = rest.strip_prefix('f') {
        return Some((Piece::Fraction { seconds: false, digits }, after));
    }
    let after = rest.strip_prefix('S').filter(|_| extended)?;
    Some((Piece::Fraction { seconds: true, digits }, after))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_is_written_as_envoy_writes_it() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_481_818_034, 12_345_678);
        for (format, expected) in [
            ("", "2016-12-15T16:07:14.012Z"),
            ("%Y/%m/%d", "2016/12/15"),
            ("%s", "1481818034"),
            ("%s.%3f", "1481818034.012"),
            ("%s%6f", "1481818034012345"),
            ("%f", "012345678"),
            ("%H:%M:%E*S", "16:07:14.012345678"),
            ("%Y-%m-%dT%H:%M:%S%z %b", "2016-12-15T16:07:14+0000 Dec"),
        ] {
            assert_eq!(TimeFormat::parse(format).unwrap().write(time).as_deref(), Some(expected), "{format}");
        }
        assert!(TimeFormat::parse("%!").is_err());
    }
}
