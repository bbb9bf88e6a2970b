//! Sticky sessions by a signed cookie: for Socket.IO, SockJS and sessions in memory.
//!
//! Without a cookie, with a forged one, or with one of an unavailable endpoint, the fallback selects and the
//! response sets a new cookie. Of several cookies with the name, one that names an endpoint is used.

use super::cookie::{self, CookieScope, CookieShape, CookieTag, SameSite, Secret};
use super::{BALANCE, Balance, Candidates, Group, Member};
use crate::runtime::shared_secrets::SharedSecrets;
use crate::upstream::endpoint::{Endpoint, Token};
use crate::upstream::hash_key::KeySource;
use crate::upstream::session_drain::DrainMoment;
use foldhash::fast::RandomState;
use http::HeaderValue;
use moongate_config::{Kind, Period, Place, Placed, Problem, Problems, Settings, Value, ValueKind};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashMap;
use std::iter::repeat;
use std::sync::{Arc, OnceLock};

pub(super) const KIND: Kind<dyn Balance> = Kind {
    name: "sticky",
    about: "Session affinity by a signed cookie",
    schema: |generator| generator.subschema_for::<StickySettings>(),
    build,
};

/// The settings of `sticky`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct StickySettings {
    /// Names the cookie. Default `moongate_` and 8 digits derived from the upstream's name.
    cookie: Option<Placed<String>>,
    /// Signs the cookie. Gateways that serve the same clients need the same secret. Default random per
    /// process.
    secret: Option<Placed<String>>,
    /// Signs the cookie with the secrets of this store, by its name in `stores`, which a command rotates. Not with
    /// `secret`. Default none.
    store: Option<Placed<String>>,
    /// Sets the cookie's `Path` attribute. Default /.
    path: Option<Placed<String>>,
    /// Sets `HttpOnly`, which hides the cookie from scripts. Default true.
    http_only: Option<bool>,
    /// Sets `Secure`, which restricts the cookie to TLS. Default false.
    secure: Option<bool>,
    /// Sets `SameSite`: `strict`, `lax` or `none`. `none` needs `secure`. Default not sent.
    same_site: Option<Placed<SameSite>>,
    /// Sets `Max-Age` in whole seconds, at least 1s. Default until the browser closes.
    max_age: Option<Placed<Period>>,
    /// Chooses an endpoint for clients without a valid cookie: the name of another kind. Default
    /// least_connections.
    fallback: Option<Placed<String>>,
}

fn build(settings: &Settings) -> Result<Box<dyn Balance>, Problems> {
    let read: StickySettings = settings.read()?;
    let mut problems = Problems::default();
    let fallback = problems.keep(fallback(settings.place(), read.fallback.as_ref()));
    let secret = problems.keep(secret(read.secret.as_ref()));
    if let (Some(_), Some(store)) = (&read.secret, &read.store) {
        let problem = Problem::new("`sticky` has `secret` or `store`, not both").at(&store.place);
        problems.push(problem.help("remove one of them"));
    }
    let shape = shape(&read, &mut problems);
    match (fallback, secret) {
        (Some(fallback), Some(secret)) if !problems.refuse() => Ok(Box::new(Sticky {
            shape,
            secrets: CookieSecrets { fixed: secret, store: read.store.clone(), shared: Arc::default() },
            unsigned: (read.secret.is_none() && read.store.is_none()).then(|| settings.place().clone()),
            fallback,
            name: Box::default(),
            upstream: Box::default(),
            tags: Arc::default(),
            indices: HashMap::default(),
        })),
        _ => Err(problems),
    }
}

fn shape(read: &StickySettings, problems: &mut Problems) -> CookieShape {
    if let Some(name) = &read.cookie {
        cookie::check_name(name, problems);
    }
    if let Some(path) = &read.path {
        cookie::check_path(path, problems);
    }
    let secure = read.secure.unwrap_or(false);
    let written_path = read.path.as_ref().map_or("/", |path| path.value.as_str());
    if let Some(name) = &read.cookie {
        cookie::check_prefix(name, secure, written_path, problems);
    }
    if let Some(short) = read.max_age.as_ref().filter(|age| age.0.as_secs() == 0) {
        let problem = Problem::new("`max_age` must be at least 1s");
        problems.push(
            problem.help("omit it for a cookie that lasts until the browser is closed").at(&short.place),
        );
    }
    if let Some(same_site) = &read.same_site
        && same_site.value == SameSite::None
        && !secure
    {
        let problem = Problem::new("`same_site: none` needs `secure: true`");
        problems.push(problem.help("browsers reject the cookie otherwise").at(&same_site.place));
    }
    CookieShape {
        name: read.cookie.as_ref().map(|name| name.value.as_str().into()),
        path: written_path.into(),
        http_only: read.http_only.unwrap_or(true),
        secure,
        same_site: read.same_site.as_ref().map(|same_site| same_site.value),
        max_age: read.max_age.as_ref().map(|age| age.value),
    }
}

fn secret(written: Option<&Placed<String>>) -> Result<Secret, Problems> {
    let Some(text) = written else {
        return Secret::of_this_process()
            .ok_or_else(|| Problem::new("the system has no random numbers for a secret").into());
    };
    if text.is_empty() {
        let problem = Problem::new("the secret is empty").help("omit `secret` for a random one");
        return Err(problem.at(&text.place).into());
    }
    Secret::new(text.as_bytes()).ok_or_else(|| Problem::new("invalid secret").at(&text.place).into())
}

fn fallback(place: &Place, written: Option<&Placed<String>>) -> Result<Box<dyn Balance>, Problems> {
    let name = written.map_or("least_connections", |written| written.value.as_str());
    let place = written.map_or(place, |written| &written.place);
    let kind = Kind::find(BALANCE, "balance kind", name).map_err(|problem| problem.at(place))?;
    let empty = Settings::new(Value { place: place.clone(), kind: ValueKind::Map(Vec::new()) });
    let built = (kind.build)(&empty)?;
    if built.key() != KeySource::Nothing {
        let problem = Problem::new(format!("`{name}` cannot be a fallback"));
        return Err(problem.help("a fallback must not depend on the request").at(place).into());
    }
    Ok(built)
}

/// What signs the cookies.
#[derive(Clone)]
struct CookieSecrets {
    /// The configured secret, or that of this process.
    fixed: Secret,
    /// The store whose secrets are used instead.
    store: Option<Placed<String>>,
    shared: Arc<OnceLock<Arc<SharedSecrets>>>,
}

impl CookieSecrets {
    /// Changes with the secrets.
    fn epoch(&self) -> u64 {
        self.shared.get().map_or(0, |shared| shared.epoch())
    }

    /// The secrets that are accepted; the first one signs.
    fn all(&self) -> Vec<Secret> {
        let Some(shared) = self.shared.get() else { return vec![self.fixed.clone()] };
        let set = shared.current();
        let signing = set.signing();
        let others = set.accepted().filter(|secret| secret.version != signing.version);
        let all = [signing].into_iter().chain(others);
        all.filter_map(|secret| Secret::new(&*secret.derive("sticky cookie"))).collect()
    }
}

struct Sticky {
    shape: CookieShape,
    secrets: CookieSecrets,
    /// The place of settings without a secret.
    unsigned: Option<Place>,
    fallback: Box<dyn Balance>,
    /// The cookie's name.
    name: Box<str>,
    upstream: Box<str>,
    /// Kept over changes of the membership.
    tags: Arc<RwLock<Tags>>,
    /// The members by the token of their endpoint.
    indices: HashMap<Token, u32, RandomState>,
}

/// The tags of the members, and of some former ones: each takes a signature.
#[derive(Default)]
struct Tags {
    /// Changes with the secrets.
    epoch: u64,
    /// The secrets; the first one signs.
    secrets: Vec<Secret>,
    endpoints: HashMap<CookieTag, TagOwner, RandomState>,
    /// The endpoints with tags.
    tagged: HashMap<Token, TaggedEndpoint, RandomState>,
}

/// What the tags of an endpoint are made of.
struct TaggedEndpoint {
    address: Box<str>,
    uid: Option<Box<str>>,
}

#[derive(Clone, Copy)]
struct TagOwner {
    endpoint: Token,
    /// Whether the secret that signs now has made it.
    is_current: bool,
}

impl Tags {
    /// Gives an endpoint a tag of each secret.
    fn tag(&mut self, upstream: &str, endpoint: Token, address: &str, uid: Option<&str>) {
        for (secret, is_current) in self.secrets.iter().zip([true].into_iter().chain(repeat(false))) {
            // Of two endpoints that an identity has had, the tag is that of the present one.
            self.endpoints.insert(secret.tag(upstream, address, uid), TagOwner { endpoint, is_current });
        }
    }

    /// Gives all endpoints tags of the present secrets.
    fn renew(&mut self, secrets: &CookieSecrets, upstream: &str) {
        // Read before the secrets: a change in between renews them once more.
        self.epoch = secrets.epoch();
        self.secrets = secrets.all();
        self.endpoints.clear();
        let tagged = std::mem::take(&mut self.tagged);
        for (endpoint, TaggedEndpoint { address, uid }) in &tagged {
            self.tag(upstream, *endpoint, address, uid.as_deref());
        }
        self.tagged = tagged;
    }
}

impl Sticky {
    /// The tags, of the present secrets.
    fn tags(&self) -> RwLockReadGuard<'_, Tags> {
        let epoch = self.secrets.epoch();
        let tags = self.tags.read();
        if tags.epoch == epoch {
            return tags;
        }
        drop(tags);
        let mut tags = self.tags.write();
        if tags.epoch != epoch {
            tags.renew(&self.secrets, &self.upstream);
        }
        RwLockWriteGuard::downgrade(tags)
    }

    /// Gives each new member its tag, and forgets former ones when they are as many as the members.
    fn tag_members(&self, group: &Group<'_>, indices: &HashMap<Token, u32, RandomState>) {
        let mut tags = self.tags.write();
        if tags.secrets.is_empty() {
            tags.renew(&self.secrets, group.upstream);
        }
        for endpoint in group.members.iter().map(Member::endpoint) {
            let (token, uid) = (endpoint.token(), endpoint.uid());
            let tagged = TaggedEndpoint { address: endpoint.name().into(), uid: uid.map(Into::into) };
            if tags.tagged.insert(token, tagged).is_none() {
                tags.tag(group.upstream, token, endpoint.name(), uid);
            }
        }
        if tags.tagged.len() > 2 * indices.len() {
            tags.tagged.retain(|token, _| indices.contains_key(token));
            tags.endpoints.retain(|_, owner| indices.contains_key(&owner.endpoint));
        }
    }
}

impl Balance for Sticky {
    fn arrange(&self, group: &Group<'_>) -> Box<dyn Balance> {
        let tokens = group.members.iter().map(|member| member.endpoint().token());
        let indices = tokens.zip(0..).collect();
        self.tag_members(group, &indices);
        Box::new(Self {
            shape: self.shape.clone(),
            secrets: self.secrets.clone(),
            unsigned: self.unsigned.clone(),
            fallback: self.fallback.arrange(group),
            name: self.shape.scope(group.upstream).name,
            upstream: group.upstream.into(),
            tags: Arc::clone(&self.tags),
            indices,
        })
    }

    // A lookup instead of a constant-time comparison: a guessed tag selects a backend and nothing else.
    fn choose(&self, candidates: &Candidates<'_>, key: &[u8]) -> Option<usize> {
        self.owner_of(candidates, key).or_else(|| self.fallback.choose(candidates, key))
    }

    fn owner_of(&self, candidates: &Candidates<'_>, key: &[u8]) -> Option<usize> {
        self.member_of(key).filter(|index| candidates.contains(*index))
    }

    fn drain_moment(&self, key: &[u8]) -> Option<DrainMoment> {
        self.member_of(key)?;
        let (_, session) = cookie::split(key);
        // A cookie without a session was set by an older version.
        Some(session.map_or(DrainMoment::LAST, DrainMoment::of))
    }

    fn key(&self) -> KeySource {
        // Only for requests without a cookie whose fallback ignores the key.
        KeySource::ClientIp
    }

    fn cookie(&self, upstream: &str) -> Option<CookieScope> {
        Some(self.shape.scope(upstream))
    }

    fn member_of(&self, value: &[u8]) -> Option<usize> {
        let tag = CookieTag::read(cookie::split(value).0)?;
        let owner = self.tags().endpoints.get(&tag).copied()?;
        self.indices.get(&owner.endpoint).map(|index| *index as usize)
    }

    fn set_cookie(&self, endpoint: &Endpoint, presented: &[u8]) -> Option<(HeaderValue, DrainMoment)> {
        self.indices.get(&endpoint.token())?;
        let (tag, session) = cookie::split(presented);
        let tags = self.tags();
        let owner = CookieTag::read(tag).and_then(|tag| tags.endpoints.get(&tag)).copied();
        let owner = owner.filter(|owner| owner.endpoint == endpoint.token());
        if owner.is_some_and(|owner| owner.is_current) {
            return None;
        }
        let tag = tags.secrets.first()?.tag(&self.upstream, endpoint.name(), endpoint.uid());
        drop(tags);
        // A cookie that an earlier secret has signed is replaced; its session stays.
        let session = session.filter(|_| owner.is_some()).and_then(cookie::read_session);
        let session = session.unwrap_or_else(cookie::new_session);
        let line = self.shape.line(&self.name, &tag, session)?;
        Some((line, DrainMoment::of(&session)))
    }

    fn secret_store(&self) -> Option<&Placed<String>> {
        self.secrets.store.as_ref()
    }

    fn use_secrets(&self, secrets: &Arc<SharedSecrets>) {
        // A reload that keeps the upstream has them already.
        let _ = self.secrets.shared.set(Arc::clone(secrets));
    }

    fn orders_by_load(&self) -> bool {
        self.fallback.orders_by_load()
    }

    fn advice(&self) -> Option<Problem> {
        let place = self.unsigned.as_ref()?;
        let problem =
            Problem::warning("`sticky` has no `secret`: a restart moves clients to other endpoints")
                .help("set the same `secret`, or a `store`, on every gateway of these endpoints");
        Some(problem.at(place))
    }
}
