//! Filter of WebSocket messages by type, size and text: refused messages are dropped or close the WebSocket.
//! Messages are reassembled and decompressed, so that no text is split over fragments.

use crate::common;
use moongate_config::{Kind, Placed, Problem, Problems, Settings, Size, off_if_zero};
use moongate_sdk::{
    CHOSEN_CLOSE_CODES, Direction, Exchange, Message, MessageVerdict, Phases, Plugin, may_choose_close_code,
};
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "message_filter",
    about: "Filters WebSocket messages by type, size and text",
    schema: <MessageFilterSettings as JsonSchema>::json_schema,
    build,
};

/// The longest reason of a Close frame (RFC 6455 §5.5), in bytes.
const LONGEST_REASON: usize = 123;

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct MessageFilterSettings {
    /// Filters messages of the client (`to_backend`), of the backend (`to_client`), or of `both`. Default
    /// to_backend.
    direction: FilterDirection,
    /// Refuses text messages that match none of these regular expressions. Default any text.
    allow: Vec<Placed<String>>,
    /// Refuses text messages that match one of these regular expressions, even if `allow` matches. Default none.
    deny: Vec<Placed<String>>,
    /// Accepts (`allow`) or refuses (`deny`) binary messages. Default `deny` with `allow` expressions, else
    /// `allow`.
    binary: Option<Binary>,
    /// Refuses longer messages of either type. `0`: off. Default off; `max_message` still applies.
    #[serde(deserialize_with = "off_if_zero")]
    max_size: Option<Size>,
    /// Closes the WebSocket (`close`), or drops a refused message silently (`drop`). Default close.
    action: Action,
    /// Sets the close code for both sides: 1000, 1001, 1003, 1007 to 1013, or 3000 to 4999. Default 1008.
    code: Option<Placed<u16>>,
    /// Sets the close reason, of at most 123 bytes. Default message refused.
    reason: Option<Placed<String>>,
}

impl Default for MessageFilterSettings {
    fn default() -> Self {
        Self {
            direction: FilterDirection::ToBackend,
            allow: Vec::new(),
            deny: Vec::new(),
            binary: None,
            max_size: None,
            action: Action::Close,
            code: None,
            reason: None,
        }
    }
}

/// The sender of the filtered messages.
#[derive(Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "MessageFilterDirection")]
enum FilterDirection {
    /// The client.
    ToBackend,
    /// The backend.
    ToClient,
    /// Messages in both directions.
    Both,
}

/// The treatment of binary messages.
#[derive(Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "MessageFilterBinary")]
enum Binary {
    /// Binary messages pass, up to `max_size`.
    Allow,
    /// Binary messages are refused.
    Deny,
}

/// The treatment of a refused message.
#[derive(Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "MessageFilterAction")]
enum Action {
    /// The message is dropped silently.
    Drop,
    /// Both sides get a Close frame with `code` and `reason`.
    Close,
}

struct MessageFilter {
    direction: FilterDirection,
    allow: Vec<Regex>,
    deny: Vec<Regex>,
    binary: Binary,
    max_size: usize,
    action: Action,
    code: u16,
    reason: String,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: MessageFilterSettings = settings.read()?;
    let mut problems = Problems::default();
    let mut all = |list: &[Placed<String>]| -> Vec<_> {
        let keep = |text| problems.keep(common::regex(text).map_err(Problems::from));
        list.iter().filter_map(keep).collect()
    };
    let (allow, deny) = (all(&written.allow), all(&written.deny));
    let code = written.code.as_ref().map_or(Some(1008), |code| problems.keep(close_code(code)));
    let reason = written
        .reason
        .as_ref()
        .map_or_else(|| Some("message refused".to_owned()), |reason| problems.keep(close_reason(reason)));
    let close_setting =
        written.code.as_ref().map(|code| &code.place).or(written.reason.as_ref().map(|text| &text.place));
    if let (Action::Drop, Some(place)) = (written.action, close_setting) {
        problems.push(
            Problem::new("`code` and `reason` have no effect with `action: drop`")
                .at(place)
                .help("remove them, or write `action: close`"),
        );
    }
    let anything = written.allow.is_empty() && written.deny.is_empty() && written.max_size.is_none();
    let unlisted = if written.allow.is_empty() { Binary::Allow } else { Binary::Deny };
    let binary = written.binary.unwrap_or(unlisted);
    if anything && binary == Binary::Allow {
        problems.push(
            Problem::new("`message_filter` has no rule")
                .at(settings.place())
                .help("write `allow`, `deny`, `max_size` or `binary: deny`"),
        );
    }
    let (Some(code), Some(reason), false) = (code, reason, problems.refuse()) else { return Err(problems) };
    Ok(Box::new(MessageFilter {
        direction: written.direction,
        allow,
        deny,
        binary,
        max_size: written.max_size.map_or(usize::MAX, |size| usize::try_from(size.0).unwrap_or(usize::MAX)),
        action: written.action,
        code,
        reason,
    }))
}

/// A valid code of [`MessageVerdict::Close`].
fn close_code(written: &Placed<u16>) -> Result<u16, Problems> {
    match written.value {
        code if may_choose_close_code(code) => Ok(code),
        code => Err(Problem::new(format!("`{code}` is not a valid close code"))
            .label(CHOSEN_CLOSE_CODES)
            .at(&written.place)
            .into()),
    }
}

fn close_reason(written: &Placed<String>) -> Result<String, Problems> {
    if written.len() > LONGEST_REASON {
        let problem = Problem::new(format!("the reason has {} bytes", written.len()));
        return Err(problem.label("at most 123 bytes").at(&written.place).into());
    }
    Ok(written.value.clone())
}

impl Plugin for MessageFilter {
    fn phases(&self) -> Phases {
        Phases {
            messages_to_backend: self.direction != FilterDirection::ToClient,
            messages_to_client: self.direction != FilterDirection::ToBackend,
            ..Phases::default()
        }
    }

    fn message(&self, exchange: &mut Exchange<'_>, message: &mut Message) -> MessageVerdict {
        if self.accepts(message) {
            return MessageVerdict::Forward;
        }
        let direction = match message.direction {
            Direction::ToBackend => "to_backend",
            Direction::ToClient => "to_client",
        };
        exchange.note("refused", direction);
        match self.action {
            Action::Drop => MessageVerdict::Drop,
            Action::Close => MessageVerdict::Close { code: self.code, reason: self.reason.clone().into() },
        }
    }
}

impl MessageFilter {
    fn accepts(&self, message: &Message) -> bool {
        if message.payload.len() > self.max_size {
            return false;
        }
        if message.binary {
            return self.binary == Binary::Allow;
        }
        if self.allow.is_empty() && self.deny.is_empty() {
            return true;
        }
        // An earlier plugin may have changed it; invalid UTF-8 matches no expression.
        let Ok(text) = std::str::from_utf8(&message.payload) else { return false };
        let allowed = self.allow.is_empty() || self.allow.iter().any(|regex| regex.is_match(text));
        allowed && !self.deny.iter().any(|regex| regex.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_sdk::testing::{TestExchange, settings};
    use serde_json::{Value, json};

    fn filter(written: Value) -> Box<dyn Plugin> {
        build(&settings(written)).unwrap_or_else(|problems| panic!("{:?}", problems.0))
    }

    fn verdict(plugin: &dyn Plugin, binary: bool, payload: &[u8]) -> MessageVerdict {
        let mut message = Message { direction: Direction::ToBackend, binary, payload: payload.into() };
        let verdict = TestExchange::new("/").message(plugin, &mut message);
        assert_eq!(message.payload, payload, "it changes nothing");
        verdict
    }

    fn passes(plugin: &dyn Plugin, binary: bool, payload: &[u8]) -> bool {
        matches!(verdict(plugin, binary, payload), MessageVerdict::Forward)
    }

    #[test]
    fn text_passes_by_its_content() {
        let plugin = filter(json!({ "allow": ["^\\{", "^ping$"], "deny": ["(?i)drop\\s+table", "🦀"] }));
        for (text, expected) in [
            ("{\"a\":1}", true),
            ("ping", true),
            ("ping ", false),
            ("{\"q\":\"DROP  table\"}", false),
            ("{🦀}", false),
            ("", false),
        ] {
            assert_eq!(passes(&*plugin, false, text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn allow_expressions_refuse_binary_messages_unless_allowed() {
        for (written, passing) in [
            (json!({ "allow": ["^\\{"] }), false),
            (json!({ "allow": ["."], "deny": ["x"], "max_size": "1KiB" }), false),
            (json!({ "allow": ["^\\{"], "binary": "allow" }), true),
            (json!({ "deny": ["drop"] }), true),
            (json!({ "max_size": "1KiB" }), true),
            (json!({ "deny": ["drop"], "binary": "deny" }), false),
        ] {
            for payload in [&b"{"[..], b"\xff drop table", b""] {
                assert_eq!(passes(&*filter(written.clone()), true, payload), passing, "{written}");
            }
        }
    }

    #[test]
    fn type_and_size_apply_to_all_messages() {
        let plugin = filter(json!({ "binary": "deny", "max_size": "4B" }));
        assert!(passes(&*plugin, false, b"four") && !passes(&*plugin, false, b"fives"));
        assert!(!passes(&*plugin, true, b""));
        let plugin = filter(json!({ "max_size": "4B" }));
        assert!(passes(&*plugin, true, b"four") && !passes(&*plugin, true, b"fives"));
    }

    #[test]
    fn a_refused_message_is_dropped_or_closes() {
        let dropped = verdict(&*filter(json!({ "deny": ["x"], "action": "drop" })), false, b"x");
        assert!(matches!(dropped, MessageVerdict::Drop));
        let closed = verdict(&*filter(json!({ "deny": ["x"], "code": 4003, "reason": "no x" })), false, b"x");
        assert!(matches!(closed, MessageVerdict::Close { code: 4003, reason } if reason == "no x"));
        let closed = verdict(&*filter(json!({ "deny": ["x"] })), false, b"x");
        assert!(matches!(closed, MessageVerdict::Close { code: 1008, .. }));
    }

    #[test]
    fn it_filters_only_the_configured_direction() {
        let directions = |written: Value| {
            let phases = filter(written).phases();
            (phases.messages_to_backend, phases.messages_to_client)
        };
        assert_eq!(directions(json!({ "binary": "deny" })), (true, false));
        assert_eq!(directions(json!({ "binary": "deny", "direction": "to_client" })), (false, true));
        assert_eq!(directions(json!({ "binary": "deny", "direction": "both" })), (true, true));
    }

    #[test]
    fn invalid_settings_are_refused_with_a_reason() {
        for (written, wanted) in [
            (json!({}), "`message_filter` has no rule"),
            (json!({ "deny": ["("] }), "`(` is not a regular expression"),
            (json!({ "deny": ["x"], "code": 1005 }), "`1005` is not a valid close code"),
            (json!({ "deny": ["x"], "code": 1014 }), "`1014` is not a valid close code"),
            (json!({ "deny": ["x"], "code": 2000 }), "`2000` is not a valid close code"),
            (json!({ "deny": ["x"], "reason": "é".repeat(62) }), "the reason has 124 bytes"),
            (
                json!({ "deny": ["x"], "action": "drop", "code": 4000 }),
                "`code` and `reason` have no effect with `action: drop`",
            ),
        ] {
            let problems = build(&settings(written)).err().unwrap();
            assert!(problems.0[0].message.starts_with(wanted), "{:?}", problems.0);
        }
    }
}
