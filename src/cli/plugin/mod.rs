//! `moongate plugin`: creates a plugin from a template, and runs a plugin without the gateway.

mod log_capture;
mod offline_services;
mod scaffold;
mod test_input;
mod test_report;
mod test_run;

use super::{FAILED, print_error, print_out};
use crate::snapshot::Kinds;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Create a plugin in a new directory: a Rust crate with its own gateway, a WebAssembly filter or a Luau
    /// script
    New {
        /// Name: letters, digits, `-` and `_`, with a letter first
        name: String,
        /// Create a proxy-wasm filter in Rust
        #[arg(long, conflicts_with = "luau")]
        wasm: bool,
        /// Create a Luau script
        #[arg(long)]
        luau: bool,
    },
    /// Run a plugin without the gateway; print its effect on a request, a response and WebSocket messages
    Test(Box<TestArguments>),
}

#[derive(clap::Args)]
pub(super) struct TestArguments {
    /// Script (.luau) or WebAssembly filter (.wasm)
    #[arg(required_unless_present = "kind", conflicts_with = "kind")]
    file: Option<PathBuf>,
    /// Run a kind of this build instead of a file; its settings are in `--config`
    #[arg(long, value_name = "NAME")]
    kind: Option<String>,
    /// Configuration of the plugin, as JSON
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
    /// Request: a method, and a path or URL
    #[arg(long, value_name = "REQUEST", default_value = "GET /")]
    request: String,
    /// Header field of the request, as `name: value`; may be repeated
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// Body of the request, or `@FILE`
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// Client address
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    client: std::net::IpAddr,
    /// Status of the response
    #[arg(long, value_name = "STATUS", default_value = "200")]
    status: http::StatusCode,
    /// Header field of the response, as `name: value`; may be repeated
    #[arg(long = "response-header", value_name = "FIELD")]
    response_headers: Vec<String>,
    /// Body of the response, or `@FILE`
    #[arg(long, value_name = "TEXT")]
    response_body: Option<String>,
    /// Text message of the client on a WebSocket; may be repeated
    #[arg(long = "message", value_name = "TEXT")]
    messages: Vec<String>,
    /// Text message of the backend, sent after those of the client; may be repeated
    #[arg(long = "backend-message", value_name = "TEXT")]
    backend_messages: Vec<String>,
}

pub(super) fn main(command: &Command, kinds: Kinds) -> ExitCode {
    match command {
        Command::New { name, wasm, luau } => {
            let sort = match (wasm, luau) {
                (true, _) => scaffold::PluginLanguage::Wasm,
                (_, true) => scaffold::PluginLanguage::Luau,
                _ => scaffold::PluginLanguage::Native,
            };
            match scaffold::write(name, sort) {
                Ok(text) => print_out(&text),
                Err(problem) => {
                    print_error(&format!("error: {problem}\n"));
                    ExitCode::from(FAILED)
                }
            }
        }
        Command::Test(arguments) => test_run::main(arguments, kinds),
    }
}
