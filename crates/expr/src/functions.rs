//! Functions that CEL's standard library lacks, and the values that they take.
//!
//! Patterns and networks must be literals, parsed with the configuration: a regular expression from a request would
//! have an unbounded cost.

#![allow(clippy::needless_pass_by_value, reason = "the evaluator calls functions with a vector")]

use cel::ExecutionError;
use cel::common::types::{CelBool, CelList, CelString, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use moongate_config::Problem;
use regex::{Regex, RegexBuilder};
use std::any::Any;
use std::net::IpAddr;

/// The most memory that a compiled regular expression may take, in bytes.
const REGEX_SIZE: usize = 1 << 20;

/// The maximum number of parts of a split text: a bound for loops over them.
pub(super) const PARTS_MAX: usize = 256;

pub(super) static PATTERN: Type = Type::new_unspecified_type("pattern");
pub(super) static NETWORK: Type = Type::new_unspecified_type("cidr");

/// A regular expression.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        match RegexBuilder::new(text).size_limit(REGEX_SIZE).build() {
            Ok(regex) => Ok(Self(regex)),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err(Problem::new("the regular expression is larger than 1 MiB"))
            }
            Err(error) => {
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                Err(Problem::new(format!("`{text}` is not a regular expression: {reason}")))
            }
        }
    }
}

/// A range of addresses, as in `10.0.0.0/8` and `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let bad = || {
            Problem::new(format!("`{text}` is not a network"))
                .help("write an address with the length of its prefix, as in `10.0.0.0/8` or `2001:db8::/32`")
        };
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix > most { Err(bad()) } else { Ok(Self { address, prefix }) }
    }

    /// Whether the network contains an address; an IPv4-mapped IPv6 address is its IPv4 address.
    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = u32::from(own) ^ u32::from(other);
                differ.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = u128::from(own) ^ u128::from(other);
                differ.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

macro_rules! value {
    ($name:ty, $type:ident) => {
        impl Val for $name {
            fn get_type(&self) -> &Type {
                &$type
            }
            fn cel_type() -> &'static Type {
                &$type
            }
            fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
            where
                Self: 'v,
            {
                Box::new(self.clone())
            }
            fn as_any(&self) -> Option<&dyn Any> {
                Some(self)
            }
        }
        impl StaticVal for $name {}
    };
}

value!(Pattern, PATTERN);
value!(Network, NETWORK);

type FunctionResult<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// `text.matches(pattern)`.
pub(super) fn matches<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> FunctionResult<'b, 'v> {
    let Some(Pattern(regex)) = args.get(1).and_then(|arg| arg.downcast_ref()) else {
        return Err(ExecutionError::MissingArgumentOrTarget);
    };
    Ok(truth(regex.is_match(text(&args)?)))
}

/// `network.containsIP(text)`. Text that is not an address is an error, because it is neither inside nor outside. A
/// client with an unknown address must pass neither an allow list nor a deny list.
pub(super) fn contains_ip<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> FunctionResult<'b, 'v> {
    let Some(network) = args.first().and_then(|arg| arg.downcast_ref::<Network>()) else {
        return Err(ExecutionError::MissingArgumentOrTarget);
    };
    let text = text(args.get(1..).unwrap_or_default())?;
    let address = text.parse();
    let address = address
        .map_err(|_| ExecutionError::function_error("containsIP", format!("`{text}` is not an address")))?;
    Ok(truth(network.contains(address)))
}

/// `text.split(between)`. The last part holds the remainder beyond the limit: a client must not make a condition
/// fail that reads one of the first parts.
pub(super) fn split<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> FunctionResult<'b, 'v> {
    let (whole, between) = (text(&args)?, text(args.get(1..).unwrap_or_default())?);
    let parts: Vec<Box<dyn Val + 'v>> = whole
        .splitn(PARTS_MAX, between)
        .map(|part| Box::new(CelString::from(part.to_owned())) as Box<dyn Val + 'v>)
        .collect();
    Ok(CowVal::owned(CelList::from(parts)))
}

/// `text.lowerAscii()`.
pub(super) fn lower<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> FunctionResult<'b, 'v> {
    Ok(CowVal::owned(CelString::from(text(&args)?.to_ascii_lowercase())))
}

/// `text.upperAscii()`.
pub(super) fn upper<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> FunctionResult<'b, 'v> {
    Ok(CowVal::owned(CelString::from(text(&args)?.to_ascii_uppercase())))
}

/// `text.trim()`.
pub(super) fn trim<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> FunctionResult<'b, 'v> {
    Ok(CowVal::owned(CelString::from(text(&args)?.trim().to_owned())))
}

/// The first argument, which is text.
fn text<'x>(args: &'x [CowVal<'_, '_>]) -> Result<&'x str, ExecutionError> {
    let first = args.first().and_then(|arg| arg.downcast_ref::<CelString<'_>>());
    first.map(CelString::inner).ok_or(ExecutionError::MissingArgumentOrTarget)
}

fn truth<'b, 'v>(truth: bool) -> CowVal<'b, 'v> {
    CowVal::Borrowed(if truth { &CelBool::TRUE } else { &CelBool::FALSE })
}
