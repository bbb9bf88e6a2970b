//! `moongate check`: reads and compiles a configuration without applying it.

use super::{BAD_CONFIG, color, print_error, print_out};
use crate::config;
use crate::control;
use crate::proxy::{self, ExplainRequest};
use crate::snapshot::Kinds;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

/// The request of `--explain`.
pub(super) struct ExplainArguments {
    /// Method and URL.
    pub(super) explain: Vec<String>,
    pub(super) headers: Vec<String>,
    pub(super) listener: Option<String>,
    pub(super) client: IpAddr,
}

pub(super) fn main(path: &Path, kinds: Kinds, print: bool, arguments: Option<&ExplainArguments>) -> ExitCode {
    let (snapshot, loaded, warnings) = match control::check(path, kinds, color()) {
        Ok(checked) => checked,
        Err(refusal) => {
            print_error(&refusal.report);
            return ExitCode::from(BAD_CONFIG);
        }
    };
    if let Some(warnings) = warnings {
        print_error(&warnings);
    }
    if let Some(arguments) = arguments {
        let [method, url] = arguments.explain.as_slice() else {
            print_error("error: `--explain` needs a method and a URL\n");
            return ExitCode::from(2);
        };
        let asked = ExplainRequest {
            method,
            url,
            headers: arguments.headers.iter().map(String::as_str).collect(),
            listener: arguments.listener.as_deref(),
            client: arguments.client,
        };
        return match proxy::explain(&snapshot, &asked) {
            Ok(explained) => print_out(&explained.to_string()),
            Err(error) => {
                print_error(&format!("error: {error}\n"));
                ExitCode::from(2)
            }
        };
    }
    if print {
        return print_out(&config::print(&loaded.spec));
    }
    let routes = snapshot.routes();
    let upstreams = snapshot.clusters().count();
    let (routes, upstreams) = (count(routes, "route"), count(upstreams, "upstream"));
    print_out(&format!("{}: valid ({routes}, {upstreams})\n", path.display()))
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
