//! Log capture for `moongate plugin test`: log records are kept for the report instead of printed.

use log::kv::{Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// The captured lines since the last `take`.
#[derive(Clone, Default)]
pub(super) struct LogCapture(Arc<Mutex<Vec<String>>>);

impl LogCapture {
    /// Installs the capture as the process's logger. An already installed logger stays, and nothing is
    /// captured.
    pub(super) fn begin() -> Self {
        let capture = Self::default();
        if log::set_boxed_logger(Box::new(capture.clone())).is_ok() {
            log::set_max_level(LevelFilter::Debug);
        }
        capture
    }

    pub(super) fn note(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Log for LogCapture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // Only plugins and their hosts: the WebAssembly compiler logs much at debug level.
        if !record.target().starts_with("moongate") {
            return;
        }
        let mut line = format!("log {}: {}", record.level().as_str().to_lowercase(), record.args());
        let mut pairs = Pairs(&mut line);
        // The visitor never fails.
        let _ = record.key_values().visit(&mut pairs);
        self.note(line);
    }

    fn flush(&self) {}
}

struct Pairs<'l>(&'l mut String);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        let _ = write!(self.0, " {key}={value}");
        Ok(())
    }
}
