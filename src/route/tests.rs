//! Tests of the table, with an oracle that tries every rule.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
use super::*;
use crate::config::PathParameters;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use moongate_config::{Place, Placed};
use moongate_expr::{Expression, ExpressionPhase};
use moongate_sdk::{Request, without_parameters};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));

/// Parses `host path` and conditions; `-` means none, and `|` separates alternatives.
fn rule(text: &str) -> Rule<String> {
    let mut words = text.split(' ');
    let mut rule = Rule::any(text, text.to_owned());
    let mut next =
        || words.next().filter(|word| *word != "-").map(|word| word.split('|').collect::<Vec<_>>());
    rule.hosts =
        next().unwrap_or_default().into_iter().map(|host| HostPattern::parse(host).unwrap()).collect();
    rule.paths =
        next().unwrap_or_default().into_iter().map(|path| PathPattern::parse(path).unwrap()).collect();
    for word in words {
        match word.split_once('=') {
            None if word == "keep" => rule.path_parameters = PathParameters::Keep,
            None if word.starts_with('@') => rule.listeners.push(word[1..].to_owned()),
            None => rule.methods.push(word.parse().unwrap()),
            Some((name, value)) => match name.strip_prefix('?') {
                Some(name) => rule.query.push((name.to_owned(), ValuePattern::parse(value).unwrap())),
                None => rule.headers.push((name.parse().unwrap(), ValuePattern::parse(value).unwrap())),
            },
        }
    }
    rule
}

struct TestRequest {
    host: &'static str,
    path: &'static str,
    bare: Option<String>,
    query: Option<&'static str>,
    method: Method,
    headers: HeaderMap,
    listener: &'static str,
}

fn ask(host: &'static str, path: &'static str) -> TestRequest {
    TestRequest {
        host,
        path,
        bare: without_parameters(path),
        query: None,
        method: Method::GET,
        headers: HeaderMap::new(),
        listener: "web",
    }
}

impl TestRequest {
    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    fn head(&self) -> RequestMatch<'_> {
        let request = Request {
            host: self.host,
            path: self.bare.as_deref().unwrap_or(self.path),
            query: self.query,
            listener: self.listener,
            ..Request::internal(&self.method, self.path, CLIENT)
        };
        RequestMatch { request, path_with_parameters: self.path, headers: &self.headers }
    }
}

fn found(rules: &[&str], ask: &TestRequest) -> Option<String> {
    Table::build(rules.iter().map(|text| rule(text)).collect()).find(&ask.head()).cloned()
}

#[test]
fn a_more_specific_host_wins_over_any_path() {
    let rules = ["- =/a", "*.com =/a", "*.b.com /", "a.b.com -"];
    assert_eq!(found(&rules, &ask("A.b.com:80", "/a")).as_deref(), Some("a.b.com -"));
    assert_eq!(found(&rules, &ask("x.b.com.", "/a")).as_deref(), Some("*.b.com /"));
    assert_eq!(found(&rules, &ask("x.c.com", "/a")).as_deref(), Some("*.com =/a"));
    assert_eq!(found(&rules, &ask("com", "/a")).as_deref(), Some("- =/a"));
    assert_eq!(found(&rules, &ask("", "/b")), None);
}

#[test]
fn wildcards_win_over_regexes_and_those_by_their_order() {
    let rules = ["- -", r"~^w.*\.com$ -", "~^www -", "www.* -", "www.b.* -", "*.com /x", "www.b.com /y"];
    for (host, path, winner) in [
        ("www.b.com", "/y", "www.b.com /y"),
        ("WWW.B.COM:80", "/x", "*.com /x"),
        ("www.b.com", "/", "www.b.* -"),
        ("www.b.co.uk", "/x", "www.b.* -"),
        ("www.c.com.", "/", "www.* -"),
        ("wiki.com", "/", r"~^w.*\.com$ -"),
        ("www1.com", "/", r"~^w.*\.com$ -"),
        ("WWW1.org:8080", "/", "~^www -"),
        ("www", "/", "~^www -"),
        ("a.org", "/", "- -"),
    ] {
        assert_eq!(found(&rules, &ask(host, path)).as_deref(), Some(winner), "{host}");
    }
    assert_eq!(found(&["~^www /x", "~w /y", "~^www /z"], &ask("www.a", "/z")).as_deref(), Some("~^www /z"));
    assert_eq!(found(&["~a /x"], &ask("", "/x")), None, "a request without a host");
}

#[test]
fn an_explanation_shows_regexes_and_wildcards_of_hosts() {
    let rules = ["~^www /", "~w /", "www.* /a", "a.* /", "~^a /"];
    let table = Table::build(rules.iter().map(|text| rule(text)).collect());
    assert_eq!(
        table.explain(&ask("www.b.com", "/").head()).to_string(),
        "~^www /: host ~^www, prefix /\n  \
         not ~w /: it also matches, but the regex of its host comes later: host ~w\n  \
         not www.* /a: the path does not match `/a`\n  \
         2 routes are for other hosts\n"
    );
    let text = table.explain(&ask("a.b", "/").head()).to_string();
    assert!(text.starts_with("a.* /: host a.*, prefix /\n"), "{text}");
    assert!(text.contains("not ~^a /: it also matches, but its host is less specific: host ~^a"), "{text}");
}

#[test]
fn a_more_specific_path_wins_below_a_host() {
    let rules = ["- -", "- /", "- /acts", "- /acts/x/", "- ~^/acts/x/.*z$", "- =/acts/x/z"];
    for (path, winner) in [
        ("/acts/x/z", "- =/acts/x/z"),
        ("/acts/x/yz", "- ~^/acts/x/.*z$"),
        ("/acts/x", "- /acts/x/"),
        ("/acts/y/x", "- /acts"),
        ("/acts/", "- /acts"),
        ("/actsx", "- /"),
        ("/", "- /"),
        ("*", "- -"),
    ] {
        assert_eq!(found(&rules, &ask("h", path)).as_deref(), Some(winner), "{path}");
    }
}

#[test]
fn more_conditions_win_and_then_the_order() {
    let rules = ["- /a", "- /a x-b=1", "- /a GET x-b=1", "- /a POST x-b=~2|3", "- /a x-c=*", "- /a"];
    assert_eq!(found(&rules, &ask("h", "/a").header("x-b", "1")).as_deref(), Some("- /a GET x-b=1"));
    assert_eq!(found(&rules, &ask("h", "/a").header("x-b", "2")).as_deref(), Some("- /a"));
    let several = ask("h", "/a").header("x-c", "").header("x-b", "0").header("x-b", "1");
    assert_eq!(found(&["- /a x-b=0 GET", "- /a x-b=1 x-c=*"], &several).as_deref(), Some("- /a x-b=0 GET"));
    let post = TestRequest { method: Method::POST, ..ask("h", "/a").header("x-b", "12") };
    assert_eq!(found(&rules, &post).as_deref(), Some("- /a POST x-b=~2|3"));
}

#[test]
fn a_rule_that_does_not_match_falls_through_to_the_next() {
    let rules = ["a.com /x POST", "*.com /x @tls", "- /x ?v=2", "- /"];
    assert_eq!(found(&rules, &ask("a.com", "/x")).as_deref(), Some("- /"));
    let asked = TestRequest { query: Some("a&v=%32"), ..ask("a.com", "/x") };
    assert_eq!(found(&rules, &asked).as_deref(), Some("- /x ?v=2"));
    assert_eq!(found(&["*.b.com /x", "*.com /y", "- -"], &ask("a.b.com", "/y")).as_deref(), Some("*.com /y"));
}

#[test]
fn hosts_and_paths_of_one_rule_are_alternatives() {
    let rules = ["a.com|[0::1] =/x|/y", "- -"];
    for (host, path) in [("a.com", "/x"), ("[::1]:80", "/y/z"), ("[0:0::1]", "/x")] {
        assert_eq!(found(&rules, &ask(host, path)).as_deref(), Some(rules[0]));
    }
    assert_eq!(found(&rules, &ask("a.com", "/x/")).as_deref(), Some("- -"));
}

#[test]
fn an_explanation_names_the_winner_and_the_reasons_against_the_others() {
    let rules = [
        "a.com /acts",
        "*.com /acts/x",
        "a.com /acts/x x-beta=1",
        "a.com /api",
        "b.com -",
        "a.com /acts/x GET",
    ];
    let table = Table::build(rules.iter().map(|text| rule(text)).collect());
    let text = table.explain(&ask("a.com", "/acts/x").head()).to_string();
    assert_eq!(
        text,
        "a.com /acts/x GET: exact host, prefix /acts/x, method GET\n  \
         not a.com /acts/x x-beta=1: no header x-beta is `1`\n  \
         not a.com /acts: it also matches, but its path is less specific: prefix /acts\n  \
         not *.com /acts/x: it also matches, but its host is less specific: host *.com\n  \
         not a.com /api: the path does not match `/api`\n  \
         1 route is for another host\n"
    );
    let none = table.explain(&ask("c.de", "/").head());
    assert_eq!(none.to_string(), "no route matches: 404\n  6 routes are for other hosts\n");
}

#[test]
fn parameters_count_for_the_rules_that_keep_them() {
    let rules = ["- /ip", "- /ip;v=1 keep", "- =/ip/x", "- - keep", "- ~^/ip/x$ keep"];
    for (path, winner) in [
        ("/ip/y", Some("- /ip")),
        ("/ip;a=b/y", Some("- /ip")),
        ("/ip;v=1/y", Some("- /ip;v=1 keep")),
        ("/ip/x;v", Some("- =/ip/x")),
        ("/ip;v/x", Some("- =/ip/x")),
        ("/;v/ip/x", Some("- =/ip/x")),
        ("/ip%3Bv", Some("- /ip")),
        ("/ipv;x", Some("- - keep")),
    ] {
        assert_eq!(found(&rules, &ask("h", path)).as_deref(), winner, "{path}");
    }
    // By different forms of the path, the longer prefix wins, then the conditions, then the order.
    let rules = ["- /a", "- /a;x keep", "- /a/b GET", "- /a;x/b keep"];
    assert_eq!(found(&rules, &ask("h", "/a;x/c")).as_deref(), Some("- /a;x keep"));
    assert_eq!(found(&rules, &ask("h", "/a;x/b")).as_deref(), Some("- /a;x/b keep"));
    assert_eq!(found(&["- / keep", "- / GET", "- /"], &ask("h", "/a;x")).as_deref(), Some("- / GET"));
    assert_eq!(found(&["- / keep", "- /"], &ask("h", "/a;x")).as_deref(), Some("- / keep"));
}

#[test]
fn a_condition_reads_the_path_of_its_rule() {
    let ignoring = when("- /", "request.path == '/admin'");
    let keeping = Rule { path_parameters: PathParameters::Keep, ..when("- /", "request.path == '/admin;x'") };
    for rule in [ignoring, keeping] {
        let table = Table::build(vec![rule]);
        assert!(table.find(&ask("h", "/admin;x").head()).is_some());
        assert!(table.find(&ask("h", "/admins;x").head()).is_none());
    }
}

fn when(text: &str, condition: &str) -> Rule<String> {
    let written = Placed { value: condition.to_owned(), place: Place::nowhere() };
    let mut rule = rule(text);
    rule.name = format!("{text} when");
    rule.target.clone_from(&rule.name);
    rule.when = Some(Expression::condition(&written, ExpressionPhase::Route).unwrap());
    rule
}

#[test]
fn an_expression_is_a_condition_and_evaluated_last() {
    let inside = r#"cidr("10.0.0.0/8").containsIP(request.client_ip) && request.params.v != "1""#;
    let table =
        Table::build(vec![rule("a.com /x"), when("a.com /x", inside), when("a.com /x", "1 / 0 == 1")]);
    let asked = |query| TestRequest { query, ..ask("A.com", "/x") };
    assert_eq!(table.find(&asked(None).head()).unwrap(), "a.com /x when");
    assert_eq!(table.find(&asked(Some("v=1")).head()).unwrap(), "a.com /x");
    let text = table.explain(&asked(Some("v=1")).head()).to_string();
    assert!(text.contains(&format!("not a.com /x when: `{inside}` is false")), "{text}");
    assert!(text.contains("`1 / 0 == 1` cannot be evaluated: Division by zero"), "{text}");
    let text = table.explain(&asked(None).head()).to_string();
    assert!(text.starts_with(&format!("a.com /x when: exact host, prefix /x, when `{inside}`")), "{text}");
}

#[test]
fn rules_are_alike_only_with_the_same_expression() {
    let rules =
        [when("a.com /x", "true"), when("a.com /x", "false"), rule("a.com /x"), when("a.com /x", "true")];
    let pairs: Vec<_> = shadowed(&rules).iter().map(|shadow| (shadow.rule, shadow.by)).collect();
    assert_eq!(pairs, [(3, 0)]);
}

#[test]
fn a_rule_with_the_conditions_of_an_earlier_one_is_unreachable() {
    let rules = [
        "a.com /x GET x=1",
        "b.com /x/",
        "A.com /x/ x=1 GET",
        "a.com|b.com /x",
        "b.com|c.com /x",
        "b.com /x",
    ];
    let rules: Vec<_> = rules.iter().map(|text| rule(text)).collect();
    let pairs: Vec<_> = shadowed(&rules).iter().map(|shadow| (shadow.rule, shadow.by)).collect();
    assert_eq!(pairs, [(2, 0), (5, 1)]);
}

#[test]
fn a_table_of_many_rules_finds_each() {
    let name = |n: usize| format!("h{n}.example.com /p/{n}/");
    let table = Table::build((0..2_000).map(|n| rule(&name(n))).collect());
    for n in [0, 1, 999, 1_999] {
        let (host, path) = (format!("h{n}.example.com"), format!("/p/{n}/x"));
        let (headers, method) = (HeaderMap::new(), Method::GET);
        let request = Request { host: &host, ..Request::internal(&method, &path, CLIENT) };
        assert_eq!(
            table.find(&RequestMatch { request, path_with_parameters: &path, headers: &headers }),
            Some(&name(n))
        );
    }
}

/// A rule's rank for a request by the documented order, computed by brute force; `None` without a match.
fn rank(rule: &Rule<String>, order: usize, head: &RequestMatch<'_>) -> Option<impl Ord + use<>> {
    let host = head.host()?.to_ascii_lowercase();
    let hosts = rule.hosts.iter().filter(|pattern| pattern.matches(&host)).map(|pattern| match pattern {
        HostPattern::Exact(_) => (4, 0),
        HostPattern::Under(suffix) => (3, suffix.len()),
        HostPattern::Before(prefix) => (2, prefix.len()),
        // All regexes of the test are the same one.
        HostPattern::Regex(_) => (1, 0),
    });
    let paths = rule.paths.iter().filter(|pattern| pattern.matches(head.path_for(rule.path_parameters))).map(
        |pattern| match pattern {
            PathPattern::Exact(_) => (3, 0),
            PathPattern::Regex(_) => (2, 0),
            PathPattern::Prefix(prefix) => (1, prefix.len()),
        },
    );
    let host = hosts.max().or(rule.hosts.is_empty().then_some((0, 0)))?;
    let path = paths.max().or(rule.paths.is_empty().then_some((0, 0)))?;
    let method = rule.methods.is_empty() || rule.methods.contains(head.request.method);
    let fields = rule.headers.iter().all(|(name, pattern)| {
        head.headers.get_all(name).iter().any(|value| pattern.matches(value.as_bytes()))
    });
    let count = usize::from(!rule.methods.is_empty()) + rule.headers.len();
    (method && fields).then_some((host, path, count, Reverse(order)))
}

proptest! {
    #[test]
    fn the_lookup_agrees_with_trying_every_rule(
        rules in proptest::collection::vec((
            proptest::sample::select(vec![
                "-", "a.b.c", "*.b.c", "*.c", "b.c|*.b.c", "a.*", "a.b.*", "b.*|*.c", "~^[ab]", "*.b.c|~^[ab]",
            ]),
            proptest::sample::select(vec!["-", "/", "/x", "/x/y", "=/x/y", "~y", "/x|=/", "/x/y/z", "~^/x", "/x;y", "=/x;y/y"]),
            proptest::sample::select(vec!["", " GET", " POST", " k=1", " GET k=1", " k=*", " keep", " GET keep"]),
        ), 0..12),
        host in proptest::sample::select(vec![
            "a.b.c", "z.b.c", "b.c", "q.a.b.c", "c", "A.B.C", "a.b.d", "A.c", "b", "a.b.d.e",
        ]),
        path in proptest::sample::select(vec!["/", "/x", "/x/", "/x/y", "/x/y/z/w", "/xy", "/q", "/x;y", "/x;y/y", "/x;/y", "/;a/x/y"]),
        key in proptest::option::of(proptest::sample::select(vec!["1", "2"])),
    ) {
        let texts: Vec<_> = rules.iter().map(|(host, path, rest)| format!("{host} {path}{rest}")).collect();
        let rules: Vec<_> = texts.iter().enumerate().map(|(n, text)| Rule { target: n.to_string(), ..rule(text) }).collect();
        let mut asked = ask(host, path);
        if let Some(value) = key {
            asked = asked.header("k", value);
        }
        let head = asked.head();
        let best = rules.iter().enumerate().filter_map(|(n, rule)| Some((rank(rule, n, &head)?, n))).max();
        let expected = best.map(|(_, n)| n.to_string());
        let table = Table::build(rules);
        prop_assert_eq!(table.find(&head), expected.as_ref());
        let explained = table.explain(&head);
        prop_assert_eq!(explained.winner.map(|why| why.rule.to_string()), expected);
        prop_assert_eq!(explained.others.len() + explained.elsewhere + usize::from(table.find(&head).is_some()), texts.len());
    }
}
