//! HTTP health check: healthy if a response has an expected status. The body is not read.

use super::probe_settings::probe_settings;
use super::{Failure, Probe, ProbeSchedule, Proof, Target, h2, probe_target};
use crate::config::OneOrMany;
use crate::net::http1::response_head;
use crate::upstream::upstream_stream::UpstreamStream;
use async_trait::async_trait;
use http::Method;
use moongate_config::{Kind, Placed, Problem, Problems, Settings};
use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use tokio::io::AsyncWriteExt;

pub(super) const KIND: Kind<dyn Probe> = Kind {
    name: "http",
    about: "Healthy if a response has an expected status",
    schema: |generator| generator.subschema_for::<HttpSettings>(),
    build,
};

probe_settings! {
    /// The settings of the `http` probe.
    HttpSettings {
        /// Requests this path, with its query. Default /.
        path: Option<Placed<String>>,
        /// Sends this Host, or `:authority`. Default the endpoint's address.
        host: Option<Placed<String>>,
        /// Sends this method. Default GET.
        method: Option<Placed<String>>,
        /// Expects one of these final statuses: a status, a range or a list of them, 200 and above. Default
        /// 200-399.
        expect: Option<OneOrMany<Statuses>>,
    }
}

fn build(settings: &Settings) -> Result<Box<dyn Probe>, Problems> {
    let read: HttpSettings = settings.read()?;
    let mut problems = Problems::default();
    let probe = Http {
        schedule: read.schedule(&mut problems),
        method: method(read.method.as_ref(), &mut problems),
        path: probe_target::check_path(read.path.as_ref(), &mut problems),
        host: probe_target::check_host(read.host.as_ref(), &mut problems),
        expect: match read.expect {
            None => vec![Statuses(200..=399)],
            Some(OneOrMany::One(statuses)) => vec![statuses],
            Some(OneOrMany::Many(list)) => list,
        },
    };
    if probe.expect.is_empty() {
        let problem = Problem::new("`expect` is empty: no endpoint would ever be healthy");
        problems.push(problem.help("omit it for 200-399").at(settings.place_of("expect")));
    }
    if problems.refuse() { Err(problems) } else { Ok(Box::new(probe)) }
}

fn method(written: Option<&Placed<String>>, problems: &mut Problems) -> Method {
    let Some(text) = written else { return Method::GET };
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT) | Err(_) => {
            problems.push(
                Problem::new(format!("invalid method `{}`", text.value))
                    .help("write GET or HEAD")
                    .at(&text.place),
            );
            Method::GET
        }
        Ok(method) => method,
    }
}

struct Http {
    schedule: ProbeSchedule,
    method: Method,
    path: String,
    host: Option<String>,
    expect: Vec<Statuses>,
}

#[async_trait]
impl Probe for Http {
    fn schedule(&self) -> ProbeSchedule {
        self.schedule
    }

    fn proof(&self) -> Proof {
        Proof::Exchange
    }

    async fn probe(&self, target: &Target<'_>) -> Result<(), Failure> {
        let wire = target.connect(true).await?;
        let host = self.host.clone().unwrap_or_else(|| target.authority());
        let status = if target.speaks_h2(&wire) {
            let asked = h2::ProbeRequest {
                method: &self.method,
                scheme: target.scheme(),
                host: &host,
                path: &self.path,
            };
            h2::ask(wire, asked.head()?, None).await?.status.as_u16()
        } else {
            self.ask(wire, &host).await?
        };
        let expected = self.expect.iter().any(|Statuses(range)| range.contains(&status));
        if expected { Ok(()) } else { Err(Failure::Status(status)) }
    }
}

impl Http {
    async fn ask(&self, mut wire: UpstreamStream, host: &str) -> Result<u16, Failure> {
        let request = format!(
            "{} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: moongate\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.method, self.path
        );
        wire.write_all(request.as_bytes()).await?;
        let head = response_head::read(&mut wire).await?;
        if head.has_clear_framing() {
            Ok(head.status.as_u16())
        } else {
            Err(Failure::Malformed("the response has an ambiguous body length"))
        }
    }
}

/// One status or a range of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Statuses(RangeInclusive<u16>);

impl Statuses {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // Interim responses are skipped, and an unrequested 101 fails the probe.
        (first <= last && (200..=999).contains(&first) && last <= 999).then_some(Self(first..=last))
    }
}

impl<'de> serde::Deserialize<'de> for Statuses {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusVisitor)
    }
}

struct StatusVisitor;

impl serde::de::Visitor<'_> for StatusVisitor {
    type Value = Statuses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status of 200 or above such as 204, or a range such as 200-299")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Statuses, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Statuses, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Statuses, E> {
        Statuses::parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

impl schemars::JsonSchema for Statuses {
    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A status of 200 or above such as 204, or a range such as 200-299.",
            "type": ["integer", "string"],
            "pattern": "^[2-9][0-9]{2}(-[2-9][0-9]{2})?$",
        })
    }
}
