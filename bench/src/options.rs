//! The command line.

use crate::cases::cost::Cost;
use crate::cases::{CASES, Case, cost_cases};
use crate::gateway::KINDS;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The text of --help.
pub(crate) const HELP: &str = "\
bench/run [CASE]... [OPTION]...        measures Moongate, nginx, HAProxy and stock Pingora
bench/run profile CASE [OPTION]...     profiles Moongate's CPU time (perf)
bench/run backend [ADDRESS]            the backend alone, until standard input ends
bench/run load CASE ADDRESS            the load alone, against the gateway at that address

CASE: http, http-routes, echo, burst, bulk, messages, connect, sse, download-1m, download-1g, upload-1m,
upload-1g, plugins, tracing, latency, upgrade, members, idle, sse-idle, http-idle; over TLS tls-new, tls-resumed, tls-echo, tls-idle, h2;
or all (the default)
  --rounds N         rounds, interleaved over the gateways (5)
  --seconds S        seconds of one measurement (3)
  --rate N           messages per second that `latency` and `upgrade` offer (10000)
  --tunnels N        connections that `idle`, `tls-idle`, `http-idle`, `upgrade` and `members` open (4000)
  --gateways A,B     a selection of nginx, haproxy, pingora, moongate (all)
  --moongate FILE    the binary to measure (target/release/moongate, built before)
  --no-build         measure the existing binary";

/// The command.
pub(crate) enum Command {
    /// Prints the help.
    Help,
    /// Measures these cases.
    Measure(Vec<Case>, Options),
    /// Profiles this case.
    Profile(&'static Cost, Options),
    /// Runs the backend, at further addresses too.
    Backend(SocketAddr, usize),
    /// Runs the load.
    Load(&'static Cost, SocketAddr, Options),
}

/// The options.
#[derive(Clone)]
pub(crate) struct Options {
    /// Rounds; at least 1.
    pub(crate) rounds: u32,
    /// The duration of one measurement.
    pub(crate) time: Duration,
    /// Messages per second.
    pub(crate) rate: u32,
    /// Idle tunnels.
    pub(crate) tunnels: usize,
    /// The gateways' names; empty means all.
    pub(crate) gateways: Vec<String>,
    /// The path of Moongate's binary.
    pub(crate) moongate: PathBuf,
    /// Whether to build it first.
    pub(crate) build: Build,
}

/// The handling of Moongate's binary by bench/run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// Builds it.
    First,
    /// Uses the existing one.
    Never,
}

impl Options {
    /// Whether a gateway takes part.
    pub(crate) fn wants(&self, gateway: &str) -> bool {
        self.gateways.is_empty() || self.gateways.iter().any(|name| name == gateway)
    }
}

impl Command {
    /// What bench/run must build or install before this command: `build` (Moongate), `pingora`, `nginx`, `haproxy`,
    /// `strace`.
    pub(crate) fn needs(&self) -> Vec<&'static str> {
        let (Self::Measure(_, options) | Self::Profile(_, options)) = self else { return Vec::new() };
        let build = options.build == Build::First && options.wants("moongate");
        let moongate_only = matches!(self, Self::Measure(cases, _) if cases.iter().all(|case| matches!(case, Case::Plugins | Case::Tracing | Case::Members)));
        let programs =
            ["pingora", "nginx", "haproxy"].into_iter().filter(|name| !moongate_only && options.wants(name));
        let strace =
            matches!(self, Self::Measure(cases, _) if cases.iter().any(|case| matches!(case, Case::Cost(_))));
        build.then_some("build").into_iter().chain(programs).chain(strace.then_some("strace")).collect()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rounds: 5,
            time: Duration::from_secs(3),
            rate: 10_000,
            tunnels: 4_000,
            gateways: Vec::new(),
            moongate: PathBuf::from("target/release/moongate"),
            build: Build::First,
        }
    }
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// A sentence on the first invalid argument.
pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let (mut words, mut options) = (Vec::new(), Options::default());
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-h" | "--help" => return Ok(Command::Help),
            "--no-build" => options.build = Build::Never,
            option if option.starts_with("--") => {
                let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
                set(&mut options, option, &value)?;
            }
            _ => words.push(argument),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["backend"] => address("127.0.0.1:0").map(|at| Command::Backend(at, 0)),
        ["backend", at] => address(at).map(|at| Command::Backend(at, 0)),
        // As the case `members` starts it.
        ["backend", at, count] => {
            let count = count.parse().map_err(|_| format!("`{count}` is not a number"))?;
            address(at).map(|at| Command::Backend(at, count))
        }
        ["profile", case] => {
            options.gateways = vec!["moongate".to_owned()];
            Ok(Command::Profile(cost_case(case)?, options))
        }
        ["load", case, at] => Ok(Command::Load(cost_case(case)?, address(at)?, options)),
        [] | ["all"] => Ok(Command::Measure(CASES.to_vec(), options)),
        names => {
            let cases = names.iter().map(|name| case(name)).collect::<Result<_, _>>()?;
            Ok(Command::Measure(cases, options))
        }
    }
}

fn set(options: &mut Options, name: &str, value: &str) -> Result<(), String> {
    let within = |least: u32, most: u32| match value.parse::<u32>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("`{value}` is not valid for {name}: a number from {least} to {most}")),
    };
    match name {
        "--rounds" => options.rounds = within(1, 100)?,
        "--seconds" => options.time = Duration::from_secs(within(1, 60)?.into()),
        "--rate" => options.rate = within(1, 200_000)?,
        "--tunnels" => options.tunnels = within(1, 20_000)? as usize,
        "--gateways" => options.gateways = value.split(',').map(gateway).collect::<Result<_, _>>()?,
        "--moongate" => (options.moongate, options.build) = (PathBuf::from(value), Build::Never),
        _ => return Err(format!("unknown option {name}")),
    }
    Ok(())
}

fn gateway(name: &str) -> Result<String, String> {
    let known = KINDS.iter().any(|kind| kind.name == name);
    if known { Ok(name.to_owned()) } else { Err(format!("unknown gateway `{name}`")) }
}

fn case(name: &str) -> Result<Case, String> {
    CASES.into_iter().find(|case| case.name() == name).ok_or_else(|| format!("unknown case `{name}`"))
}

fn cost_case(name: &str) -> Result<&'static Cost, String> {
    match case(name)? {
        Case::Cost(cost) => Ok(cost),
        Case::Plugins | Case::Tracing => {
            let other = cost_cases::HTTP_ROUTES.name;
            Err(format!("`{name}` has the same load as `{other}`; use `{other}`"))
        }
        Case::Idle(_) | Case::Latency | Case::Upgrade | Case::Members => {
            Err(format!("`{name}` does not measure CPU; use {}", cost_cases::ECHO.name))
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| format!("`{text}` is not IP:PORT"))?;
    if address.ip().is_loopback() { Ok(address) } else { Err(format!("{address} is not on loopback")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn no_word_means_every_case() {
        assert!(
            matches!(parse("--rounds 7"), Ok(Command::Measure(cases, options)) if cases.len() == CASES.len() && options.rounds == 7)
        );
        assert!(matches!(parse("echo idle"), Ok(Command::Measure(cases, _)) if cases.len() == 2));
    }

    #[test]
    fn only_selected_gateways_are_required() {
        let needs = |line| parse(line).map(|command| command.needs());
        assert_eq!(needs("http"), Ok(vec!["build", "pingora", "nginx", "haproxy", "strace"]));
        assert_eq!(needs("http --gateways nginx"), Ok(vec!["nginx", "strace"]));
        assert_eq!(needs("profile http"), Ok(vec!["build"]));
        assert_eq!(needs("plugins"), Ok(vec!["build"]));
        assert_eq!(needs("members"), Ok(vec!["build"]));
        assert_eq!(needs("idle --no-build --gateways moongate"), Ok(vec![]));
        assert_eq!(needs("backend"), Ok(vec![]));
    }

    #[test]
    fn an_invalid_argument_is_named() {
        for (line, part) in [
            ("ehco", "`ehco`"),
            ("--rounds 0", "1 to 100"),
            ("--rounds", "needs a value"),
            ("--fast yes", "--fast"),
            ("--gateways nginx,envoy", "`envoy`"),
            ("profile idle", "`idle`"),
            ("profile tls-idle", "`tls-idle`"),
            ("profile plugins", "`http-routes`"),
            ("load echo 192.0.2.1:80", "loopback"),
        ] {
            let Err(message) = parse(line) else { panic!("`{line}` was accepted") };
            assert!(message.contains(part), "{message}");
        }
    }
}
