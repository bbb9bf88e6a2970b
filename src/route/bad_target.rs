//! Why a request target or its host is refused (RFC 9112 §3.2).

use moongate_sdk::BadPath;

/// Why a request is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Neither a path, nor an http URL, nor `*` for OPTIONS.
    #[error("the target is neither a path nor an http URL")]
    Form,
    /// A host that RFC 9112 §3.2 says to refuse.
    #[error("the host is not valid")]
    Host,
    /// A space, a control byte or a `#`.
    #[error("the target has a space, a control byte or a `#`")]
    Byte,
    /// A `%` without two hexadecimal digits, or `%00`.
    #[error("the path has a `%` without two hexadecimal digits, or `%00`")]
    Escape,
    /// `.` or `..` in any spelling.
    #[error("the path has a segment `.` or `..`; no setting allows it")]
    DotSegment,
    /// More than a URI holds here.
    #[error("the target is longer than 65534 bytes")]
    TooLong,
}

impl BadTarget {
    /// Why, as a sentence for the client and the log.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Form => "the target is neither a path nor an http URL",
            Self::Host => "the host is not valid",
            Self::Byte => "the target has a space, a control byte or a #",
            Self::Escape => "the path has a % without two hexadecimal digits, or %00",
            Self::DotSegment => "the path has a segment . or ..; no setting allows it",
            Self::TooLong => "the target is longer than 65534 bytes",
        }
    }
}

impl From<BadPath> for BadTarget {
    fn from(bad: BadPath) -> Self {
        match bad {
            BadPath::Byte => Self::Byte,
            BadPath::Escape => Self::Escape,
            BadPath::DotSegment => Self::DotSegment,
        }
    }
}
