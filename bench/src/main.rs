//! The program of `make bench`: it measures Moongate, nginx, HAProxy and stock Pingora in one run, each alone on a CPU,
//! with the same backend and the same load. docs/project/benchmarks.md describes the method.

mod backend;
mod cases;
mod certificate;
mod conn;
mod frames;
mod gateway;
mod http;
mod http2;
mod load;
mod machine;
mod noise;
mod options;
mod process;
mod profile;
mod stop;
mod system_calls;
mod table;
mod tls;
mod transport;

use cases::{Bench, Case, cost};
use certificate::Certificate;
use gateway::{Environment, InstalledGateway, KINDS};
use load::event_streams::STREAMS;
use machine::CpuPlacement;
use options::{Command, Options};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::{env, fs};
use stop::Stop;
use transport::Target;

/// An error is printed. It ends the run, or removes a gateway from a case.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1).peekable();
    // bench/run checks the arguments first, so that a mistake is reported before a build of minutes.
    let prints_needs = arguments.next_if(|word| word == "needs").is_some();
    let command = match options::read(arguments) {
        Ok(command) => command,
        Err(e) => {
            eprintln!("{e}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    if prints_needs {
        println!("{}", command.needs().join(" "));
        return ExitCode::SUCCESS;
    }
    match run(command) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Outcome<ExitCode> {
    match command {
        Command::Help => println!("{}", options::HELP),
        Command::Measure(cases, options) => return measure(&cases, options),
        Command::Profile(cost, options) => {
            with_bench(options, |bench| profile::profile(bench, cost, &recording(cost)))?;
        }
        Command::Backend(address, count) => run_backend(address, count)?,
        Command::Load(cost, address, options) => {
            machine::raise_open_files();
            let tally = (cost.open)(Target::one(address), &Stop::on_signals()?)?.run(options.time)?;
            println!("{} operations in {:.3} s", tally.operations, tally.elapsed.as_secs_f64());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(cases: &[Case], options: Options) -> Outcome<ExitCode> {
    with_bench(options, |bench| {
        println!("{}", machine::description());
        for installed in &bench.installed {
            println!("{}: {}", installed.kind.name, installed.version);
        }
        println!(
            "gateway on CPU {}, backend on CPU {}, load on CPU {}",
            bench.placement.gateway, bench.placement.backend, bench.placement.load
        );
        let mut failed = Vec::new();
        for case in cases {
            failed.extend(bench.measure(*case)?);
        }
        for failure in &failed {
            eprintln!("{failure}");
        }
        Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Prepares everything, runs `work`, and removes every file.
fn with_bench<T>(options: Options, work: impl FnOnce(&Bench) -> Outcome<T>) -> Outcome<T> {
    let stop = Stop::on_signals()?;
    let _lock = noise::BenchLock::acquire(&stop)?;
    let files = machine::raise_open_files();
    let placement = CpuPlacement::pin()?;
    let installed = installed(&options)?;
    let directory = TempDir::new()?;
    let (_backend, backend) = start_backend(placement.backend)?;
    let options = Options { tunnels: tunnels(&options, files), ..options };
    let certificate = Certificate::generate(&directory.0)?;
    let environment = Environment {
        directory: directory.0.clone(),
        certificate,
        backend,
        cpu: placement.gateway,
        // HAProxy notices that the event streams of the last round are closed only at the next event.
        connections: options.tunnels.max(2 * STREAMS),
    };
    work(&Bench { options, installed, environment, placement, stop })
}

/// The selected gateways that are installed. Missing ones are reported.
fn installed(options: &Options) -> Outcome<Vec<InstalledGateway>> {
    let mut found = Vec::new();
    for kind in KINDS {
        if !options.wants(kind.name) {
            continue;
        }
        match InstalledGateway::find(kind, options) {
            Ok(installed) => found.push(installed),
            Err(e) => eprintln!("{e}"),
        }
    }
    if found.is_empty() { Err("no gateway to measure".into()) } else { Ok(found) }
}

/// The number of tunnels, limited by the open files: a gateway needs two per tunnel.
fn tunnels(options: &Options, files: u64) -> usize {
    let limit = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(1024) / 2;
    if limit < options.tunnels {
        eprintln!("the limit of {files} open files reduces `idle` to {limit} tunnels");
    }
    options.tunnels.min(limit).max(1)
}

fn recording(cost: &cost::Cost) -> PathBuf {
    Path::new("target/bench").join(format!("perf-{}.data", cost.name))
}

/// Listens at an address and, with its port, at the addresses of the first `count` endpoints of a discovery.
fn run_backend(address: SocketAddr, count: usize) -> Outcome<()> {
    machine::raise_open_files();
    let first = TcpListener::bind(address)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for number in 0..count {
        listeners.push(TcpListener::bind((gateway::member_address(number), address.port()))?);
    }
    println!("{address}");
    Ok(backend::serve(&listeners, std::io::stdin())?)
}

/// Starts the backend as a child process of the same program. It ends when its standard input is closed.
fn start_backend(cpu: usize) -> Outcome<(process::Process, SocketAddr)> {
    let mut command = std::process::Command::new(env::current_exe()?);
    command.arg("backend");
    let mut child = process::on_cpu(cpu, &command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("the backend has no output")?;
    let process = process::Process::of("backend", child);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok((process, line.trim().parse().map_err(|_| "the backend did not start")?))
}

/// A temporary directory, removed with its contents on drop.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Outcome<Self> {
        let path = env::temp_dir().join(format!("moongate-bench-{}", std::process::id()));
        fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
