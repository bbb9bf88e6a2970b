//! Certificates that change on disk: noticed without a signal, and taken when nothing is wrong with them.
//!
//! Whoever renews a certificate seldom tells. So the files are read again every few seconds, off the
//! workers, and a listener whose files say something else serves new connections by them; those that
//! are open keep theirs. What is wrong with new files is told once, and the old ones serve on. A file system
//! that does not answer holds one thread, and is told of once too.

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

/// How often files are read at most.
const LOOK: Duration = Duration::from_secs(2);

/// Of the time at most one part in so many is spent reading: thousands of files are read less often.
const REST: u32 = 50;

/// A look that takes longer is told of, for until it ends there is no other.
const SLOW: Duration = Duration::from_secs(30);

/// A certificate with less life left is warned of.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// How often it is warned of.
const AGAIN: Duration = Duration::from_secs(86_400);

/// Keeps at it for as long as the configuration lives.
pub(super) async fn keep(live: Weak<Live>) {
    let mut warned = HashMap::new();
    let mut hung = None;
    loop {
        let Some(snapshot) = live.upgrade().map(|live| live.pin()) else { return };
        let began = Instant::now();
        warn_of_the_old(&snapshot, &mut warned);
        check_once(&mut hung, SLOW, move || look(&snapshot)).await;
        // Whether it has ended is soon seen.
        let rest = if hung.is_some() { LOOK } else { LOOK.max(began.elapsed() * REST) };
        sleep(rest).await;
    }
}

/// One look, unless the one before it has not ended: it would hang where that one does, in a thread of its own.
async fn check_once(hung: &mut Option<JoinHandle<()>>, slow: Duration, look: impl FnOnce() + Send + 'static) {
    if hung.as_ref().is_some_and(|before| !before.is_finished()) {
        return;
    }
    if hung.take().is_some() {
        info!("certificate files can be read again");
    }
    let mut look = tokio::spawn(async move {
        // A panic would be ours; the next look is as good.
        let _ = ROTATION.run(look).await;
    });
    if timeout(slow, &mut look).await.is_err() {
        warn!(seconds = slow.as_secs(); "certificate files cannot be read: their file system does not answer");
        *hung = Some(look);
    }
}

fn look(snapshot: &Snapshot) {
    for (listener, tls) in snapshot.secure() {
        let told = |problems| diagnostics::render(&problems, &Sources::default(), Color::Never);
        match tls.look() {
            RefreshOutcome::Same => {}
            RefreshOutcome::Changed(warnings) => {
                info!(listener; "new certificates serve");
                if !warnings.0.is_empty() {
                    warn!(listener; "the new certificates have warnings\n{}", told(warnings));
                }
            }
            RefreshOutcome::Refused(problems) => {
                warn!(listener; "new certificates are refused; the old ones serve on\n{}", told(problems));
            }
        }
    }
}

/// Warns once a day of every certificate that will not serve much longer.
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
                0.. => warn!(listener, certificate, hours = left / 3600; "a certificate expires soon"),
                _ => warn!(listener, certificate, hours = -left / 3600; "a certificate has expired"),
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
    async fn a_look_that_hangs_is_left_alone_until_it_ends() {
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
