//! Prometheus and promtool (Debian: `prometheus`), which scrape a gateway, check its metrics and run queries.

use super::log::{Log, field};
use super::{eventually, get};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// A running server that scrapes five times a second.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    // Reads the output, so that the process does not wait for it.
    _log: Arc<Log>,
    _folder: TempDir,
}

/// Returns whether both programs are there; without them `test` is skipped, with a message.
pub(crate) fn is_installed(test: &str) -> bool {
    let there = ["prometheus", "promtool"].iter().all(|program| {
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    });
    if !there {
        // Not by a macro, whose output is hidden for a test that passes.
        let message =
            format!("skipped: {test}: there is no prometheus here; `.ci/tools prometheus` installs it\n");
        std::io::stderr().write_all(message.as_bytes()).unwrap();
    }
    there
}

/// Runs promtool with this input to its end.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // It may end before it has read everything.
    let writing = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output
}

impl Prometheus {
    /// Starts one for these jobs, with the file of rules if there is one, and waits until it is ready.
    pub(crate) fn start(jobs: &[(&str, &[SocketAddr])], rules: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prometheus.yml");
        let mut yaml =
            "global: { scrape_interval: 200ms, evaluation_interval: 200ms }\nscrape_configs:\n".to_owned();
        for (job, addresses) in jobs {
            let targets =
                addresses.iter().map(|address| format!("'{address}'")).collect::<Vec<_>>().join(", ");
            writeln!(yaml, "- {{ job_name: {job}, static_configs: [{{ targets: [{targets}] }}] }}").unwrap();
        }
        if let Some(rules) = rules {
            writeln!(yaml, "rule_files: ['{}']", rules.display()).unwrap();
        }
        std::fs::write(&file, yaml).unwrap();
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--enable-feature=exemplar-storage"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        let address = field(&log.wait(0, &["msg=\"Listening on\""]), "address").parse().unwrap();
        log.wait(0, &["Server is ready to receive web requests"]);
        Self { child, address, _log: log, _folder: folder }
    }

    /// The JSON of a path of its API.
    pub(crate) fn api(&self, path: &str, query: &str) -> Value {
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        get(self.address, &format!("/api/v1/{path}{query}")).json()
    }

    /// The series of an instant query; the message of an error.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let response = self.api("query?query=", expression);
        match response["data"]["result"].as_array() {
            Some(series) => Ok(series.clone()),
            None => Err(response.to_string()),
        }
    }

    /// Waits until the query has a result, and returns it.
    pub(crate) fn await_series(&self, expression: &str) -> Vec<Value> {
        eventually(&format!("a result of {expression}"), || {
            self.query(expression).ok().filter(|series| !series.is_empty())
        })
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
