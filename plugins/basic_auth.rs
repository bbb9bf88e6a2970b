//! HTTP Basic authentication (RFC 7617).
//!
//! Password hashes are deliberately slow, 50 ms and more each. They are computed on separate threads (`hash_pool`),
//! never on a worker, and a verified name and password are cached (`password_cache`). An unknown name costs as much
//! as a wrong password, so that the time does not reveal which names exist.

mod hash;
mod hash_pool;
mod password_cache;

use crate::headers;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hash::Hash;
use hash_pool::HashPool;
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use indexmap::IndexMap;
use moongate_config::{Kind, Placed, Problem, Problems, Settings};
use moongate_sdk::{Exchange, Flow, Phases, Plugin, Reply, Verdict};
use password_cache::PasswordCache;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "basic_auth",
    about: "Requires a user name and a password",
    schema: <BasicAuthSettings as JsonSchema>::json_schema,
    build,
};

/// The largest password file, in bytes.
const LARGEST_FILE: u64 = 16 << 20;

/// The longest password that is hashed, in bytes: the time of some hashes grows with the length.
const LONGEST_PASSWORD: usize = 512;

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BasicAuthSettings {
    /// Accepts these users: names with password hashes, as `htpasswd -nB NAME` prints them. Default none.
    #[serde(default)]
    users: IndexMap<String, Placed<String>>,
    /// Accepts the users in this `htpasswd` file, of at most 16 MiB. It is read with the configuration and at each
    /// reload. It can be combined with `users`. Default none.
    file: Option<Placed<String>>,
    /// Sends this realm in the challenge. Default restricted.
    realm: Option<Placed<String>>,
    /// Removes `Authorization` from the forwarded request. Default false.
    #[serde(default)]
    remove_header: bool,
    /// Sends the user name to the backend in this field. Values from clients are removed. Default none.
    user_header: Option<Placed<String>>,
}

struct BasicAuth {
    users: HashMap<Box<str>, Arc<Hash>>,
    /// The hash for unknown names: the slowest one.
    decoy: Arc<Hash>,
    known: PasswordCache,
    challenge: HeaderValue,
    remove_header: bool,
    user_header: Option<HeaderName>,
}

/// The client's credentials.
struct Credentials {
    user: String,
    password: Vec<u8>,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: BasicAuthSettings = settings.read()?;
    let mut problems = Problems::default();
    let mut users = HashMap::new();
    for (name, text) in &written.users {
        let read = user(name, text, &mut users).map_err(|problem| problem.at(&text.place));
        problems.keep(read.map_err(Problems::from));
    }
    if let Some(file) = &written.file {
        problems.keep(lines(settings, file, &mut users));
    }
    let challenge = problems.keep(challenge(written.realm.as_ref()).map_err(Problems::from));
    let user_header = written.user_header.as_ref().and_then(|name| {
        problems.keep(headers::field(name).map_err(|problem| problem.at(&name.place).into()))
    });
    if let (Some(AUTHORIZATION), Some(name)) = (&user_header, &written.user_header) {
        problems.push(
            Problem::new("`user_header` cannot be `Authorization`, which has the password").at(&name.place),
        );
    }
    let decoy = users.values().max_by_key(|hash| hash.cost()).cloned();
    match (decoy, challenge) {
        (Some(decoy), Some(challenge)) if !problems.refuse() => {
            let known = PasswordCache::new().map_err(|problem| problem.at(settings.place()))?;
            let remove_header = written.remove_header;
            Ok(Box::new(BasicAuth { users, decoy, known, challenge, remove_header, user_header }))
        }
        (None, _) if !problems.refuse() => {
            let problem = match &written.file {
                Some(file) => Problem::new(format!("`{}` has no users", file.value)).at(&file.place),
                None => Problem::new("no users are configured").at(settings.place()),
            };
            Err(problem
                .help("write `users: { NAME: HASH }` or `file:`; `htpasswd -nB NAME` prints both")
                .into())
        }
        _ => Err(problems),
    }
}

fn user(name: &str, hash: &str, users: &mut HashMap<Box<str>, Arc<Hash>>) -> Result<(), Problem> {
    if name.is_empty() || name.contains(|c: char| c == ':' || c.is_control()) {
        return Err(Problem::new(format!("`{}` is not a user name", name.escape_debug()))
            .help("a name is not empty and has no `:` (RFC 7617 §2)"));
    }
    let hash = Arc::new(Hash::parse(hash)?);
    match users.insert(name.into(), hash) {
        None => Ok(()),
        Some(_) => Err(Problem::new(format!("duplicate user `{name}`")).label("remove one")),
    }
}

/// The lines of an htpasswd file.
fn lines(
    settings: &Settings,
    file: &Placed<String>,
    users: &mut HashMap<Box<str>, Arc<Hash>>,
) -> Result<(), Problems> {
    let source = settings.file(file, LARGEST_FILE)?;
    let Ok(text) = str::from_utf8(&source.bytes) else {
        return Err(Problem::new(format!("`{}` is not UTF-8", file.value)).at(&file.place).into());
    };
    let mut problems = Problems::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let read = match line.split_once(':') {
            // To other readers of htpasswd files, the part after a second colon is a comment.
            Some((name, rest)) => user(name, rest.split(':').next().unwrap_or_default(), users),
            None => Err(Problem::new("missing `:`")),
        };
        if let Err(mut problem) = read {
            problem.message = format!("line {} of `{}`: {}", number + 1, file.value, problem.message);
            problems.push(problem.at(&file.place));
        }
    }
    if problems.refuse() { Err(problems) } else { Ok(()) }
}

fn challenge(realm: Option<&Placed<String>>) -> Result<HeaderValue, Problem> {
    let text = realm.map_or("restricted", |realm| realm.as_str());
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    let value = HeaderValue::try_from(format!("Basic realm=\"{escaped}\", charset=\"UTF-8\""));
    value.map_err(|_| {
        let problem = Problem::new("a realm cannot contain a control character");
        realm.map_or(problem.clone(), |realm| problem.at(&realm.place))
    })
}

/// Name and password of the only Authorization field (RFC 7617 §2).
fn credentials(exchange: &Exchange<'_>) -> Option<Credentials> {
    let mut all = exchange.credentials(&AUTHORIZATION);
    let text = all.next().filter(|_| all.next().is_none())?.to_str().ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    let password = decoded[colon + 1..].to_vec();
    let fits = password.len() <= LONGEST_PASSWORD && !user.contains(char::is_control);
    fits.then_some(Credentials { user, password })
}

impl BasicAuth {
    /// Verifies in the hash pool.
    async fn verify(
        &self,
        exchange: &mut Exchange<'_>,
        hash: Arc<Hash>,
        is_user: bool,
        credentials: Credentials,
    ) -> Verdict {
        let Credentials { user, password } = credentials;
        let password: Arc<[u8]> = password.into();
        let (theirs, submitted) = (password.clone(), hash.clone());
        let Some(result) = HashPool::submit(move || submitted.is_of(&theirs)) else {
            let reply = exchange.refuse(StatusCode::SERVICE_UNAVAILABLE, "too_many_logins");
            return reply.header(RETRY_AFTER, HeaderValue::from_static("1")).into();
        };
        // Without a result the thread panicked: the request is rejected.
        if !result.await.unwrap_or(false) || !is_user {
            return self.refuse(exchange).into();
        }
        self.known.learn(&user, &hash, &password);
        self.admit(exchange, &user);
        Verdict::Continue
    }

    fn admit(&self, exchange: &mut Exchange<'_>, user: &str) {
        exchange.note("user", user);
        if self.remove_header {
            exchange.headers.remove(&AUTHORIZATION);
        }
        if let Some(name) = &self.user_header
            && let Ok(value) = HeaderValue::from_bytes(user.as_bytes())
        {
            exchange.headers.set(name, value);
        }
    }

    fn refuse(&self, exchange: &mut Exchange<'_>) -> Reply {
        let reply = exchange.refuse(StatusCode::UNAUTHORIZED, "password_required");
        reply.header(WWW_AUTHENTICATE, self.challenge.clone())
    }
}

impl Plugin for BasicAuth {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, waits: true, ..Phases::default() }
    }

    fn owned_headers(&self) -> Vec<HeaderName> {
        self.user_header.iter().cloned().collect()
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let Some(credentials) = credentials(exchange) else { return self.refuse(exchange).into() };
        let user = self.users.get(credentials.user.as_str());
        let hash = user.unwrap_or(&self.decoy).clone();
        let is_user = user.is_some();
        if is_user && self.known.has(&credentials.user, &hash, &credentials.password) {
            self.admit(exchange, &credentials.user);
            return Flow::Continue;
        }
        if hash.cost() > 0 {
            return Flow::wait(self.verify(exchange, hash, is_user, credentials));
        }
        if !(hash.is_of(&credentials.password) & is_user) {
            return self.refuse(exchange).into();
        }
        self.admit(exchange, &credentials.user);
        Flow::Continue
    }
}

#[cfg(test)]
mod tests;
