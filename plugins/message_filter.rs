//! Lets WebSocket messages through by their kind, size and text, and drops the others or closes.
//!
//! Messages come here whole: no word slips through in two fragments, and none compressed.

use crate::common;
use moongate_config::{Kind, Placed, Problem, Problems, Settings, Size, off_if_zero};
use moongate_sdk::{Direction, Exchange, Message, MessageVerdict, Phases, Plugin};
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "message_filter",
    about: "Filters WebSocket messages by type, size and text",
    schema: <Written as JsonSchema>::json_schema,
    build,
};

/// The longest reason of a Close (RFC 6455 §5.5), in bytes.
const LONGEST_REASON: usize = 123;

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Written {
    /// Filters messages of the client (`to_backend`), of the backend (`to_client`), or of `both`. Default to_backend.
    direction: Ways,
    /// Refuses text messages that match none of these regular expressions. Default any text.
    allow: Vec<Placed<String>>,
    /// Refuses text messages that match one of these regular expressions, even if `allow` matches. Default none.
    deny: Vec<Placed<String>>,
    /// Accepts (`allow`) or refuses (`deny`) binary messages. Default `deny` with `allow` expressions, else `allow`.
    binary: Option<Binary>,
    /// Refuses longer messages of either type. `0`: off. Default off; `max_message` still applies.
    #[serde(deserialize_with = "off_if_zero")]
    max_size: Option<Size>,
    /// Closes the WebSocket (`close`), or drops a refused message silently (`drop`). Default close.
    action: Action,
    /// Sets the close code for both sides: 1000, 1001, 1003, 1007 to 1014, or 3000 to 4999. Default 1008.
    code: Option<Placed<u16>>,
    /// Sets the close reason, of at most 123 bytes. Default message refused.
    reason: Option<Placed<String>>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            direction: Ways::ToBackend,
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

/// Whose messages are looked at.
#[derive(Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "MessageFilterDirection")]
enum Ways {
    /// Messages of the client.
    ToBackend,
    /// Messages of the backend.
    ToClient,
    /// Messages in both directions.
    Both,
}

/// What becomes of binary messages.
#[derive(Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "MessageFilterBinary")]
enum Binary {
    /// They pass, as far as `max_size` lets them.
    Allow,
    /// They are refused.
    Deny,
}

/// What becomes of a message that is refused.
#[derive(Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "MessageFilterAction")]
enum Action {
    /// Drops the message silently.
    Drop,
    /// Closes both sides with `code` and `reason`.
    Close,
}

struct MessageFilter {
    direction: Ways,
    allow: Vec<Regex>,
    deny: Vec<Regex>,
    binary: Binary,
    max_size: usize,
    action: Action,
    code: u16,
    reason: String,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: Written = settings.read()?;
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
    let told =
        written.code.as_ref().map(|code| &code.place).or(written.reason.as_ref().map(|text| &text.place));
    if let (Action::Drop, Some(place)) = (written.action, told) {
        problems.push(
            Problem::new("nobody is told of a message that is dropped")
                .at(place)
                .help("`code` and `reason` go with `action: close`"),
        );
    }
    let anything = written.allow.is_empty() && written.deny.is_empty() && written.max_size.is_none();
    let unlisted = if written.allow.is_empty() { Binary::Allow } else { Binary::Deny };
    let binary = written.binary.unwrap_or(unlisted);
    if anything && binary == Binary::Allow {
        problems.push(
            Problem::new("`message_filter` refuses nothing")
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

/// A code that [`Fate::Close`] may carry.
fn close_code(written: &Placed<u16>) -> Result<u16, Problems> {
    match written.value {
        code @ (1000 | 1001 | 1003 | 1007..=1014 | 3000..=4999) => Ok(code),
        code => Err(Problem::new(format!("`{code}` is no code for a Close"))
            .label("1000, 1001, 1003, 1007 to 1014 or 3000 to 4999")
            .at(&written.place)
            .into()),
    }
}

fn close_reason(written: &Placed<String>) -> Result<String, Problems> {
    if written.len() > LONGEST_REASON {
        let problem = Problem::new(format!("the reason has {} bytes", written.len()));
        return Err(problem.label("a Close has room for 123").at(&written.place).into());
    }
    Ok(written.value.clone())
}

impl Plugin for MessageFilter {
    fn phases(&self) -> Phases {
        Phases {
            messages_to_backend: self.direction != Ways::ToClient,
            messages_to_client: self.direction != Ways::ToBackend,
            ..Phases::default()
        }
    }

    fn message(&self, exchange: &mut Exchange<'_>, message: &mut Message) -> MessageVerdict {
        if self.lets_through(message) {
            return MessageVerdict::Forward;
        }
        let way = match message.direction {
            Direction::ToBackend => "to_backend",
            Direction::ToClient => "to_client",
        };
        exchange.note("refused", way);
        match self.action {
            Action::Drop => MessageVerdict::Drop,
            Action::Close => MessageVerdict::Close { code: self.code, reason: self.reason.clone().into() },
        }
    }
}

impl MessageFilter {
    fn lets_through(&self, message: &Message) -> bool {
        if message.payload.len() > self.max_size {
            return false;
        }
        if message.binary {
            return self.binary == Binary::Allow;
        }
        if self.allow.is_empty() && self.deny.is_empty() {
            return true;
        }
        // A plugin before this one may have made anything of it; what is not text fits no expression.
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

    fn fate(plugin: &dyn Plugin, binary: bool, payload: &[u8]) -> MessageVerdict {
        let mut message = Message { direction: Direction::ToBackend, binary, payload: payload.into() };
        let fate = TestExchange::new("/").say(plugin, &mut message);
        assert_eq!(message.payload, payload, "it changes nothing");
        fate
    }

    fn passes(plugin: &dyn Plugin, binary: bool, payload: &[u8]) -> bool {
        matches!(fate(plugin, binary, payload), MessageVerdict::Forward)
    }

    #[test]
    fn text_passes_by_what_it_says() {
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
    fn a_list_of_what_may_pass_refuses_binary_messages_unless_they_are_allowed() {
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
    fn kind_and_size_count_for_all() {
        let plugin = filter(json!({ "binary": "deny", "max_size": "4B" }));
        assert!(passes(&*plugin, false, b"four") && !passes(&*plugin, false, b"fives"));
        assert!(!passes(&*plugin, true, b""));
        let plugin = filter(json!({ "max_size": "4B" }));
        assert!(passes(&*plugin, true, b"four") && !passes(&*plugin, true, b"fives"));
    }

    #[test]
    fn what_is_refused_is_dropped_or_closes() {
        let dropped = fate(&*filter(json!({ "deny": ["x"], "action": "drop" })), false, b"x");
        assert!(matches!(dropped, MessageVerdict::Drop));
        let closed = fate(&*filter(json!({ "deny": ["x"], "code": 4003, "reason": "no x" })), false, b"x");
        assert!(matches!(closed, MessageVerdict::Close { code: 4003, reason } if reason == "no x"));
        let closed = fate(&*filter(json!({ "deny": ["x"] })), false, b"x");
        assert!(matches!(closed, MessageVerdict::Close { code: 1008, .. }));
    }

    #[test]
    fn it_looks_only_where_it_is_told_to() {
        let ways = |written: Value| {
            let phases = filter(written).phases();
            (phases.messages_to_backend, phases.messages_to_client)
        };
        assert_eq!(ways(json!({ "binary": "deny" })), (true, false));
        assert_eq!(ways(json!({ "binary": "deny", "direction": "to_client" })), (false, true));
        assert_eq!(ways(json!({ "binary": "deny", "direction": "both" })), (true, true));
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for (written, said) in [
            (json!({}), "`message_filter` refuses nothing"),
            (json!({ "deny": ["("] }), "`(` is not a regular expression"),
            (json!({ "deny": ["x"], "code": 1005 }), "`1005` is no code for a Close"),
            (json!({ "deny": ["x"], "code": 2000 }), "`2000` is no code for a Close"),
            (json!({ "deny": ["x"], "reason": "é".repeat(62) }), "the reason has 124 bytes"),
            (json!({ "deny": ["x"], "action": "drop", "code": 4000 }), "nobody is told"),
        ] {
            let problems = build(&settings(written)).err().unwrap();
            assert!(problems.0[0].message.starts_with(said), "{:?}", problems.0);
        }
    }
}
