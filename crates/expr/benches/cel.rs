//! The cost of evaluating an expression, in nanoseconds: `cargo bench -p moongate-expr --bench cel`. A plain
//! program; prints the best of many rounds, because disturbances only ever slow a round down.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a program that prints and may fail")]

use moongate_config::{Place, Placed};
use moongate_expr::{Expression, ExpressionPhase};
use moongate_sdk::testing::TestExchange;
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUNDS: u32 = 30;
const EVALUATIONS: u32 = 50_000;

const CONDITIONS: [(&str, &str); 9] = [
    ("true", "true"),
    ("one ==", r#"request.method == "GET""#),
    ("one field", r#"request.headers["x-team"] == "blue""#),
    ("one prefix", r#"request.path.startsWith("/api/")"#),
    (
        "three terms",
        r#"request.method == "GET" && request.path.startsWith("/api/") && request.headers["x-team"] == "blue""#,
    ),
    (
        "the first of three decides",
        r#"request.method == "PUT" && request.path.startsWith("/api/") && request.is_websocket"#,
    ),
    ("a regex", r#"request.path.matches("^/api/v[0-9]+/")"#),
    ("a network", r#"cidr("10.0.0.0/8").containsIP(request.client_ip)"#),
    ("a loop over three", r#"["/a/", "/b/", "/api/"].exists(p, request.path.startsWith(p))"#),
];

const VALUES: [(&str, &str); 2] = [
    ("a field as a key", r#"request.headers["x-team"]"#),
    ("a segment as a key", r#"request.path.split("/")[2]"#),
];

fn main() {
    let mut visit =
        TestExchange::new("/api/v2/rooms/7?page=2").field("x-team", "blue").field("accept", "*/*");
    visit.client = [10, 1, 2, 3].into();
    println!("{:<32}{:>12}", "expression", "ns");
    for (name, source) in CONDITIONS {
        let expression =
            Expression::condition(&placed(source), ExpressionPhase::Request).expect("a condition");
        let nanos = visit.with_exchange(|exchange| {
            best(|| {
                let _ = black_box(expression.test(black_box(exchange)));
            })
        });
        println!("{name:<32}{nanos:>12.0}");
    }
    for (name, source) in VALUES {
        let expression = Expression::value(&placed(source), ExpressionPhase::Request).expect("a value");
        let nanos =
            visit.with_exchange(|exchange| best(|| drop(black_box(expression.text(black_box(exchange))))));
        println!("{name:<32}{nanos:>12.0}");
    }
}

fn placed(source: &str) -> Placed<String> {
    Placed { value: source.to_owned(), place: Place::nowhere() }
}

fn best(mut evaluate: impl FnMut()) -> f64 {
    let round = |_| {
        let begun = Instant::now();
        (0..EVALUATIONS).for_each(|_| evaluate());
        begun.elapsed()
    };
    let least = (0..ROUNDS).map(round).min().unwrap_or(Duration::ZERO);
    least.as_secs_f64() * 1e9 / f64::from(EVALUATIONS)
}
