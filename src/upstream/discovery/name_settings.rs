//! Settings of the kinds of discovery that query name servers.

use super::feed::MemberFeed;
use crate::upstream::address::is_name;
use moongate_config::{Period, Placed, Problem};
use std::sync::Arc;
use std::time::Duration;

/// The default of `hold`.
const HOLD: Duration = Duration::from_secs(30);

/// The shortest `resolve`.
const SHORTEST: Duration = Duration::from_secs(1);

/// A host name in lower case.
///
/// # Errors
/// The text is no host name.
pub(super) fn host(written: &Placed<String>) -> Result<Arc<str>, Problem> {
    if is_name(written) {
        return Ok(written.to_ascii_lowercase().into());
    }
    let problem = Problem::new(format!("invalid host name `{}`", written.value)).at(&written.place);
    Err(problem.help("write a name without a port, as in `name: chat.internal.`"))
}

/// `hold`, or its default.
pub(super) fn hold(written: Option<Period>) -> Duration {
    written.map_or(HOLD, |hold| hold.0)
}

/// `resolve`; `None` for that of the upstream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolve(Option<Duration>);

impl Resolve {
    /// # Errors
    /// The period is too short.
    pub(super) fn read(written: Option<Placed<Period>>) -> Result<Self, Problem> {
        match written {
            Some(short) if short.0 < SHORTEST => {
                Err(Problem::new("`resolve` must be at least 1s").at(&short.place))
            }
            written => Ok(Self(written.map(|resolve| resolve.value.0))),
        }
    }

    /// The maximum time for which an answer is used.
    pub(super) fn within(self, feed: &MemberFeed) -> Duration {
        self.0.unwrap_or(feed.lookups().max_age)
    }
}
