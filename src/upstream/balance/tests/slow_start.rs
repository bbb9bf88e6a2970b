//! Tests of each balancer with a new endpoint, at a passed time.

use super::*;

const OVER: u64 = 30_000;
const CAME: u64 = 1000;

impl Table {
    /// The member at `index` joined at [`CAME`], and `since` milliseconds have passed.
    fn with_newcomer(mut self, index: usize, since: u64) -> Self {
        self.members[index].endpoint().join_time().begin(CAME);
        self.at(since);
        self
    }

    fn at(&mut self, since: u64) {
        let slow = SlowStart::at(CAME + since, OVER);
        self.slow = self.members.iter().any(|member| slow.is_new(member.endpoint())).then_some(slow);
    }

    fn hold(&self, index: usize, count: usize) {
        (0..count).for_each(|_| self.members[index].endpoint().enter());
    }

    /// Opens `count` connections that stay open; returns the members' counts.
    fn open(&self, count: usize) -> Vec<usize> {
        for _ in 0..count {
            self.hold(self.choose(&[], b"").unwrap(), 1);
        }
        self.members.iter().map(Member::active).collect()
    }
}

#[test]
fn round_robin_counts_a_new_endpoint_with_its_current_weight() {
    let table = Table::new("round_robin", &[], THREE).with_newcomer(2, 0);
    assert_eq!(table.shares(&[], 2100), [1000, 1000, 100]);
    let mut table =
        Table::new("round_robin", &[], &["127.0.0.1:1*4", "127.0.0.1:2*2"]).with_newcomer(1, 15_000);
    assert_eq!(table.shares(&[], 500), [400, 100]);
    table.at(OVER);
    assert_eq!(table.shares(&[], 600), [400, 200]);
}

#[test]
fn random_counts_it_likewise() {
    fastrand::seed(42);
    let table = Table::new("random", &[], THREE).with_newcomer(2, 15_000);
    near(&table.shares(&[], 5000), &[2000, 2000, 1000], 120);
}

#[test]
fn least_connections_does_not_overload_a_new_endpoint() {
    fastrand::seed(42);
    let table = Table::new("least_connections", &[], THREE);
    table.hold(0, 1000);
    table.hold(1, 1000);
    assert_eq!(table.open(100), [1000, 1000, 100], "without slow start it gets all of them");
    let table = Table::new("least_connections", &[], THREE).with_newcomer(2, 0);
    table.hold(0, 1000);
    table.hold(1, 1000);
    let counts = table.open(2100);
    assert!((60..=100).contains(&counts[2]), "a tenth of a weight's share of new connections: {counts:?}");
    assert!(counts[0].abs_diff(counts[1]) <= 1, "the others share the rest: {counts:?}");
    // With few connections, the part of the weight bounds the held connections too.
    let table = Table::new("least_connections", &[], THREE).with_newcomer(2, 0);
    table.hold(0, 20);
    table.hold(1, 20);
    let counts = table.open(60);
    assert!(counts[2] <= 5, "{counts:?}");
}

/// 3000 clients reconnect over 30 s during the slow start of a third endpoint. In every tenth of that time
/// the endpoint receives at most its share. Afterwards it is filled up as `least_connections` does.
#[test]
fn a_new_endpoint_of_least_connections_grows_steadily_and_is_then_filled() {
    fastrand::seed(42);
    let mut table = Table::new("least_connections", &[], THREE).with_newcomer(2, 0);
    table.hold(0, 5000);
    table.hold(1, 5000);
    let (mut last, mut slots) = (0, Vec::new());
    for slot in 0..10 {
        for n in 0..300 {
            table.at(slot * 3000 + n * 10);
            table.open(1);
        }
        slots.push(table.members[2].active() - last);
        last = table.members[2].active();
    }
    for (got, slot) in slots.iter().zip(1..) {
        // The part at the slot's end, of the sum of the shares, plus three standard deviations.
        let part = f64::from(slot) / 10.0;
        let most = 300.0 * part / (2.0 + part);
        assert!((*got as f64) < most + 3.0 * most.sqrt(), "slot {slot}: {slots:?}");
    }
    assert!(slots[9] > 3 * slots[0], "{slots:?}");
    table.at(OVER);
    assert!(table.slow.is_none());
    let before = table.members[2].active();
    assert_eq!(table.open(50)[2], before + 50);
}

#[test]
fn p2c_does_not_treat_an_unmeasured_endpoint_as_the_fastest() {
    fastrand::seed(42);
    let measured = |table: &Table| {
        for index in [0, 1] {
            table.members[index].endpoint().record_latency(Duration::from_millis(1));
            table.hold(index, 10);
        }
    };
    let plain = Table::new("p2c", &[], THREE);
    measured(&plain);
    assert!(plain.shares(&[], 1000)[2] > 600, "two pairs of three have it, and it wins both");
    let table = Table::new("p2c", &[], THREE).with_newcomer(2, 0);
    measured(&table);
    assert!(table.shares(&[], 2100)[2] <= 140, "a tenth of a weight's share: 100 of 2100");
}

#[test]
fn where_a_key_belongs_does_not_change_for_a_newcomer() {
    let keys: Vec<_> = (0..200).map(|n| n.to_string()).collect();
    let choices =
        |table: &Table| -> Vec<_> { keys.iter().map(|key| table.choose(&[], key.as_bytes())).collect() };
    let is_started = Table::new("consistent_hash", &[], THREE);
    let growing = Table::new("consistent_hash", &[], THREE).with_newcomer(1, 0);
    assert_eq!(choices(&is_started), choices(&growing));

    let sticky = Table::new("sticky", &[("secret", "s3cret")], THREE).with_newcomer(1, 0);
    let line = sticky.balance.set_cookie(sticky.members[1].endpoint(), b"").unwrap();
    let tag = line.0.to_str().unwrap().split(['=', ';']).nth(1).unwrap().to_owned();
    assert!((0..50).all(|_| sticky.choose(&[], tag.as_bytes()) == Some(1)), "who belongs there comes back");
    fastrand::seed(42);
    sticky.hold(0, 1000);
    sticky.hold(2, 1000);
    assert!(sticky.open(100)[1] <= 12, "the fallback spares the new endpoint");
}

#[test]
fn new_endpoints_share_among_themselves_as_usual() {
    fastrand::seed(42);
    for kind in ["round_robin", "random", "least_connections"] {
        let table = Table::new(kind, &[], WEIGHED).with_newcomer(0, 0);
        for member in &table.members {
            member.endpoint().join_time().begin(CAME);
        }
        near(&table.shares(&[], 8000), &[5000, 1000, 0, 2000], 150);
    }
}

#[test]
fn a_new_endpoint_is_chosen_when_no_other_is_left() {
    for kind in BALANCE {
        let table = Table::new(kind.name, &[], THREE).with_newcomer(2, 0);
        assert!((0..50).all(|_| table.choose(&[0, 1], b"k") == Some(2)), "{}", kind.name);
    }
}
