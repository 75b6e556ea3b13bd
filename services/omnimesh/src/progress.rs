//! Progress on standard error: bars on a terminal, plain lines elsewhere.

use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Draws what a command is doing.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: MultiProgress,
    terminal: bool,
    current: Mutex<Option<Stage>>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), terminal, current: Mutex::new(None) }
    }

    /// Begins a stage; a total of 0 is one that is not known yet.
    pub(crate) fn stage(&self, name: &str, total: u64) -> Stage {
        let bar = self.bars.add(ProgressBar::new(total).with_message(name.to_owned()));
        let template = if total == 0 {
            "{spinner} {msg:28} {human_pos:>11} {elapsed:>5}"
        } else {
            "{spinner} {msg:28} {human_pos:>11} / {human_len:11} {wide_bar} {elapsed:>5}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Stage { bar, name: name.to_owned(), began: Instant::now(), terminal: self.terminal }
    }
}

/// One stage under way.
#[derive(Debug)]
pub(crate) struct Stage {
    bar: ProgressBar,
    name: String,
    began: Instant,
    terminal: bool,
}

impl Stage {
    /// So many are done.
    pub(crate) fn set(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// One more is done.
    pub(crate) fn advance(&self) {
        self.bar.inc(1);
    }

    /// Ends it with a line that stays.
    pub(crate) fn done(self, outcome: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        let line = format!("  {:28} {outcome} ({seconds:.1} s)", self.name);
        if self.terminal {
            self.bar.set_style(
                ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            self.bar.finish_with_message(line);
        } else {
            self.bar.finish_and_clear();
            eprintln!("{line}");
        }
    }
}

impl silos::Progress for Progress {
    fn start(&self, stage: &str, total: u64) {
        let stage = self.stage(&format!("build {stage}"), total);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(stage);
    }

    fn advance(&self, steps: u64) {
        if let Some(stage) = &*self.current.lock().unwrap_or_else(PoisonError::into_inner) {
            stage.bar.inc(steps);
        }
    }

    fn finish(&self) {
        if let Some(stage) = self.current.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let total = stage.bar.position();
            stage.done(&format!("{} rows", crate::table::grouped(total.try_into().unwrap_or(i64::MAX))));
        }
    }
}
