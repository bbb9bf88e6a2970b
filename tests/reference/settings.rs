//! The settings of the JSON Schema, grouped as the tables of the reference are.

use super::table::{Cell, Row};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Settings that every plugin entry has. One table describes them.
const OF_EVERY_PLUGIN: [&str; 5] = ["kind", "name", "on_error", "when", "owned_headers"];

/// Definitions without a table: those of kinds, which the schema also has as entries, and `rules` of `ip_access`, whose two
/// keys the row of `rules` explains.
const WITHOUT_TABLE: [&str; 13] = [
    "DnsSettings",
    "EtcdSettings",
    "EtcdSourceSettings",
    "FileSettings",
    "GrpcSettings",
    "HashSettings",
    "HttpSettings",
    "IpAccessRule",
    "RedisSettings",
    "SrvSettings",
    "StickySettings",
    "TcpSettings",
    "WebSocketSettings",
];

/// A setting as the code describes it.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) key: String,
    /// The description without the default.
    pub(crate) effect: String,
    /// `required`, or the words after `Default`; empty if the description names none.
    pub(crate) default: String,
}

/// The groups of settings by the names in the markers.
pub(crate) struct Settings {
    groups: BTreeMap<String, Vec<Setting>>,
    kinds: BTreeMap<String, BTreeMap<String, String>>,
}

impl Settings {
    /// Those of `moongate schema`.
    pub(crate) fn of_the_binary() -> Self {
        let output = Command::new(env!("CARGO_BIN_EXE_moongate")).arg("schema").output().unwrap();
        let schema: Value = serde_json::from_slice(&output.stdout).expect("`moongate schema` prints JSON");
        let mut all = Self { groups: BTreeMap::new(), kinds: BTreeMap::new() };
        all.add("root", &schema["properties"], |_| true);
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            if !WITHOUT_TABLE.contains(&name.as_str()) {
                all.add(name, &definition["properties"], |_| true);
            }
        }
        all.add_plugins(&schema["$defs"]["PluginEntry"]["oneOf"]);
        for (kind, properties) in all.add_kinds("stores", &schema["$defs"]["StoreEntry"]["oneOf"]) {
            all.add(&format!("stores.{kind}"), &properties, |key| key != "kind");
        }
        for (kind, properties) in all.add_kinds("sources", &schema["$defs"]["SourceEntry"]["oneOf"]) {
            all.add(&format!("sources.{kind}"), &properties, |key| key != "kind");
        }
        for setting in ["balance", "health_check", "discovery"] {
            let entry = &schema["$defs"]["Upstream"]["properties"][setting]["anyOf"][0]["oneOf"];
            all.add_upstream_kinds(setting, entry);
        }
        all
    }

    /// The settings of one table.
    pub(crate) fn named(&self, name: &str) -> Vec<&Setting> {
        self.groups.get(name).into_iter().flatten().collect()
    }

    /// Every group.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.groups.keys().cloned().collect()
    }

    /// The kinds of `plugins`, `balance`, `health_check` or `discovery`, with their descriptions.
    pub(crate) fn kinds(&self, setting: &str) -> BTreeMap<String, String> {
        self.kinds[setting].clone()
    }

    fn add(&mut self, group: &str, properties: &Value, wanted: impl Fn(&str) -> bool) {
        let Some(properties) = properties.as_object() else { return };
        let settings: Vec<_> = properties
            .iter()
            .filter(|(key, _)| wanted(key))
            .map(|(key, value)| Setting::of(key, value))
            .collect();
        if !settings.is_empty() {
            self.groups.insert(group.to_owned(), settings);
        }
    }

    /// Each kind's own settings, and once those of every entry.
    fn add_plugins(&mut self, forms: &Value) {
        for (kind, properties) in self.add_kinds("plugins", forms) {
            self.add("plugins", &properties, |key| OF_EVERY_PLUGIN.contains(&key));
            self.add(&format!("plugins.{kind}"), &properties, |key| !OF_EVERY_PLUGIN.contains(&key));
        }
        // The description of `kind` is that of the chosen kind.
        for setting in
            self.groups.get_mut("plugins").into_iter().flatten().filter(|setting| setting.key == "kind")
        {
            setting.effect = "Selects the plugin.".to_owned();
            setting.default = "required".to_owned();
        }
    }

    /// Each kind's settings; those that all probes share are one group, and their further settings another.
    fn add_upstream_kinds(&mut self, setting: &str, forms: &Value) {
        let kinds = self.add_kinds(setting, forms);
        let with = |key: &str| kinds.iter().filter(|(_, properties)| properties.get(key).is_some()).count();
        let mut further = Map::new();
        for (kind, properties) in &kinds {
            if setting != "health_check" {
                self.add(&format!("{setting}.{kind}"), properties, |key| key != "kind");
                continue;
            }
            self.add(setting, properties, |key| key != "kind" && with(key) == kinds.len());
            let own = properties.as_object().unwrap().iter().filter(|(key, _)| with(key) < kinds.len());
            for (key, value) in own {
                further.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        self.add(&format!("{setting}.further"), &Value::Object(further), |_| true);
    }

    /// Adds the kinds of an entry, and returns each with its properties.
    fn add_kinds(&mut self, setting: &str, forms: &Value) -> Vec<(String, Value)> {
        let forms = forms.as_array().unwrap();
        let names = forms.iter().filter_map(|form| {
            Some((form["const"].as_str()?.to_owned(), form["description"].as_str()?.to_owned()))
        });
        self.kinds.insert(setting.to_owned(), names.collect());
        forms
            .iter()
            .filter_map(|form| Some((form["title"].as_str()?.to_owned(), form["properties"].clone())))
            .collect()
    }
}

impl Setting {
    fn of(key: &str, property: &Value) -> Self {
        let about = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        let (effect, default) = match about.rsplit_once("Default ") {
            Some((effect, default)) => (effect, default.strip_suffix('.').unwrap_or(default)),
            None => match about.strip_suffix("Required.") {
                Some(effect) => (effect, "required"),
                None => (about.as_str(), ""),
            },
        };
        Self { key: key.to_owned(), effect: effect.trim().to_owned(), default: default.to_owned() }
    }

    /// Its row in a table of keys.
    pub(crate) fn row(&self) -> Row {
        let cells = vec![Cell::Words(self.effect.clone()), Cell::Value(self.default.clone())];
        Row { key: self.key.clone(), cells }
    }
}
