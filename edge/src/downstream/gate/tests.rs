//! Heads and chunks as attackers write them, and as honest clients do.

use super::*;

fn gate() -> Gate {
    Gate {
        state: State::Unknown,
        held: BytesMut::new(),
        searched: 0,
        passed: BytesMut::new(),
        head_at: None,
        heads: 0,
        head_bytes: 200,
        head_lines: 3,
        accept_http_10: false,
    }
}

/// What the parser gets of what came, and the status of the refusal.
fn through(mut gate: Gate, pieces: &[&[u8]]) -> (Vec<u8>, Option<(u32, u16)>) {
    let mut refused = None;
    let mut passed = Vec::new();
    for piece in pieces {
        refused = refused.or(gate.take(piece).map(|(number, reply)| (number, reply.status.as_u16())));
        let mut space = [0; 1024];
        let mut to = ReadBuf::new(&mut space);
        gate.hand_over(&mut to);
        passed.extend_from_slice(to.filled());
    }
    (passed, refused)
}

#[test]
fn what_can_be_read_in_one_way_only_passes_as_it_is() {
    for whole in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\na: b\r\n\r\n",
        b"GET HTTP://a/b?c HTTP/1.1\r\nhost: a\r\nconnection: close, TE, x-a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nanything",
    ] {
        assert_eq!(through(gate(), &[whole]), (whole.to_vec(), None));
        let bytes: Vec<_> = whole.chunks(1).collect();
        assert_eq!(through(gate(), &bytes), (whole.to_vec(), None));
    }
    let folded = b"GET / HTTP/1.1\r\nhost: a\r\nb: c\r\n d\r\n\r\n";
    assert_eq!(through(gate(), &[folded]).0, b"GET / HTTP/1.1\r\nhost: a\r\nb: c d\r\n\r\n");
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for (head, status) in [
        ("GARBAGE", 400),
        ("GET /", 426),
        ("GET / HTTP/1.0\r\nhost: a", 426),
        ("GET /a b HTTP/1.1\r\nhost: a", 400),
        ("GET /#a HTTP/1.1\r\nhost: a", 400),
        ("GET / HTTP/1.1\r\nhost: a\nb: c", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b", 400),
        ("GET / HTTP/1.1\r\nhost : a", 400),
        ("GET / HTTP/1.1\r\n host: a", 400),
        ("GET / HTTP/1.1\r\na: \0", 400),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n , gzip", 400),
        ("GET / HTTP/1.1\r\nconnection: keep-alive,\r\n host", 400),
        ("GET / HTTP/1.1\r\nhost: a b", 400),
        ("GET / HTTP/1.1\r\nhost: a/b", 400),
        ("GET a HTTP/1.1\r\nhost: a", 400),
        ("GET * HTTP/1.1\r\nhost: a", 400),
        ("GET ftp://a/ HTTP/1.1\r\nhost: a", 400),
        ("GET http:///b HTTP/1.1\r\nhost: a", 400),
        ("GET http://a:99999/b HTTP/1.1\r\nhost: a", 400),
        ("GET / HTTP/1.1\r\nconnection: keep-alive, Host", 400),
        ("GET / HTTP/1.1\r\nconnection: x-forwarded-for", 400),
        ("GET / HTTP/1.1\r\nconnection: :path", 400),
        ("GET / HTTP/1.1\r\nconnection: a,b,c,d,e,f,g,h,i,j", 400),
        ("GET / HTTP/1.1\r\na: 1\r\nb: 1\r\nc: 1\r\nd: 1", 431),
        ("POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 5", 400),
        ("POST / HTTP/1.1\r\ncontent-length: +5", 400),
        ("POST / HTTP/1.1\r\ncontent-length: 5, 5", 400),
        ("POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked", 400),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked, chunked", 501),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked", 501),
        ("POST / HTTP/1.1\r\ntransfer-encoding: xchunked", 501),
    ] {
        let before = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let whole = format!("{before}{head}\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
        let expected = [before.as_bytes(), REFUSED].concat();
        assert_eq!(through(gate(), &[whole.as_bytes()]), (expected, Some((2, status))), "{head:?}");
    }
    // Nobody waits for the rest.
    for line in [&b"GET / HTTP/1.1\n"[..], b"GET / HTTP/1.1\r\nhost: a\n\n"] {
        assert_eq!(through(gate(), &[line]), (REFUSED.to_vec(), Some((1, 400))));
        let bytes: Vec<_> = line.chunks(1).collect();
        assert_eq!(through(gate(), &bytes), (REFUSED.to_vec(), Some((1, 400))));
    }
    let large = [&b"GET / HTTP/1.1\r\na: "[..], &[b'a'; 300]].concat();
    assert_eq!(through(gate(), &[&large]), (REFUSED.to_vec(), Some((1, 431))));
}

#[test]
fn a_body_that_goes_wrong_ends_the_connection() {
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for chunk in [&b"zz\r\nhello"[..], b"-1\r\n", b"5 \r\nhello\r\n", b"0x5\r\nhello\r\n", b"\r\n"] {
        let whole = [&head[..], chunk].concat();
        assert_eq!(through(gate(), &[&whole]), (REFUSED.to_vec(), Some((1, 400))), "{chunk:?}");
        let mut gate = gate();
        assert!(gate.take(head).is_none());
        let mut space = [0; 1024];
        gate.hand_over(&mut ReadBuf::new(&mut space));
        assert!(gate.take(chunk).is_none() && gate.is_broken(), "{chunk:?}");
    }
}
