//! A client's address, and its identity: the part of the address that limits, keys and token buckets use.

use moongate_config::raise;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The source address of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAddress<'a> {
    /// An address.
    Ip(IpAddr),
    /// Text that a trusted proxy sent in place of an address, such as `unknown` (RFC 7239 §6.2). Every allow list
    /// rejects it, every deny list denies it, and limits count it by its text.
    Unreadable(&'a str),
}

impl ClientAddress<'_> {
    /// The address, if it is known.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address),
            Self::Unreadable(_) => None,
        }
    }
}

impl From<IpAddr> for ClientAddress<'_> {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for ClientAddress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unreadable(text) => f.write_str(text),
        }
    }
}

/// The number of leading bits of an IPv6 address that identify a client, 1 to 128: `server.client_ipv6_prefix`.
/// Default 64, the usual network of one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPrefix(u8);

impl ClientPrefix {
    /// A prefix of that many bits; `None` outside 1 to 128.
    pub const fn new(bits: u8) -> Option<Self> {
        match bits {
            1..=128 => Some(Self(bits)),
            _ => None,
        }
    }

    /// The identity of the client at an address: its network, or the text of an unknown address.
    pub fn identity(self, client: ClientAddress<'_>) -> ClientAddress<'_> {
        match client {
            ClientAddress::Ip(address) => ClientAddress::Ip(self.network(address)),
            unreadable @ ClientAddress::Unreadable(_) => unreadable,
        }
    }

    /// The network that identifies the client at an address. For IPv4, IPv4-mapped included, the address itself;
    /// for IPv6 the prefix, with all other bits 0.
    pub fn network(self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let mask = u128::MAX << (128 - u32::from(self.0));
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
            address => address,
        }
    }
}

impl Default for ClientPrefix {
    fn default() -> Self {
        Self(64)
    }
}

impl<'de> Deserialize<'de> for ClientPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bits = u32::deserialize(deserializer)?;
        let prefix = u8::try_from(bits).ok().and_then(Self::new);
        prefix.ok_or_else(|| raise(moongate_config::Problem::new("`client_ipv6_prefix` must be 1 to 128")))
    }
}

impl Serialize for ClientPrefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.0)
    }
}

impl JsonSchema for ClientPrefix {
    fn schema_name() -> Cow<'static, str> {
        "ClientPrefix".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 128 })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    fn network(bits: u8, address: &str) -> String {
        ClientPrefix::new(bits).unwrap().network(address.parse().unwrap()).to_string()
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_prefix() {
        for (bits, address, expected) in [
            (64, "192.0.2.1", "192.0.2.1"),
            (1, "192.0.2.1", "192.0.2.1"),
            (64, "::ffff:192.0.2.1", "192.0.2.1"),
            (128, "::ffff:192.0.2.1", "192.0.2.1"),
            (64, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            (56, "2001:db8:1:2ff:3:4:5:6", "2001:db8:1:200::"),
            (48, "2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
            (128, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"),
            (127, "2001:db8::1", "2001:db8::"),
            (1, "ffff::1", "8000::"),
            (64, "::1", "::"),
        ] {
            assert_eq!(network(bits, address), expected, "/{bits} of {address}");
        }
    }

    #[test]
    fn a_network_is_its_own_network() {
        for bits in 1..=128 {
            let prefix = ClientPrefix::new(bits).unwrap();
            for seed in 0..64_u64 {
                let high = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let address = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(high.rotate_left(29)));
                let network = prefix.network(address.into());
                assert_eq!(prefix.network(network), network);
                let IpAddr::V6(network) = network else { panic!("{address} became {network}") };
                let different = network.to_bits() ^ address.to_bits();
                assert!(different.leading_zeros() >= u32::from(bits), "/{bits} of {address}");
            }
        }
    }

    #[test]
    fn only_1_to_128_bits_are_a_prefix() {
        let valid: Vec<u8> = (0..=u8::MAX).filter(|bits| ClientPrefix::new(*bits).is_some()).collect();
        assert_eq!(valid, (1..=128).collect::<Vec<u8>>());
    }
}
