//! `moongate plugin`: begins a plugin, and tries one outside the gateway.

mod log_capture;
mod offline_services;
mod scaffold;
mod test_input;
mod test_report;
mod test_run;

use super::{FAILED, say, say_wrong};
use crate::snapshot::Kinds;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Begin a plugin in a directory of its name: a crate with a gateway of its own, a filter, or a script
    New {
        /// Its name: letters, digits, `-` and `_`, beginning with a letter
        name: String,
        /// A proxy-wasm filter in Rust
        #[arg(long, conflicts_with = "luau")]
        wasm: bool,
        /// A script in Luau
        #[arg(long)]
        luau: bool,
    },
    /// Run a plugin outside the gateway and print what it does to a request, an answer and messages
    Test(Box<Trial>),
}

#[derive(clap::Args)]
pub(super) struct Trial {
    /// A script (.luau) or a filter (.wasm)
    #[arg(required_unless_present = "kind", conflicts_with = "kind")]
    file: Option<PathBuf>,
    /// A kind of this build instead of a file; `--config` has its settings
    #[arg(long, value_name = "NAME")]
    kind: Option<String>,
    /// What it is configured with, as JSON
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
    /// The request: a method, and a path or an URL
    #[arg(long, value_name = "REQUEST", default_value = "GET /")]
    request: String,
    /// A field of the request, as `name: value`
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// The body of the request, or `@` and a file that has it
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    client: std::net::IpAddr,
    /// The status of the answer
    #[arg(long, value_name = "STATUS", default_value = "200")]
    status: http::StatusCode,
    /// A field of the answer, as `name: value`
    #[arg(long = "answer-header", value_name = "FIELD")]
    answer_headers: Vec<String>,
    /// The body of the answer, or `@` and a file that has it
    #[arg(long, value_name = "TEXT")]
    answer_body: Option<String>,
    /// A text message of the client on a WebSocket; more than one is sent in that order
    #[arg(long = "message", value_name = "TEXT")]
    messages: Vec<String>,
    /// A text message of the backend; they come after those of the client
    #[arg(long = "answer-message", value_name = "TEXT")]
    answer_messages: Vec<String>,
}

pub(super) fn main(command: &Command, kinds: Kinds) -> ExitCode {
    match command {
        Command::New { name, wasm, luau } => {
            let sort = match (wasm, luau) {
                (true, _) => scaffold::Sort::Wasm,
                (_, true) => scaffold::Sort::Luau,
                _ => scaffold::Sort::Native,
            };
            match scaffold::write(name, sort) {
                Ok(text) => say(&text),
                Err(problem) => {
                    say_wrong(&format!("error: {problem}\n"));
                    ExitCode::from(FAILED)
                }
            }
        }
        Command::Test(trial) => test_run::main(trial, kinds),
    }
}
