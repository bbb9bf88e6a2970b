//! Any bytes as a PROXY header: nothing panics, pieces are judged as the whole is, and an address that
//! was read is read again from what is written of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moongate::proxy_protocol::{Extent, LONGEST, extent, parse, write};
use moongate::spec::ProxyVersion;

fuzz_target!(|data: &[u8]| {
    let whole = extent(data);
    let first = (0..=data.len()).map(|cut| extent(&data[..cut])).find(|found| *found != Ok(Extent::Beyond));
    assert_eq!(first.unwrap_or(Ok(Extent::Beyond)), whole);
    let Ok(Extent::At(end)) = whole else { return };
    assert!(end <= LONGEST);
    let Some(Ok(told)) = data.get(..end).map(parse) else { return };
    let Some((source, destination)) = told.ends else { return };
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let again = parse(&write(version, Some((source, destination)))).ok().and_then(|told| told.ends);
        let (from, to) = again.expect("what is written is read");
        assert_eq!(from.ip().to_canonical(), source.ip().to_canonical());
        assert_eq!(to.ip().to_canonical(), destination.ip().to_canonical());
        assert_eq!((from.port(), to.port()), (source.port(), destination.port()));
    }
});
