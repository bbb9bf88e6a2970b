//! Every name that an expression may use, and its type.

use super::ExpressionPhase;
use super::fields::Group;
use super::slot::{Fact, TlsFact};
use std::fmt;

/// The static type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    /// Known only at evaluation.
    Any,
    Truth,
    Whole,
    Unsigned,
    Fraction,
    Text,
    Bytes,
    Null,
    List,
    Map,
    /// Fields, cookies or parameters.
    Texts,
    Network,
}

impl ValueType {
    /// Whether a value of this type is allowed where `wanted` is expected.
    pub(super) fn fits(self, wanted: Self) -> bool {
        self == wanted || self == Self::Any || wanted == Self::Any
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Whole | Self::Unsigned | Self::Fraction)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any value",
            Self::Truth => "true or false",
            Self::Whole => "a whole number",
            Self::Unsigned => "an unsigned number",
            Self::Fraction => "a number with a fraction",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Null => "null",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Texts => "a group of texts",
            Self::Network => "a network",
        })
    }
}

/// A member of `request` or `response`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Fact(Fact, ValueType),
    Group(Group),
}

pub(super) const ROOTS: [&str; 2] = ["request", "response"];

/// A name with a dot is a member of a member: `request.tls.version`.
pub(super) const REQUEST: [(&str, Member); 24] = [
    ("method", Member::Fact(Fact::Method, ValueType::Text)),
    ("scheme", Member::Fact(Fact::Scheme, ValueType::Text)),
    ("host", Member::Fact(Fact::Host, ValueType::Text)),
    ("path", Member::Fact(Fact::Path, ValueType::Text)),
    ("raw_path", Member::Fact(Fact::RawPath, ValueType::Text)),
    ("query", Member::Fact(Fact::Query, ValueType::Text)),
    ("headers", Member::Group(Group::Headers)),
    ("cookies", Member::Group(Group::Cookies)),
    ("params", Member::Group(Group::Params)),
    ("client_ip", Member::Fact(Fact::ClientIp, ValueType::Text)),
    ("peer_ip", Member::Fact(Fact::PeerIp, ValueType::Text)),
    ("route", Member::Fact(Fact::Route, ValueType::Text)),
    ("listener", Member::Fact(Fact::Listener, ValueType::Text)),
    ("version", Member::Fact(Fact::Version, ValueType::Text)),
    ("id", Member::Fact(Fact::Id, ValueType::Text)),
    ("is_websocket", Member::Fact(Fact::IsWebsocket, ValueType::Truth)),
    ("tls.version", Member::Fact(Fact::Tls(TlsFact::Version), ValueType::Text)),
    ("tls.cipher", Member::Fact(Fact::Tls(TlsFact::Cipher), ValueType::Text)),
    ("tls.server_name", Member::Fact(Fact::Tls(TlsFact::ServerName), ValueType::Text)),
    ("tls.client.subject", Member::Fact(Fact::Tls(TlsFact::Subject), ValueType::Text)),
    ("tls.client.issuer", Member::Fact(Fact::Tls(TlsFact::Issuer), ValueType::Text)),
    ("tls.client.serial", Member::Fact(Fact::Tls(TlsFact::Serial), ValueType::Text)),
    ("tls.client.fingerprint", Member::Fact(Fact::Tls(TlsFact::Fingerprint), ValueType::Text)),
    ("tls.client.names", Member::Fact(Fact::Tls(TlsFact::Names), ValueType::List)),
];

/// Members without a value of their own, which only have members.
pub(super) const BRANCHES: [&str; 2] = ["tls", "tls.client"];

pub(super) const RESPONSE: [(&str, Member); 2] = [
    ("status", Member::Fact(Fact::Status, ValueType::Whole)),
    ("headers", Member::Group(Group::ResponseHeaders)),
];

impl Member {
    /// The reason why it cannot be read in this phase, if it cannot.
    pub(super) fn unknown_in(self, phase: ExpressionPhase) -> Option<&'static str> {
        let of_response = matches!(self, Self::Fact(Fact::Status, _) | Self::Group(Group::ResponseHeaders));
        let of_route = matches!(self, Self::Fact(Fact::Route | Fact::Id, _));
        match phase {
            ExpressionPhase::Route if of_route => Some("available only after routing"),
            ExpressionPhase::Key if !self.is_sent() => {
                Some("a key can use only the request and the client address")
            }
            ExpressionPhase::Route | ExpressionPhase::Request if of_response => {
                Some("this expression is evaluated before the response")
            }
            _ => None,
        }
    }
}

impl Member {
    /// Whether it comes from the client.
    fn is_sent(self) -> bool {
        match self {
            Self::Fact(fact, _) => {
                matches!(fact, Fact::Path | Fact::RawPath | Fact::Query | Fact::ClientIp | Fact::IsWebsocket)
            }
            Self::Group(_) => true,
        }
    }
}

/// A function, or one of several that share a name.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    /// The type before the dot, for a method.
    pub(super) on: Option<ValueType>,
    pub(super) takes: &'static [ValueType],
    pub(super) gives: ValueType,
}

const fn on(on: ValueType, name: &'static str, takes: &'static [ValueType], gives: ValueType) -> Function {
    Function { name, on: Some(on), takes, gives }
}

const fn of(name: &'static str, takes: &'static [ValueType], gives: ValueType) -> Function {
    Function { name, on: None, takes, gives }
}

use ValueType::{Bytes, Fraction, List, Map, Network, Text, Truth, Unsigned, Whole};

/// All functions. Some of CEL's library are excluded: a function whose result can be many times as large as its
/// input is too expensive for every request.
pub(super) const FUNCTIONS: &[Function] = &[
    on(Text, "contains", &[Text], Truth),
    on(Text, "startsWith", &[Text], Truth),
    on(Text, "endsWith", &[Text], Truth),
    on(Text, "matches", &[Text], Truth),
    on(Text, "lowerAscii", &[], Text),
    on(Text, "upperAscii", &[], Text),
    on(Text, "trim", &[], Text),
    on(Text, "split", &[Text], List),
    on(Network, "containsIP", &[Text], Truth),
    on(Text, "size", &[], Whole),
    on(List, "size", &[], Whole),
    on(Map, "size", &[], Whole),
    on(Bytes, "size", &[], Whole),
    of("size", &[Text], Whole),
    of("size", &[List], Whole),
    of("size", &[Map], Whole),
    of("size", &[Bytes], Whole),
    of("matches", &[Text, Text], Truth),
    of("cidr", &[Text], Network),
    of("string", &[Text], Text),
    of("string", &[Whole], Text),
    of("string", &[Unsigned], Text),
    of("string", &[Fraction], Text),
    of("string", &[Truth], Text),
    of("int", &[Text], Whole),
    of("int", &[Whole], Whole),
    of("int", &[Unsigned], Whole),
    of("int", &[Fraction], Whole),
    of("uint", &[Text], Unsigned),
    of("uint", &[Whole], Unsigned),
    of("double", &[Text], Fraction),
    of("double", &[Whole], Fraction),
    of("bool", &[Text], Truth),
];
