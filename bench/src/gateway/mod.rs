//! The gateways under test, each with its configuration files, command and reload signal. In one run all do the same
//! work, by the [`Setup`] of the case. All have a plaintext listener, and one for TLS by Mozilla's intermediate profile
//! with session tickets.

mod haproxy;
mod moongate;
mod nginx;
mod pingora;

use crate::Outcome;
use crate::certificate::Certificate;
use crate::machine;
use crate::options::Options;
use crate::process::{Cpu, Process};
use crate::transport::Target;
use rustix::process::Signal;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The time limit until a gateway accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// A kind of gateway.
pub(crate) struct GatewayKind {
    /// Its name in tables and options.
    pub(crate) name: &'static str,
    /// The path of its program.
    program: fn(&Options) -> PathBuf,
    /// The argument that makes it print its version.
    version: &'static str,
    /// The files it reads, with their contents.
    files: fn(&ConfigValues) -> Vec<(&'static str, String)>,
    /// Its arguments.
    arguments: fn(&ConfigValues) -> Vec<String>,
    /// The setups that it supports.
    support: Support,
}

/// The work of every gateway in a case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    /// One route, no access log, forwarded fields as received.
    Minimal,
    /// A hundred routes, an access log, X-Forwarded-For, -Proto and -Host added.
    Full,
    /// As [`Setup::Minimal`], with the endpoints of a discovery. Moongate only.
    Members,
}

/// The endpoints of [`Setup::Members`].
pub(crate) const MEMBERS: usize = 5_000;

/// The addresses of which [`MEMBERS`] are endpoints at a time.
pub(crate) const MEMBER_ADDRESSES: usize = MEMBERS + 500;

/// The address of an endpoint of [`Setup::Members`].
pub(crate) fn member_address(number: usize) -> Ipv4Addr {
    let [high, low] = ((number % MEMBER_ADDRESSES) as u16).to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

/// The list of [`MEMBERS`] endpoints from this one on, with the backend's port.
pub(crate) fn member_list(backend: SocketAddr, first: usize) -> String {
    let line = |number: usize| format!("- {}:{}\n", member_address(number), backend.port());
    (first..first + MEMBERS).map(line).collect()
}

/// The setups that a gateway supports.
enum Support {
    /// Only [`Setup::Minimal`], without reloads.
    Minimal,
    /// Both, and a reload by this signal.
    Full { reload: Signal },
}

impl GatewayKind {
    /// Whether the gateway can do the work of a setup.
    pub(crate) fn supports(&self, setup: Setup) -> bool {
        match setup {
            Setup::Minimal => true,
            Setup::Full => matches!(self.support, Support::Full { .. }),
            Setup::Members => self.name == moongate::MOONGATE.name,
        }
    }
}

/// Every gateway, in the order of the rounds.
pub(crate) const KINDS: [&GatewayKind; 4] =
    [&nginx::NGINX, &haproxy::HAPROXY, &pingora::PINGORA, &moongate::MOONGATE];

/// The TLS 1.2 ciphers of Mozilla's intermediate profile that match the ECDSA certificate, by their OpenSSL names.
const CIPHERS: &str =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305";

/// The values in the configuration files of a gateway.
pub(crate) struct ConfigValues {
    /// The work of the case.
    setup: Setup,
    /// The listening addresses.
    target: Target,
    /// The files of the certificate, of its key, and of both in one.
    cert: String,
    key: String,
    bundle: String,
    /// An admin address, for gateways that have one.
    admin: SocketAddr,
    /// The backend's address.
    backend: SocketAddr,
    /// Its own directory.
    directory: PathBuf,
    /// The number of client connections that it must be able to hold.
    connections: usize,
    /// Reloads so far. Each changes a route.
    generation: u32,
    /// See [`InstalledGateway::settings`].
    settings: String,
}

impl ConfigValues {
    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// The routes' prefixes, with one that is new in every generation.
    fn prefixes(&self) -> impl Iterator<Item = String> + use<> {
        (0..=crate::http::INSPECTED)
            .map(crate::http::route)
            .chain([format!("/generation-{}/", self.generation)])
    }

    fn write(&self, kind: &GatewayKind) -> Outcome<()> {
        for (name, contents) in (kind.files)(self) {
            fs::write(self.directory.join(name), contents)?;
        }
        Ok(())
    }
}

/// What all gateways of a run have in common.
pub(crate) struct Environment {
    /// The parent of the directories of all starts.
    pub(crate) directory: PathBuf,
    /// The certificate for TLS clients.
    pub(crate) certificate: Certificate,
    /// The backend.
    pub(crate) backend: SocketAddr,
    /// The CPU of the gateway under test.
    pub(crate) cpu: usize,
    /// The number of client connections that a gateway must be able to hold.
    pub(crate) connections: usize,
}

impl Environment {
    /// The same with another backend.
    pub(crate) fn with_backend(&self, backend: SocketAddr) -> Self {
        let certificate = self.certificate.clone();
        Self { directory: self.directory.clone(), certificate, backend, ..*self }
    }
}

/// An installed gateway.
#[derive(Clone)]
pub(crate) struct InstalledGateway {
    /// Its kind.
    pub(crate) kind: &'static GatewayKind,
    /// Its program.
    pub(crate) program: PathBuf,
    /// The first line of its version output.
    pub(crate) version: String,
    /// Further top-level settings of Moongate, as lines of YAML. The other gateways have none.
    pub(crate) settings: String,
}

impl InstalledGateway {
    /// # Errors
    /// The program is missing or does not run.
    pub(crate) fn find(kind: &'static GatewayKind, options: &Options) -> Outcome<Self> {
        let program = (kind.program)(options);
        let output = Command::new(&program)
            .arg(kind.version)
            .output()
            .map_err(|e| format!("{} is skipped: {}: {e}", kind.name, program.display()))?;
        let text = [output.stdout, output.stderr].concat();
        let version = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned();
        Ok(Self { kind, program, version, settings: String::new() })
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    /// Its kind.
    pub(crate) kind: &'static GatewayKind,
    /// The listening addresses.
    pub(crate) target: Target,
    /// Its processes.
    pub(crate) process: Process,
    values: ConfigValues,
}

/// A handover to a new process.
#[derive(Clone, Copy)]
pub(crate) struct Handover {
    /// The id of the new process.
    pub(crate) process: u32,
    /// WebSockets that have moved to it.
    pub(crate) moved: usize,
    /// WebSockets that have not.
    pub(crate) left: usize,
}

impl Gateway {
    /// Starts the gateway and waits until it accepts connections.
    ///
    /// # Errors
    /// The gateway ends or takes too long; the error contains its output.
    pub(crate) fn start(
        installed: &InstalledGateway,
        setup: Setup,
        environment: &Environment,
    ) -> Outcome<Self> {
        let kind = installed.kind;
        let [plain, tls, admin] = machine::free_addresses()?;
        let target = Target { plain, tls };
        let directory = environment.directory.join(format!("{}-{}", kind.name, target.plain.port()));
        fs::create_dir_all(&directory)?;
        let values = ConfigValues {
            setup,
            target,
            cert: environment.certificate.cert.display().to_string(),
            key: environment.certificate.key.display().to_string(),
            bundle: environment.certificate.bundle.display().to_string(),
            admin,
            backend: environment.backend,
            directory,
            connections: environment.connections,
            generation: 0,
            settings: installed.settings.clone(),
        };
        values.write(kind)?;
        let mut command = Command::new(&installed.program);
        command.args((kind.arguments)(&values)).env("RUST_LOG", "info");
        let log = values.directory.join("output");
        let process = Process::start(kind.name, environment.cpu, &command, &File::create(&log)?)?;
        let mut gateway = Self { kind, target, process, values };
        match gateway.wait() {
            Ok(()) => Ok(gateway),
            Err(e) => Err(format!("{e}\n{}", fs::read_to_string(log).unwrap_or_default().trim_end()).into()),
        }
    }

    fn wait(&mut self) -> Outcome<()> {
        let until = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(self.target.plain).is_err() {
            self.process.check()?;
            if Instant::now() > until {
                return Err(format!(
                    "{} accepts no connections after {} s",
                    self.kind.name,
                    START_TIMEOUT.as_secs()
                )
                .into());
            }
            sleep(Duration::from_millis(20));
        }
        self.process.check()
    }

    /// Changes a route and sends the reload signal, without waiting for the reload.
    pub(crate) fn reload(&mut self) -> Outcome<()> {
        let Support::Full { reload } = self.kind.support else {
            return Err(format!("{} cannot reload", self.kind.name).into());
        };
        self.values.generation += 1;
        self.values.write(self.kind)?;
        self.process.signal(reload)
    }

    /// Replaces the list of [`Setup::Members`].
    pub(crate) fn write_members(&self, list: &str) -> Outcome<()> {
        let part = self.values.directory.join("members.part");
        fs::write(&part, list)?;
        Ok(fs::rename(part, self.values.directory.join("members.list"))?)
    }

    /// Orders a handover to a new process of the same program. Only Moongate has it.
    pub(crate) fn upgrade(&self) -> Outcome<()> {
        self.process.signal(Signal::USR2)
    }

    /// The end of the handover that was ordered; `None` until then.
    pub(crate) fn upgraded(&mut self) -> Outcome<Option<Handover>> {
        let output = fs::read_to_string(self.values.directory.join("output"))?;
        let Some(line) = output.lines().find(|line| line.contains(" new process serves ")) else {
            return Ok(None);
        };
        let field = |name: &str| {
            let value = line.split_whitespace().find_map(|word| word.strip_prefix(name));
            value.and_then(|value| value.parse().ok()).ok_or_else(|| format!("no {name} in: {line}"))
        };
        Ok(Some(Handover {
            process: field("pid=")?,
            moved: field("websockets_moved=")? as usize,
            left: field("websockets_left=")? as usize,
        }))
    }

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> Cpu {
        self.process.cpu()
    }
}

/// The path of a server. Debian installs servers outside the PATH of ordinary users.
fn in_sbin(name: &str) -> PathBuf {
    let path = PathBuf::from("/usr/sbin").join(name);
    if path.exists() { path } else { PathBuf::from(name) }
}
