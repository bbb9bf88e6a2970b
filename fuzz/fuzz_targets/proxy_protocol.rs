//! Any bytes as a PROXY header: nothing panics, every split gives the same result, and a parsed address survives an
//! encoding and parsing again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moongate::config::ProxyVersion;
use moongate::net::proxy_protocol::{HeaderLength, LONGEST, extent, parse, write};

fuzz_target!(|data: &[u8]| {
    let whole = extent(data);
    let first =
        (0..=data.len()).map(|cut| extent(&data[..cut])).find(|found| *found != Ok(HeaderLength::Beyond));
    assert_eq!(first.unwrap_or(Ok(HeaderLength::Beyond)), whole);
    let Ok(HeaderLength::At(end)) = whole else { return };
    assert!(end <= LONGEST);
    let Some(Ok(header)) = data.get(..end).map(parse) else { return };
    let Some((source, destination)) = header.ends else { return };
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let reparsed =
            parse(&write(version, Some((source, destination)))).ok().and_then(|header| header.ends);
        let (from, to) = reparsed.expect("what is written is read");
        assert_eq!(from.ip().to_canonical(), source.ip().to_canonical());
        assert_eq!(to.ip().to_canonical(), destination.ip().to_canonical());
        assert_eq!((from.port(), to.port()), (source.port(), destination.port()));
    }
});
