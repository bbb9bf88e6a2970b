//! The harness of `make bench`: Moongate, nginx and HAProxy on one machine in one run, each alone on a CPU,
//! the same backend behind them and the same load before them. docs/project/benchmarks.md has the method.

mod backend;
mod cases;
mod certificate;
mod conn;
mod frames;
mod gateway;
mod h2;
mod http;
mod load;
mod machine;
mod noise;
mod options;
mod process;
mod profile;
mod stop;
mod table;
mod tls;
mod transport;

use cases::{Bench, Case, cost};
use certificate::Certificate;
use gateway::{Ground, Installed, KINDS};
use machine::Seats;
use options::{Command, Options};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::{env, fs};
use stop::Stop;
use transport::Target;

/// Errors are for the person at the terminal, and end the run or a gateway's part in it.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1).peekable();
    // bench/run asks this first, so that a wrong word is told before a build of minutes.
    let asks = arguments.next_if(|word| word == "needs").is_some();
    let command = match options::read(arguments) {
        Ok(command) => command,
        Err(e) => {
            eprintln!("{e}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    if asks {
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
        Command::Backend(address) => serve(address)?,
        Command::Load(cost, address, options) => {
            machine::open_files();
            let tally = (cost.open)(Target::one(address), &Stop::on_signals()?)?.drive(options.time)?;
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
            bench.seats.gateway, bench.seats.backend, bench.seats.load
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

/// Prepares everything, runs `work`, and leaves nothing behind.
fn with_bench<T>(options: Options, work: impl FnOnce(&Bench) -> Outcome<T>) -> Outcome<T> {
    let stop = Stop::on_signals()?;
    let _turn = noise::BenchLock::take(&stop)?;
    let files = machine::open_files();
    let seats = Seats::take()?;
    let installed = installed(&options)?;
    let directory = Directory::new()?;
    let (_backend, backend) = start_backend(seats.backend)?;
    let tunnels = tunnels(&options, files);
    let certificate = Certificate::make(&directory.0)?;
    let ground = Ground { directory: directory.0.clone(), certificate, backend, cpu: seats.gateway, tunnels };
    work(&Bench { options, installed, ground, seats, stop })
}

/// The gateways that were asked for and are there. What is missing is said.
fn installed(options: &Options) -> Outcome<Vec<Installed>> {
    let mut found = Vec::new();
    for kind in KINDS {
        if !options.wants(kind.name) {
            continue;
        }
        let program = if kind.name == "moongate" { options.moongate.clone() } else { program(kind.name) };
        match Installed::find(kind, &program) {
            Ok(installed) => found.push(installed),
            Err(e) => eprintln!("{e}"),
        }
    }
    if found.is_empty() { Err("no gateway to measure".into()) } else { Ok(found) }
}

/// Debian keeps servers where ordinary users do not look.
fn program(name: &str) -> PathBuf {
    let beside = PathBuf::from("/usr/sbin").join(name);
    if beside.exists() { beside } else { PathBuf::from(name) }
}

/// As many tunnels as descriptors allow: a gateway needs two for each.
fn tunnels(options: &Options, files: u64) -> usize {
    let most = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(1024) / 2;
    if most < options.tunnels {
        eprintln!("{files} open files are allowed here, so `idle` opens {most} tunnels");
    }
    options.tunnels.min(most).max(1)
}

fn recording(cost: &cost::Cost) -> PathBuf {
    Path::new("target/bench").join(format!("perf-{}.data", cost.name))
}

fn serve(address: SocketAddr) -> Outcome<()> {
    machine::open_files();
    let listener = TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?);
    Ok(backend::serve(&listener)?)
}

/// A second process of ourselves; its standard input is ours to close, and with it the backend ends.
fn start_backend(cpu: usize) -> Outcome<(process::Process, SocketAddr)> {
    let mut own = std::process::Command::new(env::current_exe()?);
    own.arg("backend");
    let mut child = process::on_cpu(cpu, &own).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("the backend has no output")?;
    let process = process::Process::of("backend", child);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok((process, line.trim().parse().map_err(|_| "the backend did not start")?))
}

/// A directory of this run alone, removed with everything in it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Outcome<Self> {
        let path = env::temp_dir().join(format!("moongate-bench-{}", std::process::id()));
        fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
