//! Rate limit on requests and WebSocket messages per client. The counts are local to this process.

mod buckets;

use crate::common::request_selector::{Key, Part};
use buckets::{BucketOutcome, Buckets};
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, StatusCode};
use moongate_config::{Kind, Placed, Problem, Problems, Rate, Settings};
use moongate_sdk::{
    Exchange, Flow, HashedKey, Message, MessageVerdict, Phases, Plugin, Response, keyed_hash, nanoseconds,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::borrow::Cow;
use std::time::Instant;

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
    begun: Instant,
    requests: Option<Buckets>,
    messages: Option<(Buckets, ExceedAction)>,
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
    key: Option<u64>,
    /// For the fields of the response.
    #[serde(skip)]
    taken: Option<BucketOutcome>,
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
    let mut buckets = |rate: Rate, burst: Option<&Placed<u32>>| {
        let burst = within("burst", burst, rate.count().get(), u32::MAX);
        (Buckets::new(rate, burst, most), burst)
    };
    let requests = written.rate.map(|rate| buckets(rate, written.burst.as_ref()));
    let messages = written
        .messages
        .as_ref()
        .map(|messages| (buckets(messages.rate, messages.burst.as_ref()).0, messages.on_exceed));
    let quota_headers =
        requests.as_ref().filter(|_| written.headers).map(|of| RateLimitHeaders::new(settings.name(), of));
    let (Some(key), false) = (key, problems.refuse()) else { return Err(problems) };
    Ok(Box::new(RateLimit {
        key,
        begun: Instant::now(),
        requests: requests.map(|(buckets, _)| buckets),
        messages,
        quota_headers,
    }))
}

impl RateLimitHeaders {
    fn new(name: &str, (buckets, burst): &(Buckets, u32)) -> Self {
        let plain = |c: &char| (c.is_ascii_graphic() || *c == ' ') && !matches!(c, '"' | '\\');
        let name: String = name.chars().filter(plain).collect();
        let window = buckets.depth().div_ceil(SECOND);
        let policy = format!("\"{name}\";q={burst};w={window}");
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
            ..Phases::default()
        }
    }

    fn counts(&self) -> Vec<serde_json::Value> {
        let now = self.now();
        let parts = |of: &'static str, buckets: Option<&Buckets>| {
            let debts = buckets.map_or_else(Vec::new, |buckets| buckets.debts(now));
            debts.chunks(KEYS_OF_A_PART).map(|debts| json!({ of: debts })).collect::<Vec<_>>()
        };
        let messages = self.messages.as_ref().map(|(buckets, _)| buckets);
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
        let now = self.now();
        if let Some(buckets) = &self.requests {
            requests.into_iter().for_each(|(key, debt)| buckets.charge(key, debt, now));
        }
        if let Some((buckets, _)) = &self.messages {
            messages.into_iter().for_each(|(key, debt)| buckets.charge(key, debt, now));
        }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let key = self.hash(exchange);
        let Some(buckets) = &self.requests else {
            exchange.movable_state::<RateLimitState>().key = Some(key);
            return Flow::Continue;
        };
        let taken = buckets.take(key, self.now());
        if self.quota_headers.is_some() || self.messages.is_some() {
            *exchange.movable_state::<RateLimitState>() =
                RateLimitState { key: Some(key), taken: Some(taken) };
        }
        match taken {
            BucketOutcome::Yes { .. } => Flow::Continue,
            BucketOutcome::No { wait, .. } => exchange
                .refuse(StatusCode::TOO_MANY_REQUESTS, "rate_limited")
                .header(RETRY_AFTER, HeaderValue::from(wait.div_ceil(SECOND)))
                .into(),
        }
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
            BucketOutcome::Yes { left, full } => (left, full),
            BucketOutcome::No { full, .. } => (0, full),
        };
        let now = format!("\"{}\";r={left};t={}", quota_headers.name, full.div_ceil(SECOND));
        if let Ok(now) = HeaderValue::try_from(now) {
            response.headers.append(&RATE_LIMIT, now);
            response.headers.append(&POLICY, quota_headers.policy.clone());
        }
        Flow::Continue
    }

    fn message(&self, exchange: &mut Exchange<'_>, _: &mut Message) -> MessageVerdict {
        let Some((buckets, exceed)) = &self.messages else { return MessageVerdict::Forward };
        let key = match exchange.movable_state::<RateLimitState>().key {
            Some(key) => key,
            None => self.hash(exchange),
        };
        match (buckets.take(key, self.now()), exceed) {
            (BucketOutcome::Yes { .. }, _) => MessageVerdict::Forward,
            (BucketOutcome::No { .. }, ExceedAction::Drop) => MessageVerdict::Drop,
            (BucketOutcome::No { .. }, ExceedAction::Close) => {
                MessageVerdict::Close { code: 1008, reason: Cow::Borrowed("too many messages") }
            }
        }
    }
}

impl RateLimit {
    fn now(&self) -> u64 {
        nanoseconds(self.begun.elapsed())
    }

    /// The key's hash; a value never collides with an address.
    fn hash(&self, exchange: &mut Exchange<'_>) -> u64 {
        let by_value = match &self.key {
            Key::Part(Part::ClientIp) => None,
            Key::Part(part) => part.read(exchange).map(|value| keyed_hash(HashedKey::Value(&value))),
            Key::Computed(expression) => {
                let value = expression.text(exchange).filter(|value| !value.is_empty());
                value.map(|value| keyed_hash(HashedKey::Value(value.as_bytes())))
            }
        };
        by_value.unwrap_or_else(|| keyed_hash(HashedKey::Client(exchange.request.client_network)))
    }
}

#[cfg(test)]
mod tests;
