//! `moongate reload`: asks a running gateway through its admin address, waits, and prints what came
//! of it. The file is read here only to find that address.

use super::{BAD_CONFIG, FAILED, color, say, say_wrong};
use crate::config;
use crate::diagnostics;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// The largest response; a report of many problems is far below.
const LARGEST: usize = 16 << 20;

/// Waits at most for `timeout`.
pub(super) fn main(path: &Path, timeout: Duration) -> ExitCode {
    // A gateway that is told of a file with mistakes says so in its status and metrics too; one
    // whose address cannot be found in it is not asked.
    let until = Instant::now() + timeout;
    let Some(loaded) = load(path, timeout) else {
        say_wrong(&format!("error: {} could not be read within {timeout:?}\n", path.display()));
        return ExitCode::from(FAILED);
    };
    let spec = match loaded {
        Ok(loaded) => loaded.spec,
        Err(config::Refused { rest: Some(rest), .. }) if rest.admin.is_some() => *rest,
        Err(refused) => {
            say_wrong(&diagnostics::render(&refused.problems, &refused.sources, color()));
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
    match ask(&admin.address.value, admin.token.as_deref(), until) {
        Ok(ReloadResponse { status: 200, report, .. }) => {
            // As `moongate check` does: warnings are no reason to fail.
            say_wrong(&report.unwrap_or_default());
            say("configuration reloaded\n")
        }
        Ok(ReloadResponse { status: 422, report: Some(report), .. }) => {
            say_wrong(&report);
            ExitCode::from(BAD_CONFIG)
        }
        Ok(ReloadResponse { status, body, .. }) => {
            let body = body.trim();
            say_wrong(&format!("error: the gateway at {} answered {status}: {body}\n", admin.address.value));
            ExitCode::from(FAILED)
        }
        Err(error) if is_late(&error) => {
            say_wrong(&format!(
                "error: no response of the gateway at {} within {timeout:?}\n  = help: the reload may still be under way: \
                 its outcome will be in the log and in `last_reload` of /api/v1/status; `--timeout` waits longer\n",
                admin.address.value
            ));
            ExitCode::from(FAILED)
        }
        Err(error) => {
            say_wrong(&format!("error: no gateway answers at {}: {error}\n", admin.address.value));
            ExitCode::from(FAILED)
        }
    }
}

/// Reads the file on a thread that is left when that takes too long: a file system may hang.
fn load(path: &Path, timeout: Duration) -> Option<Result<config::Loaded, config::Refused>> {
    let (result, loaded) = mpsc::channel();
    let path = path.to_owned();
    let work = move || {
        // Nobody may wait any more.
        let _ = result.send(config::load(&path));
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(work).ok()?;
    loaded.recv_timeout(timeout).ok()
}

/// What the gateway says.
struct ReloadResponse {
    status: u16,
    /// Why the configuration was refused, or the warnings of one that was taken.
    report: Option<String>,
    body: String,
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// What is left until then; at least a moment, for a socket takes no timeout of 0.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn ask(address: &str, token: Option<&str>, until: Instant) -> io::Result<ReloadResponse> {
    let parsed: SocketAddr = address.parse().map_err(|_| io::Error::other("not an ip:port"))?;
    let mut stream = TcpStream::connect_timeout(&parsed, CONNECT.min(left(until)?))?;
    stream.set_write_timeout(Some(left(until)?))?;
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(
        stream,
        "POST /api/v1/reload HTTP/1.1\r\nHost: {address}\r\n{authorization}Content-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        // For the whole, not for each read: a byte now and then must not hold the command.
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.len() > LARGEST {
            return Err(io::Error::other("the response is too long"));
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let report = serde_json::from_str::<serde_json::Value>(body)
        .ok()
        .and_then(|body| Some(body.get("report")?.as_str()?.to_owned()));
    Ok(ReloadResponse { status, report, body: body.to_owned() })
}
