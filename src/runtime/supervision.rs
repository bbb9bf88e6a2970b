//! Supervision of long-lived tasks: a task that panics is restarted with backoff, logged and counted.

use crate::telemetry::metrics;
use log::error;
use moongate_sdk::{CaughtFuture, call_caught};
use std::future::Future;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// The pauses before a restart; each is twice the previous one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// The first pause, also after a run longer than `longest`.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Backoff {
    /// For tasks whose restart is cheap.
    pub(crate) const SOON: Self = Self { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
}

/// Starts a supervised task of this kind for `object`. It ends on return or abort.
pub(crate) fn spawn<W: Future<Output = ()> + Send + 'static>(
    task: &'static str,
    object: impl Into<String>,
    work: impl FnMut() -> W + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(keep(task, object.into(), Backoff::SOON, work))
}

/// Runs the work until it returns, and restarts it after a panic. Dropping the future ends it.
pub(crate) async fn keep<W: Future<Output = ()>>(
    task: &'static str,
    object: String,
    backoff: Backoff,
    mut work: impl FnMut() -> W,
) {
    let mut pause = backoff.first;
    loop {
        let begun = Instant::now();
        if let Some(work) = call_caught(|| Box::pin(work()))
            && CaughtFuture::new(work).await.is_some()
        {
            return;
        }
        if begun.elapsed() > backoff.longest {
            pause = backoff.first;
        }
        metrics::global().tasks().restarted(task);
        // The panic's message is already on standard error.
        error!(task, object = object.as_str(), again_in_seconds = pause.as_secs(); "task panicked");
        sleep(pause).await;
        pause = (pause * 2).min(backoff.longest);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "these tests are about panics")]
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use tokio::sync::Notify;

    #[tokio::test(start_paused = true)]
    async fn a_panicking_task_is_restarted_with_growing_pauses() {
        let begun = Arc::new(std::sync::Mutex::new(Vec::new()));
        let times = Arc::clone(&begun);
        let work = move || {
            let times = Arc::clone(&times);
            async move {
                let number = {
                    let mut times = times.lock().unwrap();
                    times.push(Instant::now());
                    times.len()
                };
                tokio::task::yield_now().await;
                assert!(number > 4, "intended panic");
            }
        };
        spawn("testing_backoff", "x", work).await.unwrap();
        let begun = begun.lock().unwrap();
        let pauses: Vec<_> = begun.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8]);
        let text = metrics::render(metrics::TextFormat::Classic);
        assert!(text.contains("moongate_task_restarts_total{task=\"testing_backoff\"} 4"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_before_the_first_await_is_handled() {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        spawn("testing", "y", move || {
            assert!(count.fetch_add(1, SeqCst) > 0, "intended panic");
            std::future::ready(())
        })
        .await
        .unwrap();
        assert_eq!(calls.load(SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_run_resets_the_pause() {
        let begun = Arc::new(std::sync::Mutex::new(Vec::new()));
        let times = Arc::clone(&begun);
        let work = move || {
            let times = Arc::clone(&times);
            async move {
                let number = {
                    let mut times = times.lock().unwrap();
                    times.push(Instant::now());
                    times.len()
                };
                if number == 3 {
                    sleep(Duration::from_secs(600)).await;
                }
                assert!(number > 3, "intended panic");
            }
        };
        spawn("testing", "z", work).await.unwrap();
        let begun = begun.lock().unwrap();
        assert_eq!((begun[3] - begun[2]).as_secs(), 601);
    }

    #[tokio::test]
    async fn an_aborted_task_ends() {
        let dropped = Arc::new(Notify::new());
        struct NotifyOnDrop(Arc<Notify>);
        impl Drop for NotifyOnDrop {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        let tell = Arc::clone(&dropped);
        let task = spawn("testing", "w", move || {
            let tell = NotifyOnDrop(Arc::clone(&tell));
            async move {
                let _tell = tell;
                std::future::pending::<()>().await;
            }
        });
        tokio::task::yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        dropped.notified().await;
    }
}
