//! Text files of a silo, line by line, with an account of the junk that was put among the true rows.

use std::{
    fmt::{Arguments, Write},
    fs,
    path::Path,
};

use serde::Serialize;

use crate::{Error, Tally};

/// A row that belongs to no one.
#[derive(Debug, Serialize)]
pub(crate) struct Junk {
    system: String,
    path: String,
    /// Counted from 1, the header included.
    line: u64,
    kind: &'static str,
    raw: String,
}

/// What the writer of a silo hands back.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) tally: Tally,
    pub(crate) junk: Vec<Junk>,
}

#[derive(Debug)]
pub(crate) struct TextFile {
    /// Relative to the silos' root; its first component is the system.
    path: String,
    text: String,
    lines: u64,
    junk: Vec<Junk>,
}

impl TextFile {
    pub(crate) fn new(path: String) -> Self {
        Self { path, text: String::new(), lines: 0, junk: Vec::new() }
    }

    pub(crate) fn with_header(path: String, header: &str) -> Self {
        let mut file = Self::new(path);
        file.line(format_args!("{header}"));
        file
    }

    pub(crate) fn line(&mut self, line: Arguments<'_>) {
        // Writing to a String cannot fail.
        self.text.write_fmt(line).ok();
        self.text.push('\n');
        self.lines += 1;
    }

    pub(crate) fn csv<'a>(&mut self, fields: impl IntoIterator<Item = &'a str>) {
        for (index, field) in fields.into_iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            if field.contains([',', '"', '\n']) {
                self.text.push('"');
                self.text.push_str(&field.replace('"', "\"\""));
                self.text.push('"');
            } else {
                self.text.push_str(field);
            }
        }
        self.text.push('\n');
        self.lines += 1;
    }

    pub(crate) fn json(&mut self, document: &impl Serialize) -> Result<(), Error> {
        let document = serde_json::to_string(document)?;
        self.line(format_args!("{document}"));
        Ok(())
    }

    pub(crate) fn junk(&mut self, kind: &'static str, raw: &str) {
        self.line(format_args!("{raw}"));
        self.account(self.lines, kind, raw);
    }

    /// Ends the file in the middle of a line: nothing may follow.
    pub(crate) fn cut_off(&mut self, raw: &str) {
        self.text.push_str(raw);
        self.account(self.lines + 1, "cut_off", raw);
    }

    fn account(&mut self, line: u64, kind: &'static str, raw: &str) {
        let system = self.path.split('/').next().unwrap_or_default().to_owned();
        self.junk.push(Junk { system, path: self.path.clone(), line, kind, raw: raw.to_owned() });
    }

    pub(crate) fn save(self, root: &Path, written: &mut Written) -> Result<(), Error> {
        let path = root.join(&self.path);
        fs::write(&path, self.text).map_err(Error::io(&path))?;
        written.tally.junk += self.junk.len() as u64;
        written.junk.extend(self.junk);
        Ok(())
    }
}

pub(crate) fn directory(root: &Path, name: &str) -> Result<(), Error> {
    let path = root.join(name);
    fs::create_dir_all(&path).map_err(Error::io(&path))
}
