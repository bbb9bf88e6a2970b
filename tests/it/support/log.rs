//! The gateway's standard error, line by line, for searches and waits.

use super::LIMIT;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};

/// The process's output so far.
#[derive(Default)]
pub(crate) struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    /// Reads `from` on a thread of its own until it ends.
    pub(crate) fn of(from: impl Read + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                writer.change(|state| state.lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
            writer.change(|state| state.ended = true);
        });
        log
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// The number of lines so far: a mark for [`Log::wait`].
    pub(crate) fn mark(&self) -> usize {
        self.state.lock().unwrap().lines.len()
    }

    /// The whole of it.
    pub(crate) fn text(&self) -> String {
        self.state.lock().unwrap().lines.join("\n")
    }

    /// How many lines since `mark` contain `needle`.
    pub(crate) fn count(&self, mark: usize, needle: &str) -> usize {
        self.state.lock().unwrap().lines[mark..].iter().filter(|line| line.contains(needle)).count()
    }

    /// Waits for the first line since `mark` that contains one of `needles`.
    pub(crate) fn wait(&self, mark: usize, needles: &[&str]) -> String {
        let find = |state: &State| {
            let line = state.lines[mark..].iter().find(|line| needles.iter().any(|n| line.contains(n)));
            line.cloned()
        };
        let state = self.state.lock().unwrap();
        let pending = |state: &mut State| find(state).is_none() && !state.ended;
        let (state, _) = self.changed.wait_timeout_while(state, LIMIT, pending).unwrap();
        let (found, ended) = (find(&state), state.ended);
        // Unlocked first: a panic must leave the log readable for the report.
        drop(state);
        found.unwrap_or_else(|| {
            let why = if ended { "the process ended" } else { "time is up" };
            panic!("{why} without a line of {needles:?}")
        })
    }
}

/// The value of `key=value` in a line.
pub(crate) fn field<'a>(line: &'a str, key: &str) -> &'a str {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("no {key}= in {line:?}"))
}
