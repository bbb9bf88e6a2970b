//! Command line: subcommands, their output and exit codes.
//!
//! Exit codes: 0 success, 1 runtime failure, 2 usage error, 3 incomplete import, 78 invalid configuration.

mod admin_client;
mod check;
mod command_error;
mod completions;
mod demo;
mod drain;
mod human_units;
mod import;
mod kinds;
mod live;
mod man_pages;
mod plugin;
mod printable;
mod reload;
mod secrets;
mod sockets;
mod status;
mod tap;
mod text_table;
mod top;
mod upgrade;

use crate::config;
use crate::diagnostics::Color;
use crate::server::{self, SignalReceiver, StartError};
use crate::snapshot::{self, Kinds};
use crate::telemetry::process_log::{self, LogColor};
use admin_client::AdminAddress;
use check::ExplainArguments;
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};
use moongate_config::{Kind, Period};
use moongate_sdk::Plugin;
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Exit code of a runtime failure, also at startup.
const FAILED: u8 = 1;
/// Exit code of an invalid command line.
const USAGE: u8 = 2;
/// Exit code of an import that does not take over everything.
const INCOMPLETE: u8 = 3;
/// Exit code of an invalid configuration (EX_CONFIG of sysexits.h).
const BAD_CONFIG: u8 = 78;

/// The configuration files without `-c`: the first one that exists, or else the first.
const DEFAULT_FILES: [&str; 2] = ["conf/moongate.yaml", "/etc/moongate/moongate.yaml"];

/// Time limit for flushing the log at exit.
const LAST_LINES: Duration = Duration::from_secs(2);

/// A programmable gateway for WebSocket clusters, HTTP and gRPC.
#[derive(Parser)]
#[command(name = "moongate", version, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Check the configuration and exit, as `moongate check` does; also with `run`
    #[arg(short = 't')]
    test: bool,

    #[command(flatten)]
    file: File,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway; SIGHUP reloads, SIGUSR1 reopens log files, SIGUSR2 hands over to a new process, SIGTERM
    /// shuts down gracefully, SIGINT exits at once
    Run {
        #[command(flatten)]
        file: File,
        /// Check the configuration and exit
        #[arg(short = 't')]
        test: bool,
    },
    /// Check a configuration; exits with 0 if it is valid and with 78 if it is not
    Check {
        #[command(flatten)]
        file: File,
        /// Print the effective configuration with its defaults and secrets; paths stay as written
        #[arg(long)]
        print: bool,
        /// Show which route a request takes and why
        #[arg(long, num_args = 2, value_names = ["METHOD", "URL"])]
        explain: Option<Vec<String>>,
        /// Header field of the request to explain, as `name: value`; may be repeated
        #[arg(short = 'H', long = "header", value_name = "FIELD", requires = "explain")]
        headers: Vec<String>,
        /// Listener that receives the request to explain
        #[arg(long, value_name = "NAME", requires = "explain")]
        listener: Option<String>,
        /// Client address of the request to explain
        #[arg(long, value_name = "ADDRESS", requires = "explain", default_value = "127.0.0.1")]
        client: IpAddr,
        /// Ask a running gateway whether it is ready, instead of checking the file; exits with 0 if it is, otherwise with 1
        #[arg(long, conflicts_with_all = ["print", "explain"])]
        live: bool,
        /// Admin address of the running gateway, as `HOST:PORT` [default: that of the configuration file]
        #[arg(long, value_name = "ADDRESS", requires = "live")]
        admin: Option<AdminAddress>,
    },
    /// Reload the configuration of a running gateway; waits for the result
    Reload(reload::Arguments),
    /// Hand over to a new process, as of another binary: it takes the listening sockets, and this one drains
    Upgrade(upgrade::Arguments),
    /// Show the state of a running gateway: listeners, certificates, upstreams and endpoints
    Status(status::Arguments),
    /// Show rates, upstreams and endpoints of a running gateway live, in a terminal
    Top(top::Arguments),
    /// List the open WebSockets of a running gateway, or close one
    Sockets(sockets::Arguments),
    /// Show opens, closes and messages of open WebSockets; needs `admin: { tap: true }`
    Tap(tap::Arguments),
    /// Drain an endpoint: it takes no new clients, and its WebSockets are closed with 1012 over a window
    Drain(drain::DrainArguments),
    /// End the drain of an endpoint
    Undrain(drain::EndpointArguments),
    /// Rotate the secrets of `sticky` cookies and TLS session tickets that gateways share through a store
    Secrets {
        #[command(subcommand)]
        command: secrets::Command,
    },
    /// List available balancers, health checks and plugins
    Kinds {
        /// Show this kind with its settings
        name: Option<String>,
    },
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Translate the configuration of another server, and report what became of each of its directives
    Import {
        #[command(subcommand)]
        command: import::Command,
    },
    /// Create a plugin, or run one without the gateway
    Plugin {
        #[command(subcommand)]
        command: plugin::Command,
    },
    /// Run the gateway with a demo backend on every loopback endpoint of the file, and a test page
    Demo(File),
    /// Print the completions of a shell
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write the pages of all commands
    Man {
        /// Write moongate.1 and a page of each command to this directory
        #[arg(long, value_name = "DIRECTORY")]
        output: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct File {
    /// Configuration file; before or after the command [default: conf/moongate.yaml, or without it
    /// /etc/moongate/moongate.yaml]
    #[arg(short = 'c', long = "config", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    config: Option<PathBuf>,
}

impl File {
    fn path(&self) -> &Path {
        let [first, _] = DEFAULT_FILES;
        let default = || DEFAULT_FILES.into_iter().find(|file| Path::new(file).exists()).unwrap_or(first);
        self.config.as_deref().unwrap_or_else(|| Path::new(default()))
    }
}

impl Arguments {
    /// The command, with the options before it. An option that the command does not have is an error.
    fn into_command(self) -> Result<Command, String> {
        let Self { command, test, file: File { config: before } } = self;
        let mut command = match command {
            None if test => Command::check(File { config: None }),
            None => return Err("no command given; `moongate --help` lists the commands".to_owned()),
            Some(Command::Run { file, test: after }) if test || after => Command::check(file),
            Some(command) if test && !matches!(command, Command::Check { .. }) => {
                return Err("`-t` cannot be used with this command; use it alone, or with `run` or `check`"
                    .to_owned());
            }
            Some(command) => command,
        };
        let Some(before) = before else { return Ok(command) };
        let after = command.file().ok_or("this command reads no configuration; remove `-c`")?;
        match &after.config {
            Some(after) if *after != before => {
                let (before, after) = (before.display(), after.display());
                Err(format!("two configuration files, `{before}` and `{after}`; give `-c` once"))
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
            live: false,
            admin: None,
        }
    }

    /// The configuration file argument, if the command has one.
    fn file(&mut self) -> Option<&mut File> {
        match self {
            Self::Run { file, .. } | Self::Check { file, .. } | Self::Demo(file) => Some(file),
            Self::Reload(arguments) => Some(&mut arguments.admin.file),
            Self::Upgrade(arguments) => Some(&mut arguments.admin.file),
            Self::Status(arguments) => Some(&mut arguments.admin.file),
            Self::Top(arguments) => Some(&mut arguments.admin.file),
            Self::Sockets(arguments) => Some(&mut arguments.admin_mut().file),
            Self::Tap(arguments) => Some(&mut arguments.admin.file),
            Self::Drain(arguments) => Some(&mut arguments.admin_mut().file),
            Self::Undrain(arguments) => Some(&mut arguments.admin.file),
            Self::Secrets { command } => Some(&mut command.admin_mut().file),
            Self::Kinds { .. }
            | Self::Schema
            | Self::Import { .. }
            | Self::Plugin { .. }
            | Self::Completions { .. }
            | Self::Man { .. } => None,
        }
    }
}

/// Runs the command with these kinds of plugins. A gateway with its own plugins calls this with another
/// table.
pub fn main(plugins: &'static [Kind<dyn Plugin>]) -> ExitCode {
    // Before any slow step: a SIGHUP from here on is queued instead of terminating the process.
    let signals = server::SignalReceiver::take();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed pipe is no error.
            let _ = error.print();
            if let Some(tip) = usage_tip(&error) {
                print_error(&format!("\n  tip: {tip}\n"));
            }
            // 0 for help and version, otherwise 2.
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    // `moongate plugin test` captures log records for its report.
    if !matches!(arguments.command, Some(Command::Plugin { .. })) {
        process_log::install(match color() {
            Color::Always => LogColor::Always,
            Color::Never => LogColor::Never,
        });
    }
    let kinds = Kinds { plugins };
    let command = match arguments.into_command() {
        Ok(command) => command,
        Err(error) => {
            print_error(&format!("error: {error}\n"));
            return ExitCode::from(USAGE);
        }
    };
    let signals = match (&command, signals) {
        (Command::Run { .. } | Command::Demo(_) | Command::Tap(_) | Command::Top(_), signals) => signals,
        (_, Ok(signals)) => {
            signals.release();
            Err(std::io::ErrorKind::Other.into())
        }
        (_, refused) => refused,
    };
    match command {
        Command::Run { file, .. } => with_signals(signals, |signals| {
            exit_code_of(server::run(file.path(), kinds, signals, color(), |_| {}))
        }),
        Command::Demo(file) => with_signals(signals, |signals| demo::main(file.path(), kinds, signals)),
        Command::Tap(arguments) => {
            with_signals(signals, |signals| tap::main(&arguments, signals.forward_interrupt()))
        }
        Command::Top(arguments) => {
            with_signals(signals, |signals| top::main(&arguments, signals.forward_end()))
        }
        Command::Check { file, live: true, admin, .. } => live::main(file, admin),
        Command::Check { file, print, explain, headers, listener, client, .. } => {
            let explain_arguments =
                explain.map(|explain| ExplainArguments { explain, headers, listener, client });
            check::main(file.path(), kinds, print, explain_arguments.as_ref())
        }
        Command::Reload(arguments) => reload::main(&arguments),
        Command::Upgrade(arguments) => upgrade::main(&arguments),
        Command::Status(arguments) => status::main(&arguments),
        Command::Sockets(arguments) => sockets::main(&arguments),
        Command::Drain(arguments) => drain::main(&arguments),
        Command::Undrain(arguments) => drain::undrain_main(&arguments),
        Command::Secrets { command } => secrets::main(&command),
        Command::Kinds { name } => kinds::main(&kinds, name.as_deref()),
        Command::Import { command } => import::main(&command),
        Command::Plugin { command } => plugin::main(&command, kinds),
        Command::Completions { shell } => completions::main(shell, Arguments::command()),
        Command::Man { output } => man_pages::main(output.as_deref(), Arguments::command()),
        Command::Schema => print_out(&format!("{:#}\n", config::schema(&snapshot::tables(plugins)))),
    }
}

/// Advice for habits from other servers: a file as an argument, and `-s SIGNAL`.
fn usage_tip(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    let is_file = Path::new(argument).extension().is_some_and(|end| end == "yaml" || end == "yml");
    match argument.as_str() {
        _ if is_file => Some(format!("the configuration is named with `-c {argument}`")),
        "-s" | "--signal" => {
            Some("`moongate reload` and `moongate upgrade` say what came of it; SIGTERM drains".to_owned())
        }
        _ => None,
    }
}

/// Runs a command that handles signals.
fn with_signals(
    signals: std::io::Result<SignalReceiver>,
    command: impl FnOnce(SignalReceiver) -> ExitCode,
) -> ExitCode {
    match signals {
        Ok(signals) => command(signals),
        Err(error) => {
            exit_code_of(Err(StartError::Process(format!("signal handlers cannot be installed: {error}"))))
        }
    }
}

/// The exit code of a gateway that served.
fn exit_code_of(outcome: Result<(), StartError>) -> ExitCode {
    process_log::flush(LAST_LINES);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Config(report)) => {
            print_error(&report);
            ExitCode::from(BAD_CONFIG)
        }
        Err(StartError::Process(problem)) => {
            print_error(&format!("error: {problem}\n"));
            ExitCode::from(FAILED)
        }
    }
}

/// Parses a duration as in the configuration.
fn period(text: &str) -> Result<Duration, String> {
    match text.parse::<Period>() {
        Ok(Period(period)) if !period.is_zero() => Ok(period),
        Ok(_) => Err("must be longer than 0".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Prints to standard output. A closed pipe (`| head`) is not an error.
fn print_out(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    }
}

/// Standard output after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutputState {
    Open,
    /// The reader has closed the pipe, as `| head` does.
    Closed,
    Failed,
}

/// Prints a line of a command that prints until it is ended.
fn print_line(line: &str) -> OutputState {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => OutputState::Open,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => OutputState::Closed,
        Err(_) => OutputState::Failed,
    }
}

/// Prints to standard error.
fn print_error(text: &str) {
    // Without standard error, there is no place left for the report.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Whether reports on standard error are coloured.
fn color() -> Color {
    color_of(&std::io::stderr())
}

/// Whether results on standard output are coloured.
fn stdout_color() -> Color {
    color_of(&std::io::stdout())
}

fn color_of(output: &impl IsTerminal) -> Color {
    let is_colored = output.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if is_colored { Color::Always } else { Color::Never }
}
