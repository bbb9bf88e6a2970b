//! Every key of the configuration changes by a reload while clients send requests and echo over WebSockets, and a
//! client sees the effect. The list of keys is the schema that the binary prints, so a key without a case fails.

// Only Linux treats every address of 127.0.0.0/8 as local, and has threads in /proc.
#![cfg(target_os = "linux")]

mod access_log;
mod acme;
mod admin;
mod balance;
mod client_limits;
mod discovered_keys;
mod discovered_names;
mod health_checks;
mod listener_tls;
mod listeners;
mod loaded_gateway;
mod log;
mod plugin_kinds;
mod plugins;
mod rebalance;
mod route_matches;
mod routes;
mod schema_keys;
mod server;
mod shared_checks;
mod sources;
mod sticky;
#[cfg(feature = "redis")]
mod stores;
mod tracing;
mod upstream_connections;
mod upstreams;
mod websocket_limits;
mod websocket_loss;
mod websocket_timers;

use loaded_gateway::LoadedGateway;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One change by a reload: its keys, as paths of names, and the check of its effect.
pub(crate) struct Case {
    keys: &'static [&'static str],
    check: fn(&LoadedGateway),
}

const fn case(keys: &'static [&'static str], check: fn(&LoadedGateway)) -> Case {
    Case { keys, check }
}

/// Runs these cases one after the other on one process under load.
fn run(cases: &[Case]) {
    let gateway = LoadedGateway::start();
    let mut failed = Vec::new();
    for case in cases {
        // A later case reloads the whole file, so it depends on no earlier one.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            (case.check)(&gateway);
            gateway.await_load();
        }));
        if outcome.is_err() {
            failed.push(case.keys.join(", "));
        }
    }
    let failures = gateway.stop_load();
    assert!(failed.is_empty(), "no effect of {failed:#?}");
    assert_eq!(failures, [""; 0], "failures of the load");
}

#[test]
fn every_key_has_a_case_and_every_case_has_a_key() {
    let cases: Vec<_> = SECTIONS.iter().flat_map(|cases| *cases).flat_map(|case| case.keys).collect();
    let covered: BTreeSet<_> = cases.iter().map(|key| (**key).to_owned()).collect();
    let keys = schema_keys::all();
    let without_case: Vec<_> = keys.difference(&covered).collect();
    let unknown: Vec<_> = covered.difference(&keys).collect();
    assert!(without_case.is_empty(), "keys without a case: {without_case:#?}");
    assert!(unknown.is_empty(), "cases without a key: {unknown:#?}");
    assert_eq!(cases.len(), covered.len(), "a key has two cases");
}

macro_rules! sections {
    ($($(#[$condition:meta])? $name:ident => $section:ident),+ $(,)?) => {
        const SECTIONS: &[&[Case]] = &[$($(#[$condition])? $section::CASES),+];
        $(
            $(#[$condition])?
            #[test]
            fn $name() {
                run($section::CASES);
            }
        )+
    };
}

sections! {
    every_key_of_the_access_log_has_its_effect_after_a_reload => access_log,
    every_key_of_acme_has_its_effect_after_a_reload => acme,
    every_key_of_the_admin_address_has_its_effect_after_a_reload => admin,
    every_key_of_load_balancing_has_its_effect_after_a_reload => balance,
    every_limit_for_slow_clients_has_its_effect_after_a_reload => client_limits,
    every_key_of_discovered_names_has_its_effect_after_a_reload => discovered_names,
    every_key_of_discovery_in_etcd_has_its_effect_after_a_reload => discovered_keys,
    every_key_of_health_checks_has_its_effect_after_a_reload => health_checks,
    every_key_of_tls_to_clients_has_its_effect_after_a_reload => listener_tls,
    every_key_of_listeners_has_its_effect_after_a_reload => listeners,
    every_key_of_the_process_log_has_its_effect_after_a_reload => log,
    every_kind_of_plugin_has_its_effect_after_a_reload => plugin_kinds,
    every_key_of_plugin_entries_has_its_effect_after_a_reload => plugins,
    every_condition_of_routes_has_its_effect_after_a_reload => route_matches,
    every_other_key_of_routes_has_its_effect_after_a_reload => routes,
    every_other_key_of_the_server_has_its_effect_after_a_reload => server,
    every_key_of_rebalancing_has_its_effect_after_a_reload => rebalance,
    every_key_of_sources_has_its_effect_after_a_reload => sources,
    every_key_of_sticky_cookies_has_its_effect_after_a_reload => sticky,
    #[cfg(feature = "redis")]
    every_key_of_stores_has_its_effect_after_a_reload => stores,
    every_key_of_tracing_has_its_effect_after_a_reload => tracing,
    every_key_of_connections_to_backends_has_its_effect_after_a_reload => upstream_connections,
    every_other_key_of_upstreams_has_its_effect_after_a_reload => upstreams,
    every_limit_of_websockets_has_its_effect_after_a_reload => websocket_limits,
    every_key_for_lost_backends_has_its_effect_after_a_reload => websocket_loss,
    every_timer_of_websockets_has_its_effect_after_a_reload => websocket_timers,
}
