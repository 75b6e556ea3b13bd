//! HTTP/2 that breaks its rules: a fault of one call ends that call, a fault of the connection ends that, and either is
//! told for what it is.

use serde_json::json;

use crate::backend::Backend;
use crate::edge::{Config, Edge};
use crate::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, PUSH_PROMISE,
    RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, frame,
};
use crate::honest::{Client, Protocol};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const PADDED: u8 = 8;
/// The most that a frame may carry unless the settings say otherwise.
const MAX_FRAME_SIZE: usize = 16_384;

use Fault::{Connection, Stream};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Connection(u32),
    Stream(u32),
}

/// A call whose request goes on.
fn open() -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &frames::call("Hold"))
}

/// A call whose request is whole.
fn whole() -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &frames::call("Hold"))
}

/// A whole request of this head.
fn request(head: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &frames::block(head))
}

fn after(first: Vec<u8>, then: &[u8]) -> Vec<u8> {
    [first, then.to_vec()].concat()
}

fn setting(id: u8, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&[0, id][..], &value.to_be_bytes()].concat())
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/");
const AUTHORITY: (&str, &str) = (":authority", "edge.example");

/// Frames by how they are framed and where they stand. What it cannot read, the library calls PROTOCOL_ERROR, whatever
/// more RFC 9113 says of it.
fn framing() -> Vec<(&'static str, Vec<u8>, Fault)> {
    let largest = (i32::MAX as u32).to_be_bytes();
    vec![
        ("DATA of no stream", frame(DATA, 0, 0, b"a"), Connection(PROTOCOL_ERROR)),
        (
            "HEADERS of no stream",
            frame(HEADERS, END_HEADERS, 0, &frames::call("Echo")),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "HEADERS of an even stream",
            frame(HEADERS, END_HEADERS, 2, &frames::call("Echo")),
            Connection(PROTOCOL_ERROR),
        ),
        ("DATA of an idle stream", frame(DATA, 0, 1, b"a"), Connection(PROTOCOL_ERROR)),
        ("RST_STREAM of an idle stream", frame(RST_STREAM, 0, 1, &[0; 4]), Connection(PROTOCOL_ERROR)),
        ("RST_STREAM of no stream", frame(RST_STREAM, 0, 0, &[0; 4]), Connection(PROTOCOL_ERROR)),
        (
            "WINDOW_UPDATE of an idle stream",
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
            Connection(PROTOCOL_ERROR),
        ),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, b""), Connection(PROTOCOL_ERROR)),
        ("PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), Connection(PROTOCOL_ERROR)),
        ("SETTINGS of a stream", frame(SETTINGS, 0, 1, b""), Connection(PROTOCOL_ERROR)),
        ("PING of a stream", frame(PING, 0, 1, &[0; 8]), Connection(PROTOCOL_ERROR)),
        ("GOAWAY of a stream", frame(GOAWAY, 0, 1, &[0; 8]), Connection(PROTOCOL_ERROR)),
        (
            "a stream below the last",
            after(
                after(open(), &frame(HEADERS, END_HEADERS, 5, &frames::call("Hold"))),
                &frame(HEADERS, END_HEADERS, 3, &frames::call("Hold")),
            ),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "DATA within a head",
            after(frame(HEADERS, 0, 1, &frames::call("Hold")), &frame(DATA, 0, 1, b"a")),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "CONTINUATION of another head",
            after(frame(HEADERS, 0, 1, &frames::call("Hold")), &frame(CONTINUATION, 0, 3, b"")),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "more padding than DATA",
            after(open(), &frame(DATA, PADDED, 1, &[9, 0])),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "too long DATA",
            after(open(), &frame(DATA, 0, 1, &[0; MAX_FRAME_SIZE + 1])),
            Connection(FRAME_SIZE_ERROR),
        ),
        ("PING of 7 bytes", frame(PING, 0, 0, &[0; 7]), Connection(PROTOCOL_ERROR)),
        (
            "RST_STREAM of 3 bytes",
            after(open(), &frame(RST_STREAM, 0, 1, &[0; 3])),
            Connection(PROTOCOL_ERROR),
        ),
        ("WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), Connection(PROTOCOL_ERROR)),
        ("SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5]), Connection(PROTOCOL_ERROR)),
        ("SETTINGS that answer and set", frame(SETTINGS, 1, 0, &[0; 6]), Connection(PROTOCOL_ERROR)),
        ("ENABLE_PUSH of 2", setting(2, 2), Connection(PROTOCOL_ERROR)),
        ("INITIAL_WINDOW_SIZE of 2^31", setting(4, 1 << 31), Connection(PROTOCOL_ERROR)),
        ("MAX_FRAME_SIZE of 16383", setting(5, 16_383), Connection(PROTOCOL_ERROR)),
        (
            "a stream's WINDOW_UPDATE of 0",
            after(open(), &frame(WINDOW_UPDATE, 0, 1, &[0; 4])),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "an upper-case name",
            request(&[METHOD, SCHEME, PATH, AUTHORITY, ("X-Upper", "a")]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a pseudo-header that is unknown",
            request(&[METHOD, SCHEME, PATH, AUTHORITY, (":more", "a")]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a connection's WINDOW_UPDATE of 0",
            frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a connection's window above 2^31",
            frame(WINDOW_UPDATE, 0, 0, &largest),
            Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "a stream's window above 2^31",
            after(open(), &frame(WINDOW_UPDATE, 0, 1, &largest)),
            Stream(FLOW_CONTROL_ERROR),
        ),
        (
            "a head that is no HPACK",
            frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff]),
            Connection(PROTOCOL_ERROR),
        ),
        ("DATA behind the end", after(whole(), &frame(DATA, 0, 1, b"a")), Connection(PROTOCOL_ERROR)),
    ]
}

/// Requests whose heads or lengths are wrong.
fn heads() -> Vec<(&'static str, Vec<u8>, Fault)> {
    let of = |more: &[(&str, &str)]| request(&[&[METHOD, SCHEME, PATH, AUTHORITY], more].concat());
    let told = |length: &str| {
        let length = frames::block(&[("content-length", length)]);
        frame(HEADERS, END_HEADERS, 1, &[frames::call("Hold"), length].concat())
    };
    let cases = vec![
        ("connection", of(&[("connection", "keep-alive")])),
        ("te that is not trailers", of(&[("te", "gzip")])),
        ("a pseudo-header of replies", request(&[METHOD, SCHEME, PATH, AUTHORITY, (":status", "200")])),
        ("a pseudo-header behind others", request(&[METHOD, SCHEME, AUTHORITY, ("x-a", "a"), PATH])),
        ("no method", request(&[SCHEME, PATH, AUTHORITY])),
        ("no scheme", request(&[METHOD, PATH, AUTHORITY])),
        ("no path", request(&[METHOD, SCHEME, AUTHORITY])),
        ("an empty path", request(&[METHOD, SCHEME, (":path", ""), AUTHORITY])),
        ("two paths", request(&[METHOD, SCHEME, PATH, PATH, AUTHORITY])),
        ("more than was told", after(told("1"), &frame(DATA, 0, 1, b"ab"))),
        ("less than was told", after(told("3"), &frame(DATA, END_STREAM, 1, b"ab"))),
        (
            "trailers that do not end",
            after(open(), &frame(HEADERS, END_HEADERS, 1, &frames::block(&[("x-a", "a")]))),
        ),
        ("a stream that depends on itself", after(open(), &frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 1]))),
    ];
    cases.into_iter().map(|(name, sent)| (name, sent, Stream(PROTOCOL_ERROR))).collect()
}

/// What the edge says of what it was sent.
async fn fault(raw: &mut Raw) -> Option<Fault> {
    // The answer to a PING may overtake the reset of a stream, but not twice.
    for _ in 0..2 {
        raw.send(&frame(PING, 0, 0, b"settled?")).await;
        let told = |frame: &frames::Frame| {
            matches!(frame.kind, RST_STREAM | GOAWAY) || (frame.kind, frame.flags) == (PING, 1)
        };
        match raw.find(told).await {
            Some(frame) if frame.kind == GOAWAY => return Some(Connection(frame.code())),
            Some(frame) if frame.kind == RST_STREAM => return Some(Stream(frame.code())),
            Some(_) => {}
            None => return None,
        }
    }
    None
}

#[tokio::test]
async fn a_fault_ends_what_it_is_a_fault_of() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::default()).await;
    let mut neighbour = Client::connect(Protocol::Grpc, edge.address(), None).await;
    let mut wrong = Vec::new();
    for (name, sent, expected) in framing().into_iter().chain(heads()) {
        let mut raw = Raw::connect(edge.address(), &[]).await;
        assert!(raw.send(&sent).await, "{name}");
        let told = fault(&mut raw).await;
        let goes_on = matches!(told, Some(Stream(_))) && raw.settle().await;
        if told != Some(expected) || goes_on != matches!(expected, Stream(_)) {
            wrong.push(format!("{name}: {told:?}, goes on: {goes_on}"));
        }
        neighbour.call().await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn what_may_be_ignored_is() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::default()).await;
    for (name, sent) in [
        ("an unknown frame", frame(0xee, 0xff, 0, b"what?")),
        ("an unknown setting", setting(0xee, 1)),
        ("PRIORITY of an idle stream", frame(PRIORITY, 0, 7, &[0, 0, 0, 0, 1])),
        ("an answer to no PING", frame(PING, 1, 0, b"no ping!")),
    ] {
        let mut raw = Raw::connect(edge.address(), &[]).await;
        assert!(raw.send(&sent).await && raw.settle().await, "{name}");
    }
}

/// What is wrong with the rest of a request is told although it is answered.
#[tokio::test]
async fn a_request_is_checked_to_its_end_though_it_is_answered() {
    let backend = Backend::start().await;
    let answers = json!({"route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}},
    ]}]}});
    let edge = Edge::start(&backend, &Config::hcm(answers)).await;
    let head = [(":method", "POST"), SCHEME, PATH, AUTHORITY, ("content-length", "1")];
    for (rest, expected) in [
        (frame(DATA, END_STREAM, 1, b"a"), None),
        (frame(DATA, END_STREAM, 1, b"ab"), Some(Stream(PROTOCOL_ERROR))),
        (frame(HEADERS, END_HEADERS, 1, &frames::block(&[("x-a", "a")])), Some(Stream(PROTOCOL_ERROR))),
    ] {
        let mut raw = Raw::connect(edge.address(), &[]).await;
        assert!(raw.send(&frame(HEADERS, END_HEADERS, 1, &frames::block(&head))).await);
        raw.find(|frame| frame.flags & END_STREAM != 0).await.expect("an answer");
        assert!(raw.send(&rest).await);
        assert_eq!(fault(&mut raw).await, expected);
    }
}
