//! The command line: what each subcommand does, what it prints and how it exits.
//!
//! Exit codes: 0 fine, 1 failed while running, 2 usage, 78 a configuration that is refused.

mod check;
mod demo;
mod kinds;
mod plugin;
mod reload;

use crate::diag::Color;
use crate::server::{self, Failed};
use crate::snapshot::{self, Kinds};
use crate::spec;
use crate::telemetry::process_log;
use check::Asked;
use clap::{Parser, Subcommand};
use moongate_sdk::{Kind, Plugin};
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;

/// Failed while running, or could not begin to.
const FAILED: u8 = 1;
/// The configuration is refused (EX_CONFIG of sysexits.h).
const BAD_CONFIG: u8 = 78;

/// How long the log's last lines may take at the end.
const LAST_LINES: std::time::Duration = std::time::Duration::from_secs(2);

/// What is logged unless RUST_LOG says otherwise. Pingora tells of every client that hangs up and of
/// every retry at the level of an error; what matters of that we log ourselves, with the route in it.
const DEFAULT_LOG: &str = "info,pingora_proxy=off,pingora_core=error,pingora_load_balancing=error";

/// A programmable gateway for WebSocket clusters and the HTTP beside them.
#[derive(Parser)]
#[command(name = "moongate", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Check the configuration and exit, as `moongate check` does
    #[arg(short = 't', requires = "config")]
    test: bool,

    /// The configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve; SIGHUP reloads, SIGTERM drains and ends, SIGINT ends at once
    Run(File),
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
    Reload(File),
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
    /// The configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "conf/moongate.yaml")]
    config: PathBuf,
}

/// Runs the command, with these kinds of plugins. A gateway with plugins of its own is this call
/// with another table.
pub fn main(plugins: &'static [Kind<dyn Plugin>]) -> ExitCode {
    // Before anything that takes time: a SIGHUP that arrives from here on waits instead of killing.
    let signals = server::Taken::take();
    let arguments = Arguments::parse();
    // A plugin that is tried has its log lines among the rest of what it does.
    if !matches!(arguments.command, Some(Command::Plugin { .. })) {
        start_log();
    }
    let kinds = Kinds { plugins };
    let command = match (arguments.command, arguments.config) {
        (Some(command), _) => command,
        (None, Some(config)) if arguments.test => Command::Check {
            file: File { config },
            print: false,
            explain: None,
            headers: Vec::new(),
            listener: None,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        },
        (None, _) => {
            say_wrong("error: no command; `moongate --help` lists them\n");
            return ExitCode::from(2);
        }
    };
    match command {
        Command::Run(file) => match signals {
            Ok(signals) => ended(server::run(&file.config, kinds, signals, color(), |_| {})),
            Err(error) => ended(Err(Failed::Process(format!("signals cannot be taken: {error}")))),
        },
        Command::Demo(file) => match signals {
            Ok(signals) => demo::main(&file.config, kinds, signals),
            Err(error) => ended(Err(Failed::Process(format!("signals cannot be taken: {error}")))),
        },
        Command::Check { file, print, explain, headers, listener, client } => {
            let asked = explain.map(|explain| Asked { explain, headers, listener, client });
            check::main(&file.config, kinds, print, asked.as_ref())
        }
        Command::Reload(file) => reload::main(&file.config),
        Command::Kinds { name } => kinds::main(&kinds, name.as_deref()),
        Command::Plugin { command } => plugin::main(&command, kinds),
        Command::Schema => say(&format!("{:#}\n", spec::schema(&snapshot::tables(plugins)))),
    }
}

/// The process's log, on standard error. Where no queue can be had it is written directly.
fn start_log() {
    let mut logger = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(DEFAULT_LOG));
    if let Ok(log) = process_log::open() {
        let style = match color() {
            Color::Always => env_logger::WriteStyle::Always,
            Color::Never => env_logger::WriteStyle::Never,
        };
        logger.target(env_logger::Target::Pipe(Box::new(log))).write_style(style);
    }
    logger.init();
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
