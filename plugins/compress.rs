//! Compresses answers on their way to clients that understand it.
//!
//! Pieces of an answer whose length is not known leave as they come, so that server-sent events and other
//! slow answers pass at once. What is compressed already, or must not be changed, passes as it is.
//!
//! A compressed answer has a weak tag, for it is another form of the same thing (RFC 9110 §8.8.1). A client that names it in
//! `If-None-Match` or `If-Match` means the tag that the backend knows: see `tags`.

mod accept_encoding;
mod encoder;
mod etags;
mod media_types;

use crate::cors::vary;
use accept_encoding::Wishes;
use encoder::{Encoder, Levels};
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use media_types::Media;
use moongate_config::{Kind, Placed, Problem, Problems, Settings, Size};
use moongate_sdk::{Exchange, Fault, Flow, Headers, Phases, Piece, Plugin, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "compress",
    about: "Compresses responses",
    schema: <Written as JsonSchema>::json_schema,
    build,
};

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// Offers these codings, the preferred one first: `zstd`, `br`, `gzip`. Default all, in this order.
    encodings: Option<Vec<Placed<Coding>>>,
    /// Compresses these media types: `text/html`, `text/*`, `application/*+json`, `*/*`. Default text, JSON, XML,
    /// JavaScript, WebAssembly, SVG, uncompressed fonts.
    types: Option<Vec<Placed<String>>>,
    /// Leaves shorter responses uncompressed, where the length is known. Default 1KiB.
    min_size: Option<Size>,
    /// Sets the compression level per coding.
    #[serde(default)]
    levels: WrittenLevels,
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Coding {
    /// RFC 1952.
    Gzip,
    /// Brotli, RFC 7932.
    Br,
    /// Zstandard, RFC 8878.
    Zstd,
}

/// Levels of compression: higher is smaller, and costs more time.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct WrittenLevels {
    /// Sets the level of gzip, 1 to 9. Default 5.
    gzip: Option<Placed<u8>>,
    /// Sets the level of Brotli, 0 to 11. Default 4.
    br: Option<Placed<u8>>,
    /// Sets the level of Zstandard, 1 to 19. Default 3.
    zstd: Option<Placed<u8>>,
}

struct Compress {
    codings: Vec<Coding>,
    types: Media,
    min_size: u64,
    levels: Levels,
    /// Whether a backend has sent weak tags of its own.
    has_seen_weak: AtomicBool,
}

/// The answer's encoder, when it has one.
#[derive(Default)]
struct Work {
    /// The tags of the request that were made strong again.
    restored: Vec<HeaderValue>,
    encoder: Option<Encoder>,
    /// Whether pieces must not wait for each other.
    at_once: bool,
}

impl Coding {
    const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    fn token(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Br => "br",
            Self::Zstd => "zstd",
        }
    }
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: Written = settings.read()?;
    let mut problems = Problems::default();
    let mut codings = Vec::new();
    for coding in written.encodings.iter().flatten() {
        if codings.contains(&coding.value) {
            let problem = Problem::new(format!("`{}` stands twice", coding.token()));
            problems.push(problem.label("leave one out").at(&coding.place));
        }
        codings.push(coding.value);
    }
    match &written.encodings {
        None => codings.extend(Coding::ALL),
        Some(list) if list.is_empty() => {
            let problem = Problem::new("`encodings` is empty").at(settings.place());
            problems.push(problem.help("write `[zstd, br, gzip]`, or leave the plugin out"));
        }
        Some(_) => {}
    }
    let types = match &written.types {
        None => Some(Media::usual()),
        Some(list) => problems.keep(Media::parse(list)),
    };
    let usual = Levels::default();
    let levels = Levels {
        gzip: level(&mut problems, written.levels.gzip.as_ref(), usual.gzip, (1, 9)),
        br: level(&mut problems, written.levels.br.as_ref(), usual.br, (0, 11)),
        zstd: level(&mut problems, written.levels.zstd.as_ref(), usual.zstd, (1, 19)),
    };
    match types {
        Some(types) if !problems.refuse() => {
            let min_size = written.min_size.unwrap_or(Size(1 << 10)).0;
            Ok(Box::new(Compress { codings, types, min_size, levels, has_seen_weak: AtomicBool::new(false) }))
        }
        _ => Err(problems),
    }
}

fn level(problems: &mut Problems, written: Option<&Placed<u8>>, usual: u8, range: (u8, u8)) -> u8 {
    let Some(level) = written else { return usual };
    if !(range.0..=range.1).contains(&level.value) {
        let problem = Problem::new(format!("there is no level `{}`", level.value)).at(&level.place);
        problems.push(problem.label(format!("{} to {}", range.0, range.1)));
    }
    level.value
}

/// Whether the body may be given another form.
fn may_change(status: StatusCode, headers: &HeaderMap) -> bool {
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
    // A range is one of the form that the backend has (RFC 9110 §14.4).
    let range = status == StatusCode::PARTIAL_CONTENT || headers.contains_key(CONTENT_RANGE);
    let encoded = headers.contains_key(CONTENT_ENCODING);
    let fixed =
        headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok()).any(|value| {
            value.split(',').any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"))
        });
    !(status.is_informational() || bodiless.contains(&status) || range || encoded || fixed)
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Changes the fields that describe the body's form; its length the gateway says.
fn describe(headers: &mut Headers<'_>, coding: Coding) {
    headers.set(&CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
    for name in [
        ACCEPT_RANGES,
        HeaderName::from_static("content-md5"),
        HeaderName::from_static("digest"),
        HeaderName::from_static("content-digest"),
    ] {
        headers.remove(&name);
    }
    etags::weaken(headers);
}

impl Compress {
    /// The coding of this answer, when it gets one.
    fn coding(&self, exchange: &Exchange<'_>, answer: &mut Response<'_>) -> Option<Coding> {
        let headers = &answer.headers;
        let short = length(headers).is_some_and(|length| length < self.min_size);
        if short || !self.types.has(headers.get(CONTENT_TYPE)) || !may_change(answer.status, headers) {
            return None;
        }
        // From here on the answer differs by what the client understands.
        vary(&mut answer.headers, &ACCEPT_ENCODING);
        // To HTTP/1.0 a body without a length can only end with its connection.
        if exchange.request.method == Method::HEAD || exchange.request.version < Version::HTTP_11 {
            return None;
        }
        Wishes::of(&exchange.headers).choose(&self.codings)
    }
}

impl Plugin for Compress {
    fn phases(&self) -> Phases {
        Phases {
            request_headers: true,
            response_headers: true,
            response_body: true,
            encodes: true,
            ..Phases::default()
        }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let keep_weak = self.has_seen_weak.load(Ordering::Relaxed);
        let restored = etags::restore(&mut exchange.headers, keep_weak);
        if !restored.is_empty() {
            exchange.state::<Work>().restored = restored;
        }
        Flow::Continue
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        answer: &'f mut Response<'_>,
    ) -> Flow<'f> {
        // An answer in the place of one that was left alone: nobody would show its body here.
        if exchange.has_left_bodies() {
            return Flow::Continue;
        }
        if answer.headers.get(ETAG).is_some_and(etags::is_weak) {
            self.has_seen_weak.store(true, Ordering::Relaxed);
        }
        if answer.status == StatusCode::NOT_MODIFIED {
            // The client has the compressed form.
            let tag = answer.headers.get(ETAG);
            if tag.is_some_and(|tag| exchange.state::<Work>().restored.contains(tag)) {
                etags::weaken(&mut answer.headers);
            }
        }
        let at_once = length(&answer.headers).is_none();
        let encoder = self.coding(exchange, answer).and_then(|coding| {
            let encoder = Encoder::new(coding, self.levels).ok()?;
            describe(&mut answer.headers, coding);
            Some(encoder)
        });
        match encoder {
            None => exchange.leave_bodies(),
            Some(encoder) => {
                *exchange.state() = Work { encoder: Some(encoder), at_once, restored: Vec::new() }
            }
        }
        Flow::Continue
    }

    fn response_body(&self, exchange: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), Fault> {
        let work = exchange.state::<Work>();
        let Some(encoder) = &mut work.encoder else { return Ok(()) };
        let encoded = encoder.pass(&piece.bytes, work.at_once, piece.last);
        piece.bytes = encoded.map_err(|error| Fault::new(error.to_string()))?;
        if piece.last {
            work.encoder = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
