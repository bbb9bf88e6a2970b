//! Sets of IP addresses in the configuration's syntax: addresses, networks, keywords, and files of them. A lookup
//! costs a binary search, for any length of the list.

use ipnet::IpNet;
use moongate_config::{Placed, Problem, Problems, Settings};
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::IpAddr;

/// The largest file of networks that is read, in bytes.
const LARGEST_FILE: u64 = 16 << 20;

/// The networks of `private`: RFC 1918, RFC 4193, loopback and link-local.
const PRIVATE: [&str; 8] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
];

/// One entry of a list of networks.
#[derive(Deserialize, JsonSchema)]
#[serde(rename = "$shape an address, a network, or a mapping with `file`")]
#[schemars(untagged, rename = "NetworkEntry")]
pub(crate) enum NetworkEntry {
    /// An address, a network in CIDR notation, `private` or `all`.
    #[serde(rename = "scalar")]
    Text(Placed<String>),
    /// A file with one of these on each line; `#` begins a comment.
    #[serde(rename = "map")]
    File(NetworkFile),
}

/// Networks that a file lists.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkFile {
    /// Reads entries from this file, of at most 16 MiB. Required.
    file: Placed<String>,
}

/// A set of addresses.
#[derive(Default)]
pub(crate) struct Networks {
    /// First and last addresses; sorted and merged.
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Networks {
    /// Reads a list.
    ///
    /// # Errors
    /// Text that is neither an address nor a network, and unreadable files.
    pub(crate) fn read(settings: &Settings, listed: &[NetworkEntry]) -> Result<Self, Problems> {
        let (mut problems, mut found) = (Problems::default(), Vec::new());
        for entry in listed {
            let read = match entry {
                NetworkEntry::Text(text) => networks(text, &mut found).map_err(|p| p.at(&text.place)),
                NetworkEntry::File(NetworkFile { file }) => lines(settings, file, &mut found),
            };
            problems.keep(read.map_err(Problems::from));
        }
        if problems.refuse() { Err(problems) } else { Ok(Self::of(&found)) }
    }

    fn of(networks: &[IpNet]) -> Self {
        let v4 = networks.iter().filter_map(|network| match network {
            IpNet::V4(network) => Some((network.network().to_bits(), network.broadcast().to_bits())),
            IpNet::V6(_) => None,
        });
        let v6 = networks.iter().filter_map(|network| match network {
            IpNet::V6(network) => Some((network.network().to_bits(), network.broadcast().to_bits())),
            IpNet::V4(_) => None,
        });
        Self {
            v4: joined(v4.collect(), |a| a.checked_add(1)),
            v6: joined(v6.collect(), |a| a.checked_add(1)),
        }
    }

    /// Whether it has no address.
    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether it has this address. An IPv4-mapped IPv6 address is the IPv4 address.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => among(&self.v4, address.to_bits()),
            IpAddr::V6(address) => among(&self.v6, address.to_bits()),
        }
    }
}

fn among<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind > 0 && address <= ranges[behind - 1].1
}

/// Sorted, with adjacent ranges merged.
fn joined<T: Copy + Ord>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if next(before.1).is_none_or(|next| first <= next) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined.into()
}

/// The networks of one entry.
fn networks(text: &str, found: &mut Vec<IpNet>) -> Result<(), Problem> {
    let words: &[&str] = match text {
        "all" => &["0.0.0.0/0", "::/0"],
        "private" => &PRIVATE,
        _ => {
            found.push(network(text)?);
            return Ok(());
        }
    };
    found.extend(words.iter().filter_map(|word| word.parse::<IpNet>().ok()));
    Ok(())
}

fn network(text: &str) -> Result<IpNet, Problem> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let Ok(network) = text.parse::<IpNet>() else {
        return Err(Problem::new(format!("`{text}` is neither an address nor a network"))
            .help("write an address, a network as in 10.0.0.0/8 or 2001:db8::/32, `private` or `all`"));
    };
    if network.addr() != network.network() {
        return Err(Problem::new(format!("`{text}` has bits set after its prefix"))
            .label(format!("write `{}`", network.trunc())));
    }
    Ok(network)
}

fn lines(settings: &Settings, file: &Placed<String>, found: &mut Vec<IpNet>) -> Result<(), Problem> {
    let source = settings.file(file, LARGEST_FILE)?;
    let at = |line: usize, why: String| {
        Problem::new(format!("line {} of `{}`: {why}", line + 1, file.value)).at(&file.place)
    };
    for (number, line) in source.bytes.split(|byte| *byte == b'\n').enumerate() {
        let text = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let text = str::from_utf8(text).map_err(|_| at(number, "it is not UTF-8".to_owned()))?.trim();
        if !text.is_empty() {
            networks(text, found).map_err(|problem| at(number, problem.message))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_sdk::testing::settings;
    use serde_json::{Value, json};

    #[derive(Deserialize)]
    struct TestSettings {
        list: Vec<NetworkEntry>,
    }

    fn read(list: &Value) -> Result<Networks, Problems> {
        let settings = settings(json!({ "list": list }));
        let written: TestSettings = settings.read()?;
        Networks::read(&settings, &written.list)
    }

    #[test]
    fn an_address_is_in_the_networks_that_have_it() {
        let list = json!([
            "10.0.0.0/8",
            "10.1.0.0/16",
            "11.0.0.0/8",
            "192.0.2.7",
            "2001:db8::/32",
            "::ffff:203.0.113.9"
        ]);
        let networks = read(&list).unwrap();
        assert_eq!(networks.v4.len(), 3, "adjacent networks are one range");
        for (address, inside) in [
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("11.255.255.255", true),
            ("12.0.0.0", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("203.0.113.9", true),
            ("::ffff:10.1.2.3", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::1", false),
        ] {
            assert_eq!(networks.contain(address.parse().unwrap()), inside, "{address}");
        }
    }

    #[test]
    fn keywords_are_networks() {
        let all = read(&json!(["all", "10.0.0.0/8", "::/0"])).unwrap();
        assert!(all.contain("255.255.255.255".parse().unwrap()) && all.contain("ffff::".parse().unwrap()));
        let private = read(&json!(["private"])).unwrap();
        assert!(private.contain("::1".parse().unwrap()) && private.contain("172.31.0.1".parse().unwrap()));
        assert!(!private.contain("172.32.0.1".parse().unwrap()));
        assert!(!read(&json!([])).unwrap().contain("::1".parse().unwrap()));
    }

    #[test]
    fn files_have_one_on_each_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list.txt");
        std::fs::write(&file, "# ours\n10.0.0.0/8 # all of it\n\r\n 192.0.2.1\r\n").unwrap();
        let networks = read(&json!([{ "file": file }, "::1"])).unwrap();
        assert!(["10.9.9.9", "192.0.2.1", "::1"].iter().all(|text| networks.contain(text.parse().unwrap())));
        std::fs::write(&file, "10.0.0.0/8\n10.0.0.1/8\n").unwrap();
        let problems = read(&json!([{ "file": file }])).err().unwrap();
        assert!(problems.0[0].message.starts_with("line 2 of `"), "{problems:?}");
        assert!(read(&json!([{ "file": "not/there" }])).is_err());
    }

    #[test]
    fn every_problem_has_a_suggestion() {
        let problems = read(&json!(["10.0.0.1/8", "10.0.0.0/33", "localhost", ""])).err().unwrap();
        assert_eq!(problems.0.len(), 4);
        assert_eq!(problems.0[0].label.as_deref(), Some("write `10.0.0.0/8`"));
    }
}
