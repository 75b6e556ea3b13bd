//! Standard output, of every command. What prints by itself panics once nobody reads any more, as after `| head`; here
//! what is said then is said to nobody, and the command ends as it would have.

use std::{
    fmt::Display,
    io::{self, Write},
};

use anyhow::Context;
use serde::Serialize;

use crate::error::Failure;

/// Prints a text as it is.
pub(crate) fn text(text: impl Display) -> Result<(), Failure> {
    to(&mut io::stdout().lock(), &text)
}

/// Prints a text, and ends its line.
pub(crate) fn line(line: impl Display) -> Result<(), Failure> {
    text(format_args!("{line}\n"))
}

/// Prints JSON as people read it.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(serde_json::to_string_pretty(value).map_err(Failure::usage)?)
}

fn to(output: &mut impl Write, text: &impl Display) -> Result<(), Failure> {
    match write!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.context("cannot write to standard output")?),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{BufWriter, LineWriter},
    };

    use super::*;

    #[test]
    fn only_a_reader_who_is_gone_is_no_error() {
        let (reader, writer) = io::pipe().unwrap();
        let mut output = LineWriter::new(writer);
        to(&mut output, &"as it is").unwrap();
        drop(reader);
        to(&mut output, &"more\n").unwrap();
        // What fails only when it is flushed is told as well.
        let mut full = BufWriter::new(File::options().write(true).open("/dev/full").unwrap());
        let failure = to(&mut full, &"more\n").unwrap_err();
        assert!(matches!(failure, Failure::Failed(_)), "{failure}");
        assert!(failure.to_string().starts_with("cannot write to standard output: "), "{failure}");
    }
}
