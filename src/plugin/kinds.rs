//! The plugin kinds of this build: built-in ones and the hosts of sandboxed ones.
//!
//! A host that is excluded from the build keeps its name, so that its error names the missing feature instead
//! of `unknown plugin`.

#[cfg(not(all(feature = "wasm", feature = "luau")))]
use moongate_config::{Problem, Problems, Settings};

use moongate_config::Kind;
use moongate_sdk::Plugin;

/// The hosts.
const HOSTS: &[Kind<dyn Plugin>] = &[WASM, LUAU];

#[cfg(feature = "wasm")]
const WASM: Kind<dyn Plugin> = moongate_wasm::KIND;

#[cfg(not(feature = "wasm"))]
const WASM: Kind<dyn Plugin> = Kind {
    name: "wasm",
    about: "Runs a WebAssembly filter (not included in this build)",
    schema: |_| schemars::json_schema!({ "type": "object" }),
    build: |settings| missing(settings, "wasm"),
};

#[cfg(feature = "luau")]
const LUAU: Kind<dyn Plugin> = moongate_luau::KIND;

#[cfg(not(feature = "luau"))]
const LUAU: Kind<dyn Plugin> = Kind {
    name: "luau",
    about: "Runs a Luau script (not included in this build)",
    schema: |_| schemars::json_schema!({ "type": "object" }),
    build: |settings| missing(settings, "luau"),
};

const COUNT: usize = moongate_plugins::PLUGINS.len() + HOSTS.len();

/// Every plugin kind of this build.
pub const PLUGINS: &[Kind<dyn Plugin>] = &{
    let mut all = [WASM; COUNT];
    let mut at = 0;
    while at < COUNT {
        let built_in = moongate_plugins::PLUGINS.len();
        all[at] = if at < built_in { moongate_plugins::PLUGINS[at] } else { HOSTS[at - built_in] };
        at += 1;
    }
    all
};

/// The built-in kinds and `own` ones, for [`crate::cli::main`]. Leaked: call it once per process.
pub fn and(own: &[Kind<dyn Plugin>]) -> &'static [Kind<dyn Plugin>] {
    [PLUGINS, own].concat().leak()
}

#[cfg(not(all(feature = "wasm", feature = "luau")))]
fn missing(settings: &Settings, host: &str) -> Result<Box<dyn Plugin>, Problems> {
    Err(Problem::new(format!("this build of moongate has no `{host}`"))
        .help("releases have it; from source: cargo build --release --features full")
        .at(settings.place())
        .into())
}

#[cfg(all(test, not(feature = "wasm")))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_sdk::testing::settings;

    #[test]
    fn an_excluded_host_explains_how_to_get_it() {
        let kind = Kind::find(PLUGINS, "plugin", "wasm").unwrap();
        let problems = (kind.build)(&settings(serde_json::json!({ "module": "x.wasm" }))).err().unwrap();
        assert_eq!(problems.0[0].message, "this build of moongate has no `wasm`");
        assert!(problems.0[0].help[0].ends_with("cargo build --release --features full"));
    }
}
