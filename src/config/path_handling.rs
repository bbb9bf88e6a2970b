//! The settings `escaped_slashes` and `merge_slashes`.

use super::word_choice::choice;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// The treatment of `%2F`, `%5C` and `\` in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EscapedSlashes {
    /// Matches them as `/` and forwards them as sent.
    #[default]
    Match,
    /// Responds 400.
    Reject,
}

/// The treatment of several slashes in a row in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeSlashes {
    /// Matches them as one and forwards them as sent.
    #[default]
    Match,
    /// Matches and forwards them as one.
    Rewrite,
}

impl<'de> Deserialize<'de> for EscapedSlashes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mistaken =
            &[("keep", "write `match`: such a path is matched with `/` there, and forwarded as it was sent")];
        choice(deserializer, &["match", "reject"], &[Self::Match, Self::Reject], mistaken)
    }
}

impl<'de> Deserialize<'de> for MergeSlashes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mistaken = &[
            (
                "true",
                "write `rewrite` to forward several slashes as one, or `match` to forward them as they were sent",
            ),
            ("false", "write `match`: several slashes are matched as one, and forwarded as they were sent"),
        ];
        choice(deserializer, &["match", "rewrite"], &[Self::Match, Self::Rewrite], mistaken)
    }
}
