//! Watches the length-prefixed messages of a gRPC body go by, without holding any.

/// Five bytes before each message: a flag and the length.
const PREFIX: usize = 5;

/// A message was announced that is larger than allowed; carries its length.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge(pub(crate) u32);

#[derive(Debug)]
pub(crate) struct MessageMeter {
    limit: u32,
    prefix: [u8; PREFIX],
    prefix_len: usize,
    remaining: usize,
}

impl MessageMeter {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, prefix: [0; PREFIX], prefix_len: 0, remaining: 0 }
    }

    /// Follows the next bytes of the body. Chunks may cut messages and prefixes anywhere.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), TooLarge> {
        loop {
            let skipped = self.remaining.min(bytes.len());
            self.remaining -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = (PREFIX - self.prefix_len).min(bytes.len());
            self.prefix[self.prefix_len..self.prefix_len + taken].copy_from_slice(&bytes[..taken]);
            self.prefix_len += taken;
            bytes = &bytes[taken..];
            if self.prefix_len == PREFIX {
                let [_, length @ ..] = self.prefix;
                let length = u32::from_be_bytes(length);
                if length > self.limit {
                    return Err(TooLarge(length));
                }
                self.prefix_len = 0;
                self.remaining = length as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_messages_across_any_chunking() {
        let body = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[1, 0, 0, 0, 2], b"de"].concat();
        for size in 1..=body.len() {
            let mut meter = MessageMeter::new(3);
            for chunk in body.chunks(size) {
                assert_eq!(meter.feed(chunk), Ok(()));
            }
            assert_eq!((meter.remaining, meter.prefix_len), (0, 0), "chunks of {size}");
        }
    }

    #[test]
    fn refuses_a_message_by_its_announced_length() {
        assert_eq!(MessageMeter::new(3).feed(&[0, 0, 0, 0, 4]), Err(TooLarge(4)));
    }
}
