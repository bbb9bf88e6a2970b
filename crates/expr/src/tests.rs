//! Tests of expressions: the values that they read, the problems and their places, and that nothing panics.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use http::{HeaderMap, HeaderValue, StatusCode};
use moongate_config::{Place, Problem};
use moongate_sdk::testing::TestExchange;
use moongate_sdk::{ClientCertificate, Exchange, Headers, Request, Tls};
use proptest::prelude::*;

fn placed(text: &str) -> Placed<String> {
    let width = u32::try_from(text.chars().count()).unwrap();
    Placed { value: text.to_owned(), place: Place { line: 7, column: 11, width, ..Place::nowhere() } }
}

fn condition(text: &str) -> Expression {
    Expression::condition(&placed(text), ExpressionPhase::Request)
        .unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"))
}

fn visit() -> TestExchange {
    let mut visit = TestExchange::new("/api/v2/rooms/7?room=blue+moon&room=2&q=%C3%A9&flag")
        .field("x-team", "blue")
        .field("x-many", "a")
        .field("x-many", "b")
        .field("cookie", "a=1; session=\"s 1\"")
        .field("cookie", "b=2");
    visit.host = "Example.COM".to_owned();
    visit.client = [10, 1, 2, 3].into();
    visit
}

fn holds(text: &str) -> bool {
    visit().with_exchange(|exchange| condition(text).test(exchange))
}

fn value(text: &str) -> Option<String> {
    let value = Expression::value(&placed(text), ExpressionPhase::Request)
        .unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"));
    visit().with_exchange(|exchange| value.text(exchange))
}

fn refused(text: &str) -> Problem {
    let wrong = Expression::condition(&placed(text), ExpressionPhase::Request).expect_err(text);
    wrong.0.into_iter().next().unwrap()
}

#[test]
fn every_variable_has_its_value() {
    for text in [
        "true",
        "request.method == 'GET'",
        "request.scheme == 'http'",
        "request.host == 'example.com'",
        "request.path == '/api/v2/rooms/7'",
        "request.query.startsWith('room=')",
        "request.client_ip == '10.1.2.3' && request.peer_ip == '10.1.2.3'",
        "request.route == 'web' && request.listener == 'listener'",
        "request.version == 'HTTP/1.1'",
        "request.id.size() == 32",
        "!request.is_websocket",
        "request.headers['x-team'] == 'blue'",
        "request.headers['X-Team'] == 'blue' && request.headers.host == ''",
        "request.headers['x-many'] == 'a, b'",
        "request.headers['cookie'].endsWith('; b=2')",
        "request.cookies['session'] == 's 1' && request.cookies.b == '2'",
        "request.params['room'] == 'blue moon' && request.params.q == 'é'",
        "request.headers['x-' + 'team'] == 'blue'",
        "request.cookies[request.params.none + 'a'] == '1'",
    ] {
        assert!(holds(text), "{text}");
    }
}

#[test]
fn the_clients_tls_is_read_with_the_certificate_that_it_showed() {
    let client = ClientCertificate {
        subject: "CN=alice,O=Example".into(),
        issuer: "CN=root".into(),
        serial: "0A".into(),
        fingerprint: "ab".into(),
        names: ["alice.example".into(), "spiffe://a/b".into()].into(),
    };
    let tls = Tls {
        version: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        server_name: Some("example.com".into()),
        client: Some(client),
    };
    let nobody = Tls { client: None, server_name: None, ..tls.clone() };
    let holds = |text: &str, tls: Option<&Tls>| {
        visit().with_exchange(|exchange| {
            condition(text).test(&mut Exchange {
                request: Request { tls, ..exchange.request },
                headers: Headers::request(&mut HeaderMap::new()),
                running: exchange.running,
                services: exchange.services,
            })
        })
    };
    for text in [
        "request.tls.version == 'TLSv1.3' && request.tls.cipher == 'TLS_AES_128_GCM_SHA256'",
        "request.tls.server_name == 'example.com'",
        "request.tls.client.subject == 'CN=alice,O=Example' && request.tls.client.issuer == 'CN=root'",
        "request.tls.client.serial == '0A' && request.tls.client.fingerprint == 'ab'",
        "'spiffe://a/b' in request.tls.client.names && request.tls.client.names[0] == 'alice.example'",
        "request.tls.client.names.exists(n, n.endsWith('.example'))",
    ] {
        assert!(holds(text, Some(&tls)), "{text}");
    }
    for text in ["request.tls.client.subject == ''", "request.tls.client.names.size() == 0"] {
        assert!(holds(text, Some(&nobody)) && holds(text, None), "{text}");
    }
    assert!(holds("request.tls.version == '' && request.tls.server_name == ''", None));
    assert!(refused("request.tls == ''").message.contains("not a value"));
    assert!(refused("request.tls.client == ''").message.contains("not a value"));
    let near = refused("request.tls.client.subjekt == ''");
    assert_eq!(near.label.as_deref(), Some("did you mean `tls.client.subject`?"));
}

#[test]
fn a_missing_value_is_empty_and_its_absence_can_be_tested() {
    for text in [
        "request.headers['x-none'] == ''",
        "request.headers['x-none'] != 'blue'",
        "!('x-none' in request.headers) && 'x-team' in request.headers",
        "has(request.cookies.session) && !has(request.cookies.none)",
        "'flag' in request.params && request.params.flag == ''",
        "!(request.params.none in request.params)",
        "('X-' + 'TEAM') in request.headers",
    ] {
        assert!(holds(text), "{text}");
    }
}

#[test]
fn functions_and_operators_compute_their_results() {
    for text in [
        "request.path.matches('^/api/v[0-9]+/') && matches(request.path, 'rooms')",
        "!request.path.matches('^/v')",
        "request.path.contains('rooms') && request.path.size() == 15",
        "request.path.split('/')[2] == 'v2' && size(request.path.split('/')) == 5",
        "int(request.path.split('/')[4]) + 1 == 8",
        "' A b '.trim().lowerAscii() == 'a b' && 'a'.upperAscii() == 'A'",
        "cidr('10.0.0.0/8').containsIP(request.client_ip)",
        "!cidr('10.2.0.0/16').containsIP(request.client_ip)",
        "cidr('0.0.0.0/0').containsIP('9.9.9.9') && cidr('::/0').containsIP('::1')",
        "cidr('192.0.2.1/32').containsIP('::ffff:192.0.2.1') && !cidr('::/0').containsIP('192.0.2.1')",
        "cidr('2001:db8::/32').containsIP('2001:db8::1')",
        "request.method in ['GET', 'HEAD']",
        "['/api/', '/ws/'].exists(p, request.path.startsWith(p))",
        "request.headers['x-many'].split(', ').all(x, x in ['a', 'b', 'c'])",
        "['a', 'b'].map(x, x + 'c') == ['ac', 'bc'] && [1, 2, 3].filter(x, x > 1).size() == 2",
        "[1, 2].exists_one(x, x == 2)",
        "(request.is_websocket ? 1 : 2) == 2",
        "{'blue': 1, 'red': 2}[request.headers['x-team']] == 1",
        "'blue' in {'blue': true} && {'a': 1}.a == 1",
        "-(1 - 3) * 2 == 4 && 7 / 2 == 3 && 7 % 2 == 1 && 1 < 2u && 1.5 >= 1.0",
        "double('1.5') == 1.5 && uint('3') == 3u && bool('true') && string(1) == '1'",
    ] {
        assert!(holds(text), "{text}");
    }
}

#[test]
fn a_value_is_text_and_one_that_cannot_be_computed_is_none() {
    assert_eq!(value("request.headers['x-team'] + '-' + request.method").as_deref(), Some("blue-GET"));
    assert_eq!(value("1 + 1").as_deref(), Some("2"));
    assert_eq!(value("2u").as_deref(), Some("2"));
    assert_eq!(value("0.5").as_deref(), Some("0.5"));
    assert_eq!(value("request.is_websocket").as_deref(), Some("false"));
    for text in ["request.path.split('/')[99]", "string(int('x'))", "1 / (1 - 1)", "['a', ['b']][1]"] {
        assert_eq!(value(text), None, "{text}");
    }
}

#[test]
fn a_text_with_too_many_parts_keeps_the_first_ones() {
    let many = "a,".repeat(300);
    assert!(holds(&format!("'{many}'.split(',').size() == 256 && '{many}'.split(',')[254] == 'a'")));
    assert_eq!(value(&format!("'{many}'.split(',')[255]")).as_deref(), Some(&many[2 * 255..]));
}

#[test]
fn a_condition_that_cannot_be_evaluated_does_not_hold_and_is_counted() {
    let before = Expression::failures();
    assert!(!holds("int(request.headers['x-team']) != 1"));
    assert!(Expression::failures() > before);
    // A client without an address is in no allow list and in no deny list.
    assert!(
        !holds("cidr('10.0.0.0/8').containsIP('unknown')")
            && !holds("!cidr('10.0.0.0/8').containsIP('unknown')")
    );
    // In CEL, the other operand decides where it can.
    assert!(holds("int('x') == 1 || request.method == 'GET'"));
}

#[test]
fn a_response_is_read_in_the_response_phase() {
    let written =
        placed("response.status >= 500 && response.headers['retry-after'] == '5' && request.method == 'GET'");
    let expression = Expression::condition(&written, ExpressionPhase::Response).unwrap();
    let mut fields = HeaderMap::new();
    fields.insert("retry-after", HeaderValue::from_static("5"));
    for (status, expected) in [(StatusCode::BAD_GATEWAY, true), (StatusCode::OK, false)] {
        let response = Response { status, headers: Headers::response(&mut fields), endpoint: None };
        let mut visit = visit();
        visit.with_exchange(|exchange| {
            let facts = expression.facts(exchange, Some(&response));
            assert_eq!(expression.holds(&facts).unwrap(), expected);
        });
    }
    assert_eq!(
        refused("response.status == 200").label.as_deref(),
        Some("this expression is evaluated before the response")
    );
    assert!(Expression::value(&placed("request.host"), ExpressionPhase::Key).is_err());
    let early = Expression::condition(&placed("request.id == ''"), ExpressionPhase::Route).unwrap_err();
    assert_eq!(early.0[0].label.as_deref(), Some("available only after routing"));
}

#[test]
fn plugins_changes_are_seen() {
    visit().with_exchange(|exchange| {
        exchange.set_method(http::Method::POST);
        exchange.set_target("/new?a=b").unwrap();
        let text = "request.method == 'POST' && request.path == '/new' && request.params.a == 'b'";
        assert!(condition(text).test(exchange));
    });
}

#[test]
fn a_problem_has_its_column() {
    let mut wrong = Vec::new();
    for (text, column, message) in [
        ("request.pth == 'é'", 8, "unknown member of `request` `pth`"),
        ("'é' == requst.path", 7, "unknown variable `requst`"),
        ("true && request.path.startWith('/')", 21, "unknown function `startWith`"),
        ("request.path = '/'", 13, "`=` is not valid in an expression"),
        ("request.path ==", 15, "the expression ends too early"),
        ("(true", 5, "the expression ends too early"),
        ("true)", 4, "`)` is not expected here"),
        ("'abc", 0, "the text has no closing quote"),
        ("if == 1", 0, "`if` is a reserved word"),
        ("request.path", 0, "a condition must be true or false, but this is text"),
        ("true && request.path", 15, "the right operand of `&&` must be true or false, but this is text"),
        ("request.headers == 1", 16, "`==` is not defined for a group of texts and a whole number"),
        ("request.params.n > 3", 17, "`>` is not defined for text and a whole number"),
        ("request.path.matches(request.host)", 28, "a pattern must be a literal"),
        ("request.path.matches('(')", 21, "`(` is not a regular expression: unclosed group"),
        ("cidr('10.0.0.0').containsIP(request.client_ip)", 0, "`10.0.0.0` is not a network"),
        ("request.headers['x y'] == ''", 17, "`x y` is not a field name"),
        ("request.path.size(1) == 1", 13, "`size` does not take text and a whole number"),
        ("has(request.path)", 12, "`has` takes a member of `headers`, `cookies` or `params`"),
        ("request == 1", 0, "`request` is not a value"),
        ("request.headers.exists(x, x == 'a')", 22, "a group of texts cannot be looped over"),
        ("[[1]].all(x, x.all(y, true))", 18, "nested loop"),
        ("[1].all(x, true) && x == 1", 20, "unknown variable `x`"),
        ("Foo{a: 1} == 1", 0, "unknown type `Foo`"),
        ("request.path.reverse() == ''", 13, "unknown function `reverse`"),
        ("type(1) == int", 0, "unknown function `type`"),
        ("'a' in request.path", 4, "`in` needs a list, but this is text"),
        ("request.?path == ''", 7, "`.?` is not supported"),
    ] {
        let problem = refused(text);
        if (problem.message.as_str(), problem.place.as_ref().unwrap().column) != (message, 11 + column) {
            wrong.push(format!("{text}: {problem:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(refused("request.pth == ''").label.as_deref(), Some("did you mean `path`?"));
    assert_eq!(refused("request.path.startWith('/')").label.as_deref(), Some("did you mean `startsWith`?"));
    let all = Expression::condition(&placed("request.a == request.b"), ExpressionPhase::Request).unwrap_err();
    assert_eq!(all.0.len(), 2, "all problems are reported at once");
}

#[test]
fn places_follow_quotes_and_blocks() {
    let mut text = placed("requst.path == ''");
    text.place.width += 2;
    let place = |text: &Placed<String>| {
        Expression::condition(text, ExpressionPhase::Request).unwrap_err().0.remove(0).place.unwrap()
    };
    assert_eq!((place(&text).line, place(&text).column, place(&text).width), (7, 12, 6));
    text.place.width += 1;
    assert_eq!((place(&text).column, place(&text).width), (11, 20), "an escape inside: the whole text");
    let mut block = placed("true &&\nrequst.path == ''\n");
    block.place.width = 1;
    assert_eq!((place(&block).line, place(&block).column, place(&block).width), (8, 11, 6));
}

#[test]
fn costs_are_bounded() {
    for text in [
        "1 == 1 + ".repeat(40) + "1",
        "!(".repeat(40) + "true" + &")".repeat(40),
        "(".repeat(2000) + "true" + &")".repeat(2000),
        "1+".repeat(2047) + "1 == 1",
        "a".to_owned() + &".a".repeat(2000),
        "true".to_owned() + &"[0]".repeat(1300),
        "{1:".repeat(1000),
        "[1].all(x,".repeat(300),
        format!("'{}' == ''", "a".repeat(4096)),
        " ".repeat(10),
    ] {
        assert!(Expression::condition(&placed(&text), ExpressionPhase::Request).is_err(), "{text}");
    }
    let many = vec!["request.path == '/a'"; 150].join(" || ") + " || true";
    assert!(holds(&many), "a long chain is not deep");
}

/// Every function in the table of names exists in the evaluator: none is missing at run time.
#[test]
fn every_function_exists() {
    use super::names::{FUNCTIONS, ValueType};
    let sample = |value_type: &ValueType| match value_type {
        ValueType::Text => "'1'",
        ValueType::Whole => "1",
        ValueType::Unsigned => "1u",
        ValueType::Fraction => "1.0",
        ValueType::List => "[1]",
        ValueType::Map => "{'a': 1}",
        ValueType::Bytes => "b'a'",
        ValueType::Network => "cidr('10.0.0.0/8')",
        _ => "true",
    };
    for function in FUNCTIONS {
        if function.name == "cidr" {
            continue;
        }
        let args: Vec<_> = function.takes.iter().map(sample).collect();
        let call = match &function.on {
            Some(on) => format!("{}.{}({})", sample(on), function.name, args.join(", ")),
            None => format!("{}({})", function.name, args.join(", ")),
        };
        let call = match function.name {
            "bool" => call.replace("'1'", "'true'"),
            "containsIP" => call.replace("'1'", "'10.0.0.1'"),
            _ => call,
        };
        let expression = condition(&format!("[{call}].size() == 1"));
        assert!(visit().with_exchange(|exchange| expression.test(exchange)), "{call}");
    }
}

/// Pieces of expressions in random order: they cover more of the grammar than random characters.
fn pieces() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "request",
        "response",
        ".",
        "path",
        "headers",
        "cookies",
        "params",
        "['x']",
        "[",
        "]",
        "(",
        ")",
        "==",
        "&&",
        "||",
        "!",
        "?",
        ":",
        "1",
        "'a'",
        "\"",
        "'",
        "in",
        "has(",
        ".all(x,",
        ".map(x,",
        "x",
        ",",
        "{",
        "}",
        "+",
        "-",
        "/",
        "%",
        "0",
        "9223372036854775807",
        "-9223372036854775808",
        "1u",
        "1.5",
        "1e400",
        "b'a'",
        "r'\\d'",
        "'\\x'",
        "'\\u00e9'",
        "null",
        "true",
        "matches('",
        "')",
        ".size()",
        "int(",
        "cidr('10.0.0.0/8')",
        "\n",
        "//",
        "é",
        "\u{0}",
        "`",
        "if",
        ".?",
        "[?",
        "@0",
        "@result",
        "split('')",
        ".contains(",
        "double('nan')",
    ]);
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_panics(text in prop_oneof![pieces(), ".{0,60}"]) {
        for phase in [ExpressionPhase::Route, ExpressionPhase::Key, ExpressionPhase::Request, ExpressionPhase::Response] {
            for wanted in [lower::ExpressionKind::Condition, lower::ExpressionKind::Value] {
                match Expression::compile(&placed(&text), 0..text.len(), phase, wanted) {
                    Ok(expression) => visit().with_exchange(|exchange| {
                        expression.test(exchange);
                        expression.text(exchange);
                    }),
                    Err(problems) => prop_assert!(problems.refuse() && problems.0.iter().all(|p| p.place.is_some())),
                }
            }
        }
    }
}

#[test]
fn a_path_that_a_plugin_wrote_is_read_as_its_route_reads_paths() {
    for (keeps, expected) in [(false, "/admin"), (true, "/admin;x")] {
        let mut visit = visit();
        if keeps {
            visit.running.keep_path_parameters();
        }
        visit.with_exchange(|exchange| {
            exchange.set_target("/admin;x?a;b").unwrap();
            assert_eq!((exchange.matched_path(), exchange.path()), (expected, "/admin;x"));
            assert!(condition(&format!("request.path == '{expected}'")).test(exchange), "{keeps}");
            exchange.set_target("/plain").unwrap();
            assert_eq!((exchange.matched_path(), exchange.path()), ("/plain", "/plain"));
        });
    }
}
