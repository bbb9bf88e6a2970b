//! Certificates that change on disk: noticed without a signal, and taken when nothing is wrong with them.
//!
//! Whoever renews a certificate seldom tells. So the files are read again every few seconds, off the
//! workers, and a listener whose files say something else serves new connections by them; those that
//! are open keep theirs. What is wrong with new files is told once, and the old ones serve on.

use super::Live;
use crate::diag::{self, Color, Sources};
use crate::snapshot::Snapshot;
use crate::tls::Look;
use log::{info, warn};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep};

/// How often files are read at most.
const LOOK: Duration = Duration::from_secs(2);

/// Of the time at most one part in so many is spent reading: thousands of files are read less often.
const REST: u32 = 50;

/// A certificate with less life left is warned of.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// How often it is warned of.
const AGAIN: Duration = Duration::from_secs(86_400);

/// Keeps at it for as long as the configuration lives.
pub(super) async fn keep(live: Weak<Live>) {
    let mut warned = HashMap::new();
    loop {
        let Some(snapshot) = live.upgrade().map(|live| live.pin()) else { return };
        let began = Instant::now();
        warn_of_the_old(&snapshot, &mut warned);
        // A panic would be ours; the next look is as good.
        let _ = tokio::task::spawn_blocking(move || look(&snapshot)).await;
        sleep(LOOK.max(began.elapsed() * REST)).await;
    }
}

fn look(snapshot: &Snapshot) {
    for (listener, tls) in snapshot.secure() {
        let told = |problems| diag::render(&problems, &Sources::default(), Color::Never);
        match tls.look() {
            Look::Same => {}
            Look::Changed(warnings) => {
                info!(listener; "new certificates serve");
                if !warnings.0.is_empty() {
                    warn!(listener; "the new certificates have warnings\n{}", told(warnings));
                }
            }
            Look::Refused(problems) => {
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
