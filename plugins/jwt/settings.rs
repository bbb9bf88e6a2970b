//! Settings of `jwt`.

use super::key_source::{JwksSource, RemoteJwks};
use super::keys::{Keys, TokenRequirements};
use super::{Forward, Jwt};
use crate::common::request_selector::Part;
use http::{HeaderName, header};
use indexmap::IndexMap;
use jsonwebtoken::Algorithm;
use moongate_config::{Period, Placed, Problem, Problems, Settings, off_if_zero};
use moongate_sdk::is_same_spelling;
use schemars::JsonSchema;
use serde::Deserialize;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The largest key file.
const LARGEST_FILE: u64 = 1 << 20;
/// The expiration claim (RFC 7519 §4.1.4).
const EXP: &str = "exp";
/// The shortest time between two fetches of a set.
const SHORTEST_REFRESH: Duration = Duration::from_secs(10);

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JwtSettings {
    /// Verifies HS256, HS384 or HS512 with this secret of at least 32, 48 or 64 bytes. Write it as `${NAME}`.
    /// Default none.
    secret: Option<Placed<String>>,
    /// Verifies with the PEM public key in this file: RSA of at least 2048 bits, P-256, P-384 or Ed25519. Default
    /// none.
    key_file: Option<Placed<String>>,
    /// Verifies with the key set (RFC 7517) in this file, of at most 1 MiB. An unusable key is skipped with a
    /// warning. Default none.
    jwks_file: Option<Placed<String>>,
    /// Verifies with the key set at this `http://` or `https://` URL. The system's CAs verify the server. At most 5
    /// redirects to the same origin are followed. Default none.
    jwks_url: Option<Placed<String>>,
    /// Fetches the set at `jwks_url` again this often. At least 10s. Default 10m.
    refresh: Option<Placed<Period>>,
    /// Accepts only these: HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA.
    /// Default those of the key.
    #[serde(default)]
    algorithms: Vec<Placed<String>>,
    /// Reads the token from the first of these that is present: `bearer` (Authorization), `header:NAME`,
    /// `cookie:NAME`, `query:NAME`. Default bearer.
    #[serde(default)]
    token_from: Vec<Placed<String>>,
    /// Accepts only this issuer (`iss`), or one of a list. Default any.
    #[serde(default)]
    issuer: Names,
    /// Accepts only tokens for this audience (`aud`), or one of a list. Default any.
    #[serde(default)]
    audience: Names,
    /// Tolerates this much clock difference for `exp` and `nbf`. `0s`: none. Default 30s.
    leeway: Option<Period>,
    /// Rejects tokens without these claims. A list. Default none.
    #[serde(default)]
    required_claims: Vec<Placed<String>>,
    /// Rejects tokens without `exp`. An `exp` that is present is always checked. Default true.
    #[serde(default = "yes")]
    require_exp: bool,
    /// Forwards claims as request fields: a mapping of field names to claims. `a.b` is `b` within `a`; a list
    /// becomes comma-separated. Values from clients are removed. Default none.
    #[serde(default)]
    claims_to_headers: IndexMap<String, Placed<String>>,
    /// Forwards the token. `false` removes its header field; a cookie or a parameter stays. Default true.
    #[serde(default = "yes")]
    forward: bool,
    /// Accepts requests without a token. An invalid token is still rejected. Default false.
    #[serde(default)]
    optional: bool,
    /// Sends this realm in the challenge. Default none.
    realm: Option<Placed<String>>,
    /// Verifies the token again during a WebSocket, and closes it (1008) when the token has expired or its key is
    /// gone. At least 1s; `0s`: off. Default off.
    #[serde(default, deserialize_with = "off_if_zero")]
    recheck: Option<Placed<Period>>,
}

const fn yes() -> bool {
    true
}

/// A name or a list of names.
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
    let mut written: JwtSettings = settings.read()?;
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
            keep(Problem::new(format!("`{what}` must be at least {}s", least.as_secs())).at(&period.place));
        }
    }
    let mut required: Vec<_> = written.required_claims.iter().map(|claim| claim.value.clone()).collect();
    match written.required_claims.iter().find(|claim| claim.value == EXP) {
        Some(exp) if !written.require_exp => {
            let problem = Problem::new("`exp` is required here, but `require_exp` is false");
            keep(problem.at(&exp.place).help("remove one of the two"));
        }
        None if written.require_exp => required.push(EXP.to_owned()),
        _ => {}
    }
    let requirements = TokenRequirements {
        algorithms,
        issuers: std::mem::take(&mut written.issuer).into_vec(),
        audiences: std::mem::take(&mut written.audience).into_vec(),
        required,
        leeway: written.leeway.map_or(Duration::from_secs(30), |leeway| leeway.0),
    };
    let challenge = if realm.is_empty() { "Bearer".to_owned() } else { format!("Bearer realm=\"{realm}\"") };
    let source =
        if problems.refuse() { None } else { problems.keep(source(settings, &written, &requirements)) };
    match source {
        Some(source) if !problems.refuse() => Ok(Jwt {
            source,
            requirements,
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
                keep(Problem::new("unsigned tokens cannot be verified").at(&name.place));
            }
            Err(_) => {
                let problem = Problem::new(format!("unknown algorithm `{}`", name.value)).at(&name.place);
                keep(problem.suggest(name, KNOWN).help(format!("known: {}", KNOWN.join(", "))));
            }
        }
    }
    read
}

fn sources(written: &[Placed<String>], keep: &mut impl FnMut(Problem)) -> Vec<super::TokenLocation> {
    if written.is_empty() {
        return vec![super::TokenLocation::Bearer];
    }
    let mut read = Vec::with_capacity(written.len());
    for name in written {
        let help = "known: bearer, header:NAME, cookie:NAME, query:NAME";
        match Part::parse(name) {
            _ if name.value == "bearer" => read.push(super::TokenLocation::Bearer),
            Ok(Part::ClientIp) => {
                keep(Problem::new("a client address is not a token").at(&name.place).help(help));
            }
            Ok(Part::Header(header::AUTHORIZATION)) => {
                keep(
                    Problem::new("`header:Authorization` includes the scheme")
                        .at(&name.place)
                        .help("write bearer"),
                );
            }
            Ok(part) => read.push(super::TokenLocation::Part(part)),
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
    from: &[super::TokenLocation],
    keep: &mut impl FnMut(Problem),
) -> Vec<(HeaderName, Box<str>)> {
    let carries_token = |field: &HeaderName| {
        from.iter().any(|from| match from {
            super::TokenLocation::Bearer => *field == header::AUTHORIZATION,
            super::TokenLocation::Part(Part::Header(name)) => is_same_spelling(name.as_str(), field.as_str()),
            super::TokenLocation::Part(Part::Cookie(_)) => *field == header::COOKIE,
            super::TokenLocation::Part(_) => false,
        })
    };
    let mut read: Vec<(HeaderName, Box<str>)> = Vec::with_capacity(written.len());
    for (name, claim) in written {
        match crate::headers::field(name) {
            Ok(field) if read.iter().any(|(known, _)| is_same_spelling(known.as_str(), field.as_str())) => {
                keep(Problem::new(format!("`{name}` is set twice")).at(&claim.place));
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

/// A quoted string (RFC 9110 §5.6.4) without characters that need escapes.
fn quotable(text: &str) -> bool {
    text.bytes().all(|byte| (byte == b' ' || byte.is_ascii_graphic()) && byte != b'"' && byte != b'\\')
}

fn source(
    settings: &Settings,
    written: &JwtSettings,
    requirements: &TokenRequirements,
) -> Result<JwksSource, Problems> {
    let given = [&written.secret, &written.key_file, &written.jwks_file, &written.jwks_url];
    let mut all = given.iter().filter_map(|one| one.as_ref());
    let help = "write one of `secret`, `key_file`, `jwks_file` and `jwks_url`";
    let Some(first) = all.next() else {
        return Err(Problem::new("`jwt` has no key").at(settings.place()).help(help).into());
    };
    if let Some(second) = all.next() {
        return Err(Problem::new("`jwt` needs exactly one key source").at(&second.place).help(help).into());
    }
    let bad = |why: String| Problems::from(Problem::new(why).at(&first.place));
    if let Some(secret) = &written.secret {
        return Keys::secret(secret.as_bytes(), requirements).map(JwksSource::Given).map_err(bad);
    }
    if let Some(path) = &written.key_file {
        let file = settings.file(path, LARGEST_FILE)?;
        return Keys::pem(&file.bytes, requirements).map(JwksSource::Given).map_err(bad);
    }
    if let Some(path) = &written.jwks_file {
        let file = settings.file(path, LARGEST_FILE)?;
        let keys = Keys::set(&file.bytes, false, requirements).map_err(bad)?;
        for key in keys.left_out() {
            log::warn!(file = path.as_str(), key = key.as_str(); "unusable key of a key set skipped");
        }
        return Ok(JwksSource::Given(keys));
    }
    crate::common::outbound_url::check(first)?;
    let refresh = written.refresh.as_ref().map_or(Duration::from_secs(600), |refresh| refresh.0);
    Ok(JwksSource::Fetched(Arc::new(RemoteJwks::new(first.value.clone(), refresh, requirements.clone()))))
}
