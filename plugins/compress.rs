//! Response compression.
//!
//! Pieces of a response without a known length are flushed as they come, so that server-sent events and other slow
//! responses are not delayed. Compressed responses, and those that must not be transformed, pass unchanged.
//!
//! A compressed response has a weak entity tag, because it is another representation (RFC 9110 §8.8.1). In
//! `If-None-Match` and `If-Match` it stands for the backend's tag: see `etags`.

mod accept_encoding;
mod encoder;
mod etags;
mod media_types;

use crate::cors::vary;
use accept_encoding::AcceptEncoding;
use encoder::{Encoder, Levels};
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use media_types::MediaTypes;
use moongate_config::{Kind, Placed, Problem, Problems, Settings, Size};
use moongate_sdk::{Exchange, Fault, Flow, Headers, Phases, Piece, Plugin, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "compress",
    about: "Compresses responses",
    schema: <CompressSettings as JsonSchema>::json_schema,
    build,
};

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CompressSettings {
    /// Offers these codings, the preferred one first: `zstd`, `br`, `gzip`. Default all, in this order.
    encodings: Option<Vec<Placed<Coding>>>,
    /// Compresses these media types: `text/html`, `text/*`, `application/*+json`, `*/*`. Default text, JSON, XML,
    /// JavaScript, WebAssembly, SVG, uncompressed fonts.
    types: Option<Vec<Placed<String>>>,
    /// Leaves shorter responses uncompressed, where the length is known. Default 1KiB.
    min_size: Option<Size>,
    /// Sets the compression level per coding.
    #[serde(default)]
    levels: CompressLevels,
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

/// Compression levels: a higher one is smaller and costs more CPU time.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct CompressLevels {
    /// Sets the level of gzip, 1 to 9. Default 5.
    gzip: Option<Placed<u8>>,
    /// Sets the level of Brotli, 0 to 11. Default 4.
    br: Option<Placed<u8>>,
    /// Sets the level of Zstandard, 1 to 19. Default 3.
    zstd: Option<Placed<u8>>,
}

struct Compress {
    codings: Vec<Coding>,
    types: MediaTypes,
    min_size: u64,
    levels: Levels,
    /// Whether a backend has sent weak tags of its own.
    has_seen_weak: AtomicBool,
}

/// The response's encoder, if it is compressed.
#[derive(Default)]
struct ResponseEncoding {
    /// The request's weak tags that were restored to strong ones.
    restored: Vec<HeaderValue>,
    encoder: Option<Encoder>,
    /// Whether each piece must be flushed at once.
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
    let written: CompressSettings = settings.read()?;
    let mut problems = Problems::default();
    let mut codings = Vec::new();
    for coding in written.encodings.iter().flatten() {
        if codings.contains(&coding.value) {
            let problem = Problem::new(format!("duplicate coding `{}`", coding.token()));
            problems.push(problem.label("remove one").at(&coding.place));
        }
        codings.push(coding.value);
    }
    match &written.encodings {
        None => codings.extend(Coding::ALL),
        Some(list) if list.is_empty() => {
            let problem = Problem::new("`encodings` is empty").at(settings.place_of("encodings"));
            problems.push(problem.help("write `[zstd, br, gzip]`, or remove the plugin"));
        }
        Some(_) => {}
    }
    let types = match &written.types {
        None => Some(MediaTypes::usual()),
        Some(list) => problems.keep(MediaTypes::parse(list)),
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
        let problem = Problem::new(format!("`{}` is not a level", level.value)).at(&level.place);
        problems.push(problem.label(format!("{} to {}", range.0, range.1)));
    }
    level.value
}

/// Whether the body may be transformed.
fn may_change(status: StatusCode, headers: &HeaderMap) -> bool {
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
    // A range refers to the backend's representation (RFC 9110 §14.4).
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

/// Changes the fields that describe the representation; the gateway sets the length.
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
    /// The coding of this response, if it is compressed.
    fn coding(&self, exchange: &Exchange<'_>, response: &mut Response<'_>) -> Option<Coding> {
        let headers = &response.headers;
        let short = length(headers).is_some_and(|length| length < self.min_size);
        if short || !self.types.has(headers.get(CONTENT_TYPE)) || !may_change(response.status, headers) {
            return None;
        }
        // From here on the response depends on Accept-Encoding.
        vary(&mut response.headers, &ACCEPT_ENCODING);
        // For HTTP/1.0 a body without a length ends only with its connection.
        if exchange.request.method == Method::HEAD || exchange.request.version < Version::HTTP_11 {
            return None;
        }
        AcceptEncoding::of(&exchange.headers).choose(&self.codings)
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
            exchange.state::<ResponseEncoding>().restored = restored;
        }
        Flow::Continue
    }

    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        response: &'f mut Response<'_>,
    ) -> Flow<'f> {
        // A replacement for a response whose body was left: its own body would not be shown here.
        if exchange.has_left_bodies() {
            return Flow::Continue;
        }
        if response.headers.get(ETAG).is_some_and(etags::is_weak) {
            self.has_seen_weak.store(true, Ordering::Relaxed);
        }
        if response.status == StatusCode::NOT_MODIFIED {
            // The client has the compressed representation.
            let tag = response.headers.get(ETAG);
            if tag.is_some_and(|tag| exchange.state::<ResponseEncoding>().restored.contains(tag)) {
                etags::weaken(&mut response.headers);
            }
        }
        let at_once = length(&response.headers).is_none();
        let encoder = self.coding(exchange, response).and_then(|coding| {
            let encoder = Encoder::new(coding, self.levels).ok()?;
            describe(&mut response.headers, coding);
            Some(encoder)
        });
        match encoder {
            None => exchange.leave_bodies(),
            Some(encoder) => {
                *exchange.state() = ResponseEncoding { encoder: Some(encoder), at_once, restored: Vec::new() }
            }
        }
        Flow::Continue
    }

    fn response_body(&self, exchange: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), Fault> {
        let encoding = exchange.state::<ResponseEncoding>();
        let Some(encoder) = &mut encoding.encoder else { return Ok(()) };
        let encoded = encoder.pass(&piece.bytes, encoding.at_once, piece.last);
        piece.bytes = encoded.map_err(|error| Fault::new(error.to_string()))?;
        if piece.last {
            encoding.encoder = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
