//! A request of a case as it goes over the wire, and a response as observations have it.

use std::io::Read;

use bytes::Bytes;
use serde_json::Value;

use crate::backend::plan::fields;
use crate::body::{Body, decode_text, show, show_frames};
use crate::case::Request;
use crate::observation::Observation;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Protocol {
    One,
    Two,
    Raw,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authority: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) trailers: Vec<(String, String)>,
}

/// What gRPC and gRPC-Web clients send along.
const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc"), ("te", "trailers")];
const WEB: &[(&str, &str)] = &[("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")];
const WEB_TEXT: &[(&str, &str)] = &[
    ("content-type", "application/grpc-web-text+proto"),
    ("accept", "application/grpc-web-text+proto"),
    ("x-grpc-web", "1"),
];

impl Message {
    pub(crate) fn protocol(request: &Request) -> Protocol {
        let words: Vec<&str> = request.send.split(' ').collect();
        match words.as_slice() {
            ["raw"] => Protocol::Raw,
            ["grpc", _] | ["h2", ..] | [_, "h2", _] => Protocol::Two,
            _ => Protocol::One,
        }
    }

    pub(crate) fn new(request: &Request) -> Self {
        let words: Vec<&str> = request.send.split(' ').collect();
        let (method, path, defaults): (_, _, &[(&str, &str)]) = match *words.as_slice() {
            ["raw"] => ("", "", &[]),
            ["h1" | "h2", method, path] => (method, path, &[]),
            ["grpc", path] => ("POST", path, GRPC),
            ["grpc-web", _, path] => ("POST", path, WEB),
            ["grpc-web-text", _, path] => ("POST", path, WEB_TEXT),
            _ => panic!("not a request: {}", request.send),
        };
        let is_text = words[0] == "grpc-web-text";
        let mut pieces = request.body.pieces();
        let default: Option<Body> =
            (!defaults.is_empty() && pieces.is_empty()).then(|| Value::from("").into());
        for frame in request.messages.as_ref().or(default.as_ref()).into_iter().flat_map(|body| body.frames())
        {
            pieces.push(if is_text { encode(&frame) } else { frame });
        }
        let own = |name: &str| request.headers.contains_key(name);
        let defaults = defaults.iter().filter(|(name, _)| !own(name));
        let mut headers: Vec<_> =
            defaults.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        headers.extend(fields(&request.headers).filter(|(name, _)| name != "host"));
        let authority =
            request.headers.get("host").map_or("shop.example", |host| host.as_str().unwrap_or_default());
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            authority: authority.to_owned(),
            headers,
            pieces,
            trailers: fields(&request.trailers).collect(),
        }
    }
}

fn encode(bytes: &[u8]) -> Bytes {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(bytes).into()
}

/// What came back, the connection aside.
pub(crate) fn response(
    protocol: &str,
    status: &str,
    headers: &[(String, String)],
    body: &[u8],
    trailers: &[(String, String)],
) -> Observation {
    let mut reply = Observation::default();
    reply.put("protocol", protocol);
    reply.put("status", status);
    reply.put_headers("headers", headers);
    reply.put_headers("trailers", trailers);
    let header =
        |name: &str| headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let kind = header("content-type");
    let mut plain = Vec::new();
    let is_zipped = header("content-encoding") == "gzip"
        && flate2::read::GzDecoder::new(body).read_to_end(&mut plain).is_ok();
    let body = if is_zipped { &plain } else { body };
    if kind.starts_with("application/grpc-web-text") {
        match decode_text(body) {
            Some(decoded) => reply.put("frames", show_frames(&decoded).join(" | ")),
            None => reply.put("body", show(body)),
        }
    } else if kind.starts_with("application/grpc") {
        reply.put("frames", show_frames(body).join(" | "));
    } else if let Some(json) = serde_json::from_slice::<Value>(body).ok().filter(Value::is_object) {
        // How JSON is laid out says nothing.
        reply.put("body", json.to_string());
    } else if !body.is_empty() {
        reply.put("body", show(body));
    }
    reply
}
