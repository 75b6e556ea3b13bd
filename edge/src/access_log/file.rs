//! Where the lines of access logs go: each file has a thread of its own that writes, so that no call waits for a disk.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::stats::{Counter, Gauge, Scope, Stats};

/// Lines wait at most so long, or until there are so many bytes of them.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
const FLUSH_BYTES: usize = 64 << 10;
/// Lines that a disk is this far behind with are dropped, and counted.
const MAX_BYTES: usize = 16 << 20;

/// What lines are written to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    File(PathBuf),
    Stdout,
    Stderr,
}

impl Target {
    fn open(&self) -> io::Result<Box<dyn Write + Send>> {
        Ok(match self {
            Self::File(path) => Box::new(append(path)?),
            Self::Stdout => Box::new(io::stdout()),
            Self::Stderr => Box::new(io::stderr()),
        })
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Every file that access logs are written to. Logs that name the same one share it.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    open: Arc<Mutex<HashMap<Target, Weak<LogFile>>>>,
    stats: Scope,
}

impl Files {
    pub(crate) fn new(stats: &Stats) -> Self {
        Self { open: Arc::default(), stats: stats.scope("filesystem") }
    }

    pub(crate) fn open(&self, target: Target) -> io::Result<Arc<LogFile>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&target).and_then(Weak::upgrade) {
            return Ok(file);
        }
        open.retain(|_, file| file.strong_count() > 0);
        let file = Arc::new(LogFile::open(target.clone(), Figures::new(&self.stats))?);
        open.insert(target, Arc::downgrade(&file));
        Ok(file)
    }

    /// Opens every file again: somebody has moved it away.
    pub(crate) fn reopen(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for file in open.values().filter_map(Weak::upgrade) {
            file.shared.state().reopen = true;
            file.shared.wake.notify_one();
        }
    }
}

/// `filesystem.…`
#[derive(Debug)]
struct Figures {
    buffered: Counter,
    waiting: Gauge,
    completed: Counter,
    failed: Counter,
    dropped: Counter,
    by_timer: Counter,
    reopen_failed: Counter,
}

impl Figures {
    fn new(scope: &Scope) -> Self {
        Self {
            buffered: scope.counter("write_buffered"),
            waiting: scope.gauge("write_total_buffered"),
            completed: scope.counter("write_completed"),
            failed: scope.counter("write_failed"),
            dropped: scope.counter("write_dropped"),
            by_timer: scope.counter("flushed_by_timer"),
            reopen_failed: scope.counter("reopen_failed"),
        }
    }
}

/// A file that lines are written to. Dropped, it writes what it still has.
#[derive(Debug)]
pub(crate) struct LogFile {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    state: Mutex<State>,
    wake: Condvar,
    figures: Figures,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    reopen: bool,
    closed: bool,
}

impl LogFile {
    fn open(target: Target, figures: Figures) -> io::Result<Self> {
        let file = target.open()?;
        let shared = Arc::new(Shared { target, state: Mutex::default(), wake: Condvar::new(), figures });
        let writing = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writing.write_all(file))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(crate) fn append(&self, line: &str) {
        let figures = &self.shared.figures;
        let before = {
            let lines = &mut self.shared.state().lines;
            let before = lines.len();
            if before + line.len() > MAX_BYTES {
                figures.dropped.inc();
                return;
            }
            lines.extend_from_slice(line.as_bytes());
            figures.waiting.add(i64::try_from(line.len()).unwrap_or(i64::MAX));
            before
        };
        figures.buffered.inc();
        // The writer sleeps until there is a first line, and then until it is due or there are many.
        if before == 0 || (before < FLUSH_BYTES && before + line.len() >= FLUSH_BYTES) {
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A writer that panicked writes no more.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, mut file: Box<dyn Write + Send>) {
        let mut lines = Vec::new();
        loop {
            let (reopen, closed) = self.next(&mut lines);
            if !lines.is_empty() {
                self.write(&mut *file, &lines);
                lines.clear();
                lines.shrink_to(2 * FLUSH_BYTES);
            }
            if closed {
                return;
            }
            if reopen {
                match self.target.open() {
                    Ok(opened) => file = opened,
                    Err(error) => {
                        self.figures.reopen_failed.inc();
                        tracing::error!(target = ?self.target, %error, "cannot open an access log again");
                    }
                }
            }
        }
    }

    /// Waits for something to do: takes the lines, and says whether to open the file again and whether to end.
    fn next(&self, lines: &mut Vec<u8>) -> (bool, bool) {
        let idle = |state: &mut State| state.lines.is_empty() && !state.reopen && !state.closed;
        let state = self.wake.wait_while(self.state(), idle).unwrap_or_else(PoisonError::into_inner);
        let few = |state: &mut State| state.lines.len() < FLUSH_BYTES && !state.reopen && !state.closed;
        let waited = self.wake.wait_timeout_while(state, FLUSH_INTERVAL, few);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            self.figures.by_timer.inc();
        }
        std::mem::swap(&mut state.lines, lines);
        (std::mem::take(&mut state.reopen), state.closed)
    }

    fn write(&self, file: &mut dyn Write, lines: &[u8]) {
        match file.write_all(lines).and_then(|()| file.flush()) {
            Ok(()) => self.figures.completed.inc(),
            Err(error) => {
                self.figures.failed.inc();
                tracing::error!(target = ?self.target, %error, "cannot write an access log");
            }
        }
        self.figures.waiting.add(-i64::try_from(lines.len()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &std::path::Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn lines_are_appended_and_all_there_once_the_file_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        std::fs::write(&path, "before\n").unwrap();
        let stats = Stats::default();
        let files = Files::new(&stats);
        let file = files.open(Target::File(path.clone())).unwrap();
        let same = files.open(Target::File(path.clone())).unwrap();
        assert!(Arc::ptr_eq(&file, &same));
        file.append("a\n");
        same.append("b\n");
        drop(file);
        drop(same);
        assert_eq!(read(&path), "before\na\nb\n");
        assert_eq!(stats.scope("filesystem").counter("write_buffered").value(), 2);
        assert_eq!(stats.scope("filesystem").gauge("write_total_buffered").value(), 0);
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
        let files = Files::new(&Stats::default());
        let file = files.open(Target::File(path.clone())).unwrap();
        file.append("old\n");
        std::fs::rename(&path, &moved).unwrap();
        files.reopen();
        // What is appended before the writer has looked may still go to the file that was moved.
        while !path.exists() {
            std::thread::yield_now();
        }
        file.append("new\n");
        drop(file);
        assert_eq!((read(&moved).as_str(), read(&path).as_str()), ("old\n", "new\n"));
    }

    #[test]
    fn a_path_that_cannot_be_opened_is_an_error() {
        let files = Files::new(&Stats::default());
        assert!(files.open(Target::File("/nonexistent/access.log".into())).is_err());
    }
}
