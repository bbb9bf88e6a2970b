//! Limit on request bodies: rejects at once if the head announces the length, otherwise as soon as the limit is
//! exceeded. WebSocket messages are not a body; `max_message` limits them.

use http::StatusCode;
use moongate_config::{Kind, Placed, Problem, Problems, Settings, Size};
use moongate_sdk::{Exchange, Flow, Phases, Piece, Plugin};
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "body_limit",
    about: "Rejects request bodies above a size",
    schema: <BodyLimitSettings as JsonSchema>::json_schema,
    build,
};

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BodyLimitSettings {
    /// Rejects (413) longer request bodies. `0` is an error. Default 1MiB.
    max_size: Option<Placed<Size>>,
}

struct BodyLimit {
    max: u64,
}

/// The bytes of a body so far.
#[derive(Default)]
struct ReceivedBytes(u64);

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: BodyLimitSettings = settings.read()?;
    // Zero may be meant as no limit, as in nginx, and as no body.
    if let Some(zero) = written.max_size.as_ref().filter(|size| size.value.0 == 0) {
        return Err(Problem::new("`max_size: 0` may mean no body or no limit")
            .help(
                "to reject bodies write `max_size: 1`, or `methods: [GET, HEAD]` in the route; for no limit leave the plugin \
                 out",
            )
            .at(&zero.place)
            .into());
    }
    Ok(Box::new(BodyLimit { max: written.max_size.map_or(1 << 20, |size| size.value.0) }))
}

impl Plugin for BodyLimit {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, request_body: true, looks_only: true, ..Phases::default() }
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        match exchange.request.body.known() {
            Some(length) if length > self.max => {
                exchange.refuse(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").into()
            }
            // The gateway enforces the announced length.
            Some(_) => {
                exchange.leave_bodies();
                Flow::Continue
            }
            None => Flow::Continue,
        }
    }

    fn request_body<'f>(&'f self, exchange: &'f mut Exchange<'_>, piece: &'f mut Piece) -> Flow<'f> {
        let received = &mut exchange.state::<ReceivedBytes>().0;
        *received = received.saturating_add(piece.bytes.len() as u64);
        if *received > self.max {
            return exchange.refuse(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").into();
        }
        Flow::Continue
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_sdk::Verdict;
    use moongate_sdk::testing::{TestExchange, settings};
    use serde_json::json;

    fn plugin(max: &str) -> Box<dyn Plugin> {
        build(&settings(json!({ "max_size": max }))).unwrap()
    }

    #[test]
    fn a_length_that_is_too_much_is_refused_at_once() {
        for (length, fine) in [("1023", true), ("1024", true), ("1025", false), ("99999999999", false)] {
            let enters =
                TestExchange::new("/").field("content-length", length).request_headers(&*plugin("1KiB"));
            assert_eq!(matches!(enters, Verdict::Continue), fine, "{length}");
        }
        assert!(
            matches!(TestExchange::new("/").request_headers(&*plugin("1")), Verdict::Continue),
            "no body is not too long"
        );
    }

    #[test]
    fn pieces_are_counted_until_it_is_too_much() {
        let plugin = plugin("10");
        let mut visit = TestExchange::new("/");
        let mut send = |bytes: &'static [u8]| {
            let mut piece = Piece { bytes: bytes.into(), last: false };
            match visit.request_body(&*plugin, &mut piece) {
                Verdict::Continue => 0,
                Verdict::Respond(reply) => reply.status.as_u16(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([send(b"12345"), send(b"67890"), send(b""), send(b"1")], [0, 0, 0, 413]);
    }

    #[test]
    fn zero_is_refused_for_it_may_mean_two_things() {
        assert!(build(&settings(json!({ "max_size": 0 }))).is_err());
    }

    #[test]
    fn nginxs_limit_is_the_usual_one() {
        let usual = build(&settings(json!({}))).unwrap();
        assert_eq!(
            TestExchange::new("/").field("content-length", "1048577").expect_reply(&*usual).status,
            413
        );
    }
}
