//! A run's progress, on standard error: a bar on a terminal, otherwise a line now and then.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The time between two lines.
const PAUSE: Duration = Duration::from_secs(10);

pub(crate) struct Progress {
    bar: ProgressBar,
    what: String,
    total: u64,
    done: u64,
    last: Instant,
}

impl Progress {
    pub(crate) fn new(what: &str, total: u64) -> Self {
        let bar = ProgressBar::new(total).with_prefix(what.to_owned());
        let template = "{prefix} [{bar:30}] {human_pos}/{human_len} {eta} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let progress = Self { bar, what: what.to_owned(), total, done: 0, last: Instant::now() };
        if progress.bar.is_hidden() {
            eprintln!("{what} …");
        }
        progress
    }

    pub(crate) fn step(&mut self, message: &str) {
        self.set(self.done + 1, message);
    }

    pub(crate) fn set(&mut self, done: u64, message: &str) {
        self.done = done;
        self.bar.set_position(done);
        if message != self.bar.message() {
            self.bar.set_message(message.to_owned());
        }
        if self.bar.is_hidden() && self.last.elapsed() >= PAUSE {
            self.last = Instant::now();
            eprintln!("{} {done} of {} {message}", self.what, self.total);
        }
    }

    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
