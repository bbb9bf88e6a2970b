//! What an operator writes for `jwt`, and what is wrong with it.

use super::key_source::{KeySource, Remote};
use super::keys::{Demands, Keys};
use super::{Forward, Jwt};
use crate::common::request_selector::Part;
use http::{HeaderName, header};
use indexmap::IndexMap;
use jsonwebtoken::Algorithm;
use moongate_config::{Period, Placed, Problem, Problems, Settings};
use moongate_sdk::is_same_spelling;
use schemars::JsonSchema;
use serde::Deserialize;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The largest file of keys.
const LARGEST_FILE: u64 = 1 << 20;
/// The claim that says when a token expires (RFC 7519 §4.1.4).
const EXP: &str = "exp";
/// The shortest time between two fetches of a set.
const SHORTEST_REFRESH: Duration = Duration::from_secs(10);

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    /// The secret of HS256, HS384 or HS512, at least 32, 48 or 64 bytes. One of `secret`, `key_file`,
    /// `jwks_file` and `jwks_url` is written.
    secret: Option<Placed<String>>,
    /// A file with a public key in PEM: RSA, P-256, P-384 or Ed25519.
    key_file: Option<Placed<String>>,
    /// A file with a set of keys (RFC 7517).
    jwks_file: Option<Placed<String>>,
    /// An http:// or https:// URL of a set of keys. It is fetched beside the requests; the last good set is kept.
    jwks_url: Option<Placed<String>>,
    /// How often the set is fetched again, at least 10s. A token with an unknown key id asks earlier, every
    /// 10 seconds at most. Default: 10m.
    refresh: Option<Placed<Period>>,
    /// The algorithms that may be used: HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256,
    /// ES384, EdDSA. Default: those that follow from the key.
    #[serde(default)]
    algorithms: Vec<Placed<String>>,
    /// Where the token is, the first that is there counts: bearer (the field Authorization), header:NAME,
    /// cookie:NAME or query:NAME. Default: bearer.
    #[serde(default)]
    token_from: Vec<Placed<String>>,
    /// Who must have issued it: a name or several. Default: anybody.
    #[serde(default)]
    issuer: Names,
    /// For whom it must be meant: a name or several. Default: anybody.
    #[serde(default)]
    audience: Names,
    /// How far the clocks may differ. `0s`: not at all. Default: 30s.
    leeway: Option<Period>,
    /// Claims that must be there, besides exp.
    #[serde(default)]
    required_claims: Vec<Placed<String>>,
    /// Whether a token must say when it expires (exp). One that says so is held to it in any case. Default: true.
    #[serde(default = "yes")]
    require_exp: bool,
    /// Fields of the request to the backend and the claims that they say, as in `X-User: sub`; a claim within a
    /// claim is written with dots. What a client sends in such a field is removed.
    #[serde(default)]
    claims_to_headers: IndexMap<String, Placed<String>>,
    /// Whether the token goes on to the backend. A cookie or a query parameter always does. Default: true.
    #[serde(default = "yes")]
    forward: bool,
    /// Whether a request without a token passes. One with a bad token does not. Default: false.
    #[serde(default)]
    optional: bool,
    /// The realm that the challenge names (RFC 9110 §11.5). Default: none.
    realm: Option<Placed<String>>,
    /// How often the token of a living WebSocket is checked again, at least 1s; one that has expired meanwhile closes it
    /// with 1008. Default: never.
    recheck: Option<Placed<Period>>,
}

const fn yes() -> bool {
    true
}

/// A name or several.
#[derive(Deserialize, JsonSchema)]
#[serde(rename = "$shape a name or a list of names")]
#[schemars(untagged, rename = "JwtNames")]
enum Names {
    #[serde(rename = "scalar")]
    One(String),
    #[serde(rename = "list")]
    Many(Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Names {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name],
            Self::Many(names) => names,
        }
    }
}

pub(super) fn read(settings: &Settings) -> Result<Jwt, Problems> {
    let mut written: Written = settings.read()?;
    let mut problems = Problems::default();
    let mut keep = |problem: Problem| problems.push(problem);
    let algorithms = algorithms(&written.algorithms, &mut keep);
    let from = sources(&written.token_from, &mut keep);
    let claims = claims(&written.claims_to_headers, &from, &mut keep);
    let realm = written.realm.as_ref().map_or("", |realm| realm.value.as_str());
    if let Some(realm) = written.realm.as_ref().filter(|realm| !quotable(realm)) {
        keep(
            Problem::new("`realm` cannot be quoted")
                .at(&realm.place)
                .help("write letters, digits and spaces"),
        );
    }
    for (what, period, least) in [
        ("refresh", &written.refresh, SHORTEST_REFRESH),
        ("recheck", &written.recheck, Duration::from_secs(1)),
    ] {
        if let Some(period) = period.as_ref().filter(|period| period.0 < least) {
            keep(Problem::new(format!("`{what}` is at least {}s", least.as_secs())).at(&period.place));
        }
    }
    let mut required: Vec<_> = written.required_claims.iter().map(|claim| claim.value.clone()).collect();
    match written.required_claims.iter().find(|claim| claim.value == EXP) {
        Some(exp) if !written.require_exp => {
            let problem = Problem::new("`exp` is required here, and is not by `require_exp`");
            keep(problem.at(&exp.place).help("leave one of the two out"));
        }
        None if written.require_exp => required.push(EXP.to_owned()),
        _ => {}
    }
    let demands = Demands {
        algorithms,
        issuers: std::mem::take(&mut written.issuer).into_vec(),
        audiences: std::mem::take(&mut written.audience).into_vec(),
        required,
        leeway: written.leeway.map_or(Duration::from_secs(30), |leeway| leeway.0),
    };
    let challenge = if realm.is_empty() { "Bearer".to_owned() } else { format!("Bearer realm=\"{realm}\"") };
    let source = if problems.refuse() { None } else { problems.keep(source(settings, &written, &demands)) };
    match source {
        Some(source) if !problems.refuse() => Ok(Jwt {
            source,
            demands,
            from,
            claims,
            challenge,
            forward: if written.forward { Forward::Token } else { Forward::Nothing },
            optional: written.optional,
            recheck: written.recheck.map(|recheck| recheck.0),
        }),
        _ => Err(problems),
    }
}

fn algorithms(written: &[Placed<String>], keep: &mut impl FnMut(Problem)) -> Vec<Algorithm> {
    const KNOWN: [&str; 12] = [
        "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
        "EdDSA",
    ];
    let mut read = Vec::with_capacity(written.len());
    for name in written {
        match Algorithm::from_str(name) {
            Ok(algorithm) => read.push(algorithm),
            Err(_) if name.eq_ignore_ascii_case("none") => {
                keep(Problem::new("a token without a signature proves nothing").at(&name.place));
            }
            Err(_) => {
                let problem = Problem::new(format!("unknown algorithm `{}`", name.value)).at(&name.place);
                keep(problem.suggest(name, KNOWN).help(format!("known: {}", KNOWN.join(", "))));
            }
        }
    }
    read
}

fn sources(written: &[Placed<String>], keep: &mut impl FnMut(Problem)) -> Vec<super::From> {
    if written.is_empty() {
        return vec![super::From::Bearer];
    }
    let mut read = Vec::with_capacity(written.len());
    for name in written {
        let help = "known: bearer, header:NAME, cookie:NAME, query:NAME";
        match Part::parse(name) {
            _ if name.value == "bearer" => read.push(super::From::Bearer),
            Ok(Part::ClientIp) => {
                keep(Problem::new("an address is no token").at(&name.place).help(help));
            }
            Ok(Part::Header(header::AUTHORIZATION)) => {
                keep(
                    Problem::new("Authorization says more than a token").at(&name.place).help("write bearer"),
                );
            }
            Ok(part) => read.push(super::From::Part(part)),
            Err(mut problem) => {
                problem.help = vec![help.to_owned()];
                keep(problem);
            }
        }
    }
    read
}

fn claims(
    written: &IndexMap<String, Placed<String>>,
    from: &[super::From],
    keep: &mut impl FnMut(Problem),
) -> Vec<(HeaderName, Box<str>)> {
    let carries_token = |field: &HeaderName| {
        from.iter().any(|from| match from {
            super::From::Bearer => *field == header::AUTHORIZATION,
            super::From::Part(Part::Header(name)) => is_same_spelling(name.as_str(), field.as_str()),
            super::From::Part(Part::Cookie(_)) => *field == header::COOKIE,
            super::From::Part(_) => false,
        })
    };
    let mut read: Vec<(HeaderName, Box<str>)> = Vec::with_capacity(written.len());
    for (name, claim) in written {
        match crate::headers::field(name) {
            Ok(field) if read.iter().any(|(known, _)| is_same_spelling(known.as_str(), field.as_str())) => {
                keep(Problem::new(format!("`{name}` is written twice")).at(&claim.place));
            }
            Ok(field) if carries_token(&field) => {
                let problem = Problem::new(format!("`{name}` carries the token")).at(&claim.place);
                keep(problem.help("write the claim into another field"));
            }
            Ok(field) => read.push((field, claim.value.as_str().into())),
            Err(problem) => keep(problem.at(&claim.place)),
        }
    }
    read
}

/// RFC 9110 §5.6.4, without what would need escapes.
fn quotable(text: &str) -> bool {
    text.bytes().all(|byte| (byte == b' ' || byte.is_ascii_graphic()) && byte != b'"' && byte != b'\\')
}

fn source(settings: &Settings, written: &Written, demands: &Demands) -> Result<KeySource, Problems> {
    let given = [&written.secret, &written.key_file, &written.jwks_file, &written.jwks_url];
    let mut all = given.iter().filter_map(|one| one.as_ref());
    let help = "write one of `secret`, `key_file`, `jwks_file` and `jwks_url`";
    let Some(first) = all.next() else {
        return Err(Problem::new("`jwt` has no key").at(settings.place()).help(help).into());
    };
    if let Some(second) = all.next() {
        return Err(Problem::new("`jwt` takes its keys from one place").at(&second.place).help(help).into());
    }
    let bad = |why: String| Problems::from(Problem::new(why).at(&first.place));
    if let Some(secret) = &written.secret {
        return Keys::secret(secret.as_bytes(), demands).map(KeySource::Given).map_err(bad);
    }
    if let Some(path) = &written.key_file {
        let file = settings.file(path, LARGEST_FILE)?;
        return Keys::pem(&file.bytes, demands).map(KeySource::Given).map_err(bad);
    }
    if let Some(path) = &written.jwks_file {
        let file = settings.file(path, LARGEST_FILE)?;
        let keys = Keys::set(&file.bytes, false, demands).map_err(bad)?;
        for key in keys.left_out() {
            log::warn!(file = path.as_str(), key = key.as_str(); "a key of a set is left out");
        }
        return Ok(KeySource::Given(keys));
    }
    crate::common::url::check(first)?;
    let refresh = written.refresh.as_ref().map_or(Duration::from_secs(600), |refresh| refresh.0);
    Ok(KeySource::Fetched(Arc::new(Remote::new(first.value.clone(), refresh, demands.clone()))))
}
