//! Any text as an expression, in every phase: compilation ends and never panics, every problem has a place inside
//! the text, and a compiled expression can be evaluated.

#![no_main]

use libfuzzer_sys::fuzz_target;
use moongate_config::{Place, Placed};
use moongate_expr::Expression;
use moongate_expr::ExpressionPhase;
use moongate_sdk::testing::TestExchange;

fuzz_target!(|text: &str| {
    let width = u32::try_from(text.chars().count()).unwrap_or(u32::MAX).max(1);
    let written = Placed { value: text.to_owned(), place: Place { width, ..Place::nowhere() } };
    let mut visit = TestExchange::new("/api/v2?a=b").field("x-team", "blue").field("cookie", "a=1");
    for stage in
        [ExpressionPhase::Route, ExpressionPhase::Key, ExpressionPhase::Request, ExpressionPhase::Response]
    {
        for compile in [Expression::condition, Expression::value] {
            match compile(&written, stage) {
                Ok(expression) => visit.with_exchange(|exchange| {
                    expression.test(exchange);
                    expression.text(exchange);
                }),
                Err(problems) => assert!(problems.0.iter().all(|problem| {
                    problem.place.as_ref().is_some_and(|place| place.line > 1 || place.column <= width + 1)
                })),
            }
        }
    }
});
