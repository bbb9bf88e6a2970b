//! Claims about the registry and the pace of a drain.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use std::sync::Mutex as StdMutex;
use std::task::Wake;

const WINDOW: Duration = Duration::from_secs(10);

/// Notes the moment at which it is woken.
struct Clock {
    began: Instant,
    woken: StdMutex<Option<Duration>>,
}

impl Wake for Clock {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = Some(self.began.elapsed());
    }
}

fn join(registry: &Arc<Registry>, endpoint: u64, route: &str) -> (Membership, Arc<Clock>) {
    let membership = registry.join(endpoint, route.into());
    let clock = Arc::new(Clock { began: Instant::now(), woken: StdMutex::new(None) });
    membership.listen(&Waker::from(clock.clone()));
    (membership, clock)
}

#[tokio::test(start_paused = true)]
async fn the_curve_of_a_drain_is_flat() {
    let registry = Arc::<Registry>::default();
    let members: Vec<_> = (0..5_000).map(|_| join(&registry, 1, "a")).collect();
    assert_eq!(registry.drain(Filter::All, WINDOW, Cause::Shutdown).await, 5_000);
    let mut slots = [0; 100];
    for (membership, clock) in &members {
        assert_eq!(membership.order(), Some(Cause::Shutdown));
        let moment = clock.woken.lock().unwrap().unwrap();
        slots[(moment.as_millis() as usize / 100).min(99)] += 1;
    }
    let share = 5_000 / slots.len();
    assert!(slots.iter().all(|slot| *slot <= 2 * share && *slot > 0), "{slots:?}");
}

#[tokio::test(start_paused = true)]
async fn only_those_meant_are_asked() {
    let registry = Arc::<Registry>::default();
    let (one, _) = join(&registry, 1, "a");
    let (two, _) = join(&registry, 2, "a");
    let (three, _) = join(&registry, 2, "b");
    assert_eq!(registry.drain(Filter::Endpoint(1), WINDOW, Cause::Endpoint).await, 1);
    assert_eq!([one.order(), two.order(), three.order()], [Some(Cause::Endpoint), None, None]);
    assert_eq!(registry.drain(Filter::Route("b".into()), WINDOW, Cause::Route).await, 1);
    assert_eq!([two.order(), three.order()], [None, Some(Cause::Route)]);
    assert_eq!(registry.drain(Filter::All, WINDOW, Cause::Shutdown).await, 1);
    assert_eq!(one.order(), Some(Cause::Endpoint));
}

#[tokio::test(start_paused = true)]
async fn one_that_joins_during_the_window_is_asked_at_its_end() {
    let registry = Arc::<Registry>::default();
    let _first = join(&registry, 1, "a");
    let drain = tokio::spawn(registry.drain(Filter::All, WINDOW, Cause::Shutdown));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (late, _) = join(&registry, 1, "a");
    assert_eq!(drain.await.unwrap(), 2);
    assert_eq!(late.order(), Some(Cause::Shutdown));
}

#[tokio::test]
async fn the_last_to_leave_is_noticed() {
    let registry = Arc::<Registry>::default();
    registry.wait_empty().await;
    let members: Vec<_> = (0..100).map(|_| registry.join(1, "a".into())).collect();
    assert_eq!(registry.len(), 100);
    let waiting = tokio::spawn({
        let registry = registry.clone();
        async move { registry.wait_empty().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(members);
    waiting.await.unwrap();
    assert!(registry.is_empty());
}

#[test]
fn a_place_is_used_again() {
    let registry = Arc::<Registry>::default();
    for _ in 0..1_000 {
        drop(registry.join(1, "a".into()));
    }
    assert!(registry.shards.iter().all(|shard| shard.lock().members.len() <= 1));
}
