//! Tests of evictions.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;

/// A distinct client address for each number.
fn client(number: usize) -> IpAddr {
    IpAddr::from(u32::try_from(number).unwrap().to_be_bytes())
}

fn places(
    limit: &Arc<ConnectionLimit>,
    count: usize,
    client: impl Fn(usize) -> IpAddr,
) -> Vec<ConnectionSlot> {
    (0..count).map(|number| limit.admit(client(number)).place).collect()
}

/// The indices of the evicted connections.
fn evicted(places: &[ConnectionSlot]) -> Vec<usize> {
    let is_evicted = |place: &ConnectionSlot| {
        let mut waiting = Box::pin(place.evicted());
        waiting.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    };
    places.iter().enumerate().filter(|(_, place)| is_evicted(place)).map(|(index, _)| index).collect()
}

#[test]
fn a_new_connection_closes_the_oldest_that_is_unauthenticated() {
    let limit = ConnectionLimit::new(ClientTrust::Unauthenticated);
    let places = places(&limit, CONNECTIONS, client);
    places[0].authenticate();
    // The activity of an unauthenticated connection makes no difference.
    places[1].set(Activity::Sending);
    for expected in [vec![1], vec![2], vec![3]] {
        let admitted = limit.admit(client(999));
        assert_eq!(admitted.place.scope(), Scope::All);
        assert!(admitted.evicted.is_some());
        std::mem::forget(admitted.place);
        assert_eq!(evicted(&places), expected);
    }
}

#[test]
fn a_place_that_was_given_back_is_free() {
    let limit = ConnectionLimit::new(ClientTrust::Unauthenticated);
    let mut places = places(&limit, CONNECTIONS, client);
    places.remove(7);
    assert_eq!(limit.admit(client(999)).evicted, None);
    drop(places);
    assert!(limit.table.lock().ordinary.is_empty());
}

#[test]
fn a_client_with_more_than_its_share_closes_its_own_connections() {
    let limit = ConnectionLimit::new(ClientTrust::Unauthenticated);
    let (scraper, attacker) = (client(1), client(2));
    let places = places(&limit, CONNECTIONS, |number| if number < 4 { scraper } else { attacker });
    let next = [limit.admit(scraper), limit.admit(attacker)];
    assert!(next.iter().all(|admitted| admitted.evicted == Some(attacker)));
    assert_eq!(evicted(&places), [4, 5], "the oldest four are the scraper's");
}

#[test]
fn without_a_token_a_running_request_is_kept() {
    let limit = ConnectionLimit::new(ClientTrust::NoTokenConfigured);
    let places = places(&limit, CONNECTIONS, client);
    places[0].set(Activity::Processing);
    places[1].set(Activity::Sending);
    places[2].authenticate();
    let third = limit.admit(client(999));
    assert_eq!(evicted(&places), [2], "no token was checked, so nothing is authenticated");
    third.place.set(Activity::Processing);
    places[3..].iter().for_each(|place| place.set(Activity::Processing));
    let fourth = limit.admit(client(999));
    assert_eq!((evicted(&places), fourth.place.scope()), (vec![1], Scope::All), "the response is not read");
}

#[test]
fn probes_have_places_while_no_other_connection_may_be_closed() {
    let limit = ConnectionLimit::new(ClientTrust::Unauthenticated);
    let mut ordinary = places(&limit, CONNECTIONS, client);
    for place in &ordinary {
        place.authenticate();
        place.set(Activity::Processing);
    }
    let probes = places(&limit, PROBE_CONNECTIONS, client);
    assert!(probes.iter().all(|place| place.scope() == Scope::Probes));
    probes[0].authenticate();
    probes[0].set(Activity::Processing);
    let next = limit.admit(client(999));
    assert_eq!((next.place.scope(), evicted(&probes)), (Scope::Probes, vec![0]));
    assert!(evicted(&ordinary).is_empty());
    // A connection is idle after its response was sent.
    ordinary[9].set(Activity::Receiving);
    let admitted = limit.admit(client(999));
    assert_eq!((admitted.place.scope(), evicted(&ordinary)), (Scope::All, vec![9]));
    ordinary.clear();
    assert_eq!(limit.admit(client(999)).place.scope(), Scope::All);
}
