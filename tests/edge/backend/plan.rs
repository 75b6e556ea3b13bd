//! An answer, worked out for one request.

use bytes::Bytes;
use serde_json::Value;

use super::services;
use crate::body::frame;
use crate::case::Answer;

pub(super) struct Plan {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) pieces: Vec<Bytes>,
    pub(super) trailers: Vec<(String, String)>,
    pub(super) headers_only: bool,
}

impl Plan {
    pub(super) fn new(answer: &Answer) -> Self {
        let mut plan = Self {
            status: answer.status.unwrap_or(200),
            headers: Vec::new(),
            pieces: answer.body.pieces(),
            trailers: Vec::new(),
            headers_only: !answer.trailers_only.is_empty(),
        };
        let response = answer.service.as_ref().map(|service| frame(&services::response(service)));
        let is_grpc = response.is_some() || answer.messages.is_some();
        plan.pieces.extend(answer.messages.iter().flat_map(|messages| messages.frames()));
        plan.pieces.extend(response);
        if (is_grpc || plan.headers_only) && !answer.headers.contains_key("content-type") {
            plan.headers.push(("content-type".to_owned(), "application/grpc".to_owned()));
        }
        plan.headers.extend(fields(&answer.headers));
        plan.headers.extend(fields(&answer.trailers_only));
        if is_grpc && !answer.trailers.contains_key("grpc-status") && answer.reset.is_none() {
            plan.trailers.push(("grpc-status".to_owned(), "0".to_owned()));
        }
        plan.trailers.extend(fields(&answer.trailers));
        plan
    }
}

/// Headers as cases write them: a value, or a list of values.
pub(crate) fn fields<'a>(
    map: impl IntoIterator<Item = (&'a String, &'a Value)>,
) -> impl Iterator<Item = (String, String)> {
    map.into_iter().flat_map(|(name, value)| {
        let values = match value {
            Value::Array(values) => values.clone(),
            Value::Null => Vec::new(),
            value => vec![value.clone()],
        };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        values.iter().map(|value| (name.clone(), text(value))).collect::<Vec<_>>()
    })
}
