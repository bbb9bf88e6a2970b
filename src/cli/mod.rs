//! The command line: what each subcommand does, what it prints and how it exits.
//!
//! Exit codes: 0 fine, 1 failed while running, 2 usage, 78 a configuration that is refused.

mod check;
mod demo;
mod kinds;
mod plugin;
mod reload;

use crate::config;
use crate::diagnostics::Color;
use crate::server::{self, Failed};
use crate::snapshot::{self, Kinds};
use crate::telemetry::process_log::{self, LogColor};
use check::Asked;
use clap::{Parser, Subcommand};
use moongate_config::{Kind, Period};
use moongate_sdk::Plugin;
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Failed while running, or could not begin to.
const FAILED: u8 = 1;
/// The command line is refused.
const USAGE: u8 = 2;
/// The configuration is refused (EX_CONFIG of sysexits.h).
const BAD_CONFIG: u8 = 78;

/// The configuration of an operator who names none.
const DEFAULT_FILE: &str = "conf/moongate.yaml";

/// How long the log's last lines may take at the end.
const LAST_LINES: Duration = Duration::from_secs(2);

/// A programmable gateway for WebSocket clusters and the HTTP beside them.
#[derive(Parser)]
#[command(name = "moongate", version, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Check the configuration and exit, as `moongate check` does; also before or after `run`
    #[arg(short = 't')]
    test: bool,

    #[command(flatten)]
    file: File,
}

#[derive(Subcommand)]
enum Command {
    /// Serve; SIGHUP reloads, SIGUSR1 reopens log files, SIGTERM drains and ends, SIGINT ends at once
    Run {
        #[command(flatten)]
        file: File,
        /// Check the configuration and exit
        #[arg(short = 't')]
        test: bool,
    },
    /// Check a configuration; exits 0 when it is good and 78 when it is not
    Check {
        #[command(flatten)]
        file: File,
        /// Print the effective configuration with its defaults; secrets as they are, paths as they were written
        #[arg(long)]
        print: bool,
        /// Say which route a request takes and why
        #[arg(long, num_args = 2, value_names = ["METHOD", "URL"])]
        explain: Option<Vec<String>>,
        /// A field of the request to explain, as `name: value`
        #[arg(short = 'H', long = "header", value_name = "FIELD", requires = "explain")]
        headers: Vec<String>,
        /// The listener by which the request to explain comes in
        #[arg(long, value_name = "NAME", requires = "explain")]
        listener: Option<String>,
        /// The client of the request to explain
        #[arg(long, value_name = "ADDRESS", requires = "explain", default_value = "127.0.0.1")]
        client: IpAddr,
    },
    /// Make a running gateway read its configuration again; waits for the outcome
    Reload {
        #[command(flatten)]
        file: File,
        /// How long to wait for the outcome, as 90s or 5m; the gateway goes on with it in any case
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = period)]
        timeout: Duration,
    },
    /// List what can be written behind `kind:`
    Kinds {
        /// Tell all about one of them
        name: Option<String>,
    },
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Begin a plugin, or try one outside the gateway
    Plugin {
        #[command(subcommand)]
        command: plugin::Command,
    },
    /// Serve two embedded backends, with a page to try
    Demo(File),
}

#[derive(clap::Args)]
struct File {
    /// The configuration file; before or after the command [default: conf/moongate.yaml]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl File {
    fn path(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE))
    }
}

impl Arguments {
    /// The command with the options before it. An option that the command does not have is refused, not ignored.
    fn into_command(self) -> Result<Command, String> {
        let Self { command, test, file: File { config: before } } = self;
        let mut command = match command {
            None if test => Command::check(File { config: None }),
            None => return Err("no command; `moongate --help` lists them".to_owned()),
            Some(Command::Run { file, test: after }) if test || after => Command::check(file),
            Some(command) if test && !matches!(command, Command::Check { .. }) => {
                return Err("`-t` stands alone, or with `run` or `check`".to_owned());
            }
            Some(command) => command,
        };
        let Some(before) = before else { return Ok(command) };
        let after = command.file().ok_or("this command reads no configuration; leave `-c` out")?;
        match &after.config {
            Some(after) if *after != before => {
                let (before, after) = (before.display(), after.display());
                Err(format!("two configuration files, `{before}` and `{after}`; `-c` names one"))
            }
            _ => {
                after.config = Some(before);
                Ok(command)
            }
        }
    }
}

impl Command {
    fn check(file: File) -> Self {
        Self::Check {
            file,
            print: false,
            explain: None,
            headers: Vec::new(),
            listener: None,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// The configuration file of a command that reads one.
    fn file(&mut self) -> Option<&mut File> {
        match self {
            Self::Run { file, .. }
            | Self::Check { file, .. }
            | Self::Reload { file, .. }
            | Self::Demo(file) => Some(file),
            Self::Kinds { .. } | Self::Schema | Self::Plugin { .. } => None,
        }
    }
}

/// Runs the command, with these kinds of plugins. A gateway with plugins of its own is this call
/// with another table.
pub fn main(plugins: &'static [Kind<dyn Plugin>]) -> ExitCode {
    // Before anything that takes time: a SIGHUP that arrives from here on waits instead of killing.
    let signals = server::SignalReceiver::take();
    let arguments = Arguments::parse();
    // A plugin that is tried has its log lines among the rest of what it does.
    if !matches!(arguments.command, Some(Command::Plugin { .. })) {
        process_log::install(match color() {
            Color::Always => LogColor::Always,
            Color::Never => LogColor::Never,
        });
    }
    let kinds = Kinds { plugins };
    let command = match arguments.into_command() {
        Ok(command) => command,
        Err(wrong) => {
            say_wrong(&format!("error: {wrong}\n"));
            return ExitCode::from(USAGE);
        }
    };
    let signals = match (&command, signals) {
        (Command::Run { .. } | Command::Demo(_), signals) => signals,
        (_, Ok(signals)) => {
            signals.release();
            Err(std::io::ErrorKind::Other.into())
        }
        (_, refused) => refused,
    };
    match command {
        Command::Run { file, .. } => match signals {
            Ok(signals) => ended(server::run(file.path(), kinds, signals, color(), |_| {})),
            Err(error) => ended(Err(Failed::Process(format!("signals cannot be taken: {error}")))),
        },
        Command::Demo(file) => match signals {
            Ok(signals) => demo::main(file.path(), kinds, signals),
            Err(error) => ended(Err(Failed::Process(format!("signals cannot be taken: {error}")))),
        },
        Command::Check { file, print, explain, headers, listener, client } => {
            let asked = explain.map(|explain| Asked { explain, headers, listener, client });
            check::main(file.path(), kinds, print, asked.as_ref())
        }
        Command::Reload { file, timeout } => reload::main(file.path(), timeout),
        Command::Kinds { name } => kinds::main(&kinds, name.as_deref()),
        Command::Plugin { command } => plugin::main(&command, kinds),
        Command::Schema => say(&format!("{:#}\n", config::schema(&snapshot::tables(plugins)))),
    }
}

/// The exit code of a gateway that served.
fn ended(outcome: Result<(), Failed>) -> ExitCode {
    process_log::flush(LAST_LINES);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Config(report)) => {
            say_wrong(&report);
            ExitCode::from(BAD_CONFIG)
        }
        Err(Failed::Process(problem)) => {
            say_wrong(&format!("error: {problem}\n"));
            ExitCode::from(FAILED)
        }
    }
}

/// A length of time as the configuration has it.
fn period(text: &str) -> Result<Duration, String> {
    match text.parse::<Period>() {
        Ok(Period(period)) if !period.is_zero() => Ok(period),
        Ok(_) => Err("it must be longer than 0".to_owned()),
        Err(wrong) => Err(wrong.to_string()),
    }
}

/// Prints to standard output. A reader that closed the pipe (`| head`) has had enough: no error.
fn say(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    }
}

/// Prints to standard error.
fn say_wrong(text: &str) {
    // When even that is closed there is nobody to tell.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Colours for a report on standard error.
fn color() -> Color {
    if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        Color::Always
    } else {
        Color::Never
    }
}
