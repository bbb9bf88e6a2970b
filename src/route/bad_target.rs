//! Why a request target or its host is refused (RFC 9112 §3.2).

use moongate_sdk::BadPath;
use std::fmt;

/// Why a request gets 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadTarget {
    /// Neither a path, nor an http URL, nor `*` for OPTIONS.
    Form,
    /// A host that RFC 9112 §3.2 says to refuse.
    Host,
    /// A space, a control byte or a `#`.
    Byte,
    /// A `%` without two hexadecimal digits, or `%00`.
    Escape,
    /// `.` or `..` in any spelling.
    DotSegment,
    /// More than a URI holds here.
    TooLong,
}

impl BadTarget {
    /// Why, as a sentence for the client, the log and the command line.
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

impl fmt::Display for BadTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail())
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
