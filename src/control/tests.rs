//! Tests of reloads that fail half-way.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;

fn live(file: &Path, port: u16) -> Arc<Live> {
    write(file, port);
    Arc::new(Live::start(file, Kinds { plugins: &[] }, Color::Never).expect("the file is right"))
}

fn write(file: &Path, port: u16) {
    std::fs::write(file, format!("access_log: off\nroutes: [{{ upstream: [127.0.0.1:{port}] }}]\n")).unwrap();
}

#[tokio::test]
async fn a_panic_in_a_reload_rejects_it_and_the_next_one_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("moongate.yaml");
    let live = live(&file, 1);
    live.wait_until_ready().await;
    write(&file, 2);
    live.panics_at_commit.store(true, Ordering::Relaxed);
    let refusal = live.reload().await.unwrap_err();
    assert!(refusal.report.contains("it panicked"), "{}", refusal.report);
    assert!(!live.last_reload().ok && live.generation() == 1);
    live.reload().await.unwrap();
    assert_eq!(live.generation(), 2);
}
