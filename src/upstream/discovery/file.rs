//! Members from a file: a list as in `endpoints:`, for consul-template, Ansible or a script. The file is replaced as a
//! whole or not at all: one with an error leaves the members as they are.

use super::feed::{Discovery, MemberFeed, NewMember};
use crate::config::{self, EndpointEntry};
use crate::diagnostics::{self, Color, Sources};
use crate::runtime::blocking_pool::{self, WorkError};
use crate::upstream::address::{Address, Origin};
use async_trait::async_trait;
use moongate_config::{Kind, Period, Placed, Problem, Problems, Settings, read_regular_file};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const KIND: Kind<dyn Discovery> = Kind {
    name: "file",
    about: "A list of endpoints in a file of its own, which is watched",
    schema: |generator| generator.subschema_for::<FileSettings>(),
    build,
};

/// The interval at which the file is read.
const LOOK: Duration = Duration::from_secs(1);

/// The time limit of a read.
const LONGEST_READ: Duration = Duration::from_secs(10);

/// The largest file.
const LARGEST: u64 = 16 << 20;

/// The settings of `file`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileSettings {
    /// Reads this file, relative to the file with this setting: YAML or JSON, a list as in `endpoints`, with IP addresses
    /// and Unix sockets. It is read every second. Required.
    path: Placed<String>,
    /// Keeps an endpoint for this long that the file does not list any more. Default 0s.
    #[serde(default)]
    hold: Option<Period>,
}

fn build(settings: &Settings) -> Result<Box<dyn Discovery>, Problems> {
    let FileSettings { path, hold } = settings.read()?;
    if path.is_empty() {
        return Err(Problem::new("the path is empty").at(&path.place).into());
    }
    let base = Path::new(&*path.place.file).parent().unwrap_or(Path::new(""));
    let whole = base.join(&path.value);
    Ok(Box::new(MemberFile {
        written: path.value,
        path: whole,
        hold: hold.map_or(Duration::ZERO, |hold| hold.0),
    }))
}

#[derive(Debug)]
struct MemberFile {
    /// The path in the configuration.
    written: String,
    path: PathBuf,
    hold: Duration,
}

#[async_trait]
impl Discovery for MemberFile {
    fn source(&self) -> String {
        format!("file {}", self.written)
    }

    fn hold(&self) -> Duration {
        self.hold
    }

    async fn run(&self, feed: &MemberFeed) {
        let mut last = None;
        loop {
            let path = self.path.clone();
            let read =
                blocking_pool::ROTATION.run_within(LONGEST_READ, move || read_regular_file(&path, LARGEST));
            let outcome = match read.await {
                Ok(read) => read.map_err(|error| Failure { reason: "unreadable", detail: error.to_string() }),
                Err(WorkError::TimedOut(limit)) => {
                    let detail = format!("the file system does not respond within {limit:?}");
                    Err(Failure { reason: "timeout", detail })
                }
                Err(error) => Err(Failure { reason: "unreadable", detail: error.to_string() }),
            };
            if last.as_ref() != Some(&outcome) {
                match outcome.as_ref().map_err(Clone::clone).and_then(|bytes| parse(&self.written, bytes)) {
                    Ok(members) => feed.announce(members),
                    Err(Failure { reason, detail }) => feed.fail(reason, detail),
                }
                last = Some(outcome);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Why there are no members.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    reason: &'static str,
    detail: String,
}

/// The members of a file.
fn parse(name: &str, bytes: &[u8]) -> Result<Vec<NewMember>, Failure> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Failure { reason: "invalid", detail: format!("it is not UTF-8: {error}") })?;
    let report = |problems: &Problems, sources: &Sources| Failure {
        reason: "invalid",
        detail: format!("\n{}", diagnostics::render(problems, sources, Color::Never)),
    };
    let (entries, sources) =
        config::load_endpoints(name, text).map_err(|refused| report(&refused.problems, &refused.sources))?;
    members(&entries).map_err(|problems| report(&problems, &sources))
}

/// The members of a list.
///
/// # Errors
/// Every entry that is no address, or is there twice.
pub(super) fn members(entries: &[Placed<EndpointEntry>]) -> Result<Vec<NewMember>, Problems> {
    let mut problems = Problems::default();
    let mut lines: HashMap<Address, u32> = HashMap::new();
    let mut members = Vec::with_capacity(entries.len());
    for entry in entries {
        let member = match member(entry) {
            Ok(member) => member,
            Err(problem) => {
                problems.push(problem.at(&entry.place));
                continue;
            }
        };
        if let Some(line) = lines.insert(member.address.clone(), entry.place.line) {
            let problem = Problem::new(format!("endpoint `{}` is listed twice", entry.address()));
            problems.push(problem.help(format!("the first one is in line {line}")).at(&entry.place));
        }
        members.push(member);
    }
    if problems.refuse() { Err(problems) } else { Ok(members) }
}

fn member(entry: &EndpointEntry) -> Result<NewMember, Problem> {
    let text = entry.address();
    let Origin::Fixed(address) = Origin::parse(text)? else {
        return Err(Problem::new(format!("`{text}` is a name"))
            .help("write an IP address; `discovery: { kind: dns }` resolves names"));
    };
    let member = NewMember::at(address);
    Ok(match entry {
        EndpointEntry::Address(_) => member,
        EndpointEntry::Full(full) => NewMember {
            weight: full.weight.as_ref().map_or(1, |weight| weight.value),
            marked: full.drain,
            priority: u16::from(full.backup),
            limit: full.max_connections,
            ..member
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn yaml_and_json_are_read() {
        for text in [
            "- 127.0.0.1:1\n- { address: 'unix:/a', weight: 3, backup: true }\n",
            r#"["127.0.0.1:1", {"address": "unix:/a", "weight": 3, "backup": true}]"#,
        ] {
            let members = parse("a.yaml", text.as_bytes()).unwrap();
            let second = NewMember { weight: 3, priority: 1, ..NewMember::at(Address::Unix("/a".into())) };
            assert_eq!(members, [NewMember::at(Address::Tcp(([127, 0, 0, 1], 1).into())), second], "{text}");
        }
        assert_eq!(parse("a.yaml", b"[]").unwrap(), []);
        assert_eq!(parse("a.yaml", b"").unwrap_err().reason, "invalid");
    }

    #[test]
    fn an_error_is_shown_at_its_place() {
        for (text, message) in [
            ("- 127.0.0.1:1\n- chat.internal:80\n", "`chat.internal:80` is a name"),
            ("- 127.0.0.1:1\n- 127.0.0.1:1\n", "is listed twice"),
            ("- 127.0.0.1:1\n- { address: '127.0.0.1:2', wieght: 1 }\n", "wieght"),
            ("- 127.0.0.1:1\n- 127.0.0.1\n", "a port is missing"),
            ("endpoints: []\n", "list"),
        ] {
            let Failure { reason, detail } = parse("a.yaml", text.as_bytes()).unwrap_err();
            assert_eq!(reason, "invalid");
            assert!(detail.contains(message) && detail.contains("a.yaml:"), "{text}: {detail}");
        }
        assert_eq!(parse("a.yaml", b"- \xff").unwrap_err().reason, "invalid");
    }
}
