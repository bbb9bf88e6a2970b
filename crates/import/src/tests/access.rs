//! Translations that decide about access: what nginx refuses, the result refuses.

use super::{finding, imported};
use crate::Outcome;

/// The result of a server on port 80, without the head.
fn routes(server: &str) -> String {
    let yaml = imported(&format!("server {{ listen 80; {server} }}")).yaml;
    yaml.split_once("routes:").map_or(yaml.clone(), |(_, routes)| routes.to_owned())
}

/// The route with that name, up to the next one.
fn route(routes: &str, name: &str) -> String {
    let start = format!("- name: {name}\n");
    let at = routes.find(&start).unwrap_or_else(|| panic!("no {name} in {routes}"));
    let rest = &routes[at + start.len()..];
    rest[..rest.find("  - name: ").unwrap_or(rest.len())].to_owned()
}

#[test]
fn a_location_that_falls_back_keeps_its_own_access() {
    for (rule, plugin) in [
        ("auth_basic x; auth_basic_user_file f;", "kind: basic_auth"),
        ("deny all;", "kind: ip_access, deny: [all]"),
        ("allow 10.0.0.0/8; deny all;", "kind: ip_access, allow: [10.0.0.0/8]"),
        ("auth_request /auth;", "kind: respond, status: 403"),
        ("limit_except GET { deny all; }", "deny: [all]"),
        ("auth_jwt realm;", "kind: respond, status: 403"),
    ] {
        for (outer, inner) in [(rule, ""), ("", rule)] {
            let text = format!(
                "location / {{ {outer} try_files $uri @app; }} location @app {{ {inner} proxy_pass http://127.0.0.1:1; }}"
            );
            let routes = routes(&text);
            assert!(routes.contains(plugin), "{text}: {routes}");
        }
        // Both levels have it: once is enough.
        let text = format!(
            "{rule} location / {{ try_files $uri @app; }} location @app {{ proxy_pass http://127.0.0.1:1; }}"
        );
        if !rule.starts_with("limit_except") {
            assert_eq!(routes(&text).matches(plugin).count(), 1, "{text}");
        }
    }
    let routes = routes(
        "location / { try_files $uri @app; } location @app { if ($http_x) { return 403; } proxy_pass http://127.0.0.1:1; }",
    );
    assert!(routes.contains("status: 403"), "{routes}");
}

/// Two servers with TLS on one port; `a` is the default.
fn secure(a: &str, b: &str) -> super::Imported {
    let server = |name: &str, settings: &str| {
        format!(
            "server {{ listen 443 ssl; server_name {name}; ssl_certificate c; ssl_certificate_key k; {settings} \
             location / {{ proxy_pass http://127.0.0.1:1; }} }}"
        )
    };
    imported(&format!("{}{}", server("a.example", a), server("b.example", b)))
}

#[test]
fn a_server_that_requires_a_client_certificate_gets_no_request_without_one() {
    const MISSING: &str = r#"request.tls.client.fingerprint == """#;
    let on = "ssl_verify_client on; ssl_client_certificate ca.pem;";
    let both = secure(on, on).yaml;
    assert!(both.contains("client_auth: { ca: ca.pem } }"), "{both}");
    for (a, b) in [
        (on, "ssl_verify_client optional; ssl_client_certificate ca.pem;"),
        ("ssl_verify_client optional; ssl_client_certificate ca.pem;", on),
        (on, ""),
        ("", on),
    ] {
        let yaml = secure(a, b).yaml;
        assert!(yaml.contains("client_auth: { ca: ca.pem, mode: optional }"), "{yaml}");
        assert_eq!(yaml.matches(MISSING).count(), 1, "{yaml}");
        let name = if a == on { "a.example" } else { "b.example" };
        assert!(route(&yaml, name).contains(MISSING), "{name}: {yaml}");
    }
    let differing = secure(on, "ssl_verify_client on; ssl_client_certificate other.pem;");
    assert!(route(&differing.yaml, "b.example").contains("kind: respond, status: 403"), "{}", differing.yaml);
    assert_eq!(finding(&differing, "ssl_verify_client").0, Outcome::Changed);
    assert!(!differing.is_complete());
    // nginx's newer releases accept the other directive alone.
    let trusted = secure("ssl_verify_client on; ssl_trusted_certificate ca.pem;", "");
    assert!(trusted.yaml.contains("client_auth: { ca: ca.pem"), "{}", trusted.yaml);
    assert_eq!(finding(&trusted, "ssl_trusted_certificate").0, Outcome::TakenOver);
    for closed in
        ["ssl_verify_client on;", &format!("{on} ssl_crl revoked.pem;"), &format!("{on} ssl_ocsp on;")]
    {
        let yaml = secure(closed, "").yaml;
        assert!(route(&yaml, "a.example").contains("kind: respond, status: 403"), "{closed}: {yaml}");
    }
}

#[test]
fn a_nested_expression_does_not_leave_its_location() {
    let routes = routes(
        "location /public/ { proxy_pass http://127.0.0.1:1; location ~ \\.json$ { proxy_pass http://127.0.0.1:1; } } \
         location /public/own/ { proxy_pass http://127.0.0.1:1; } \
         location /admin/ { auth_basic a; auth_basic_user_file f; proxy_pass http://127.0.0.1:1; }",
    );
    let nested = route(&routes, "json");
    assert!(
        nested.contains(r#"request.path.startsWith("/public/") && !request.path.startsWith("/public/own/")"#),
        "{nested}"
    );
}

#[test]
fn a_refusal_without_an_equivalent_closes_the_route() {
    for refusal in [
        "if ($nowhere) { return 403; }",
        "if (-f /x) { return 404; }",
        "if ($nowhere) { return 444; }",
        "if ($nowhere) { add_header X y; return 401; }",
        "set $x $nowhere; if ($x) { return 403; }",
        "set $x 0; if ($nowhere) { set $x 1; } if ($x) { return 403; }",
        "limit_except GET { auth_jwt realm; }",
        "access_by_lua_block { }",
        "include snippets/rules.conf;",
        "auth_basic a; auth_basic_user_file /etc/$host;",
        "deny nonsense;",
    ] {
        let text = format!("location / {{ {refusal} proxy_pass http://127.0.0.1:1; }}");
        let routes = routes(&text);
        let is_closed = routes.contains("kind: respond, status: 403") || routes.contains("deny: [all]");
        let is_partly =
            routes.contains("kind: respond, when: '!(request.method in [\"GET\", \"HEAD\"])', status: 403");
        assert!(is_closed || is_partly, "{text}: {routes}");
        let at_server = format!("{refusal} location / {{ proxy_pass http://127.0.0.1:1; }}");
        if !refusal.starts_with("limit_except") {
            let routes = super::imported(&format!("server {{ listen 80; {at_server} }}")).yaml;
            assert!(
                routes.contains("kind: respond, status: 403") || routes.contains("deny: [all]"),
                "{at_server}: {routes}"
            );
        }
    }
    // Neither is a refusal.
    for open in
        ["if ($nowhere) { return 302 /login; }", "include proxy_params;", "if (-f /x) { return 503; }"]
    {
        let routes = routes(&format!("location / {{ {open} proxy_pass http://127.0.0.1:1; }}"));
        assert!(!routes.contains("status: 403"), "{open}: {routes}");
    }
}

#[test]
fn a_refusal_keeps_its_condition() {
    for (refusal, plugin) in [
        (
            "if ($ssl_client_verify != SUCCESS) { return 403; }",
            r#"when: '(request.tls.client.fingerprint == "" ? "NONE" : "SUCCESS") != "SUCCESS"', status: 403"#,
        ),
        (
            "if ($http_x) { return 403 \"no $remote_addr\"; }",
            r#"when: '!((request.headers["x"]) in ["", "0"])', status: 403"#,
        ),
        (
            "if ($http_x = a) { add_header X y; return 403; }",
            r#"when: 'request.headers["x"] == "a"', status: 403"#,
        ),
        (
            "limit_except GET { deny all; }",
            r#"kind: ip_access, when: '!(request.method in ["GET", "HEAD"])', deny: [all]"#,
        ),
        (
            "allow 10.0.0.0/8; deny all; limit_except POST { allow 10.1.0.0/16; deny all; }",
            r#"when: '!(request.method in ["POST"])', allow: [10.1.0.0/16]"#,
        ),
        (
            "satisfy any; allow 10.0.0.1; deny all; auth_basic a; auth_basic_user_file f;",
            r#"when: '!(cidr("10.0.0.1/32").containsIP(request.client_ip))'"#,
        ),
        (
            "satisfy any; deny 10.0.0.1; allow 10.0.0.0/8; deny all; auth_basic a; auth_basic_user_file f;",
            r#"!((!cidr("10.0.0.1/32").containsIP(request.client_ip) && (cidr("10.0.0.0/8").containsIP(request.client_ip))))"#,
        ),
    ] {
        let text = format!("location / {{ {refusal} proxy_pass http://127.0.0.1:1; }}");
        let routes = routes(&text);
        let routes: String = routes.split_whitespace().collect::<Vec<_>>().join(" ");
        let plugin = plugin.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(routes.contains(&plugin) || routes.contains(&plugin.replace(", ", " ")), "{text}: {routes}");
    }
}

#[test]
fn a_variable_of_an_if_keeps_its_condition() {
    for text in [
        "set $b 0; if ($http_x ~ bad) { set $b 1; } if ($b = 1) { return 403; }",
        "set $b 0; location / { if ($http_x ~ bad) { set $b 1; } if ($b = 1) { return 403; } proxy_pass http://127.0.0.1:1; }",
    ] {
        let rest =
            if text.contains("location") { "" } else { "location / { proxy_pass http://127.0.0.1:1; }" };
        let routes = routes(&format!("{text} {rest}"));
        assert!(
            routes.contains(r#"(request.headers["x"].matches("bad") ? "1" : "0") == "1""#),
            "{text}: {routes}"
        );
    }
    let routes = routes(
        "location / { set $to 127.0.0.1:1; if ($http_x) { set $to 127.0.0.1:2; } proxy_pass http://$to; }",
    );
    assert!(routes.contains("127.0.0.1:1") && routes.contains("127.0.0.1:2"), "{routes}");
}

#[test]
fn an_internal_location_has_no_client() {
    let routes = routes(
        "location /private/ { internal; proxy_pass http://127.0.0.1:1; location /private/a/ { proxy_pass http://127.0.0.1:1; } } \
         location / { proxy_pass http://127.0.0.1:1; }",
    );
    for name in ["private", "private-a"] {
        assert!(route(&routes, name).contains("kind: respond, status: 404"), "{routes}");
        assert!(!route(&routes, name).contains("upstream"), "{routes}");
    }
}

#[test]
fn a_map_compares_without_regard_to_case() {
    let text = |map: &str| {
        format!(
            "{map} server {{ listen 80; if ($deny) {{ return 403; }} location / {{ proxy_pass http://127.0.0.1:1; }} }}"
        )
    };
    let yaml = imported(&text("map $http_x_role $deny { default 0; Admin 1; }")).yaml;
    assert!(yaml.contains(r#"request.headers["x-role"].lowerAscii() == "admin""#), "{yaml}");
    let yaml = imported(&text("map $http_x $deny { hostnames; default 0; .evil.example 1; bad.* 1; }")).yaml;
    for test in [
        r#".lowerAscii() == "evil.example""#,
        r#".lowerAscii().endsWith(".evil.example")"#,
        r#".lowerAscii().startsWith("bad.")"#,
    ] {
        assert!(yaml.contains(test), "{yaml}");
    }
    let result = imported(&text("map $http_x $deny { default 0; include lost.map; }"));
    assert!(result.yaml.contains("kind: respond, status: 403"), "{}", result.yaml);
}

#[test]
fn a_forged_proxy_header_is_reported() {
    let result = imported(
        "server { listen 80 proxy_protocol; location / { deny 10.0.0.1; proxy_pass http://127.0.0.1:1; } }",
    );
    assert_eq!(finding(&result, "listen").0, Outcome::Changed);
    assert!(result.remarks.iter().any(|remark| remark.contains("proxy_protocol.from")));
    let result = imported(
        "server { listen 80 proxy_protocol; set_real_ip_from 10.0.0.9; real_ip_header proxy_protocol; \
         location / { proxy_pass http://127.0.0.1:1; } }",
    );
    assert_eq!(finding(&result, "listen").0, Outcome::TakenOver);
    assert!(result.yaml.contains("proxy_protocol: { from: [10.0.0.9] }"), "{}", result.yaml);
}

#[test]
fn a_prefix_that_stops_expressions_leaves_longer_ones_alone() {
    let routes = routes(
        "location ^~ /a/ { proxy_pass http://127.0.0.1:1; } location /a/admin/ { deny all; } \
         location ~ \\.x$ { proxy_pass http://127.0.0.1:1; }",
    );
    assert!(route(&routes, "a").contains(r#"when: '!request.path.startsWith("/a/admin/")'"#), "{routes}");
    // The order of the file decides only between equal numbers of conditions.
    assert!(route(&routes, "x").contains("when: \"true\""), "{routes}");
    let routes = routes_with_look_ahead();
    assert!(route(&routes, "a").contains("when: \"true\""), "{routes}");
}

fn routes_with_look_ahead() -> String {
    routes(
        "location ^~ /a/ { proxy_pass http://127.0.0.1:1; } location ~ /\\.(?!well-known) { deny all; } \
         location / { proxy_pass http://127.0.0.1:1; }",
    )
}

#[test]
fn a_map_without_a_match_does_not_choose_another_location() {
    let text =
        "map $arg_s $b { one 127.0.0.1:1; } server { listen 80; location / { proxy_pass http://$b; } }";
    let result = imported(text);
    assert!(result.yaml.contains("kind: respond, status: 500"), "{}", result.yaml);
    assert!(route(&result.yaml, "default-127.0.0.1-1").contains("when:"), "{}", result.yaml);
    assert_eq!(finding(&result, "map").0, Outcome::TakenOver);
}

#[test]
fn a_rewritten_path_is_not_served_by_the_wrong_location() {
    for flag in ["break", "last", ""] {
        let routes = routes(&format!(
            "rewrite ^/p/(.*)$ /admin/$1 {flag}; location /admin/ {{ deny all; }} location / {{ proxy_pass http://127.0.0.1:1; }}"
        ));
        let closed = r#"{ kind: respond, when: 'request.path.matches("^/p/(.*)$")', status: 404 }"#;
        assert_eq!(routes.matches(closed).count(), 2, "{routes}");
    }
    let whole = routes("location /a/ { rewrite ^/a/(.*)$ /b/$1 break; proxy_pass http://127.0.0.1:1/y/; }");
    assert!(whole.contains("with: /b/$1") && !whole.contains("/y"), "{whole}");
    let partial = routes(
        "location /a/ { rewrite ^/a/x/(.*)$ /b/$1 break; rewrite ^/a/(z)$ /c/$1 break; proxy_pass http://127.0.0.1:1/y/; }",
    );
    assert_eq!(partial.matches("add_prefix: /y").count(), 1, "{partial}");
    assert!(partial.contains(r#"when: 'request.path.matches("^/a/x/(.*)$")'"#), "{partial}");
    let redirect =
        routes("location /a/ { rewrite ^/.*/(.*)$ /c/$1 permanent; proxy_pass http://127.0.0.1:1; }");
    let redirect = route(&redirect, "a-redirect");
    assert!(redirect.contains("path: /a/"), "{redirect}");
    assert!(redirect.contains(r#"when: 'request.path.matches("^/.*/(.*)$")'"#), "{redirect}");
    // A redirect of the server comes before an exact location.
    let server = routes("rewrite ^/old/(.*)$ /new/$1 permanent; location = /old/x { return 200; }");
    assert!(server.contains("path: =/old/x") && server.matches("with: /new/$1").count() == 2, "{server}");
}

#[test]
fn a_location_left_out_is_closed_if_it_may_refuse() {
    let text = |body: &str| {
        format!(
            "location ~ ^/(?=secret)(.)\\w+$ {{ {body} }} location / {{ proxy_pass http://127.0.0.1:1; }}"
        )
    };
    for body in [
        "deny all;",
        "auth_basic a; proxy_pass http://127.0.0.1:1;",
        "if ($http_x) { return 403; }",
        "internal;",
    ] {
        let routes = routes(&text(body));
        assert!(routes.contains("path: '~^/(.)\\w+$'") && routes.contains("status: 403"), "{body}: {routes}");
    }
    assert!(!routes(&text("proxy_pass http://127.0.0.1:2;")).contains("status: 403"));
}

#[test]
fn a_field_without_an_equivalent_is_not_the_clients() {
    let routes = routes(
        "location / { proxy_set_header X-User $nobody; proxy_set_header X-Cert $ssl_client_cert; proxy_pass http://127.0.0.1:1; }",
    );
    assert!(routes.contains("remove: [X-User, X-Cert]"), "{routes}");
}

#[test]
fn a_prefix_that_refuses_covers_what_nginx_refuses() {
    let routes = routes(
        "location /admin { deny all; } location /admin/open/ { proxy_pass http://127.0.0.1:1; } \
         location / { proxy_pass http://127.0.0.1:1; }",
    );
    let admin = route(&routes, "admin");
    assert!(admin.contains("path: \"~^/admin\"") && admin.contains("status: 403"), "{routes}");
    assert!(admin.contains(r#"when: '!request.path.startsWith("/admin/open/")'"#), "{routes}");
    // One that only forwards has whole segments.
    let open = self::routes("location /app { proxy_pass http://127.0.0.1:1; }");
    assert!(open.contains("path: /app\n"), "{open}");
}

#[test]
fn a_refusal_with_a_typing_error_closes_the_route() {
    for (control, meant) in [
        ("auth_basc \"A\"; auth_basic_user_file htpasswd;", "auth_basic"),
        ("allow 10.0.0.0/8; dney all;", "deny"),
        ("auth_reqest /auth;", "auth_request"),
        ("limit_exept GET { deny all; }", "limit_except"),
        ("modsecurty on;", "modsecurity"),
    ] {
        for text in [
            format!("server {{ listen 80; location / {{ {control} proxy_pass http://127.0.0.1:1; }} }}"),
            format!("server {{ listen 80; {control} location / {{ proxy_pass http://127.0.0.1:1; }} }}"),
            format!("{control} server {{ listen 80; location / {{ proxy_pass http://127.0.0.1:1; }} }}"),
        ] {
            let result = imported(&text);
            assert!(result.yaml.contains("kind: respond, status: 403"), "{text}: {}", result.yaml);
            let help = format!("did you mean `{meant}`?");
            assert!(result.findings.iter().any(|finding| finding.help.contains(&help)), "{text}");
        }
    }
    // Any unknown directive may be the one that another needs.
    for (rule, is_closed) in [("auth_basic_user_file f;", true), ("allow all;", true), ("", false)] {
        let text = format!(
            "server {{ listen 80; location / {{ frobnicate on; {rule} proxy_pass http://127.0.0.1:1; }} }}"
        );
        assert_eq!(imported(&text).yaml.contains("status: 403"), is_closed, "{text}");
    }
    let open = imported("server { listen 80; location / { allow all; proxy_pass http://127.0.0.1:1; } }");
    assert!(!open.yaml.contains("status: 403"), "{}", open.yaml);
}

#[test]
fn a_mistyped_proxy_pass_is_not_called_files() {
    let result = imported("server { listen 80; location /a/ { proxy_pas http://127.0.0.1:1; } }");
    let (outcome, why) = finding(&result, "location");
    assert_eq!(outcome, Outcome::NotTranslated);
    assert!(why.contains("no `proxy_pass` is understood here"), "{why}");
    assert!(result.yaml.contains("not translated: `proxy_pass`"), "{}", result.yaml);
}

#[test]
fn an_include_of_http_that_cannot_be_read_closes_the_routes() {
    for (include, is_closed) in [
        ("conf.d/access.conf", true),
        ("/etc/letsencrypt/options-ssl-nginx.conf", false),
        ("mime.types", false),
        ("/etc/nginx/modules-enabled/*.conf", false),
    ] {
        for text in [
            format!(
                "http {{ include {include}; server {{ listen 80; location / {{ proxy_pass http://a:1; }} }} }}"
            ),
            format!("include {include}; server {{ listen 80; location / {{ proxy_pass http://a:1; }} }}"),
        ] {
            let yaml = imported(&text).yaml;
            assert_eq!(yaml.contains("status: 403"), is_closed, "{yaml}");
        }
    }
}
