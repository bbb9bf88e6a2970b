//! Settings of `kind: luau`, and the plugin built from them.

use crate::limits::Limits;
use crate::phase::Phase;
use crate::plugin::Luau;
use crate::script::Script;
use moongate_config::{Kind, Period, Placed, Problem, Problems, Settings, Size, off_if_zero};
use moongate_sdk::Plugin;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// The longest script.
const LONGEST: u64 = 1 << 20;

/// Below this, the VM of an empty script does not fit.
const LEAST_MEMORY: u64 = 512 << 10;

/// The kind `luau`.
pub const KIND: Kind<dyn Plugin> = Kind {
    name: "luau",
    about: "Runs a Luau script",
    schema: <LuauSettings as JsonSchema>::json_schema,
    build,
};

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LuauSettings {
    /// Runs the script in this file, of at most 1 MiB. Default none.
    script: Option<Placed<String>>,
    /// Runs this script. Default none.
    source: Option<Placed<String>>,
    /// Passes this mapping to the script, as its table `config`. Default empty.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    config: Option<Placed<serde_json::Value>>,
    /// Bounds one worker's copy of the script.
    #[serde(default)]
    limits: LuauLimits,
    /// Calls `request_headers` again during a WebSocket, and closes it (1008) if the script responds. At least 1s;
    /// `0s`: off. Default off.
    #[serde(default, deserialize_with = "off_if_zero")]
    recheck: Option<Placed<Period>>,
}

/// Limits of one worker's copy of the script.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct LuauLimits {
    /// Fails a call after this much CPU time, 1ms to 10s. Default 20ms.
    cpu: Option<Placed<Period>>,
    /// Fails a call that needs more memory, 512KiB to 1GiB. Default 16MiB.
    memory: Option<Placed<Size>>,
    /// Rejects (413) longer request bodies that the script would see whole, and bounds response bodies of `call`.
    /// At most `memory`. Default 1MiB.
    body: Option<Placed<Size>>,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: LuauSettings = settings.read()?;
    let mut problems = Problems::default();
    let limits = problems.keep(limits(&written.limits));
    let recheck = problems.keep(recheck(written.recheck.as_ref()));
    let script = problems.keep(script(settings, &written).map_err(Problems::from));
    let config = problems.keep(config(written.config.as_ref()).map_err(Problems::from));
    let (Some(limits), Some(recheck), Some(script), Some(config)) = (limits, recheck, script, config) else {
        return Err(problems);
    };
    let place = written.script.as_ref().or(written.source.as_ref()).map_or(settings.place(), |s| &s.place);
    let plugin = Luau::new(settings.name(), script, config, limits, recheck).map_err(|p| p.at(place))?;
    if plugin.phases_without_request_headers() && recheck.is_some() {
        let place = written.recheck.map_or_else(|| settings.place().clone(), |period| period.place);
        let name = Phase::RequestHeaders.name();
        return Err(Problem::new(format!(
            "`recheck` needs the function `{name}`, which the script does not define"
        ))
        .at(&place)
        .into());
    }
    Ok(Box::new(plugin))
}

fn script(settings: &Settings, written: &LuauSettings) -> Result<Script, Problem> {
    match (&written.script, &written.source) {
        (Some(path), None) => {
            let file = settings.file(path, LONGEST)?;
            let text = std::str::from_utf8(&file.bytes)
                .map_err(|_| Problem::new(format!("`{}` is not UTF-8 text", path.value)).at(&path.place))?;
            Script::compile(path, text).map_err(|problem| problem.at(&path.place))
        }
        (None, Some(source)) => {
            Script::compile("source", source).map_err(|problem| problem.at(&source.place))
        }
        (Some(path), Some(_)) => {
            Err(Problem::new("`script` and `source` are both set").help("keep one").at(&path.place))
        }
        (None, None) => Err(Problem::new("`luau` has no script")
            .help("write `script: plugins/hello.luau`, or the text under `source: |`")
            .at(settings.place())),
    }
}

fn config(written: Option<&Placed<serde_json::Value>>) -> Result<serde_json::Value, Problem> {
    match written {
        None => Ok(serde_json::Value::Object(serde_json::Map::new())),
        Some(config) if config.value.is_object() => Ok(config.value.clone()),
        Some(config) => Err(Problem::new("`config` must be a mapping").at(&config.place)),
    }
}

fn limits(written: &LuauLimits) -> Result<Limits, Problems> {
    let mut problems = Problems::default();
    let time = written.cpu.as_ref().map_or(Duration::from_millis(20), |cpu| cpu.value.0);
    if let Some(cpu) = written.cpu.as_ref().filter(|_| !(1..=10_000).contains(&time.as_millis())) {
        problems.push(Problem::new("`cpu` must be from 1ms to 10s").at(&cpu.place));
    }
    let memory = written.memory.as_ref().map_or(16 << 20, |memory| memory.value.0);
    if let Some(written) = written.memory.as_ref().filter(|_| !(LEAST_MEMORY..=1 << 30).contains(&memory)) {
        problems.push(Problem::new("`memory` must be from 512KiB to 1GiB").at(&written.place));
    }
    let body = written.body.as_ref().map_or(1 << 20, |body| body.value.0);
    if let Some(written) = written.body.as_ref().filter(|_| body > memory) {
        problems.push(
            Problem::new("`body` must not be more than `memory`")
                .help("a body that is shown to the script has to fit into its memory, often twice")
                .at(&written.place),
        );
    }
    if problems.refuse() {
        return Err(problems);
    }
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    Ok(Limits { time, memory: bytes(memory), body: bytes(body) })
}

fn recheck(written: Option<&Placed<Period>>) -> Result<Option<Duration>, Problems> {
    match written {
        Some(period) if period.value.0 < Duration::from_secs(1) => {
            Err(Problem::new("`recheck` must be at least 1s").at(&period.place).into())
        }
        other => Ok(other.map(|period| period.value.0)),
    }
}
