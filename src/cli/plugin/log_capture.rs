//! What a plugin says to the process's log while it is tried, in place of that log.

use log::kv::{Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// The lines since they were last taken.
#[derive(Clone, Default)]
pub(super) struct Watch(Arc<Mutex<Vec<String>>>);

impl Watch {
    /// Takes the place of the process's log; a log that is there already stays, and is not watched.
    pub(super) fn begin() -> Self {
        let watch = Self::default();
        if log::set_boxed_logger(Box::new(watch.clone())).is_ok() {
            log::set_max_level(LevelFilter::Debug);
        }
        watch
    }

    pub(super) fn note(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Log for Watch {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // Only plugins and their hosts; a compiler under one of them has a lot to say to itself.
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
