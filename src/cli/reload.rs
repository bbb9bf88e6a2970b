//! `moongate reload`: asks a running gateway through its admin address, waits, and prints what came
//! of it. The file is read here only to find that address.

use super::{BAD_CONFIG, FAILED, color, say, say_wrong};
use crate::diag;
use crate::spec;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Longer than any reload takes: first probes are bounded at 5 s.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn main(path: &Path) -> ExitCode {
    // A gateway that is told of a file with mistakes says so in its status and metrics too; one
    // whose address cannot be found in it is not asked.
    let spec = match spec::load(path) {
        Ok(loaded) => loaded.spec,
        Err(spec::Refused { rest: Some(rest), .. }) if rest.admin.is_some() => *rest,
        Err(refused) => {
            say_wrong(&diag::render(&refused.problems, &refused.sources, color()));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let Some(admin) = spec.admin.as_ref() else {
        say_wrong(&format!(
            "error: {} names no admin address to ask\n  = help: add `admin: {{ address: 127.0.0.1:9901 }}`, or send the process a SIGHUP\n",
            path.display()
        ));
        return ExitCode::from(FAILED);
    };
    match ask(&admin.address.value, admin.token.as_deref()) {
        Ok(Answer { status: 200, report, .. }) => {
            // As `moongate check` does: warnings are no reason to fail.
            say_wrong(&report.unwrap_or_default());
            say("configuration reloaded\n")
        }
        Ok(Answer { status: 422, report: Some(report), .. }) => {
            say_wrong(&report);
            ExitCode::from(BAD_CONFIG)
        }
        Ok(Answer { status, body, .. }) => {
            let body = body.trim();
            say_wrong(&format!("error: the gateway at {} answered {status}: {body}\n", admin.address.value));
            ExitCode::from(FAILED)
        }
        Err(error) => {
            say_wrong(&format!("error: no gateway answers at {}: {error}\n", admin.address.value));
            ExitCode::from(FAILED)
        }
    }
}

/// What the gateway says.
struct Answer {
    status: u16,
    /// Why the configuration was refused, or the warnings of one that was taken.
    report: Option<String>,
    body: String,
}

fn ask(address: &str, token: Option<&str>) -> std::io::Result<Answer> {
    let parsed: SocketAddr = address.parse().map_err(|_| std::io::Error::other("not an ip:port"))?;
    let mut stream = TcpStream::connect_timeout(&parsed, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(
        stream,
        "POST /api/v1/reload HTTP/1.1\r\nHost: {address}\r\n{authorization}Content-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let report = serde_json::from_str::<serde_json::Value>(body)
        .ok()
        .and_then(|body| Some(body.get("report")?.as_str()?.to_owned()));
    Ok(Answer { status, report, body: body.to_owned() })
}
