//! What passes over an HTTP/2 connection, frame by frame, as far as to notice a client that floods it: frames that cost
//! more to read than to send, and that the protocol itself does not count.

use envoy_types::pb::envoy::config::core::v3::Http2ProtocolOptions;

use crate::stats::{Counter, Scope};
use crate::value;

const PREFACE: usize = 24;
const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// How many frames of each kind a client may send; the names and defaults are Envoy's.
#[derive(Debug)]
pub(crate) struct FrameLimits {
    empty_in_a_row: u32,
    priorities_per_stream: u64,
    window_updates_per_data: u64,
    stats: FloodStats,
}

/// `http2.…`
#[derive(Debug)]
struct FloodStats {
    empty: Counter,
    priority: Counter,
    window_update: Counter,
}

impl FrameLimits {
    pub(super) fn compile(config: &Http2ProtocolOptions, http2: &Scope) -> Self {
        let number = |field, default| u64::from(value::number(field, default));
        Self {
            empty_in_a_row: value::number(
                config.max_consecutive_inbound_frames_with_empty_payload.as_ref(),
                1,
            ),
            priorities_per_stream: number(config.max_inbound_priority_frames_per_stream.as_ref(), 100),
            window_updates_per_data: number(
                config.max_inbound_window_update_frames_per_data_frame_sent.as_ref(),
                10,
            ),
            stats: FloodStats {
                empty: http2.counter("inbound_empty_frames_flood"),
                priority: http2.counter("inbound_priority_frames_flood"),
                window_update: http2.counter("inbound_window_update_frames_flood"),
            },
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

/// Finds the heads of frames in bytes as they come.
#[derive(Debug)]
struct Walker {
    head: [u8; HEADER],
    /// How much of the next head is there.
    have: usize,
    /// How much of the frame, or of the preface, is still to come.
    left: usize,
}

impl Walker {
    fn behind(preface: usize) -> Self {
        Self { head: [0; HEADER], have: 0, left: preface }
    }

    /// The next frame whose head ends within `bytes`, which are used up as far as that.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        let skipped = self.left.min(bytes.len());
        self.left -= skipped;
        *bytes = &bytes[skipped..];
        let taken = (HEADER - self.have).min(bytes.len());
        self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
        *bytes = &bytes[taken..];
        self.have += taken;
        if self.have < HEADER {
            return None;
        }
        self.have = 0;
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        Some(Frame { length: self.left, kind, flags, stream })
    }
}

/// The frames of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    inbound: Walker,
    outbound: Walker,
    /// The frame under way is of headers.
    open: bool,
    /// A block of headers, or the preface, waits for its end.
    block: bool,
    last_stream: u32,
    streams: u64,
    empty_in_a_row: u32,
    priorities: u64,
    window_updates: u64,
    data_sent: u64,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            inbound: Walker::behind(PREFACE),
            outbound: Walker::behind(0),
            open: false,
            block: true,
            last_stream: 0,
            streams: 0,
            empty_in_a_row: 0,
            priorities: 0,
            window_updates: 0,
            data_sent: 0,
        }
    }

    /// Whether a head is on its way that is not whole yet, such as the connection's own before its first frame.
    pub(super) fn in_head(&self) -> bool {
        self.block || self.inbound.have > 0 || (self.open && self.inbound.left > 0)
    }

    /// Counts what the client sent; whether it may go on.
    #[must_use]
    pub(super) fn received(&mut self, mut bytes: &[u8], limits: &FrameLimits) -> bool {
        while let Some(frame) = self.inbound.next(&mut bytes) {
            self.count(frame);
            if self.is_flood(limits) {
                return false;
            }
        }
        true
    }

    fn count(&mut self, frame: Frame) {
        self.open = matches!(frame.kind, HEADERS | CONTINUATION);
        self.block = self.open && frame.flags & END_HEADERS == 0;
        if frame.kind == HEADERS && frame.stream > self.last_stream {
            self.last_stream = frame.stream;
            self.streams += 1;
        }
        match frame.kind {
            DATA | HEADERS | CONTINUATION if frame.length > 0 || frame.flags & END_STREAM != 0 => {
                self.empty_in_a_row = 0;
            }
            DATA | HEADERS | CONTINUATION => self.empty_in_a_row += 1,
            PRIORITY => self.priorities += 1,
            WINDOW_UPDATE => self.window_updates += 1,
            _ => {}
        }
    }

    fn is_flood(&self, limits: &FrameLimits) -> bool {
        let stats = &limits.stats;
        let floods = [
            (self.empty_in_a_row > limits.empty_in_a_row, &stats.empty),
            (self.priorities > limits.priorities_per_stream * (1 + self.streams), &stats.priority),
            (
                self.window_updates
                    > 5 + 2 * (self.streams + limits.window_updates_per_data * self.data_sent),
                &stats.window_update,
            ),
        ];
        let found = floods.into_iter().find(|(flood, _)| *flood);
        found.is_some_and(|(_, counter)| {
            counter.inc();
            true
        })
    }

    /// Counts what the client was sent.
    pub(super) fn sent(&mut self, mut bytes: &[u8]) {
        while let Some(frame) = self.outbound.next(&mut bytes) {
            self.data_sent += u64::from(frame.kind == DATA);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Stats;

    fn limits() -> FrameLimits {
        FrameLimits::compile(&Http2ProtocolOptions::default(), &Stats::default().scope("http2"))
    }

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream];
        frame.extend_from_slice(payload);
        frame
    }

    /// After how many of the frames that follow the preface a client is stopped.
    fn stopped_after(before: &[Vec<u8>], flood: &[u8], most: usize) -> Option<usize> {
        let (limits, mut frames) = (limits(), Frames::new());
        assert!(frames.received(&[0; PREFACE], &limits));
        for frame in before {
            assert!(frames.received(frame, &limits));
        }
        // Byte by byte: where reads end makes no difference.
        (1..=most).find(|_| !flood.iter().all(|byte| frames.received(&[*byte], &limits)))
    }

    #[test]
    fn floods_end_where_envoy_ends_them() {
        let call = frame(HEADERS, END_HEADERS, 1, b"abc");
        for (before, flood, after) in [
            (vec![], frame(DATA, 0, 1, b""), Some(2)),
            (vec![], frame(HEADERS, END_HEADERS, 1, b""), Some(2)),
            (vec![], frame(CONTINUATION, 0, 1, b""), Some(2)),
            (vec![], frame(DATA, END_STREAM, 1, b""), None),
            (vec![], frame(DATA, 0, 1, b"a"), None),
            (vec![], frame(PRIORITY, 0, 1, b"12345"), Some(101)),
            (vec![call.clone()], frame(PRIORITY, 0, 1, b"12345"), Some(201)),
            (vec![], frame(WINDOW_UPDATE, 0, 0, b"1234"), Some(6)),
            (vec![call.clone(), call], frame(WINDOW_UPDATE, 0, 0, b"1234"), Some(8)),
            (vec![], frame(4, 0, 0, b""), None),
            (vec![], frame(6, 0, 0, b"12345678"), None),
        ] {
            assert_eq!(stopped_after(&before, &flood, 300), after, "{before:?} {flood:?}");
        }
    }

    #[test]
    fn a_client_may_ask_for_more_of_what_it_is_sent() {
        let (limits, mut frames) = (limits(), Frames::new());
        assert!(frames.received(&[0; PREFACE], &limits));
        for _ in 0..100 {
            frames.sent(&frame(DATA, 0, 1, b"hello"));
            for _ in 0..20 {
                assert!(frames.received(&frame(WINDOW_UPDATE, 0, 1, b"1234"), &limits));
            }
        }
    }

    #[test]
    fn a_head_is_on_its_way_until_it_ends() {
        let (limits, mut frames) = (limits(), Frames::new());
        let mut after = |bytes: &[u8]| {
            assert!(frames.received(bytes, &limits));
            frames.in_head()
        };
        assert!(after(b""));
        assert!(after(&[0; PREFACE - 1]));
        assert!(after(&[0]));
        assert!(!after(&frame(4, 0, 0, b"")));
        assert!(after(&frame(HEADERS, 0, 1, b"abc")));
        assert!(after(&frame(CONTINUATION, 0, 1, b"abc")));
        assert!(!after(&frame(CONTINUATION, END_HEADERS, 1, b"abc")));
        let whole = frame(HEADERS, END_HEADERS, 3, b"abc");
        assert!(after(&whole[..4]));
        assert!(after(&whole[4..10]));
        assert!(!after(&whole[10..]));
        assert!(!after(&frame(DATA, 0, 3, b"abc")[..11]));
    }
}
