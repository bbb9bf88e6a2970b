//! Tests of each balancer alone: members in, shares out, with seeded random numbers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod slow_start;

use super::*;
use crate::upstream::session_drain::DrainMoment;
use crate::upstream::slow_start::SlowStart;
use crate::upstream::testing::{members, settings};
use crate::upstream::tried_endpoints::TriedEndpoints;
use std::time::Duration;

/// A kind arranged for some members.
struct Table {
    members: Vec<Member>,
    balance: Box<dyn Balance>,
    slow: Option<SlowStart>,
}

impl Table {
    fn new(kind: &str, pairs: &[(&str, &str)], lines: &[&str]) -> Self {
        let members = members(lines);
        let balance = Kind::find(BALANCE, "balance kind", kind).unwrap();
        let balance = (balance.build)(&settings(pairs)).unwrap();
        let balance = balance.arrange(&Group { upstream: "web", members: &members });
        Self { members, balance, slow: None }
    }

    /// The members with a weight except `out`.
    fn set(&self, out: &[usize]) -> CandidateSet {
        let mut open = Open::with_room(self.members.len());
        for (index, member) in self.members.iter().enumerate() {
            if member.weight() > 0 && !out.contains(&index) {
                open.insert(index);
            }
        }
        CandidateSet::new(&self.members, open, self.slow)
    }

    /// Selects among all with a weight except `out`.
    fn choose(&self, out: &[usize], key: &[u8]) -> Option<usize> {
        let set = self.set(out);
        self.balance.choose(&Candidates::new(&self.members, &set, Exclusion::Nothing), key)
    }

    /// Selects for a retry after `tried`.
    fn choose_again(&self, tried: &[usize], key: &[u8]) -> Option<usize> {
        let set = self.set(&[]);
        let mut endpoints = TriedEndpoints::new();
        tried.iter().for_each(|index| endpoints.add(self.members[*index].endpoint()));
        let candidates = Candidates::new(&self.members, &set, Exclusion::TriedOrFull(&endpoints));
        self.balance.choose(&candidates.for_retry(true), key)
    }

    fn shares(&self, out: &[usize], rounds: usize) -> Vec<usize> {
        let mut shares = vec![0; self.members.len()];
        for round in 0..rounds {
            shares[self.choose(out, round.to_string().as_bytes()).unwrap()] += 1;
        }
        shares
    }
}

fn near(shares: &[usize], expected: &[usize], off: usize) {
    let close = shares.iter().zip(expected).all(|(share, expected)| share.abs_diff(*expected) <= off);
    assert!(close, "{shares:?} is not {expected:?} within {off}");
}

const THREE: &[&str] = &["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"];
const WEIGHED: &[&str] = &["127.0.0.1:1*5", "127.0.0.1:2*1", "127.0.0.1:3*0", "unix:/run/app*2"];

#[test]
fn every_kind_honours_weight_0_and_exclusion_and_selects_none_of_none() {
    for kind in BALANCE {
        let table = Table::new(kind.name, &[], WEIGHED);
        fastrand::seed(7);
        let shares = table.shares(&[0], 400);
        assert_eq!((shares[0], shares[2]), (0, 0), "{}", kind.name);
        assert!(shares[1] + shares[3] == 400, "{}", kind.name);
        assert_eq!(table.choose(&[0, 1, 3], b"k"), None, "{}", kind.name);
        assert_eq!(Table::new(kind.name, &[], &[]).choose(&[], b"k"), None, "{}", kind.name);
    }
}

#[test]
fn round_robin_takes_turns() {
    let table = Table::new("round_robin", &[], THREE);
    let turns: Vec<_> = (0..6).map(|_| table.choose(&[], b"").unwrap()).collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    assert_eq!(table.shares(&[1], 100), [50, 0, 50]);
}

#[test]
fn round_robin_spreads_weights_evenly() {
    let table = Table::new("round_robin", &[], &["127.0.0.1:1*5", "127.0.0.1:2*1", "127.0.0.1:3*1"]);
    let turns: Vec<_> = (0..7).map(|_| table.choose(&[], b"").unwrap()).collect();
    assert_eq!(turns, [0, 0, 0, 1, 0, 2, 0]);
    assert_eq!(table.shares(&[0], 100), [0, 50, 50], "the others share the load of the unavailable one");
}

#[test]
fn rotations_continue_over_changes_of_the_membership() {
    for kind in ["round_robin", "least_connections"] {
        let mut table = Table::new(kind, &[], THREE);
        let mut turns = Vec::new();
        for _ in 0..12 {
            turns.push(table.choose(&[], b"").unwrap());
            table.balance = table.balance.arrange(&Group { upstream: "web", members: &table.members });
        }
        assert_eq!(turns, [0, 1, 2].repeat(4), "{kind}");
    }
}

proptest::proptest! {
    /// A cycle of turns has the exact shares, from any turn on and for any weights.
    #[test]
    fn round_robin_shares_exactly(
        weights in proptest::collection::vec(0_usize..12, 2..30),
        out in proptest::collection::vec(0_usize..30, 0..4),
        turns in 0_usize..100,
    ) {
        let lines: Vec<_> = weights.iter().enumerate().map(|(n, weight)| format!("127.0.0.1:{}*{weight}", n + 1)).collect();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let table = Table::new("round_robin", &[], &lines);
        let expected: Vec<_> =
            weights.iter().enumerate().map(|(n, weight)| if out.contains(&n) { 0 } else { *weight }).collect();
        let cycle = expected.iter().sum();
        let set = table.set(&out);
        let candidates = Candidates::new(&table.members, &set, Exclusion::Nothing);
        for _ in 0..turns {
            table.balance.choose(&candidates, b"");
        }
        let mut shares = vec![0; weights.len()];
        for _ in 0..cycle {
            shares[table.balance.choose(&candidates, b"").unwrap()] += 1;
        }
        proptest::prop_assert_eq!(shares, expected);
    }
}

#[test]
fn retries_do_not_move_the_rotation_of_first_attempts() {
    for (kind, lines) in [
        ("round_robin", THREE),
        ("round_robin", &["127.0.0.1:1*2", "127.0.0.1:2*1", "127.0.0.1:3*1"]),
        ("least_connections", THREE),
    ] {
        let (calm, disturbed) = (Table::new(kind, &[], lines), Table::new(kind, &[], lines));
        let mut retried = [0; 3];
        for _ in 0..24 {
            let first = disturbed.choose(&[], b"").unwrap();
            assert_eq!(calm.choose(&[], b""), Some(first), "{kind}");
            let again = disturbed.choose_again(&[0], b"").unwrap();
            retried[again] += 1;
        }
        assert_eq!(retried, [0, 12, 12], "{kind}: retries are spread too");
    }
}

#[test]
fn random_follows_the_weights() {
    fastrand::seed(42);
    let shares = Table::new("random", &[], WEIGHED).shares(&[], 8000);
    near(&shares, &[5000, 1000, 0, 2000], 150);
}

#[test]
fn least_connections_fills_the_emptiest_for_its_weight() {
    let table = Table::new("least_connections", &[], WEIGHED);
    for round in 1..=80 {
        let chosen = table.choose(&[], b"").unwrap();
        table.members[chosen].endpoint().enter();
        assert_eq!(table.members.iter().map(Member::active).sum::<usize>(), round);
    }
    let active: Vec<_> = table.members.iter().map(Member::active).collect();
    assert_eq!(active, [50, 10, 0, 20]);
    for _ in 0..30 {
        table.members[0].endpoint().leave();
    }
    assert_eq!(table.shares(&[], 10), [10, 0, 0, 0], "20 of 5 is less than 10 of 1");
}

#[test]
fn least_connections_shares_an_idle_cluster_by_weight() {
    let table = Table::new("least_connections", &[], WEIGHED);
    assert_eq!(table.shares(&[], 80), [50, 10, 0, 20]);
}

#[test]
fn p2c_avoids_the_slow_and_the_busy() {
    fastrand::seed(1);
    let table = Table::new("p2c", &[], THREE);
    // Averages decay: the first two are equal only if they are recorded in the same millisecond.
    loop {
        for (member, ms) in table.members.iter().zip([5, 5, 500]) {
            member.endpoint().record_latency(Duration::from_millis(ms));
        }
        let [first, second] = [0, 1].map(|index| table.members[index].latency());
        if first.to_bits() == second.to_bits() {
            break;
        }
    }
    let shares = table.shares(&[], 3000);
    assert_eq!(shares[2], 0, "the slow one loses against both");
    near(&shares, &[1500, 1500, 0], 150);
    for _ in 0..3 {
        table.members[0].endpoint().enter();
    }
    assert_eq!(table.shares(&[2], 50), [0, 50, 0], "four times as busy");
}

#[test]
fn p2c_compares_pairs_of_those_that_a_request_does_not_exclude() {
    fastrand::seed(5);
    let lines = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4", "127.0.0.1:5*0", "127.0.0.1:6"];
    let table = Table::new("p2c", &[], &lines);
    for (member, ms) in table.members.iter().zip([500, 50, 5]) {
        member.endpoint().record_latency(Duration::from_millis(ms));
    }
    let mut shares = [0; 6];
    (0..9000).for_each(|_| shares[table.choose_again(&[3, 5], b"").unwrap()] += 1);
    near(&shares, &[0, 3000, 6000, 0, 0, 0], 200);
    // With a probability of 0.03 the only one of five is not drawn: the caller lists it then.
    let alone: Vec<_> = (0..1000).filter_map(|_| table.choose_again(&[0, 1, 3, 5], b"")).collect();
    assert!(alone.len() > 930 && alone.iter().all(|index| *index == 2), "{}", alone.len());
    near(&table.shares(&[3, 5], 9000), &[0, 3000, 6000, 0, 0, 0], 200);
}

#[test]
fn p2c_does_not_rush_to_a_new_endpoint() {
    let table = Table::new("p2c", &[], &["127.0.0.1:1", "127.0.0.1:2"]);
    table.members[0].endpoint().record_latency(Duration::from_millis(5));
    assert_eq!(table.choose(&[], b""), Some(1), "its first request is welcome");
    table.members[1].endpoint().enter();
    assert_eq!(table.shares(&[], 20), [20, 0], "the next ones wait for what that one says");
}

#[test]
fn p2c_fills_by_weight_when_all_are_equally_fast() {
    fastrand::seed(3);
    let table = Table::new("p2c", &[], &["127.0.0.1:1*3", "127.0.0.1:2*1"]);
    for _ in 0..40 {
        table.members[table.choose(&[], b"").unwrap()].endpoint().enter();
    }
    near(&table.members.iter().map(Member::active).collect::<Vec<_>>(), &[30, 10], 1);
}

#[test]
fn consistent_hash_follows_the_weights_also_of_unix_sockets() {
    let shares = Table::new("consistent_hash", &[], WEIGHED).shares(&[], 8000);
    near(&shares, &[5000, 1000, 0, 2000], 600);
}

#[test]
fn consistent_hash_moves_only_the_keys_of_a_removed_endpoint() {
    let table = Table::new("consistent_hash", &[], THREE);
    let fewer = Table::new("consistent_hash", &[], &THREE[..2]);
    let mut moved = 0;
    for n in 0..3000 {
        let key = format!("session-{n}");
        let before = table.choose(&[], key.as_bytes()).unwrap();
        let out = table.choose(&[2], key.as_bytes()).unwrap();
        let gone = fewer.choose(&[], key.as_bytes()).unwrap();
        assert_eq!(out, gone, "out for a while and gone for good send a key to the same place");
        if before == 2 {
            moved += 1;
        } else {
            assert_eq!(before, out, "{key} was not the leaver's");
        }
    }
    assert!((700..1300).contains(&moved), "{moved} of 3000");
}

#[test]
fn consistent_hash_bears_the_heaviest_weights() {
    let lines: Vec<_> = (1..=20).map(|n| format!("127.0.0.{n}:80*{}", 900 + n * 5)).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let shares = Table::new("consistent_hash", &[], &lines).shares(&[], 4000);
    assert!(shares.iter().all(|share| *share > 100), "{shares:?}");
}

#[test]
fn settings_are_checked() {
    let refused: &[(&str, &[(&str, &str)])] = &[
        ("round_robin", &[("key", "path")]),
        ("consistent_hash", &[("key", "clientip")]),
        ("consistent_hash", &[("keys", "path")]),
        ("sticky", &[("cookie", "a b")]),
        ("sticky", &[("path", "x;y")]),
        ("sticky", &[("cookie", "__Secure-seat")]),
        ("sticky", &[("cookie", "__host-seat"), ("secure", "true"), ("path", "/app")]),
        ("sticky", &[("same_site", "none")]),
        ("sticky", &[("max_age", "0s")]),
        ("sticky", &[("max_age", "900ms")]),
        ("sticky", &[("fallback", "sticky")]),
        ("sticky", &[("fallback", "consistent_hash")]),
        ("sticky", &[("fallback", "nothing")]),
    ];
    for (kind, pairs) in refused {
        let found = Kind::find(BALANCE, "balance kind", kind).unwrap();
        let problems = (found.build)(&settings(pairs)).err().expect("refused");
        assert!(problems.0.iter().all(|problem| problem.place.is_some()), "{kind} {pairs:?}: {problems:?}");
    }
}

const SECRET: &[(&str, &str)] =
    &[("secret", "between the two of us"), ("same_site", "lax"), ("max_age", "1h")];

/// The cookie that ties a client to a member.
fn cookie(table: &Table, index: usize) -> Vec<u8> {
    let (line, moment) = table.balance.set_cookie(table.members[index].endpoint(), b"").unwrap();
    let line = line.to_str().unwrap();
    let (pair, attributes) = line.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
    let value = pair.strip_prefix(&format!("{}=", cookie::default_name("web"))).unwrap();
    assert_eq!(table.balance.drain_moment(value.as_bytes()), Some(moment), "the session is in the cookie");
    value.into()
}

#[test]
fn sticky_brings_a_client_back_also_through_another_gateway() {
    let (here, there) = (Table::new("sticky", SECRET, THREE), Table::new("sticky", SECRET, THREE));
    for index in 0..3 {
        let tag = cookie(&here, index);
        for _ in 0..5 {
            assert_eq!(there.choose(&[], &tag), Some(index));
        }
        let set_cookie = |index: usize| there.balance.set_cookie(there.members[index].endpoint(), &tag);
        assert_eq!(set_cookie(index), None, "it has its cookie");
        assert!(set_cookie((index + 1) % 3).is_some(), "it moved");
        assert_eq!(there.balance.member_of(&tag), Some(index));
        assert_ne!(there.choose(&[index], &tag), Some(index), "its endpoint is out");
    }
}

#[test]
fn sticky_keeps_the_cookies_of_endpoints_that_stay_and_of_those_that_return() {
    let lines: Vec<_> = (1..=40).map(|n| format!("127.0.0.1:{n}")).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let mut table = Table::new("sticky", SECRET, &lines);
    let cookies: Vec<_> = (0..40).map(|index| cookie(&table, index)).collect();
    let all = table.members.clone();
    let arrange = |table: &mut Table, members: &[Member]| {
        table.balance = table.balance.arrange(&Group { upstream: "web", members });
        members.clone_into(&mut table.members);
    };
    arrange(&mut table, &all[30..]);
    assert_eq!(table.balance.member_of(&cookies[35]), Some(5));
    assert_eq!(table.balance.member_of(&cookies[0]), None);
    assert_eq!(table.balance.set_cookie(all[0].endpoint(), b""), None, "it is no member");
    arrange(&mut table, &all);
    for (index, cookie) in cookies.iter().enumerate() {
        assert_eq!(table.balance.member_of(cookie), Some(index));
    }
    // A later endpoint at the address has the tag of the one before.
    let later = members(&lines);
    arrange(&mut table, &later);
    assert!(cookies.iter().enumerate().all(|(index, cookie)| table.balance.member_of(cookie) == Some(index)));
}

#[test]
fn sticky_ignores_what_it_did_not_sign() {
    let table = Table::new("sticky", SECRET, THREE);
    let other = Table::new("sticky", &[("secret", "another")], THREE);
    let (foreign, _) = other.balance.set_cookie(other.members[0].endpoint(), b"").unwrap();
    let foreign = foreign.to_str().unwrap().split([';', '=']).nth(1).unwrap().to_owned();
    for forged in [foreign.as_str(), "", "0", "127.0.0.1:1", "\u{0}"] {
        let chosen: Vec<_> = (0..3).map(|_| table.choose(&[], forged.as_bytes()).unwrap()).collect();
        assert_eq!(chosen.iter().sum::<usize>(), 3, "the fallback takes turns: {chosen:?}");
    }
}

#[test]
fn sessions_are_tied_only_to_their_endpoint() {
    let table = Table::new("sticky", SECRET, THREE);
    let value = cookie(&table, 1);
    let tag = &value[..value.iter().position(|byte| *byte == b'.').unwrap()];
    assert_eq!(table.balance.drain_moment(tag), Some(DrainMoment::LAST), "a cookie without a session");
    assert_eq!(table.balance.member_of(tag), Some(1));
    for unsigned in [&b""[..], b".", b".AA", b"x.AA"] {
        assert_eq!(table.balance.drain_moment(unsigned), None);
        assert_eq!(table.balance.member_of(unsigned), None);
    }
    let sessions: std::collections::HashSet<_> = (0..64).map(|_| cookie(&table, 1)).collect();
    assert!(sessions.len() > 32, "sessions of one endpoint differ");
}

#[test]
fn sticky_without_a_secret_warns_and_is_stable_within_the_process() {
    let (one, two) = (Table::new("sticky", &[], THREE), Table::new("sticky", &[], THREE));
    let (line, _) = one.balance.set_cookie(one.members[1].endpoint(), b"").unwrap();
    let value = line.to_str().unwrap().split([';', '=']).nth(1).unwrap();
    assert_eq!(two.balance.member_of(value.as_bytes()), Some(1));
    assert_eq!(one.balance.advice().unwrap().severity, moongate_config::Severity::Warning);
    assert_eq!(Table::new("sticky", SECRET, THREE).balance.advice(), None);
}

#[test]
fn every_upstream_has_a_cookie_of_its_own_unless_one_is_named() {
    let kind = Kind::find(BALANCE, "balance kind", "sticky").unwrap();
    let name = |pairs: &[(&str, &str)], upstream: &str| {
        (kind.build)(&settings(pairs)).unwrap().cookie(upstream).unwrap().name
    };
    let names = ["web", "chat", "routes[0]", "a b;c=d", "bücher"].map(|upstream| name(SECRET, upstream));
    for (index, found) in names.iter().enumerate() {
        assert!(http::HeaderName::try_from(&**found).is_ok(), "{found} is a token");
        assert!(!names[..index].contains(found), "{names:?}");
        assert_eq!(*found, name(SECRET, ["web", "chat", "routes[0]", "a b;c=d", "bücher"][index]));
    }
    assert_eq!(&*name(&[("cookie", "seat")], "web"), "seat");
}

#[test]
fn every_kind_has_a_description() {
    let mut names: Vec<_> = BALANCE.iter().map(|kind| kind.name).collect();
    assert!(BALANCE.iter().all(|kind| !kind.about.is_empty()));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), BALANCE.len());
}
