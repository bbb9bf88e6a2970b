//! Tests of background work, with plugins that do nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use crate::control::{Live, ReloadCause};
use crate::diagnostics::Color;
use crate::snapshot::Kinds;
use moongate_config::{Kind, Problems, Settings};
use moongate_sdk::{Background, Phases, Plugin, Services};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::sync::Notify;

/// The events of one kind's background work.
struct Events {
    begun: AtomicUsize,
    ended: AtomicUsize,
    panics: AtomicUsize,
    changed: Notify,
}

impl Events {
    const fn new(panics: usize) -> Self {
        Self {
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            panics: AtomicUsize::new(panics),
            changed: Notify::const_new(),
        }
    }

    async fn await_counts(&self, begun: usize, ended: usize) {
        while (self.begun.load(SeqCst), self.ended.load(SeqCst)) != (begun, ended) {
            self.changed.notified().await;
        }
    }
}

/// Records its drop.
struct End(&'static Events);

impl Drop for End {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, SeqCst);
        self.0.changed.notify_one();
    }
}

struct Worker(&'static Events);

impl Plugin for Worker {
    fn phases(&self) -> Phases {
        Phases::default()
    }

    fn background(&self, services: &Arc<dyn Services>) -> Option<Background> {
        let (events, services) = (self.0, Arc::clone(services));
        Some(Box::pin(async move {
            events.begun.fetch_add(1, SeqCst);
            let _end = End(events);
            assert!(services.has_upstream("web"));
            events.changed.notify_one();
            let left = events.panics.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
            assert!(left.is_err(), "as the test wants");
            std::future::pending::<()>().await;
        }))
    }
}

static STEADY: Events = Events::new(0);
static SHAKY: Events = Events::new(2);

fn steady(_: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    Ok(Box::new(Worker(&STEADY)))
}

fn shaky(_: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    Ok(Box::new(Worker(&SHAKY)))
}

const KINDS: &[Kind<dyn Plugin>] = &[
    Kind { name: "steady", about: "Works.", schema: |_| true.into(), build: steady },
    Kind { name: "shaky", about: "Panics twice.", schema: |_| true.into(), build: shaky },
];

fn yaml(plugins: &str) -> String {
    format!(
        "upstreams: {{ web: {{ endpoints: [127.0.0.1:9] }} }}\nroutes: [{{ upstream: web, plugins: [{plugins}] }}]\n"
    )
}

async fn live(file: &std::path::Path, plugins: &str) -> Arc<Live> {
    std::fs::write(file, yaml(plugins)).unwrap();
    let live = Live::start(file, Kinds { plugins: KINDS }, Color::Never).expect("the file is right");
    let live = Arc::new(live);
    live.wait_until_ready().await;
    live
}

#[tokio::test]
async fn work_lives_as_long_as_a_generation_has_its_entry() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("moongate.yaml");
    let live = live(&file, "{ kind: steady, a: 1 }").await;
    STEADY.await_counts(1, 0).await;
    // Kept with its entry, beside a new one.
    std::fs::write(&file, yaml("{ kind: steady, a: 1 }, { kind: steady, a: 2 }")).unwrap();
    live.reload(ReloadCause::Api).await.unwrap();
    STEADY.await_counts(2, 0).await;
    // A rejected generation changes nothing.
    std::fs::write(&file, "routes: [{ upstream: nobody }]\n").unwrap();
    live.reload(ReloadCause::Api).await.unwrap_err();
    std::fs::write(&file, yaml("{ kind: steady, a: 2 }")).unwrap();
    live.reload(ReloadCause::Api).await.unwrap();
    STEADY.await_counts(2, 1).await;
    std::fs::write(&file, yaml("")).unwrap();
    live.reload(ReloadCause::Api).await.unwrap();
    STEADY.await_counts(2, 2).await;
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_is_begun_again_later_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let begun = tokio::time::Instant::now();
    let _live = live(&folder.path().join("moongate.yaml"), "shaky").await;
    SHAKY.await_counts(3, 2).await;
    assert_eq!(begun.elapsed().as_secs(), 3, "one second, then two");
}
