//! Answers of name servers, for callers with a clock of their own: each family of addresses apart, and SRV records.

use super::LookupError;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4: A records.
    V4,
    /// IPv6: AAAA records.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// The addresses of one family that a name has. None is an answer too: no such name, or no records of that type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyAddresses {
    /// In the order in which the name server sent them.
    pub addresses: Vec<IpAddr>,
    /// The lifetime of the answer, if it has one: those of a file and of the system have none.
    pub ttl: Option<Duration>,
}

/// The addresses of a name. One family may fail and the other not.
#[derive(Clone, Debug)]
pub struct HostAnswer {
    /// The IPv4 addresses.
    pub v4: Result<FamilyAddresses, LookupError>,
    /// The IPv6 addresses.
    pub v6: Result<FamilyAddresses, LookupError>,
}

impl HostAnswer {
    /// Addresses of a file or of the system.
    pub(super) fn without_ttl(addresses: &[IpAddr]) -> Self {
        let of = |family| {
            let addresses = addresses.iter().copied().filter(|address| Family::of(*address) == family);
            Ok(FamilyAddresses { addresses: addresses.collect(), ttl: None })
        };
        Self { v4: of(Family::V4), v6: of(Family::V6) }
    }

    /// The failure of both families.
    pub(super) fn failed(error: LookupError) -> Self {
        Self { v4: Err(error.clone()), v6: Err(error) }
    }

    /// The half of one family.
    pub fn half(self, family: Family) -> Result<FamilyAddresses, LookupError> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRecord {
    /// Records of a higher number are used only while none of a lower one is available.
    pub priority: u16,
    /// The share among records of the same priority.
    pub weight: u16,
    /// The port on the target.
    pub port: u16,
    /// The host name in lower case with its final dot; `.` means that the service is not available.
    pub target: Arc<str>,
}

/// The SRV records of a name; none if it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// The records in the order in which the name server sent them.
    pub records: Vec<ServiceRecord>,
    /// The lifetime of the records.
    pub ttl: Option<Duration>,
    /// Addresses that the name server sent beside the records, by name in lower case with its final dot.
    pub additional: BTreeMap<(Arc<str>, Family), FamilyAddresses>,
}
