//! Queue of the process log to standard error: a stopped terminal or a hanging collector must not block
//! threads that log.

use super::access_log::{FormattedLine, Lines, json_record};
use super::recent_lines;
use env_logger::{Logger, Target, WriteStyle};
use log::{LevelFilter, Log, Metadata, Record};
use parking_lot::RwLock;
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// Bytes in the queue; lines beyond them are dropped and counted.
const CAPACITY: u64 = 1 << 20;

/// Filters besides the level. Pingora logs every client that hangs up and every retry as an error, and rustls warns of every
/// server name that is no DNS name; the gateway logs what matters of that itself, with the route or the listener.
const DEPENDENCIES: &str =
    "pingora_proxy=off,pingora_core=error,pingora_load_balancing=error,rustls::msgs::handshake=error";

/// The variable that has precedence over the level of the configuration.
const VARIABLE: &str = "RUST_LOG";

static LOG: OnceLock<ProcessLog> = OnceLock::new();

/// Level and format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogSettings {
    /// The level, unless `RUST_LOG` is set.
    pub level: LevelFilter,
    /// The format of a line.
    pub format: LogLineFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: LevelFilter::Info, format: LogLineFormat::Text }
    }
}

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLineFormat {
    /// Time, level and target in brackets, the message, and fields as `key=value`.
    Text,
    /// One JSON object.
    Json,
}

/// Whether lines of text have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogColor {
    /// As on a terminal.
    Always,
    /// As in a file.
    Never,
}

/// The implementation of the `log` facade. A reload replaces its settings.
struct ProcessLog {
    /// None where no queue could be opened; lines are then written directly.
    lines: Option<Arc<Lines>>,
    color: LogColor,
    current: RwLock<(LogSettings, Arc<Logger>)>,
}

/// Installs the logger with the default settings; once a process. Lines are written directly if the queue cannot be
/// opened.
pub(crate) fn install(color: LogColor) {
    let lines = Lines::open("stderr", CAPACITY, &recent_lines::PROCESS_LOG).ok().map(Arc::new);
    let settings = LogSettings::default();
    let logger = Arc::new(build(settings, lines.as_ref(), color));
    let level = logger.filter();
    let log = LOG.get_or_init(|| ProcessLog { lines, color, current: RwLock::new((settings, logger)) });
    // A logger that is installed already stays: it is that of a test, or of the program around the gateway.
    if log::set_logger(log).is_ok() {
        log::set_max_level(level);
    }
}

/// Applies level and format from the next line on. Without [`install`] it does nothing.
pub(crate) fn configure(settings: LogSettings) {
    let Some(log) = LOG.get() else { return };
    let mut current = log.current.write();
    // Building reads `RUST_LOG` again and reports a wrong one again.
    if current.0 != settings {
        let logger = Arc::new(build(settings, log.lines.as_ref(), log.color));
        log::set_max_level(logger.filter());
        *current = (settings, logger);
    }
}

/// Waits until all lines before are written, at most this long.
pub(crate) fn flush(within: Duration) {
    if let Some(lines) = LOG.get().and_then(|log| log.lines.as_ref()) {
        lines.flush(within);
    }
}

fn build(settings: LogSettings, lines: Option<&Arc<Lines>>, color: LogColor) -> Logger {
    let mut builder = env_logger::Builder::new();
    // An empty variable counts as unset: no filter at all would silence the log.
    let variable = std::env::var(VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let filters = variable.unwrap_or_else(|| filters(settings.level));
    builder.parse_filters(&filters);
    if let Some(lines) = lines {
        let style = match color {
            LogColor::Always => WriteStyle::Always,
            LogColor::Never => WriteStyle::Never,
        };
        builder.target(Target::Pipe(Box::new(QueueWriter(Arc::clone(lines))))).write_style(style);
    }
    if settings.format == LogLineFormat::Json {
        builder.format(|out, record| {
            let mut line = Vec::with_capacity(256);
            json_record::write(&mut line, SystemTime::now(), record);
            out.write_all(&line)
        });
    }
    builder.build()
}

/// The filters for a level of the configuration.
fn filters(level: LevelFilter) -> String {
    match level {
        LevelFilter::Off => "off".to_owned(),
        level => format!("{level},{DEPENDENCIES}"),
    }
}

impl ProcessLog {
    fn logger(&self) -> Arc<Logger> {
        Arc::clone(&self.current.read().1)
    }
}

impl Log for ProcessLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.logger().log(record);
    }

    fn flush(&self) {
        self.logger().flush();
    }
}

/// Takes lines to the queue. Every write is one line.
struct QueueWriter(Arc<Lines>);

impl Write for QueueWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(FormattedLine(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
