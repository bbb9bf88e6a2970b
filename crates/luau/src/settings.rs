//! What an operator writes behind `kind: luau`, and the plugin that comes of it.

use crate::limits::Limits;
use crate::phase::Phase;
use crate::plugin::Luau;
use crate::script::Script;
use moongate_config::{Kind, Period, Placed, Problem, Problems, Settings, Size};
use moongate_sdk::Plugin;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// The longest script.
const LONGEST: u64 = 1 << 20;

/// Less than this and the state of an empty script does not fit.
const LEAST_MEMORY: u64 = 512 << 10;

/// The kind `luau`.
pub const KIND: Kind<dyn Plugin> = Kind {
    name: "luau",
    about: "Runs a filter written in Luau, a script of functions named after the phases.",
    schema: <Written as JsonSchema>::json_schema,
    build,
};

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// The script's file; a relative path begins at the file it is written in.
    script: Option<Placed<String>>,
    /// The script itself, instead of `script`.
    source: Option<Placed<String>>,
    /// What the script finds in its table `config`.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    config: Option<Placed<serde_json::Value>>,
    /// What one worker's copy of the script may use.
    #[serde(default)]
    limits: WrittenLimits,
    /// How often `request_headers` is asked again about a WebSocket that lives, at least 1s; one that is then answered
    /// is closed with 1008. Default: never.
    recheck: Option<Placed<Period>>,
}

/// What one worker's copy of the script may use.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct WrittenLimits {
    /// The processor time of one call, from 1ms to 10s. A call that takes longer is ended and fails. Default: 20ms.
    cpu: Option<Placed<Period>>,
    /// The memory of the script and all it keeps. A call that needs more fails. Default: 16MiB.
    memory: Option<Placed<Size>>,
    /// The longest body that is shown to it whole, and that `call` takes from an answer. A longer body of
    /// a request is answered with 413. Default: 1MiB.
    body: Option<Placed<Size>>,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: Written = settings.read()?;
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
        return Err(Problem::new(format!("`recheck` asks a function `{name}` that the script lacks"))
            .at(&place)
            .into());
    }
    Ok(Box::new(plugin))
}

fn script(settings: &Settings, written: &Written) -> Result<Script, Problem> {
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
            Err(Problem::new("`script` and `source` are both there").help("keep one").at(&path.place))
        }
        (None, None) => Err(Problem::new("`luau` has no script")
            .help("write `script: plugins/hello.luau`, or the text itself below `source: |`")
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

fn limits(written: &WrittenLimits) -> Result<Limits, Problems> {
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
