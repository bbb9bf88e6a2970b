//! Advice on what people write who know it from elsewhere, where the nearest name is not what they mean.

use moongate_config::Problem;

/// A mistake, and what to write instead. Places are told by what their way begins and ends with.
struct Habit {
    message: &'static str,
    begin: &'static str,
    end: &'static str,
    help: &'static str,
}

const HABITS: [Habit; 6] = [
    Habit::new("unknown value `http2`", "listeners[", "]", "HTTP/2 is `h2`, or `h2c` without TLS"),
    Habit::new("unknown value `http2`", "upstreams.", ".protocol", "HTTP/2 is `h2`, or `h2c` without `tls`"),
    Habit::new("unknown key `cert`", "listeners[", ".tls.cert", PAIR),
    Habit::new("unknown key `key`", "listeners[", ".tls.key", PAIR),
    Habit::new("missing key `from`", "listeners[", ".proxy_protocol", BALANCERS),
    Habit::new("expected a mapping, found `true`", "listeners[", ".proxy_protocol", BALANCERS),
];

const PAIR: &str = "certificates are a list: `certificates: [{ cert: …, key: … }]`";
const BALANCERS: &str = "name the balancers, as in `from: [10.0.0.5]`";

impl Habit {
    const fn new(message: &'static str, begin: &'static str, end: &'static str, help: &'static str) -> Self {
        Self { message, begin, end, help }
    }
}

/// Gives a problem the advice that fits the habit behind it, in place of the general one.
pub(super) fn advise(problem: &mut Problem) {
    let Some(path) = problem.place.as_ref().map(|place| &*place.path) else { return };
    let known = |habit: &&Habit| {
        problem.message == habit.message && path.starts_with(habit.begin) && path.ends_with(habit.end)
    };
    if let Some(habit) = HABITS.iter().find(known) {
        problem.label = None;
        problem.help = vec![habit.help.to_owned()];
    }
}
