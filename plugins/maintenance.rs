//! Maintenance mode: 503 for all clients except listed ones.
//!
//! A reload or a file activates it. Creating the file needs no rights over the gateway.

use crate::common::networks::{NetworkEntry, Networks};
use crate::respond::Page;
use http::{HeaderValue, StatusCode, header};
use moongate_config::{Kind, Period, Placed, Problem, Problems, Settings};
use moongate_sdk::{Exchange, Flow, Phases, Plugin};
use schemars::JsonSchema;
use serde::Deserialize;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const KIND: Kind<dyn Plugin> = Kind {
    name: "maintenance",
    about: "Responds 503 while maintenance lasts",
    schema: <MaintenanceSettings as JsonSchema>::json_schema,
    build,
};

/// The lifetime of a result of the file system.
const FRESH: Duration = Duration::from_secs(1);

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MaintenanceSettings {
    /// Sets Retry-After, rounded up to seconds. Longer than 0. Default 5m.
    retry_after: Option<Placed<Period>>,
    /// Sends this text in place of the gateway's error. Default none.
    body: Option<Placed<String>>,
    /// Sends this file in place of the gateway's error, of at most 8 MiB. It is read with the configuration.
    /// Default none.
    file: Option<Placed<String>>,
    /// Lets these clients pass: a list as in `ip_access`. Default none.
    #[serde(default)]
    except: Vec<NetworkEntry>,
    /// Activates the plugin only while this file exists. It is checked at most once a second; the last result holds
    /// while the file system does not respond. Default always active.
    when_file: Option<Placed<String>>,
}

struct Maintenance {
    retry_after: HeaderValue,
    page: Option<Page>,
    except: Networks,
    switch: Option<Switch>,
}

fn build(settings: &Settings) -> Result<Box<dyn Plugin>, Problems> {
    let written: MaintenanceSettings = settings.read()?;
    let mut problems = Problems::default();
    let page = Page::read(settings, written.body.as_ref(), written.file.as_ref());
    let page = problems.keep(page.map_err(Problems::from));
    let except = problems.keep(Networks::read(settings, &written.except));
    if let Some(file) = written.when_file.as_ref().filter(|file| file.is_empty()) {
        problems.push(Problem::new("`when_file` names no file").at(&file.place));
    }
    if let Some(zero) = written.retry_after.as_ref().filter(|after| after.0.is_zero()) {
        problems.push(
            Problem::new("`retry_after` must be longer than 0")
                .help("omit it for the default, 5m")
                .at(&zero.place),
        );
    }
    let retry_after = written.retry_after.as_ref().map_or(Period::seconds(300), |after| after.value).0;
    let switch = written.when_file.as_ref().map(|file| {
        let base = Path::new(&*file.place.file).parent().unwrap_or(Path::new(""));
        Switch::new(base.join(&file.value), FRESH)
    });
    if let (Some(file), Some(switch)) = (&written.when_file, &switch) {
        match switch.look.exists() {
            // The first request needs a result.
            Ok(exists) => switch.look.on.store(exists, Relaxed),
            Err(error) => {
                let problem = Problem::new(format!("cannot check whether `{}` exists: {error}", file.value));
                problems.push(problem.at(&file.place));
            }
        }
    }
    match (page, except) {
        (Some(page), Some(except)) if !problems.refuse() => {
            // Whole seconds (RFC 9110 §10.2.3), and never 0.
            let seconds = retry_after.as_secs_f64().ceil() as u64;
            let retry_after = HeaderValue::from(seconds);
            Ok(Box::new(Maintenance { retry_after, page, except, switch }))
        }
        _ => Err(problems),
    }
}

/// The existence of a file, checked now and then on a thread that may hang with the file system: requests use the
/// last result.
struct Switch {
    look: Arc<FileCheck>,
    fresh: Duration,
    born: Instant,
    /// The time of the next check, in milliseconds since creation.
    next: AtomicU64,
}

/// The file and the last result.
struct FileCheck {
    file: PathBuf,
    on: AtomicBool,
    /// The last check failed.
    failing: AtomicBool,
    /// A check is in progress.
    busy: AtomicBool,
}

impl Switch {
    fn new(file: PathBuf, fresh: Duration) -> Self {
        let (on, failing, busy) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        let look = Arc::new(FileCheck { file, on, failing, busy });
        Self { look, fresh, born: Instant::now(), next: AtomicU64::new(0) }
    }

    /// The last result; starts a check if it is old.
    fn is_on(&self) -> bool {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let now = millis(self.born.elapsed());
        let next = self.next.load(Relaxed);
        let later = now.saturating_add(millis(self.fresh));
        // One of several concurrent requests starts the check, and none while a thread hangs.
        if now >= next
            && self.next.compare_exchange(next, later, Relaxed, Relaxed).is_ok()
            && !self.look.busy.swap(true, Acquire)
        {
            let look = Arc::clone(&self.look);
            let work = move || {
                look.update();
                look.busy.store(false, Release);
            };
            if thread::Builder::new().name("maintenance".to_owned()).spawn(work).is_err() {
                self.look.busy.store(false, Release);
            }
        }
        self.look.on.load(Relaxed)
    }
}

impl FileCheck {
    fn update(&self) {
        match self.exists() {
            Ok(exists) => {
                self.on.store(exists, Relaxed);
                self.failing.store(false, Relaxed);
            }
            // The last result stays.
            Err(error) => {
                if !self.failing.swap(true, Relaxed) {
                    log::warn!(file:? = self.file, error:%; "`when_file` check failed");
                }
            }
        }
    }

    /// Whether there is a file of that name; a dangling symbolic link counts.
    fn exists(&self) -> io::Result<bool> {
        match self.file.symlink_metadata() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Plugin for Maintenance {
    fn phases(&self) -> Phases {
        Phases { request_headers: true, ..Phases::default() }
    }

    fn always_responds(&self) -> bool {
        self.switch.is_none() && self.except.is_empty()
    }

    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let off = self.switch.as_ref().is_some_and(|switch| !switch.is_on());
        if off || exchange.request.client.ip().is_some_and(|client| self.except.contain(client)) {
            return Flow::Continue;
        }
        let mut reply = exchange.refuse(StatusCode::SERVICE_UNAVAILABLE, "maintenance");
        if let Some(page) = &self.page {
            page.set_body(&mut reply);
        }
        reply.header(header::RETRY_AFTER, self.retry_after.clone()).into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_sdk::Verdict;
    use moongate_sdk::testing::{TestExchange, settings};
    use serde_json::{Value, json};
    use std::os::unix::fs::symlink;

    fn plugin(written: Value) -> Result<Box<dyn Plugin>, Problems> {
        build(&settings(written))
    }

    #[test]
    fn every_request_gets_503_with_retry_after() {
        let reply = TestExchange::new("/").expect_reply(&*plugin(json!({})).unwrap());
        assert_eq!((reply.status.as_u16(), &reply.headers["retry-after"]), (503, &HeaderValue::from(300)));
        assert!(reply.body.starts_with(b"503 Service Unavailable: maintenance"));
        let written = json!({ "retry_after": "1500ms", "body": "back soon\n" });
        let reply = TestExchange::new("/")
            .field("accept", "application/json")
            .expect_reply(&*plugin(written).unwrap());
        assert_eq!(
            (&reply.body[..], &reply.headers["retry-after"]),
            (&b"back soon\n"[..], &HeaderValue::from(2))
        );
        assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(reply.headers["cache-control"], "no-store");
    }

    #[test]
    fn excepted_clients_pass() {
        let plugin = plugin(json!({ "except": ["192.0.2.0/24"] })).unwrap();
        let mut visit = TestExchange::new("/");
        visit.client = "192.0.2.9".parse().unwrap();
        assert!(matches!(visit.request_headers(&*plugin), Verdict::Continue));
        assert_eq!(TestExchange::new("/").expect_reply(&*plugin).status, 503);
    }

    /// Polls until the state is `on`.
    fn await_on(switch: &Switch, on: bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while switch.is_on() != on {
            assert!(Instant::now() < until, "never {on}");
            thread::yield_now();
        }
    }

    #[test]
    fn a_file_activates_it_and_is_checked_rarely() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("closed");
        let (eager, lazy) =
            (Switch::new(file.clone(), Duration::ZERO), Switch::new(file.clone(), Duration::from_secs(3600)));
        assert!(!eager.is_on() && !lazy.is_on());
        while lazy.look.busy.load(Acquire) {
            thread::yield_now();
        }
        std::fs::write(&file, "").unwrap();
        await_on(&eager, true);
        assert!(!lazy.is_on());
        std::fs::remove_file(&file).unwrap();
        await_on(&eager, false);
        std::os::unix::fs::symlink("nothing", &file).unwrap();
        // A dangling symbolic link counts.
        await_on(&eager, true);
        let closed = plugin(json!({ "when_file": file })).unwrap();
        assert_eq!(TestExchange::new("/").expect_reply(&*closed).status, 503);
        std::fs::remove_file(&file).unwrap();
        let open = plugin(json!({ "when_file": file })).unwrap();
        assert!(matches!(TestExchange::new("/").request_headers(&*open), Verdict::Continue));
    }

    #[test]
    fn a_hanging_check_blocks_no_request_and_is_the_only_one() {
        let switch = Switch::new("/".into(), Duration::ZERO);
        switch.look.busy.store(true, Release);
        for _ in 0..100 {
            assert!(!switch.is_on(), "the last result");
        }
        switch.look.busy.store(false, Release);
        await_on(&switch, true);
    }

    #[test]
    fn a_failed_check_keeps_the_last_result() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (parent, file) = (at("run"), at("run/closed"));
        std::fs::create_dir(at("directory")).unwrap();
        symlink("directory", &parent).unwrap();
        std::fs::write(&file, "").unwrap();
        let switch = Switch::new(file.clone(), Duration::ZERO);
        await_on(&switch, true);
        // Atomic: a check in between would find no file.
        std::fs::write(at("regular"), "").unwrap();
        symlink("regular", at("next")).unwrap();
        std::fs::rename(at("next"), &parent).unwrap();
        while !switch.look.failing.load(Relaxed) {
            assert!(switch.is_on());
        }
        assert!(switch.is_on());
        assert!(plugin(json!({ "when_file": file })).is_err());
    }

    #[test]
    fn invalid_settings_are_refused() {
        for bad in [
            json!({ "body": "x", "file": "y" }),
            json!({ "file": "not/there" }),
            json!({ "except": ["x"] }),
            json!({ "when_file": "" }),
            json!({ "retry_after": "10" }),
        ] {
            assert!(plugin(bad.clone()).is_err(), "{bad}");
        }
    }
}
