//! One meaning of a request's target, for routing, for rules and for what a backend receives.
//!
//! Whatever two readers could understand differently is either brought to one spelling here or refused;
//! what is matched is, byte for byte, what is forwarded. One thing has two forms, for a backend may read either: a path
//! with parameters of segments (`/a;x/b`) is forwarded with them, and matched without, unless a rule keeps them. The rules, after RFC 9112 §3.2 and RFC 3986 §6.2.2:
//!
//! - The target is a path (origin-form), an `http` or `https` URL (absolute-form, whose authority wins
//!   over the Host field), or `*` for OPTIONS. Everything else is refused.
//! - Encoded unreserved characters are decoded, the digits of other escapes are written in capitals, and
//!   what may not stand in a path (`"`, `<`, `|`, bytes beyond ASCII …) is encoded.
//! - `//` becomes `/` when `merge_slashes` says so.
//! - `.` and `..` segments are refused in every spelling (`%2e`, `..;x`, a last `/..`), because nobody
//!   sends them but to make a gateway and a backend disagree.
//! - `%2f`, `%5c` and `\` are refused, or kept as they are with `escaped_slashes: keep`. Then too a path is
//!   refused when decoding them would bring a dot segment forth.
//! - Control bytes, spaces, `%00`, a `#` and escapes without two hexadecimal digits are refused.
//!
//! The query is forwarded as it came, but for bytes beyond ASCII, which are encoded, and for control
//! bytes, spaces and `#`, which are refused.

use super::{Authority, authority, normal};
use crate::spec::{EscapedSlashes, Server};
use http::Method;
use moongate_sdk::without_parameters;
use std::borrow::Cow;

/// A request's target in its one spelling. An ordinary one borrows and allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    whole: Cow<'a, str>,
    path_len: usize,
    /// The path without the parameters of its segments, where it has any.
    bare: Option<String>,
    authority: Option<Authority<'a>>,
    origin_form: bool,
}

/// What an operator may choose about paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRules {
    /// Whether `//` is read as `/`. Default: yes.
    pub merge_slashes: bool,
    /// What happens to `%2f`, `%5c` and `\`. Default: refused.
    pub escaped_slashes: EscapedSlashes,
}

impl Default for PathRules {
    fn default() -> Self {
        Self { merge_slashes: true, escaped_slashes: EscapedSlashes::default() }
    }
}

impl From<&Server> for PathRules {
    fn from(server: &Server) -> Self {
        Self { merge_slashes: server.merge_slashes, escaped_slashes: server.escaped_slashes }
    }
}

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
    #[error("the target has a byte that may not stand in it")]
    Byte,
    /// A `%` without two hexadecimal digits, or `%00`.
    #[error("the path has a bad percent escape")]
    Escape,
    /// `.` or `..` in any spelling.
    #[error("the path has a dot segment")]
    DotSegment,
    /// `%2f`, `%5c` or `\`.
    #[error("the path has an escaped slash or a backslash")]
    EscapedSlash,
}

impl BadTarget {
    /// The reason token of the answer.
    pub fn token(self) -> &'static str {
        match self {
            Self::DotSegment | Self::EscapedSlash => "ambiguous_path",
            Self::Form | Self::Host | Self::Byte | Self::Escape => "bad_request",
        }
    }
}

impl<'a> Target<'a> {
    /// Reads a target as it came, with the value of the Host field when there is one. A missing Host is
    /// for the caller to judge: HTTP/1.0 allows it.
    ///
    /// # Errors
    /// [`BadTarget`], to be answered with 400.
    pub fn parse(
        raw: &'a [u8],
        method: &Method,
        host: Option<&'a str>,
        rules: PathRules,
    ) -> Result<Self, BadTarget> {
        let named = host.map(Authority::parse).transpose()?;
        if *method == Method::CONNECT {
            return Err(BadTarget::Form);
        }
        if raw.first() == Some(&b'/') {
            return Self::read(raw, named, rules);
        }
        if raw == b"*" && *method == Method::OPTIONS {
            return Ok(Self {
                whole: "*".into(),
                path_len: 1,
                bare: None,
                authority: named,
                origin_form: true,
            });
        }
        let (authority, rest) = authority::split(raw).ok_or(BadTarget::Form)?;
        let authority = Some(Authority::parse(authority)?);
        let target = match rest.first() {
            // RFC 9112 §3.2.4: to the last proxy such an OPTIONS means the server as a whole.
            None if *method == Method::OPTIONS => {
                Self { whole: "*".into(), path_len: 1, bare: None, authority, origin_form: false }
            }
            None => Self::read(b"/", authority, rules)?,
            Some(b'/') => Self::read(rest, authority, rules)?,
            Some(_) => Self::without_path(rest, authority)?,
        };
        Ok(Self { origin_form: false, ..target })
    }

    fn read(raw: &'a [u8], authority: Option<Authority<'a>>, rules: PathRules) -> Result<Self, BadTarget> {
        let end = raw.iter().position(|byte| *byte == b'?').unwrap_or(raw.len());
        let path = normal::path(&raw[..end], rules)?;
        let query = normal::query(&raw[end..])?;
        let path_len = path.len();
        let whole = match (path, query) {
            // Both borrow, so the target is what came; it is ASCII, as both of them checked.
            (Cow::Borrowed(_), Cow::Borrowed(_)) => {
                Cow::Borrowed(std::str::from_utf8(raw).map_err(|_| BadTarget::Byte)?)
            }
            (path, query) => Cow::Owned([path, query].concat()),
        };
        let bare = without_parameters(&whole[..path_len]);
        Ok(Self { whole, path_len, bare, authority, origin_form: true })
    }

    /// `http://host?query`: the path is `/` (RFC 9110 §4.2.3).
    fn without_path(rest: &'a [u8], authority: Option<Authority<'a>>) -> Result<Self, BadTarget> {
        let query = normal::query(rest)?;
        let whole = Cow::Owned(["/", &*query].concat());
        Ok(Self { whole, path_len: 1, bare: None, authority, origin_form: false })
    }

    /// The path as it is forwarded; `*` for OPTIONS of the server as a whole.
    pub fn path(&self) -> &str {
        &self.whole[..self.path_len]
    }

    /// The path without the parameters of its segments, which is what rules match unless they keep those.
    pub fn bare_path(&self) -> &str {
        self.bare.as_deref().unwrap_or(self.path())
    }

    /// Whether a segment of the path has parameters.
    pub fn has_parameters(&self) -> bool {
        self.bare.is_some()
    }

    /// The query without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.whole.get(self.path_len + 1..)
    }

    /// What a backend receives: path and query.
    pub fn forwarded(&self) -> &str {
        &self.whole
    }

    /// Whether what is forwarded differs from what came.
    pub fn is_rewritten(&self) -> bool {
        !self.origin_form || matches!(self.whole, Cow::Owned(_))
    }

    /// The host and port asked for: the target's own, else the Host field's.
    pub fn authority(&self) -> Option<Authority<'a>> {
        self.authority
    }

    /// The host asked for, without port and final dot.
    pub fn host(&self) -> Option<&'a str> {
        self.authority.map(|authority| authority.host())
    }
}
