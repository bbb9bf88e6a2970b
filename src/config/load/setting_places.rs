//! Places of each setting, for the help of an error about a known setting in the wrong place.

use crate::config::{
    AccessLog, Acme, Admin, Certificate, ClientAuth, Config, Endpoint, ExternalAccount, KindTable, Listener,
    ListenerTls, PassiveHealth, PerKey, ProcessLog, ProxyProtocol, RateAndGrace, Rebalance, Route,
    SampleRule, Server, SharedMessages, Tracing, Upstream, UpstreamTls, WebSocket,
};
use schemars::{JsonSchema, schema_for};

/// The settings of one mapping, computed only for an error.
struct Mapping {
    /// The key at the top of the file; empty for the file itself.
    section: &'static str,
    name: &'static str,
    settings: fn() -> Vec<String>,
}

const fn mapping<T: JsonSchema>(section: &'static str, name: &'static str) -> Mapping {
    Mapping { section, name, settings: settings::<T> }
}

const MAPPINGS: [Mapping; 24] = [
    mapping::<Config>("", "the file itself"),
    mapping::<Server>("server", "`server`"),
    mapping::<RateAndGrace>("server", "`body_min_rate` and `send_min_rate` of `server`"),
    mapping::<Admin>("admin", "`admin`"),
    mapping::<ProcessLog>("log", "`log`"),
    mapping::<AccessLog>("access_log", "`access_log`"),
    mapping::<SampleRule>("access_log", "`sample` of `access_log`"),
    mapping::<Listener>("listeners", "a listener"),
    mapping::<ListenerTls>("listeners", "`tls` of a listener"),
    mapping::<Certificate>("listeners", "`tls.certificates` of a listener"),
    mapping::<ClientAuth>("listeners", "`tls.client_auth` of a listener"),
    mapping::<Acme>("listeners", "`tls.acme` of a listener"),
    mapping::<ExternalAccount>("listeners", "`tls.acme.external_account` of a listener"),
    mapping::<ProxyProtocol>("listeners", "`proxy_protocol` of a listener"),
    mapping::<Upstream>("upstreams", "an upstream"),
    mapping::<Endpoint>("upstreams", "an endpoint"),
    mapping::<UpstreamTls>("upstreams", "`tls` of an upstream"),
    mapping::<PassiveHealth>("upstreams", "`passive_health` of an upstream"),
    mapping::<Rebalance>("upstreams", "`rebalance` of an upstream"),
    mapping::<Route>("routes", "a route"),
    mapping::<WebSocket>("routes", "`websocket` of a route"),
    mapping::<PerKey>("routes", "`websocket.max_connections_per_client` of a route"),
    mapping::<SharedMessages>("routes", "`websocket.messages_per_second` of a route"),
    mapping::<Tracing>("tracing", "`tracing`"),
];

/// With more places than this the help would be no help.
const MOST: usize = 3;

pub(super) fn settings<T: JsonSchema>() -> Vec<String> {
    let schema = schema_for!(T);
    let properties = schema.get("properties").and_then(|properties| properties.as_object());
    properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect()
}

/// The places of a setting that is unknown at `path`.
pub(super) struct Places<'a> {
    pub(super) setting: &'a str,
    pub(super) path: &'a str,
    /// The known kinds; empty where they are not known.
    pub(super) tables: &'a [KindTable],
}

impl Places<'_> {
    /// Help with the mappings that have the setting, those of balancers and probes included.
    pub(super) fn of_mappings(&self) -> Option<String> {
        self.help(&self.mappings())
    }

    /// The same with plugins: beside other places only for a setting within a route or plugin.
    pub(super) fn of_mappings_and_plugins(&self) -> Option<String> {
        let mut places = self.mappings();
        if places.is_empty() || matches!(self.section(), "routes" | "plugins") {
            places.extend(self.kinds("plugins"));
        }
        self.help(&places)
    }

    fn help(&self, places: &[String]) -> Option<String> {
        match places {
            [] => None,
            places if places.len() > MOST => None,
            places => Some(format!("`{}` is a setting of {}", self.setting, places.join(", or of "))),
        }
    }

    /// The key at the top of the file below which the setting is written.
    fn section(&self) -> &str {
        match self.path.split_once(['.', '[']) {
            Some((section, _)) => section,
            None => "",
        }
    }

    /// Those of the setting's own section if there are any, otherwise all.
    fn mappings(&self) -> Vec<String> {
        let has = |mapping: &&Mapping| (mapping.settings)().iter().any(|known| known == self.setting);
        let mappings: Vec<_> = MAPPINGS.iter().filter(has).collect();
        let is_near = |mapping: &&&Mapping| mapping.section == self.section();
        let only_near = mappings.iter().any(|mapping| is_near(&mapping));
        let mappings = mappings.iter().filter(|mapping| !only_near || is_near(mapping));
        let mut places: Vec<_> = mappings.map(|mapping| mapping.name.to_owned()).collect();
        if places.is_empty() || self.section() == "upstreams" {
            let kinds = ["health_check", "balance"].into_iter().filter_map(|table| self.kinds(table));
            let kinds: Vec<_> = kinds.collect();
            if places.len() + kinds.len() > MOST {
                return kinds;
            }
            places.extend(kinds);
        }
        places
    }

    /// The kinds with the setting, as one place.
    fn kinds(&self, table: &str) -> Option<String> {
        let table = self.tables.iter().find(|known| known.setting() == table)?;
        let kinds = table.kinds_with(self.setting);
        match (table.setting(), &kinds[..]) {
            (_, []) => None,
            ("plugins", [kind]) => Some(format!("the plugin `{kind}`")),
            ("plugins", [one, other]) => Some(format!("the plugins `{one}` and `{other}`")),
            ("plugins", _) => None,
            (setting, [kind]) => Some(format!("`{setting}: {{ kind: {kind}, … }}` of an upstream")),
            (setting, _) => Some(format!("`{setting}` of an upstream")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elsewhere(setting: &str, path: &str) -> Option<String> {
        Places { setting, path, tables: &[] }.of_mappings_and_plugins()
    }

    #[test]
    fn every_mapping_has_settings() {
        for mapping in &MAPPINGS {
            assert!(!(mapping.settings)().is_empty(), "{}", mapping.name);
        }
    }

    #[test]
    fn the_help_names_the_place_of_a_setting() {
        let help_for = |setting| elsewhere(setting, setting).unwrap_or_default();
        assert_eq!(help_for("retries"), "`retries` is a setting of an upstream");
        assert_eq!(help_for("ping_interval"), "`ping_interval` is a setting of `websocket` of a route");
        assert_eq!(
            help_for("keepalive_timeout"),
            "`keepalive_timeout` is a setting of `server`, or of an upstream"
        );
        assert_eq!(elsewhere("no_such_setting", "no_such_setting"), None);
    }

    #[test]
    fn places_in_the_same_section_come_alone() {
        assert_eq!(
            elsewhere("ca", "listeners[0].tls.ca").unwrap_or_default(),
            "`ca` is a setting of `tls.client_auth` of a listener"
        );
        assert_eq!(
            elsewhere("ca", "upstreams.a.ca").unwrap_or_default(),
            "`ca` is a setting of `tls` of an upstream"
        );
    }
}
