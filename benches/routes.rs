//! What a lookup costs as routes grow in number, and what reading a target costs: `cargo bench --bench routes`.
//!
//! Prints nanoseconds a lookup (the best of several rounds) and milliseconds a build. It asserts nothing:
//! machines differ, and a benchmark that fails is a test that lies.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program that prints and may fail")]

use http::{HeaderMap, Method};
use moongate::route::{HostPattern, PathPattern, RequestMatch, Rule, Table, Target};
use moongate_sdk::Request;
use std::hint::black_box;
use std::time::{Duration, Instant};

const SIZES: [usize; 3] = [10, 100, 10_000];
const ROUNDS: u32 = 7;
const LOOKUPS: u32 = 200_000;

/// A route of a shape: its host and its path.
type Shape = fn(usize) -> (String, String);

const SHAPES: [(&str, Shape); 3] = [
    ("a host each", |n| (format!("shop-{n}.example.com"), "/socket".to_owned())),
    ("a path each", |n| ("www.example.com".to_owned(), format!("/api/v1/service-{n}"))),
    ("ten paths a host", |n| (format!("shop-{}.example.com", n / 10), format!("/api/v1/service-{}", n % 10))),
];

fn main() {
    println!("{:<40}{:>10}{:>14}{:>14}", "lookup", "routes", "build ms", "ns/lookup");
    for (name, shape) in SHAPES {
        for size in SIZES {
            let rules = (0..size).map(|n| rule(n, shape(n))).collect();
            let begun = Instant::now();
            let table = Table::build(rules);
            let built = begun.elapsed().as_secs_f64() * 1e3;
            println!("{name:<40}{size:>10}{built:>14.2}{:>14.1}", lookup(&table, size, shape));
        }
    }
    println!("\n{:<64}{:>14}", "target", "ns");
    for raw in
        ["/", "/acts_competition/socket?id=12345&v=2", "/a%20b/c", "/a//b/%7euser", "/.well-known/acme"]
    {
        let cost = best(|_| {
            let host = Some("ws.example.com");
            let _ = black_box(Target::parse(black_box(raw.as_bytes()), &Method::GET, host));
        });
        println!("{raw:<64}{cost:>14.1}");
    }
}

fn rule(n: usize, (host, path): (String, String)) -> Rule<usize> {
    Rule {
        hosts: vec![HostPattern::parse(&host).unwrap()],
        paths: vec![PathPattern::parse(&path).unwrap()],
        ..Rule::any(n.to_string(), n)
    }
}

/// Asks for routes all over the table, so that the processor's caches do not do the work.
fn lookup(table: &Table<usize>, size: usize, shape: Shape) -> f64 {
    let asked: Vec<_> = (0..1024).map(|n| n * 7919 % size).map(|n| (n, shape(n))).collect();
    let (headers, method) = (HeaderMap::new(), Method::GET);
    best(|n| {
        let (expected, (host, path)) = &asked[n as usize % asked.len()];
        let path = path.as_str();
        let client = std::net::Ipv4Addr::LOCALHOST.into();
        let request = Request { host, listener: "web", ..Request::internal(&method, path, client) };
        let head = RequestMatch { request, path_with_parameters: path, headers: &headers };
        assert_eq!(black_box(table.find(black_box(&head))), Some(expected));
    })
}

/// Nanoseconds a call, in the best round.
fn best(mut call: impl FnMut(u32)) -> f64 {
    let round = |_| {
        let begun = Instant::now();
        (0..LOOKUPS).for_each(&mut call);
        begun.elapsed()
    };
    let least = (0..ROUNDS).map(round).min().unwrap_or(Duration::ZERO);
    least.as_secs_f64() * 1e9 / f64::from(LOOKUPS)
}
