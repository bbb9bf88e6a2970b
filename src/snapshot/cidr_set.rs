//! Sets of IP addresses and CIDR blocks.

use ipnet::IpNet;
use moongate_config::{Placed, Problem, Problems};
use std::net::IpAddr;

/// A set of addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct CidrSet(Vec<IpNet>);

impl CidrSet {
    /// Parses a list; problems are added to `problems`.
    pub(super) fn read<'a>(
        written: impl IntoIterator<Item = &'a Placed<String>>,
        problems: &mut Problems,
    ) -> Self {
        let read = |text: &Placed<String>| {
            let block = text.value.parse::<IpNet>();
            block.or_else(|_| text.value.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
                Problem::new(format!("`{}` is neither an address nor a CIDR block", text.value))
                    .at(&text.place)
                    .help("write 10.0.0.1 or 10.0.0.0/8")
            })
        };
        let read = written.into_iter().map(read);
        Self(read.filter_map(|block| problems.keep(block.map_err(Problems::from))).collect())
    }

    /// Returns whether the set contains every address of one of the two families.
    pub(super) fn are_all(&self) -> bool {
        self.0.iter().any(|block| block.prefix_len() == 0)
    }

    /// Returns whether the set contains this address. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|block| block.contains(&address))
    }
}
