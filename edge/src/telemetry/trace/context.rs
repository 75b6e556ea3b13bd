//! Which span a call belongs to, as W3C's `traceparent` and `tracestate` carry it.

use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A span as others refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpanContext {
    pub(crate) trace_id: u128,
    pub(crate) span_id: u64,
    pub(crate) sampled: bool,
    /// What other tracers have to say to their like.
    pub(crate) state: String,
}

impl SpanContext {
    /// The first span of a trace.
    pub(crate) fn new(sampled: bool) -> Self {
        Self { trace_id: rand::random(), span_id: rand::random(), sampled, state: String::new() }
    }

    /// The span below this one.
    pub(crate) fn child(&self) -> Self {
        Self { span_id: rand::random(), ..self.clone() }
    }

    /// The span that the sender of a request is in; `None` where what it says of that cannot be read.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Option<Self>> {
        let Some(parent) = headers.get(&TRACEPARENT) else { return Some(None) };
        let states = headers.get_all(&TRACESTATE).iter().filter_map(|value| value.to_str().ok());
        let state = states.collect::<Vec<_>>().join(",");
        parent.to_str().ok().and_then(parse).map(|context| Some(Self { state, ..context }))
    }

    /// Tells the next one which span called it.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let flags = u8::from(self.sampled);
        let mut parent = String::with_capacity(55);
        // Writing to a String cannot fail.
        let _ = write!(parent, "00-{:032x}-{:016x}-{flags:02x}", self.trace_id, self.span_id);
        if let Ok(parent) = HeaderValue::try_from(parent) {
            headers.insert(TRACEPARENT, parent);
        }
        if let Ok(state) = HeaderValue::from_str(&self.state) {
            headers.insert(TRACESTATE, state);
        }
    }
}

/// `VERSION-TRACE_ID-SPAN_ID-FLAGS`, in hexadecimal digits.
fn parse(parent: &str) -> Option<SpanContext> {
    let mut parts = parent.split('-');
    let mut part = |len: usize| {
        let part = parts.next()?;
        (part.len() == len && part.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(part)
    };
    let (_version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let trace_id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
    let span_id = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    parts.next().is_none().then(|| SpanContext { trace_id, span_id, sampled, state: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(SpanContext::read(&headers), Some(None));
        let context = SpanContext { trace_id: 7, span_id: 1 << 63, sampled: true, state: "a=b".to_owned() };
        context.write(&mut headers);
        assert_eq!(headers["traceparent"], "00-00000000000000000000000000000007-8000000000000000-01");
        assert_eq!(SpanContext::read(&headers), Some(Some(context.clone())));
        let child = context.child();
        assert_eq!((child.trace_id, &*child.state, child.sampled), (7, "a=b", true));
        assert_ne!(child.span_id, context.span_id);
    }

    #[test]
    fn what_is_no_traceparent_is_not_taken_for_one() {
        for parent in [
            "garbage",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c8031zz-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            let headers = HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_static(parent))]);
            assert_eq!(SpanContext::read(&headers), None, "{parent}");
        }
    }
}
