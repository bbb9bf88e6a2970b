//! The gateways under test: one table of three, each with the files it reads, its command, and how it
//! reloads. All do the same work: a hundred routes to one backend, X-Forwarded-*, an access log; in the clear,
//! and over TLS by Mozilla's intermediate profile, with session tickets.

mod haproxy;
mod moongate;
mod nginx;

use crate::Outcome;
use crate::certificate::Certificate;
use crate::machine;
use crate::process::{Cpu, Process};
use crate::transport::Target;
use rustix::process::Signal;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a gateway may take until it accepts connections.
const START: Duration = Duration::from_secs(15);

/// A kind of gateway.
pub(crate) struct Kind {
    /// Its name in tables and options.
    pub(crate) name: &'static str,
    /// The argument that makes it print its version.
    version: &'static str,
    /// The files it reads, with their contents.
    files: fn(&Site) -> Vec<(&'static str, String)>,
    /// Its arguments.
    arguments: fn(&Site) -> Vec<String>,
    /// What makes it read its files again.
    reload: Signal,
}

/// Every gateway, in the order of the rounds.
pub(crate) const KINDS: [&Kind; 3] = [&nginx::NGINX, &haproxy::HAPROXY, &moongate::MOONGATE];

/// The ciphers of TLS 1.2 in Mozilla's intermediate profile that go with our certificate, in OpenSSL's words.
const CIPHERS: &str =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305";

/// What a gateway's files depend on.
pub(crate) struct Site {
    /// Where it listens.
    target: Target,
    /// The certificate's file, its key's, and the one with both.
    cert: String,
    key: String,
    both: String,
    /// A further address, for those that have one for the operator.
    admin: SocketAddr,
    /// Where it forwards to.
    backend: SocketAddr,
    /// Its own directory.
    directory: PathBuf,
    /// The tunnels it must be able to hold.
    tunnels: usize,
    /// Reloads so far; every one changes a route.
    generation: u32,
    /// See [`Installed::plugins`].
    plugins: String,
}

impl Site {
    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// The routes' prefixes, with one that is new in every generation.
    fn prefixes(&self) -> impl Iterator<Item = String> + use<> {
        (0..=crate::http::INSPECTED)
            .map(crate::http::route)
            .chain([format!("/generation-{}/", self.generation)])
    }

    fn write(&self, kind: &Kind) -> Outcome<()> {
        for (name, contents) in (kind.files)(self) {
            fs::write(self.directory.join(name), contents)?;
        }
        Ok(())
    }
}

/// What is the same for all gateways of a run.
pub(crate) struct Ground {
    /// Holds a directory for each start.
    pub(crate) directory: PathBuf,
    /// What clients over TLS are shown.
    pub(crate) certificate: Certificate,
    /// The backend.
    pub(crate) backend: SocketAddr,
    /// The CPU of the gateway under test.
    pub(crate) cpu: usize,
    /// The tunnels a gateway must be able to hold.
    pub(crate) tunnels: usize,
}

/// An installed gateway.
#[derive(Clone)]
pub(crate) struct Installed {
    /// Which.
    pub(crate) kind: &'static Kind,
    /// Its program.
    pub(crate) program: PathBuf,
    /// The first line of what it says of its version.
    pub(crate) version: String,
    /// Moongate's plugins for every request: entries of a list in YAML. The others have none.
    pub(crate) plugins: String,
}

impl Installed {
    /// # Errors
    /// The program is missing or does not run.
    pub(crate) fn find(kind: &'static Kind, program: &Path) -> Outcome<Self> {
        let output = Command::new(program)
            .arg(kind.version)
            .output()
            .map_err(|e| format!("{} is skipped: {}: {e}", kind.name, program.display()))?;
        let text = [output.stdout, output.stderr].concat();
        let version = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned();
        Ok(Self { kind, program: program.to_owned(), version, plugins: String::new() })
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    /// Which.
    pub(crate) kind: &'static Kind,
    /// Where it listens.
    pub(crate) target: Target,
    /// Its processes.
    pub(crate) process: Process,
    site: Site,
}

impl Gateway {
    /// Starts it and waits until it accepts connections.
    ///
    /// # Errors
    /// It ends, or takes too long; with the end of what it said.
    pub(crate) fn start(installed: &Installed, ground: &Ground) -> Outcome<Self> {
        let kind = installed.kind;
        let [plain, tls, admin] = machine::free_addresses()?;
        let target = Target { plain, tls };
        let directory = ground.directory.join(format!("{}-{}", kind.name, target.plain.port()));
        fs::create_dir_all(&directory)?;
        let site = Site {
            target,
            cert: ground.certificate.cert.display().to_string(),
            key: ground.certificate.key.display().to_string(),
            both: ground.certificate.both.display().to_string(),
            admin,
            backend: ground.backend,
            directory,
            tunnels: ground.tunnels,
            generation: 0,
            plugins: installed.plugins.clone(),
        };
        site.write(kind)?;
        let mut command = Command::new(&installed.program);
        command.args((kind.arguments)(&site)).env("RUST_LOG", "info");
        let log = site.directory.join("output");
        let process = Process::start(kind.name, ground.cpu, &command, &File::create(&log)?)?;
        let mut gateway = Self { kind, target, process, site };
        match gateway.wait() {
            Ok(()) => Ok(gateway),
            Err(e) => Err(format!("{e}\n{}", fs::read_to_string(log).unwrap_or_default().trim_end()).into()),
        }
    }

    fn wait(&mut self) -> Outcome<()> {
        let until = Instant::now() + START;
        while TcpStream::connect(self.target.plain).is_err() {
            self.process.check()?;
            if Instant::now() > until {
                return Err(format!("{} does not listen after {} s", self.kind.name, START.as_secs()).into());
            }
            sleep(Duration::from_millis(20));
        }
        self.process.check()
    }

    /// Changes a route and asks for a reload, without waiting for it.
    pub(crate) fn reload(&mut self) -> Outcome<()> {
        self.site.generation += 1;
        self.site.write(self.kind)?;
        self.process.signal(self.kind.reload)
    }

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> Cpu {
        self.process.cpu()
    }
}
