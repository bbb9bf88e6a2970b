//! `/etc/hosts` and `/etc/resolv.conf`, read again periodically. After a failed or hanging read, the previous
//! content stays in use.

use crate::runtime::blocking_pool::{BlockingPool, SYSTEM_FILES};
use moongate_config::read_regular_file;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// The minimum interval between reads.
const EVERY: Duration = Duration::from_secs(5);

/// The time limit of a lookup for a read.
const WAIT: Duration = Duration::from_secs(1);

/// The largest file in bytes.
const LARGEST: u64 = 4 << 20;

static THREADS: &BlockingPool = &SYSTEM_FILES;

type Contents = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The name resolution files of the system.
pub(super) struct SystemFiles {
    paths: (PathBuf, PathBuf),
    pub(super) hosts: Hosts,
    resolv_conf: Vec<u8>,
    read_at: Option<Instant>,
    /// A read in progress.
    reading: Option<JoinHandle<Option<Contents>>>,
}

impl SystemFiles {
    pub(super) fn of_system() -> Self {
        Self::of("/etc/hosts", "/etc/resolv.conf")
    }

    pub(super) fn of(hosts: impl AsRef<Path>, resolv_conf: impl AsRef<Path>) -> Self {
        Self {
            paths: (hosts.as_ref().to_owned(), resolv_conf.as_ref().to_owned()),
            hosts: Hosts::default(),
            resolv_conf: Vec::new(),
            read_at: None,
            reading: None,
        }
    }

    /// The content of `/etc/resolv.conf` at the last successful read.
    pub(super) fn resolv_conf(&self) -> &[u8] {
        &self.resolv_conf
    }

    /// Reads the files again after the interval. Returns whether `/etc/resolv.conf` changed.
    pub(super) async fn refresh(&mut self) -> bool {
        let is_due = self.read_at.is_none_or(|at| at.elapsed() >= EVERY);
        if !is_due && self.reading.is_none() {
            return false;
        }
        let first = self.read_at.is_none();
        self.read_at = Some(Instant::now());
        let (hosts, resolv_conf) = self.paths.clone();
        let begin = || {
            let read = move || {
                let read = |path: &Path| read_regular_file(path, LARGEST).ok();
                (read(&hosts), read(&resolv_conf))
            };
            tokio::spawn(async move { THREADS.run(read).await.ok() })
        };
        let hung = self.reading.is_some();
        let mut reading = self.reading.take().unwrap_or_else(begin);
        // A lookup waits for a hanging read once only.
        let wait = if hung && !first { Duration::ZERO } else { WAIT };
        match timeout(wait, &mut reading).await {
            Ok(contents) => self.take(contents.ok().flatten()),
            Err(_) => {
                self.reading = Some(reading);
                false
            }
        }
    }

    fn take(&mut self, contents: Option<Contents>) -> bool {
        let Some((hosts, resolv_conf)) = contents else { return false };
        if let Some(hosts) = hosts {
            self.hosts = Hosts::parse(&hosts);
        }
        let changed = resolv_conf.filter(|read| *read != self.resolv_conf);
        let Some(new) = changed else { return false };
        self.resolv_conf = new;
        true
    }
}

/// The names in `/etc/hosts`.
#[derive(Debug, Default)]
pub(super) struct Hosts(HashMap<String, Vec<IpAddr>>);

impl Hosts {
    /// Parses lines of an address and its names (hosts(5)); skips invalid lines.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut names: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in String::from_utf8_lossy(text).lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
            for name in words {
                let addresses = names.entry(normal(name)).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Self(names)
    }

    /// The addresses of a name; empty if it is not listed.
    pub(super) fn addresses(&self, host: &str) -> Vec<IpAddr> {
        self.0.get(&normal(host)).cloned().unwrap_or_default()
    }
}

fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn hosts_are_read_as_by_the_system() {
        let text = b"\xff junk\n127.0.0.1 localhost # not.me\n10.0.0.1\tWeb.Test alias\n::1 localhost\n10.0.0.2 web.test\nx y\n";
        let hosts = Hosts::parse(text);
        let found = |host| hosts.addresses(host).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found("LOCALHOST."), ["127.0.0.1", "::1"]);
        assert_eq!(found("web.test"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(found("alias"), ["10.0.0.1"]);
        assert!(found("not.me").is_empty() && found("y").is_empty());
    }

    #[tokio::test]
    async fn a_missing_file_keeps_the_last_content() {
        let folder = tempfile::tempdir().unwrap();
        let (hosts, conf) = (folder.path().join("hosts"), folder.path().join("resolv.conf"));
        std::fs::write(&hosts, "10.0.0.1 web").unwrap();
        std::fs::write(&conf, "nameserver 10.0.0.53").unwrap();
        let mut files = SystemFiles::of(&hosts, &conf);
        assert!(files.refresh().await);
        std::fs::remove_file(&hosts).unwrap();
        std::fs::remove_file(&conf).unwrap();
        files.read_at = Some(Instant::now() - EVERY);
        assert!(!files.refresh().await);
        assert_eq!(
            (files.resolv_conf(), files.hosts.addresses("web").len()),
            (&b"nameserver 10.0.0.53"[..], 1)
        );
        std::fs::write(&conf, "nameserver 10.0.0.54").unwrap();
        files.read_at = Some(Instant::now() - EVERY);
        assert!(files.refresh().await);
    }

    proptest::proptest! {
        #[test]
        fn no_hosts_file_panics(bytes: Vec<u8>) {
            let _ = Hosts::parse(&bytes).addresses("x");
        }
    }
}
