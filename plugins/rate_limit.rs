//! Rate limit on requests and WebSocket messages per client, local to this process or shared through a store.

use crate::common::request_selector::{Key, Part};
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, StatusCode};
use moongate_config::{Kind, Placed, Problem, Problems, Rate, Settings};
use moongate_sdk::{
    Exchange, Flow, HashedKey, LimitStores, Limiter, Message, MessageVerdict, Phases, Plugin, Response,
    TokenOutcome, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::borrow::Cow;

// draft-ietf-httpapi-ratelimit-headers-10.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const SECOND: u64 = 1_000_000_000;

/// Keys of a part of the counts, of about 35 bytes each.
const KEYS_OF_A_PART: usize = 2500;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "rate_limit",
    about: "Limits requests and messages per client",
    schema: <RateLimitSettings as JsonSchema>::json_schema,
    build,
};

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RateLimitSettings {
    /// Limits requests per key, as `100/s`, `30/m` or `10/h`. A WebSocket handshake is one request. Default off.
    rate: Option<Rate>,
    /// Allows this many requests at once. Needs `rate`. Default the number of `rate`.
    burst: Option<Placed<u32>>,
    /// Identifies clients by `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME`, or `cel:` and an expression.
    /// Requests without the value are counted by client IP. Default client_ip.
    key: Option<Placed<String>>,
    /// Tracks at most this many keys, of about 50 bytes each. Beyond it, the least-loaded key of a sample is
    /// evicted. Default 100000.
    max_keys: Option<Placed<u32>>,
    /// Sends RateLimit and RateLimit-Policy with the remaining quota. Default true.
    #[serde(default = "yes")]
    headers: bool,
    /// Limits messages to the backend, over all WebSockets of a key. Default off.
    messages: Option<Messages>,
    /// Shares the limits with all gateways that use this store, by its name in `stores`. Default none (each process
    /// counts alone).
    store: Option<Placed<String>>,
}

const fn yes() -> bool {
    true
}

/// The limit on messages.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RateLimitMessages")]
struct Messages {
    /// Limits messages per key, as `20/s`. Required.
    rate: Rate,
    /// Allows this many messages at once. Default the number of `rate`.
    burst: Option<Placed<u32>>,
    /// Closes the WebSocket with 1008 (`close`) or drops the message (`drop`). Default close.
    #[serde(default)]
    on_exceed: ExceedAction,
}

/// The treatment of messages beyond the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RateLimitExceed")]
enum ExceedAction {
    /// Closes the WebSocket with 1008.
    #[default]
    Close,
    /// Drops the message.
    Drop,
}

struct RateLimit {
    key: Key,
    requests: Option<Limiter>,
    messages: Option<(Limiter, ExceedAction)>,
    store: Option<Placed<String>>,
    /// The name of the policy in responses, if they have one.
    quota_headers: Option<RateLimitHeaders>,
}

struct RateLimitHeaders {
    /// A string of structured fields (RFC 9651 §3.3.3).
    name: String,
    policy: HeaderValue,
}

/// State of one exchange.
#[derive(Default, Deserialize, Serialize)]
struct RateLimitState {
    /// The key of messages: its lower half, and its upper half, since JSON has no numbers of 128 bits.
    key: Option<u64>,
    #[serde(default)]
    upper: u64,
    /// For the fields of the response.
    #[serde(skip)]
    taken: Option<TokenOutcome>,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: RateLimitSettings = settings.read()?;
    let mut problems = Problems::default();
    if written.rate.is_none() && written.messages.is_none() {
        let problem = Problem::new("`rate_limit` has no rate").at(settings.place());
        problems.push(problem.help("write `rate: 100/s`, or `messages: { rate: 20/s }`"));
    }
    if let (None, Some(burst)) = (written.rate, &written.burst) {
        problems.push(Problem::new("`burst` needs `rate`").at(&burst.place));
    }
    let key = written.key.as_ref().map_or(Ok(Key::Part(Part::ClientIp)), Key::parse);
    let key = problems.keep(key);
    let mut within = |what: &str, written: Option<&Placed<u32>>, default: u32, most: u32| {
        if let Some(number) = written.filter(|number| !(1..=most).contains(&number.value)) {
            problems.push(Problem::new(format!("`{what}` must be 1 to {most}")).at(&number.place));
        }
        written.map_or(default, |number| number.value)
    };
    let most = within("max_keys", written.max_keys.as_ref(), 100_000, 10_000_000) as usize;
    let mut limiter = |rate: Rate, burst: Option<&Placed<u32>>| {
        Limiter::new(rate, within("burst", burst, rate.count().get(), u32::MAX), most)
    };
    let requests = written.rate.map(|rate| limiter(rate, written.burst.as_ref()));
    let messages = written
        .messages
        .as_ref()
        .map(|messages| (limiter(messages.rate, messages.burst.as_ref()), messages.on_exceed));
    let quota_headers =
        requests.as_ref().filter(|_| written.headers).map(|of| RateLimitHeaders::new(settings.name(), of));
    let (Some(key), false) = (key, problems.refuse()) else { return Err(problems) };
    Ok(Box::new(RateLimit { key, requests, messages, store: written.store, quota_headers }))
}

impl RateLimitHeaders {
    fn new(name: &str, limiter: &Limiter) -> Self {
        let plain = |c: &char| (c.is_ascii_graphic() || *c == ' ') && !matches!(c, '"' | '\\');
        let name: String = name.chars().filter(plain).collect();
        let window = limiter.depth().div_ceil(SECOND);
        let policy = format!("\"{name}\";q={};w={window}", limiter.burst());
        // It has only plain characters.
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("\"default\""));
        Self { name, policy }
    }
}

impl Plugin for RateLimit {
    fn phases(&self) -> Phases {
        Phases {
            // Also for messages alone: the key comes from the handshake.
            request_headers: true,
            response_headers: self.quota_headers.is_some(),
            messages_to_backend: self.messages.is_some(),
            waits: self.requests.is_some() && self.store.is_some(),
            ..Phases::default()
        }
    }

    fn use_stores(&mut self, stores: &dyn LimitStores) -> Result<(), Problems> {
        let Some(store) = &self.store else { return Ok(()) };
        let mut problems = Problems::default();
        let messages = self.messages.as_mut().map(|(limiter, _)| (limiter, "messages"));
        for (limiter, name) in
            self.requests.as_mut().map(|limiter| (limiter, "requests")).into_iter().chain(messages)
        {
            if let Err(problem) = limiter.share(stores, &store.value, name) {
                problems.push(problem.at(&store.place));
                break;
            }
        }
        if problems.refuse() { Err(problems) } else { Ok(()) }
    }

    fn counts(&self) -> Vec<serde_json::Value> {
        let parts = |of: &'static str, limiter: Option<&Limiter>| {
            let debts = limiter.map_or_else(Vec::new, Limiter::debts);
            debts.chunks(KEYS_OF_A_PART).map(|debts| json!({ of: debts })).collect::<Vec<_>>()
        };
        let messages = self.messages.as_ref().map(|(limiter, _)| limiter);
        [parts("requests", self.requests.as_ref()), parts("messages", messages)].concat()
    }

    fn restore_counts(&self, counts: serde_json::Value) {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Debts {
            requests: Vec<(u64, u64)>,
            messages: Vec<(u64, u64)>,
        }
        let Debts { requests, messages } = serde_json::from_value(counts).unwrap_or_default();
        if let Some(limiter) = &self.requests {
            requests.into_iter().for_each(|(key, debt)| limiter.charge(key, debt));
        }
        if let Some((limiter, _)) = &self.messages {
            messages.into_iter().for_each(|(key, debt)| limiter.charge(key, debt));
        }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        if let Some((messages, _)) = &self.messages {
            let key = self.key_in(messages, exchange);
            let state = exchange.movable_state::<RateLimitState>();
            (state.key, state.upper) = (Some(key as u64), (key >> 64) as u64);
        }
        let Some(limiter) = &self.requests else { return Flow::Continue };
        let key = self.key_in(limiter, exchange);
        if limiter.is_shared() {
            return Flow::wait(async move {
                let taken = limiter.take(key).await;
                self.verdict(exchange, taken)
            });
        }
        self.verdict(exchange, limiter.try_take(key)).into()
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        response: &'f mut Response<'_>,
    ) -> Flow<'f> {
        let (Some(quota_headers), Some(taken)) =
            (&self.quota_headers, exchange.movable_state::<RateLimitState>().taken)
        else {
            return Flow::Continue;
        };
        let (left, full) = match taken {
            TokenOutcome::Taken { left, full } => (left, full),
            TokenOutcome::Refused { full, .. } => (0, full),
        };
        let now = format!("\"{}\";r={left};t={}", quota_headers.name, full.div_ceil(SECOND));
        if let Ok(now) = HeaderValue::try_from(now) {
            response.headers.append(&RATE_LIMIT, now);
            response.headers.append(&POLICY, quota_headers.policy.clone());
        }
        Flow::Continue
    }

    fn message(&self, exchange: &mut Exchange<'_>, _: &mut Message) -> MessageVerdict {
        let Some((limiter, exceed)) = &self.messages else { return MessageVerdict::Forward };
        let state = exchange.movable_state::<RateLimitState>();
        let key = match state.key {
            Some(key) => u128::from(state.upper) << 64 | u128::from(key),
            None => self.key_in(limiter, exchange),
        };
        match (limiter.try_take(key), exceed) {
            (TokenOutcome::Taken { .. }, _) => MessageVerdict::Forward,
            (TokenOutcome::Refused { .. }, ExceedAction::Drop) => MessageVerdict::Drop,
            (TokenOutcome::Refused { .. }, ExceedAction::Close) => {
                MessageVerdict::Close { code: 1008, reason: Cow::Borrowed("too many messages") }
            }
        }
    }
}

impl RateLimit {
    /// The key of a bucket of `limiter`; a value never has that of an address.
    fn key_in(&self, limiter: &Limiter, exchange: &mut Exchange<'_>) -> u128 {
        let by_value = match &self.key {
            Key::Part(Part::ClientIp) => None,
            Key::Part(part) => part.read(exchange).map(|value| limiter.key(HashedKey::Value(&value))),
            Key::Computed(expression) => {
                let value = expression.text(exchange).filter(|value| !value.is_empty());
                value.map(|value| limiter.key(HashedKey::Value(value.as_bytes())))
            }
        };
        by_value.unwrap_or_else(|| limiter.key(HashedKey::Client(exchange.request.client_network)))
    }

    fn verdict(&self, exchange: &mut Exchange<'_>, taken: TokenOutcome) -> Verdict {
        if self.quota_headers.is_some() {
            exchange.movable_state::<RateLimitState>().taken = Some(taken);
        }
        match taken {
            TokenOutcome::Taken { .. } => Verdict::Continue,
            TokenOutcome::Refused { wait, .. } => exchange
                .refuse(StatusCode::TOO_MANY_REQUESTS, "rate_limited")
                .header(RETRY_AFTER, HeaderValue::from(wait.div_ceil(SECOND)))
                .into(),
        }
    }
}

#[cfg(test)]
mod tests;
