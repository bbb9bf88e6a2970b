//! Tests of which endpoints are new to a cluster, and since when.

use super::*;

/// Endpoints in their slow start, by port.
fn new_ones(cluster: &Cluster) -> Vec<String> {
    let members = cluster.endpoint_set.current();
    let Some(slow) = members.slow_start() else { return Vec::new() };
    let new = members.as_slice().iter().filter(|member| slow.is_new(member.endpoint()));
    new.map(|member| member.endpoint().name().rsplit(':').next().unwrap().to_owned()).collect()
}

fn slow(lines: &[&str]) -> config::Upstream {
    config::Upstream { slow_start: Some(Period(Duration::from_secs(3600))), ..upstream(lines) }
}

fn probed(cluster: &Cluster, port: &str, well: bool) {
    let thresholds = cluster.schedule.unwrap().thresholds;
    let endpoint = cluster.endpoints().into_iter().find(|each| each.name().ends_with(port)).unwrap();
    for _ in 0..3 {
        endpoint.probed(well, Proof::Handshake, thresholds);
    }
}

#[test]
fn at_the_start_no_endpoint_is_new_and_after_a_reload_the_added_ones_are() {
    let first = build(&slow(&["127.0.0.1:81", "127.0.0.1:82"]), None);
    assert!(new_ones(&first).is_empty());
    let second = build(&slow(&["127.0.0.1:81", "127.0.0.1:82", "127.0.0.1:83"]), Some(&first));
    assert_eq!(new_ones(&second), ["83"]);
    let third = build(&slow(&["127.0.0.1:82", "127.0.0.1:83*2"]), Some(&second));
    assert_eq!(new_ones(&third), ["83"], "a reload does not end its time");
    let fourth = build(&slow(&["127.0.0.1:81", "127.0.0.1:82"]), Some(&third));
    assert_eq!(new_ones(&fourth), ["81"], "an endpoint that returns is new again");
    assert!(new_ones(&first).is_empty(), "building changes nothing that serves");
}

#[test]
fn without_the_setting_no_endpoint_is_new_until_a_reload_sets_it() {
    let first = build(&upstream(&["127.0.0.1:81"]), None);
    let second = build(&upstream(&["127.0.0.1:81", "127.0.0.1:82"]), Some(&first));
    assert!(new_ones(&second).is_empty());
    assert_eq!(new_ones(&build(&slow(&["127.0.0.1:81", "127.0.0.1:82"]), Some(&second))), ["82"]);
    let zero = config::Upstream { slow_start: Some(Period(Duration::ZERO)), ..slow(&["127.0.0.1:82"]) };
    assert!(new_ones(&build(&zero, Some(&second))).is_empty());
}

#[test]
fn an_endpoint_that_gets_a_weight_again_is_new() {
    let first = build(&slow(&["127.0.0.1:81", "127.0.0.1:82*0"]), None);
    let second = build(&slow(&["127.0.0.1:81*2", "127.0.0.1:82*0"]), Some(&first));
    assert!(new_ones(&second).is_empty());
    assert_eq!(new_ones(&build(&slow(&["127.0.0.1:81", "127.0.0.1:82*1"]), Some(&second))), ["82"]);
}

#[test]
fn a_recovered_endpoint_is_new_and_one_that_is_first_healthy_is_not() {
    let mut spec = slow(&["127.0.0.1:81", "127.0.0.1:82"]);
    spec.health_check = Some(kind("tcp", &[]));
    let cluster = build(&spec, None);
    probed(&cluster, ":81", true);
    probed(&cluster, ":82", true);
    assert!(new_ones(&cluster).is_empty(), "the first probes of a process make no endpoint new");
    probed(&cluster, ":82", false);
    probed(&cluster, ":82", true);
    assert_eq!(new_ones(&cluster), ["82"]);
    spec.endpoints.value.extend(upstream(&["127.0.0.1:83"]).endpoints.value);
    let next = build(&spec, Some(&cluster));
    let joined = |port: &str| {
        let endpoint = next.endpoints().into_iter().find(|each| each.name().ends_with(port)).unwrap();
        endpoint.joined_at(monotonic_millis::now())
    };
    assert_eq!(joined(":83"), u64::MAX, "its time begins with its first good probe");
    probed(&next, ":83", true);
    assert!(joined(":83") <= monotonic_millis::now());
    assert_eq!(new_ones(&next), ["82", "83"]);
    spec.health_check = Some(kind("tcp", &[("interval", "1s")]));
    assert_eq!(new_ones(&build(&spec, Some(&next))), ["82", "83"], "another check changes nothing of that");
}

#[test]
fn removing_a_health_check_leaves_no_endpoint_new_forever() {
    let mut spec = slow(&["127.0.0.1:81"]);
    spec.health_check = Some(kind("tcp", &[]));
    let probed = build(&spec, None);
    spec.endpoints.value.extend(upstream(&["127.0.0.1:82"]).endpoints.value);
    let waiting = build(&spec, Some(&probed));
    spec.health_check = None;
    let plain = build(&spec, Some(&waiting));
    assert!(
        plain
            .endpoints()
            .iter()
            .all(|endpoint| endpoint.joined_at(monotonic_millis::now()) <= monotonic_millis::now())
    );
}

#[test]
fn an_endpoint_that_was_ejected_is_new_when_it_is_back() {
    let mut spec = slow(&["127.0.0.1:81", "127.0.0.1:82"]);
    spec.passive_health.eject_for = Period(Duration::ZERO);
    let cluster = build(&spec, None);
    eject(&cluster, ":82");
    assert_eq!(new_ones(&cluster), ["82"], "its time outside is over");
    let endpoint = cluster.endpoints().into_iter().find(|each| each.name().ends_with(":82")).unwrap();
    Lease::new(endpoint, cluster.policy).record_latency(Duration::from_millis(1));
    assert_eq!(new_ones(&cluster), ["82"], "a response does not end the slow start");
    spec.passive_health.eject_for = Period(Duration::from_secs(3600));
    let long = build(&spec, None);
    eject(&long, ":81");
    assert!(new_ones(&long).is_empty(), "an ejected endpoint has not returned yet");
    Lease::new(Arc::clone(&long.endpoints()[0]), long.policy).record_latency(Duration::from_millis(1));
    assert_eq!(new_ones(&long), ["81"], "a response ended the ejection early");
}

#[tokio::test]
async fn later_addresses_of_a_name_are_new_and_the_first_ones_are_not() {
    let cluster = build(&slow(&["localhost:81", "127.0.0.9:83"]), None);
    let _running = started(&cluster).await;
    assert!(new_ones(&cluster).is_empty());
    let addresses = vec!["127.0.0.1:81".parse().unwrap(), "127.0.0.2:82".parse().unwrap()];
    cluster.source.learn("localhost", 81, &addresses);
    cluster.engine.update().await.unwrap();
    assert_eq!(new_ones(&cluster), ["82"]);
}
