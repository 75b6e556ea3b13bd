//! Bodies as cases write them: a piece or a list of pieces, each of them a write of its own.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::Value;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Value")]
pub(crate) struct Body(Vec<Value>);

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self(Vec::new()),
            Value::Array(pieces) => Self(pieces),
            piece => Self(vec![piece]),
        }
    }
}

impl Body {
    pub(crate) fn pieces(&self) -> Vec<Bytes> {
        self.0.iter().map(piece).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each piece as a gRPC message.
    pub(crate) fn frames(&self) -> Vec<Bytes> {
        self.0.iter().map(|message| frame(&piece(message))).collect()
    }
}

/// Text; a number of bytes; or `hex`, `base64`, `frame` (a gRPC message), `repeat` with `times`.
fn piece(value: &Value) -> Bytes {
    let Some((kind, inner)) = value.as_object().and_then(|map| map.iter().next()) else {
        return match value {
            Value::Number(size) => filler(size.as_u64().unwrap_or_default() as usize),
            Value::String(text) => Bytes::from(text.clone()),
            other => panic!("a piece of a body cannot be {other}"),
        };
    };
    match kind.as_str() {
        "hex" => unhex(inner.as_str().expect("hex digits in quotes")),
        "base64" => BASE64_STANDARD.encode(piece(inner)).into(),
        "frame" => frame(&piece(inner)),
        "all" => Body::from(inner.clone()).pieces().concat().into(),
        other => panic!("a piece of a body cannot be {other}"),
    }
}

/// Bytes that tell their place, so that a lost or doubled part is seen.
fn filler(size: usize) -> Bytes {
    (0..size).map(|at| b'a' + (at / 7 % 26) as u8).collect()
}

pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<char> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    digits.chunks(2).map(|pair| byte(pair).expect("hex digits")).collect()
}

/// A body in one line: text as it is, other bytes in hex, a long one as its length and a digest.
pub(crate) fn show(body: &[u8]) -> String {
    const LONG: usize = 2000;
    if body.len() > LONG {
        let digest = twox_hash::XxHash64::oneshot(0, body);
        return format!("{} bytes, digest {digest:016x}", body.len());
    }
    match std::str::from_utf8(body) {
        Ok(text) if !text.contains(|c: char| c.is_control() && !"\r\n\t".contains(c)) => text.to_owned(),
        _ => body.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// A body of gRPC or gRPC-Web, frame by frame.
pub(crate) fn show_frames(mut body: &[u8]) -> Vec<String> {
    let mut frames = Vec::new();
    while !body.is_empty() {
        let length = body.get(1..5).map(|bytes| u32::from_be_bytes(bytes.try_into().expect("four")) as usize);
        let Some(content) = length.and_then(|length| body.get(5..5 + length)) else {
            frames.push(format!("broken: {}", show(body)));
            break;
        };
        let kind = match body[0] {
            0 => "message",
            1 => "compressed message",
            0x80 => "trailers",
            0x81 => "compressed trailers",
            _ => "unknown frame",
        };
        frames.push(format!("{kind}: {}", show(content)));
        body = &body[5 + content.len()..];
    }
    frames
}

/// gRPC-Web's base64, which may be padded wherever the sender flushed.
pub(crate) fn decode_text(body: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = body.to_vec();
    let mut decoded = Vec::new();
    for group in text.chunks(4) {
        decoded.extend(BASE64_STANDARD.decode(group).ok()?);
    }
    Some(decoded)
}
