//! Certificate watcher: reloads changed certificate files without a signal, if they are valid.
//!
//! Tools that renew certificates rarely send a signal. The files are read again every few seconds, outside
//! the workers. A listener with changed files uses them for new connections; open connections keep theirs. A
//! problem with new files is logged once, and the old ones stay in use. A hung file system holds one thread
//! and is logged once too.

use super::Live;
use crate::diagnostics::{self, Color, Sources};
use crate::runtime::blocking_pool::ROTATION;
use crate::snapshot::Snapshot;
use crate::tls::RefreshOutcome;
use log::{info, warn};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// The minimum interval of reads.
const LOOK: Duration = Duration::from_secs(2);

/// At most 1/REST of the time is spent reading: thousands of files are read less often.
const REST: u32 = 50;

/// A read that takes longer is logged, since no other one starts until it ends.
const SLOW: Duration = Duration::from_secs(30);

/// Certificates that expire within this time are logged.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// The interval of that warning.
const AGAIN: Duration = Duration::from_secs(86_400);

/// Runs while the configuration is in use.
pub(super) async fn keep(live: Weak<Live>) {
    let mut warned = HashMap::new();
    let mut hung = None;
    loop {
        let Some(snapshot) = live.upgrade().map(|live| live.pin()) else { return };
        let began = Instant::now();
        warn_of_the_old(&snapshot, &mut warned);
        check_once(&mut hung, SLOW, move || check_files(&snapshot)).await;
        // While a read hangs, its end is checked frequently.
        let rest = if hung.is_some() { LOOK } else { LOOK.max(began.elapsed() * REST) };
        sleep(rest).await;
    }
}

/// Reads once, unless the previous read is still hung: a new one would hang in another thread.
async fn check_once(hung: &mut Option<JoinHandle<()>>, slow: Duration, look: impl FnOnce() + Send + 'static) {
    if hung.as_ref().is_some_and(|before| !before.is_finished()) {
        return;
    }
    if hung.take().is_some() {
        info!("certificate files readable again");
    }
    let mut look = tokio::spawn(async move {
        // A panic would be a bug of the watcher; the next read tries again.
        let _ = ROTATION.run(look).await;
    });
    if timeout(slow, &mut look).await.is_err() {
        warn!(seconds = slow.as_secs(); "certificate files not read: the file system does not respond");
        *hung = Some(look);
    }
}

fn check_files(snapshot: &Snapshot) {
    for (listener, tls) in snapshot.secure() {
        let report = |problems| diagnostics::render(&problems, &Sources::default(), Color::Never);
        match tls.look() {
            RefreshOutcome::Same => {}
            RefreshOutcome::Changed(warnings) => {
                info!(listener; "certificates reloaded");
                if !warnings.0.is_empty() {
                    warn!(listener; "certificates reloaded with warnings\n{}", report(warnings));
                }
            }
            RefreshOutcome::Refused(problems) => {
                warn!(listener; "new certificates rejected; previous ones kept\n{}", report(problems));
            }
        }
    }
}

/// Warns once a day of every certificate that expires soon.
fn warn_of_the_old(snapshot: &Snapshot, warned: &mut HashMap<(Arc<str>, String), Instant>) {
    warned.retain(|_, at| at.elapsed() < AGAIN);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
    for (listener, tls) in snapshot.secure() {
        for about in tls.certificates() {
            let left = about.not_after.saturating_sub(now);
            if left > SOON.as_secs() as i64 {
                continue;
            }
            let certificate = about.certificate.as_str();
            let key = (Arc::from(listener), about.serial.clone());
            if warned.contains_key(&key) {
                continue;
            }
            match left {
                0.. => warn!(listener, certificate, hours = left / 3600; "certificate expires soon"),
                _ => warn!(listener, certificate, hours = -left / 3600; "certificate expired"),
            }
            warned.insert(key, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_hung_read_is_the_only_one_until_it_ends() {
        let looks = Arc::new(AtomicUsize::new(0));
        let count = || {
            let looks = Arc::clone(&looks);
            move || {
                let _ = looks.fetch_add(1, SeqCst);
            }
        };
        let (end, ended) = mpsc::channel::<()>();
        let mut hung = None;
        check_once(&mut hung, Duration::from_millis(10), move || ended.recv().unwrap()).await;
        check_once(&mut hung, Duration::from_secs(20), count()).await;
        assert_eq!((hung.is_some(), looks.load(SeqCst)), (true, 0), "one at a time");
        end.send(()).unwrap();
        timeout(Duration::from_secs(20), hung.as_mut().unwrap()).await.unwrap().unwrap();
        check_once(&mut hung, Duration::from_secs(20), count()).await;
        assert_eq!((hung.is_some(), looks.load(SeqCst)), (false, 1), "and then again");
    }
}
