//! Access control by the client's IP address. The gateway determines that address (`trusted_proxies`).

use crate::common::networks::{NetworkEntry, Networks};
use crate::common::refusal;
use http::StatusCode;
use moongate_config::{Kind, Placed, Problem, Problems, Settings};
use moongate_sdk::{ClientAddress, Exchange, Flow, Phases, Plugin};
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "ip_access",
    about: "Allows and denies clients by address",
    schema: <IpAccessSettings as JsonSchema>::json_schema,
    build,
};

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IpAccessSettings {
    /// Allows these clients and denies all others. Default all.
    #[serde(default)]
    allow: Vec<NetworkEntry>,
    /// Denies these clients, even if `allow` lists them. Default none.
    #[serde(default)]
    deny: Vec<NetworkEntry>,
    /// Replaces both keys by an ordered list of `allow` and `deny`. The first entry that contains the client
    /// decides. A client in none is denied if an entry has `allow`. Default none.
    #[serde(default)]
    rules: Vec<Placed<IpAccessRule>>,
    /// Sets the status of a refusal, 400 to 599. Default 403.
    status: Option<Placed<u16>>,
}

/// An entry of the ordered list, with exactly one of its keys.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IpAccessRule {
    /// Allows these clients.
    allow: Option<Vec<NetworkEntry>>,
    /// Denies these clients.
    deny: Option<Vec<NetworkEntry>>,
}

struct IpAccess {
    rules: Vec<Rule>,
    /// The access of clients in no list.
    others: Access,
    status: StatusCode,
}

struct Rule {
    access: Access,
    networks: Networks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Allow,
    Deny,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: IpAccessSettings = settings.read()?;
    let mut problems = Problems::default();
    let short = [(Access::Deny, &written.deny), (Access::Allow, &written.allow)];
    let short: Vec<_> = short.into_iter().filter(|(_, list)| !list.is_empty()).collect();
    if short.is_empty() == written.rules.is_empty() {
        let problem = match short.is_empty() {
            true => Problem::new("`ip_access` has no list").help("write `allow:`, `deny:` or `rules:`"),
            false => Problem::new("`rules` cannot be combined with `allow` and `deny`")
                .help("move them into `rules`, in the order in which they decide"),
        };
        return Err(problem.at(settings.place()).into());
    }
    let mut rules = Vec::new();
    for (access, list) in short {
        let networks = problems.keep(Networks::read(settings, list));
        rules.extend(networks.map(|networks| Rule { access, networks }));
    }
    for written in &written.rules {
        rules.extend(problems.keep(rule(settings, written)));
    }
    let status = written.status.as_ref().map(|written| refusal(written).map_err(Problems::from));
    let status = status.map_or(Some(StatusCode::FORBIDDEN), |status| problems.keep(status));
    let Some(status) = status.filter(|_| !problems.refuse()) else { return Err(problems) };
    let others = match rules.iter().any(|rule| rule.access == Access::Allow) {
        true => Access::Deny,
        false => Access::Allow,
    };
    Ok(Box::new(IpAccess { rules, others, status }))
}

fn rule(settings: &Settings, written: &Placed<IpAccessRule>) -> Result<Rule, Problems> {
    let (access, list) = match (&written.allow, &written.deny) {
        (Some(list), None) => (Access::Allow, list),
        (None, Some(list)) => (Access::Deny, list),
        _ => {
            let problem = Problem::new("a rule needs exactly one of `allow` and `deny`").at(&written.place);
            return Err(problem.help("write `- allow: [10.0.0.0/8]` and `- deny: [all]`").into());
        }
    };
    Ok(Rule { access, networks: Networks::read(settings, list)? })
}

impl IpAccess {
    /// An unknown client address could be any: every deny list denies it.
    fn access(&self, client: ClientAddress<'_>) -> Access {
        let first = self.rules.iter().find(|rule| match client {
            ClientAddress::Ip(address) => rule.networks.contain(address),
            ClientAddress::Unreadable(_) => rule.access == Access::Deny,
        });
        first.map_or(self.others, |rule| rule.access)
    }
}

impl Plugin for IpAccess {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, ..Phases::default() }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        match self.access(exchange.request.client) {
            Access::Allow => Flow::Continue,
            Access::Deny => exchange.refuse(self.status, "address_denied").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_sdk::Verdict;
    use moongate_sdk::testing::{TestExchange, settings};
    use serde_json::{Value, json};

    fn plugin(written: Value) -> Result<Box<dyn Plugin>, Problems> {
        build(&settings(written))
    }

    /// Which of these clients are allowed.
    fn admitted(written: Value, clients: &[&str]) -> Vec<bool> {
        let plugin = plugin(written).unwrap();
        let enters = |client: &&str| {
            let mut visit = TestExchange::new("/");
            visit.client = client.parse().unwrap();
            matches!(visit.request_headers(&*plugin), Verdict::Continue)
        };
        clients.iter().map(enters).collect()
    }

    #[test]
    fn only_allowed_and_not_denied_clients_pass() {
        let clients = ["10.0.0.1", "10.9.0.1", "192.0.2.1"];
        assert_eq!(admitted(json!({ "allow": ["10.0.0.0/8"] }), &clients), [true, true, false]);
        assert_eq!(admitted(json!({ "deny": ["10.0.0.0/8"] }), &clients), [false, false, true]);
        let both = json!({ "allow": ["10.0.0.0/8"], "deny": ["10.9.0.0/16"] });
        assert_eq!(admitted(both, &clients), [true, false, false]);
    }

    #[test]
    fn the_first_rule_that_contains_the_client_decides() {
        let clients = ["10.0.0.1", "10.9.0.1", "192.0.2.1", "::1"];
        let rules = json!({ "rules": [
            { "deny": ["10.0.0.1"] }, { "allow": ["10.0.0.0/8"] }, { "deny": ["all"] },
        ] });
        assert_eq!(admitted(rules, &clients), [false, true, false, false]);
        let rules =
            json!({ "rules": [{ "allow": ["10.0.0.1"] }, { "deny": ["10.0.0.0/8"] }, { "allow": ["all"] }] });
        assert_eq!(admitted(rules, &clients), [true, false, true, true]);
        let rules = json!({ "rules": [{ "deny": ["10.0.0.0/8"] }] });
        assert_eq!(admitted(rules, &clients), [false, false, true, true]);
    }

    #[test]
    fn a_refusal_is_403_or_the_configured_status() {
        let refused = |written| TestExchange::new("/").expect_reply(&*plugin(written).unwrap()).status;
        assert_eq!(refused(json!({ "deny": ["all"] })), 403);
        assert_eq!(refused(json!({ "deny": ["all"], "status": 404 })), 404);
    }

    #[test]
    fn ambiguous_lists_are_refused() {
        for bad in [
            json!({}),
            json!({ "allow": [] }),
            json!({ "allow": ["all"], "rules": [{ "deny": ["all"] }] }),
            json!({ "rules": [{}] }),
            json!({ "rules": [{ "allow": ["all"], "deny": ["all"] }] }),
            json!({ "deny": ["all"], "status": 99 }),
            json!({ "deny": ["all"], "status": 200 }),
            json!({ "deny": ["all"], "status": 302 }),
            json!({ "deny": ["10.0.0.0/99"] }),
        ] {
            assert!(plugin(bad.clone()).is_err(), "{bad}");
        }
    }
}
