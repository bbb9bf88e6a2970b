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
    let refusal = live.reload(ReloadCause::Api).await.unwrap_err();
    assert!(refusal.report.contains("the compilation panicked"), "{}", refusal.report);
    assert!(!live.last_reload().ok && live.generation() == 1);
    live.reload(ReloadCause::Api).await.unwrap();
    assert_eq!(live.generation(), 2);
}

#[tokio::test]
async fn only_a_committed_generation_has_series() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("moongate.yaml");
    let write = |name: &str, rest: &str| {
        std::fs::write(
            &file,
            format!(
                "access_log: off\nupstreams: {{ {name}: {{ endpoints: [127.0.0.1:1] }} }}\n\
                 routes: [{{ upstream: {name} }}]\n{rest}"
            ),
        )
        .unwrap();
    };
    let has_series =
        |name: &str| metrics::render(metrics::TextFormat::Classic).contains(&format!("upstream=\"{name}\""));
    write("checked_only", "");
    check(&file, Kinds { plugins: &[] }, Color::Never).expect("the file is right");
    assert!(!has_series("checked_only"));
    write("committed_first", "");
    let live = Arc::new(Live::start(&file, Kinds { plugins: &[] }, Color::Never).expect("the file is right"));
    live.wait_until_ready().await;
    assert!(has_series("committed_first"));
    write("refused", "unknown: 1\n");
    live.reload(ReloadCause::Api).await.unwrap_err();
    assert!(!has_series("refused") && has_series("committed_first"));
    write("committed_next", "");
    live.reload(ReloadCause::Api).await.unwrap();
    assert!(has_series("committed_next"));
}
