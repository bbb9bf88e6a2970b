//! `moongate reload`: requests a reload through the admin address and prints the result. The file is read
//! here only for the admin address.

use super::{BAD_CONFIG, FAILED, color, print_error, print_out};
use crate::config;
use crate::diagnostics;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Connect timeout.
const CONNECT: Duration = Duration::from_secs(5);

/// The largest response in bytes, far above a report of many problems.
const LARGEST: usize = 16 << 20;

/// Waits at most `timeout` for the result.
pub(super) fn main(path: &Path, timeout: Duration) -> ExitCode {
    // The gateway reports an invalid file in its status and metrics too, so the request is sent if the admin
    // address can be read.
    let until = Instant::now() + timeout;
    let Some(loaded) = load(path, timeout) else {
        print_error(&format!("error: reading {} took longer than {timeout:?}\n", path.display()));
        return ExitCode::from(FAILED);
    };
    let spec = match loaded {
        Ok(loaded) => loaded.spec,
        Err(config::Refused { rest: Some(rest), .. }) if rest.admin.is_some() => *rest,
        Err(refused) => {
            print_error(&diagnostics::render(&refused.problems, &refused.sources, color()));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let Some(admin) = spec.admin.as_ref() else {
        print_error(&format!(
            "error: {} has no admin address\n  = help: add `admin: {{ address: 127.0.0.1:9901 }}`, or send SIGHUP to the process\n",
            path.display()
        ));
        return ExitCode::from(FAILED);
    };
    match request_reload(&admin.address.value, admin.token.as_deref().map(String::as_str), until) {
        Ok(ReloadResponse { status: 200, report, file, generation, .. }) => {
            // As in `moongate check`, warnings do not fail the command.
            print_error(&report.unwrap_or_default());
            if let Some(other) = file.as_deref().filter(|file| !is_same_file(path, Path::new(file))) {
                print_error(&format!(
                    "warning: the gateway reads {other}, not {}\n  = help: restart the gateway with `-c` to use another file\n",
                    path.display()
                ));
            }
            let generation = generation.map(|number| format!(", generation {number}")).unwrap_or_default();
            print_out(&format!("configuration reloaded{generation}\n"))
        }
        Ok(ReloadResponse { status: 422, report: Some(report), .. }) => {
            print_error(&report);
            ExitCode::from(BAD_CONFIG)
        }
        Ok(ReloadResponse { status, body, .. }) => {
            let body = body.trim();
            print_error(&format!(
                "error: the gateway at {} responded with {status}: {body}\n",
                admin.address.value
            ));
            ExitCode::from(FAILED)
        }
        Err(error) if is_late(&error) => {
            print_error(&format!(
                "error: no response from the gateway at {} within {timeout:?}\n  = help: the reload may still be under way: \
                 its outcome will be in the log and in `last_reload` of /api/v1/status; `--timeout` waits longer\n",
                admin.address.value
            ));
            ExitCode::from(FAILED)
        }
        Err(error) => {
            print_error(&format!(
                "error: cannot reach the gateway at {}: {error}\n  = help: if the file changes `admin`, the running gateway still uses \
                 the old address; restart the gateway\n",
                admin.address.value
            ));
            ExitCode::from(FAILED)
        }
    }
}

/// Reads the file on a separate thread, which is abandoned after the timeout: a file system may hang.
fn load(path: &Path, timeout: Duration) -> Option<Result<config::Loaded, config::Refused>> {
    let (result, loaded) = mpsc::channel();
    let path = path.to_owned();
    let work = move || {
        // The receiver is gone after a timeout.
        let _ = result.send(config::load(&path));
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(work).ok()?;
    loaded.recv_timeout(timeout).ok()
}

/// The response of the gateway.
struct ReloadResponse {
    status: u16,
    /// The reasons of a refused configuration, or the warnings of an applied one.
    report: Option<String>,
    /// The file that the gateway reads, and the number of the applied configuration.
    file: Option<String>,
    generation: Option<u64>,
    body: String,
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// The time until then, at least a moment: a socket timeout of 0 is an error.
fn remaining(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn request_reload(address: &str, token: Option<&str>, until: Instant) -> io::Result<ReloadResponse> {
    let parsed: SocketAddr = address.parse().map_err(|_| io::Error::other("not an ip:port"))?;
    let mut stream = TcpStream::connect_timeout(&parsed, CONNECT.min(remaining(until)?))?;
    stream.set_write_timeout(Some(remaining(until)?))?;
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(
        stream,
        "POST /api/v1/reload HTTP/1.1\r\nHost: {address}\r\n{authorization}Content-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = Vec::new();
    let mut piece = [0; 4096];
    loop {
        // Set before each read: the deadline is for the whole response, not for each read.
        stream.set_read_timeout(Some(remaining(until)?))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => response.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if response.len() > LARGEST {
            return Err(io::Error::other("the response is too large"));
        }
    }
    let response = String::from_utf8_lossy(&response);
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let text = |key: &str| json.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let generation = json.get("generation").and_then(serde_json::Value::as_u64);
    Ok(ReloadResponse {
        status,
        report: text("report"),
        file: text("file"),
        generation,
        body: body.to_owned(),
    })
}

/// Whether both paths lead to one file.
fn is_same_file(own: &Path, gateways: &Path) -> bool {
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    canonical(own) == canonical(gateways)
}
