//! Settings of `kind: wasm`, and the plugin built from them.

use crate::engine::{Allocation, LONGEST, POOLED_MEMORY};
use crate::module::CompiledModule;
use crate::module_settings::ModuleSettings;
use crate::plugin::Wasm;
use moongate_config::{Kind, Period, Placed, Problem, Problems, Settings, Size, Value, ValueKind};
use moongate_sdk::Plugin;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The largest module.
const LARGEST: u64 = 64 << 20;

/// The kind `wasm`.
pub const KIND: Kind<dyn Plugin> = Kind {
    name: "wasm",
    about: "Runs a WebAssembly filter",
    schema: <WasmSettings as JsonSchema>::json_schema,
    build,
};

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WasmSettings {
    /// Runs the filter in this file, of at most 64 MiB. Required.
    module: Placed<String>,
    /// Rejects a module with another SHA-256, in hexadecimal. Default none.
    sha256: Option<Placed<String>>,
    /// Passes this plugin configuration to the filter: text as is, a mapping or a list as JSON. Default empty.
    #[serde(rename = "config")]
    #[schemars(rename = "config", with = "Option<serde_json::Value>")]
    _config: Option<IgnoredAny>,
    /// Bounds the filter.
    #[serde(default)]
    limits: WasmLimits,
    /// Grants access beyond the request. Default none.
    #[serde(default)]
    allow: WasmPermissions,
    /// Shares one instance per worker (`worker`), or creates one per request (`request`). Default worker.
    #[serde(default)]
    isolation: Isolation,
    /// Passes WebSocket messages to the module, as a stream filter, in place of requests. Default false.
    #[serde(default)]
    websocket: bool,
    /// Selects a filter by its root ID, for a module with several. Default empty.
    root_id: Option<String>,
    /// Shares the data of `proxy_set_shared_data` with entries of the same ID. Default entries with the same
    /// module.
    vm_id: Option<String>,
}

/// Limits of a filter.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct WasmLimits {
    /// Fails a callback after this much CPU time, 2ms to 1s. Default 10ms.
    cpu: Placed<Period>,
    /// Bounds the memory of an instance, 64KiB to 4GiB, or to 64MiB with `isolation: request`. Default 16MiB.
    memory: Placed<Size>,
    /// Holds back at most this many bytes of a body for the filter. Default 1MiB.
    body: Size,
}

impl Default for WasmLimits {
    fn default() -> Self {
        let place = moongate_config::Place::nowhere();
        Self {
            cpu: Placed { value: Period::millis(10), place: place.clone() },
            memory: Placed { value: Size(16 << 20), place },
            body: Size(1 << 20),
        }
    }
}

/// Access of a filter beyond the request.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct WasmPermissions {
    /// Allows calls to these upstreams, by name. Default none.
    upstreams: Vec<String>,
}

/// The isolation of requests.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Isolation {
    /// The requests of a worker share an instance.
    #[default]
    Worker,
    /// Each request has its own instance.
    Request,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: WasmSettings = settings.read()?;
    let mut problems = Problems::default();
    limits(&written, &mut problems);
    let allocation = match written.isolation {
        Isolation::Worker => Allocation::OnDemand,
        Isolation::Request => Allocation::Pooled,
    };
    let source = settings.file(&written.module, LARGEST)?;
    let at_module = |problem: Problem| Problems::from(problem.at(&written.module.place));
    let program = CompiledModule::load(&source.bytes, written.sha256.as_ref(), allocation).map_err(at_module);
    let Some(program) = problems.keep(program) else { return Err(problems) };
    if problems.refuse() {
        return Err(problems);
    }
    let module_settings = module_settings(settings, written, &program);
    let place = settings.place_of("module");
    let plugin = Wasm::start(program, module_settings).map_err(|problem| problem.at(place))?;
    Ok(Box::new(plugin))
}

fn limits(written: &WasmSettings, problems: &mut Problems) {
    let WasmLimits { cpu, memory, .. } = &written.limits;
    if !(Duration::from_millis(2)..=LONGEST).contains(&cpu.value.0) {
        problems.push(
            Problem::new(format!("`{}` is out of range", cpu.value)).label("from 2ms to 1s").at(&cpu.place),
        );
    }
    let (most, label) = match written.isolation {
        Isolation::Worker => (4 << 30, "from 64KiB to 4GiB"),
        Isolation::Request => (POOLED_MEMORY as u64, "from 64KiB to 64MiB, for instances of single requests"),
    };
    if !(64 << 10..=most).contains(&memory.value.0) {
        let problem = Problem::new(format!("`{}` is out of range", memory.value)).label(label);
        problems.push(problem.at(&memory.place));
    }
}

fn module_settings(
    settings: &Settings,
    written: WasmSettings,
    program: &Arc<CompiledModule>,
) -> ModuleSettings {
    let stem = Path::new(&written.module.value).file_stem().and_then(|stem| stem.to_str()).unwrap_or("wasm");
    // A custom entry name identifies its metrics and log lines.
    let name = if matches!(settings.name(), "" | "wasm") { stem } else { settings.name() };
    ModuleSettings {
        name: name.into(),
        root_id: written.root_id.unwrap_or_default().into(),
        vm_id: written.vm_id.unwrap_or_else(|| program.hash().to_string()).into(),
        config: settings.value.get("config").map(bytes).unwrap_or_default().into(),
        cpu: written.limits.cpu.value.0,
        memory: usize::try_from(written.limits.memory.value.0).unwrap_or(usize::MAX),
        body: usize::try_from(written.limits.body.0).unwrap_or(usize::MAX),
        upstreams: written.allow.upstreams.into_iter().collect(),
        per_request: matches!(written.isolation, Isolation::Request),
        websocket: written.websocket,
    }
}

/// A configuration in the form for the filter.
fn bytes(config: &Value) -> Vec<u8> {
    match &config.kind {
        ValueKind::Null => Vec::new(),
        ValueKind::Scalar { text, .. } => text.clone().into_bytes(),
        // Keys are text and numbers finite, so this cannot fail.
        ValueKind::List(_) | ValueKind::Map(_) => serde_json::to_vec(config).unwrap_or_default(),
    }
}
