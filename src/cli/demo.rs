//! `moongate demo`: the gateway and embedded backends in one process, for a given configuration.

use super::{FAILED, color, exit_code_of, print_error, print_out};
use crate::config;
use crate::demo;
use crate::server::{self, SignalReceiver};
use crate::snapshot::Kinds;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn main(path: &Path, kinds: Kinds, signals: SignalReceiver) -> ExitCode {
    // Its backends end with it, and WebSockets with them.
    if server::refuse_handover("a demo cannot be upgraded: `moongate run` can") {
        return ExitCode::from(FAILED);
    }
    // `server::run` reports an unreadable file, as it does for `moongate run`.
    let Ok(loaded) = config::load(path) else {
        return exit_code_of(server::run(path, kinds, signals, color(), |_| {}));
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_error(&format!("error: the runtime of the demo backends cannot be started: {error}\n"));
            return ExitCode::from(FAILED);
        }
    };
    let addresses = demo::addresses(&loaded.spec);
    let backends = match runtime.block_on(demo::Backends::bind(&addresses)) {
        Ok(backends) => backends,
        Err(error) => {
            print_error(&format!("error: {error}\n"));
            return ExitCode::from(FAILED);
        }
    };
    let backend_addresses = backends.addresses();
    let admin = loaded.spec.admin.as_ref().and_then(|admin| demo::live_page(&admin.address.value));
    let config = path.display().to_string();
    runtime.spawn(backends.with_admin(admin).serve());
    let outcome = server::run(path, kinds, signals, color(), |listeners| {
        let facts = demo::Facts {
            gateway: listeners.first().map_or("", |(_, address)| address),
            admin,
            config: &config,
            pid: std::process::id(),
            backends: &backend_addresses,
        };
        print_out(&demo::banner(&facts));
    });
    runtime.shutdown_background();
    exit_code_of(outcome)
}
