//! Outcomes and settings that do not decide about access.

use super::{finding, imported};
use crate::Outcome;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

#[test]
fn fields_of_one_name_are_all_kept() {
    let result = imported(
        "server { listen 80; location / { add_header X-A 1; add_header x-a 2; add_header X-A 3 always; expires 1h; \
         add_header Cache-Control public; proxy_set_header X-B 1; proxy_set_header X-B 2; proxy_set_header x-b 3; \
         proxy_pass http://127.0.0.1:1; } }",
    );
    for part in
        ["X-A: \"1\"", "x-a: \"2\"", "X-A: \"3\"", "max-age=3600", "Cache-Control: public", "X-B: \"1\""]
    {
        assert!(result.yaml.contains(part), "{part}: {}", result.yaml);
    }
    assert!(result.yaml.contains("X-B: \"2\"") && result.yaml.contains("x-b: \"3\""), "{}", result.yaml);
}

#[test]
fn a_forwarded_field_of_the_client_needs_a_trusted_proxy() {
    let text = |field: &str, trust: &str| {
        format!(
            "{trust} server {{ listen 80; location / {{ proxy_set_header {field}; proxy_pass http://127.0.0.1:1; }} }}"
        )
    };
    for field in [
        "X-Forwarded-Proto $http_x_forwarded_proto",
        "X-Forwarded-For $http_x_forwarded_for",
        "X-Forwarded-Host $http_x_forwarded_host",
    ] {
        let result = imported(&text(field, ""));
        assert_eq!(finding(&result, "proxy_set_header").0, Outcome::Changed, "{field}");
        let trust = "set_real_ip_from 10.0.0.1; real_ip_header X-Forwarded-For;";
        assert_eq!(
            finding(&imported(&text(field, trust)), "proxy_set_header").0,
            Outcome::Implied,
            "{field}"
        );
    }
}

#[test]
fn arguments_decide_whether_a_directive_is_implied() {
    for (directive, outcome) in [
        ("proxy_pass_request_headers on", Outcome::Implied),
        ("proxy_pass_request_headers off", Outcome::NotTranslated),
        ("proxy_pass_request_body off", Outcome::NotTranslated),
        ("underscores_in_headers on", Outcome::Implied),
        ("underscores_in_headers off", Outcome::Changed),
        ("ssi on", Outcome::NotTranslated),
        ("charset utf-8", Outcome::NotTranslated),
        ("charset off", Outcome::Implied),
        ("ssl_session_tickets off", Outcome::Changed),
        ("ssl_early_data on", Outcome::Changed),
        ("http2 off", Outcome::Changed),
        ("proxy_ssl_protocols TLSv1.2", Outcome::Changed),
        ("proxy_ssl_ciphers HIGH", Outcome::Changed),
        ("satisfy all", Outcome::Implied),
        ("proxy_cookie_flags ~ secure", Outcome::NotTranslated),
    ] {
        let text =
            format!("server {{ listen 80; {directive}; location / {{ proxy_pass http://127.0.0.1:1; }} }}");
        let name = directive.split(' ').next().unwrap_or_default();
        assert_eq!(finding(&imported(&text), name).0, outcome, "{directive}");
    }
    let log = imported("log_format f '$remote_addr $remote_user'; access_log /var/log/nginx/a.log f;");
    assert_eq!(finding(&log, "log_format").0, Outcome::Changed);
}

#[test]
fn a_key_reads_what_a_key_may_read() {
    let upstream = |key: &str| {
        imported(&format!(
            "upstream u {{ hash {key} consistent; server 127.0.0.1:1; }} \
             server {{ listen 80; location / {{ proxy_pass http://u; }} }}"
        ))
    };
    for (key, written) in [
        ("$host", "key: header:Host"),
        ("$host$uri", "key: 'cel:request.headers[\"host\"] + request.path'"),
        ("$request_uri", "request.raw_path"),
        ("$document_uri", "key: cel:request.path"),
    ] {
        let yaml = upstream(key).yaml;
        assert!(yaml.contains(written), "{key}: {yaml}");
    }
    for key in ["$scheme", "$request_method$uri", "$ssl_client_s_dn", "$request_id", "$status"] {
        let result = upstream(key);
        assert_eq!(finding(&result, "hash").0, Outcome::NotTranslated, "{key}");
        assert!(!result.yaml.contains("cel:"), "{}", result.yaml);
    }
}

#[test]
fn a_route_has_no_name_of_an_upstream() {
    let result = imported(
        "upstream x { server 127.0.0.1:1; server 127.0.0.1:2; } server { listen 80; \
         location /x/ { proxy_pass http://127.0.0.1:3; } location /y/ { proxy_pass http://x; } }",
    );
    assert!(result.yaml.contains("- name: x-2\n"), "{}", result.yaml);
}

#[test]
fn a_rewrite_names_the_groups_that_it_has() {
    let result = imported(
        "server { listen 80; location / { rewrite ^/a/(.*)$ /b/$1/$2 break; proxy_pass http://127.0.0.1:1; } }",
    );
    assert!(result.yaml.contains("with: /b/$1/ }"), "{}", result.yaml);
}

#[test]
fn a_map_that_is_used_is_taken_over() {
    let text = |place: &str| {
        format!(
            "map $arg_a $m {{ default 127.0.0.1:1; b 127.0.0.1:2; }} server {{ listen 80; location / {{ {place} }} }}"
        )
    };
    for place in [
        "proxy_set_header X-M $m; proxy_pass http://127.0.0.1:1;",
        "proxy_pass http://$m;",
        "if ($m = x) { return 403; } proxy_pass http://127.0.0.1:1;",
        "add_header X-M $m; proxy_pass http://127.0.0.1:1;",
    ] {
        assert_eq!(finding(&imported(&text(place)), "map").0, Outcome::TakenOver, "{place}");
    }
    assert_eq!(finding(&imported(&text("proxy_pass http://127.0.0.1:1;")), "map").0, Outcome::Implied);
}

#[test]
fn a_configuration_of_debian_becomes_one_that_starts() {
    let result = imported(
        "user www-data; pid /run/nginx.pid; error_log /var/log/nginx/error.log; include /etc/nginx/modules-enabled/*.conf; \
         events { worker_connections 768; } http { sendfile on; tcp_nopush on; types_hash_max_size 2048; \
         server_tokens build; include /etc/nginx/mime.types; default_type application/octet-stream; \
         ssl_protocols TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers off; access_log /var/log/nginx/access.log; gzip on; \
         server { listen 80 default_server; server_name _; location / { proxy_pass http://127.0.0.1:1; } } }",
    );
    assert!(result.yaml.contains("path: /var/log/moongate/access.log"), "{}", result.yaml);
    assert!(result.yaml.contains("admin: { address: 127.0.0.1:9901 }"), "{}", result.yaml);
    assert_eq!(finding(&result, "access_log").0, Outcome::Changed);
    assert!(result.remarks.iter().any(|remark| remark.contains("stop nginx")));
    assert_eq!(result.count(Outcome::NotTranslated), 0, "{:?}", result.findings);
    for (path, written) in [
        ("/var/log/moongate/a.log", "/var/log/moongate/a.log"),
        ("/dev/stdout", "stdout"),
        ("/srv/log/a.log", "/srv/log/a.log"),
        ("/var/log/site/b.log", "/var/log/moongate/b.log"),
    ] {
        let yaml = imported(&format!("access_log {path};")).yaml;
        assert!(yaml.contains(&format!("path: {written}")), "{path}: {yaml}");
    }
    let busy = imported("server { listen 127.0.0.1:9901; return 200; }").yaml;
    assert!(busy.contains("admin: { address: 127.0.0.1:9902 }"), "{busy}");
}

#[test]
fn requests_are_copied_where_nginx_copies_them() {
    let result = imported(
        "server { listen 80; location / { mirror /copy; proxy_pass http://127.0.0.1:1; } \
         location = /copy { internal; proxy_pass http://127.0.0.1:2$request_uri; } \
         location /off/ { mirror off; proxy_pass http://127.0.0.1:1; } }",
    );
    assert!(result.yaml.contains("kind: mirror, upstream: backend-2"), "{}", result.yaml);
    assert_eq!(result.count(Outcome::NotTranslated), 0, "{:?}", result.findings);
    assert_eq!(result.yaml.matches("kind: mirror").count(), 1);
}

#[test]
fn grpc_over_tls_has_its_own_directives() {
    let result = imported(
        "server { listen 80; location / { grpc_ssl_name calls.internal; grpc_ssl_verify on; \
         grpc_ssl_trusted_certificate ca.pem; grpc_pass grpcs://10.0.0.1:443; } }",
    );
    assert!(result.yaml.contains("tls: { sni: calls.internal, ca: ca.pem }"), "{}", result.yaml);
}

#[test]
fn a_large_configuration_is_read_in_a_moment() {
    let mut locations = String::new();
    for number in 0..3000 {
        let _ = write!(
            locations,
            "location /{number}/ {{ proxy_pass http://10.0.{}.{}:8080; }}",
            number / 250,
            number % 250
        );
    }
    let includes = "include x;".repeat(100_000);
    let mut servers = String::new();
    for number in 0..2000 {
        let _ = write!(
            servers,
            "server {{ listen 80; server_name s{number}.example; location / {{ proxy_pass http://u; }} }}"
        );
    }
    let mut addresses = String::new();
    for number in 0..60_000 {
        let _ = write!(
            addresses,
            "listen 10.{}.{}.1:80; set_real_ip_from 10.0.{}.{};",
            number / 250,
            number % 250,
            number / 250,
            number % 250
        );
    }
    let addresses = format!("server {{ {addresses} return 200; }}");
    for text in [format!("server {{ listen 80; {locations} }}"), includes, servers, addresses] {
        let started = Instant::now();
        imported(&text);
        // A debug build needs about a second; the quadratic and cubic ones took minutes.
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }
}

#[test]
fn every_directive_of_the_guide_is_known() {
    let guide = include_str!("../../../../docs/guides/from-nginx.md");
    let mut unknown = Vec::new();
    let mut is_table = false;
    for line in guide.lines() {
        is_table = line.starts_with('|') && (is_table || line.starts_with("| nginx |"));
        let Some(cell) = line.strip_prefix('|').and_then(|line| line.split('|').next()).filter(|_| is_table)
        else {
            continue;
        };
        for words in cell.split('`').skip(1).step_by(2) {
            let name = words.split([' ', '=']).next().unwrap_or_default();
            let is_directive =
                name.contains('_') && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let is_parameter = ["max_conns", "max_fails", "fail_timeout", "proxy_protocol"].contains(&name);
            if is_directive && !is_parameter && crate::tables::treatment(name).is_none() {
                unknown.push(name.to_owned());
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn what_has_no_effect_is_not_called_taken_over() {
    let result = imported(
        "server { listen 80; location / { if (-f /x) { return 503; } proxy_pass http://127.0.0.1:1; } }",
    );
    assert_eq!(finding(&result, "return").0, Outcome::NotTranslated);

    let result =
        imported("server { listen 99999; server_name a.b; location / { proxy_pass http://127.0.0.1:1; } }");
    for name in ["server", "server_name", "location", "proxy_pass"] {
        assert_eq!(finding(&result, name).0, Outcome::NotTranslated, "{name}");
    }
    assert!(
        finding(&result, "listen").1.contains("the port is not between"),
        "{:?}",
        finding(&result, "listen")
    );

    let (_, why) = finding(&imported("server { listen 80; location ~ ^/(foo { return 200; } }"), "location");
    assert!(why.contains("is not valid: unclosed group"), "{why}");
}

#[test]
fn responses_of_the_gateway_have_the_fields_of_add_header() {
    let result = imported(
        "server { listen 80; if ($http_x) { return 403; } add_header X-A 1 always; \
         location ~ /\\. { deny all; } location /a/ { proxy_pass http://127.0.0.1:1; } \
         location /b/ { proxy_pass http://$nobody; } }",
    );
    let routes = result.yaml.split_once("routes:").unwrap_or_default().1;
    for route in routes.split("  - name: ").skip(1) {
        assert!(route.contains("X-A: \"1\"") && route.contains("status: 403"), "{route}");
    }
    assert!(routes.contains("a-slash"), "{routes}");
}

#[test]
fn a_name_without_an_upstream_is_reported() {
    for (target, outcome) in [
        ("http://backnd", Outcome::Changed),
        ("http://backend", Outcome::TakenOver),
        ("http://app:3000", Outcome::TakenOver),
        ("http://localhost", Outcome::TakenOver),
    ] {
        let result = imported(&format!(
            "upstream backend {{ server 127.0.0.1:1; }} server {{ listen 80; location / {{ proxy_pass {target}; }} }}"
        ));
        assert_eq!(finding(&result, "proxy_pass").0, outcome, "{target}");
    }
}

#[test]
fn the_log_of_a_site_is_compared_with_the_one_of_the_gateway() {
    let text = |global: &str, site: &str| {
        format!(
            "log_format main '$remote_addr $status'; log_format named '$host $status'; {global} \
             server {{ listen 80; {site} location / {{ proxy_pass http://127.0.0.1:1; }} }}"
        )
    };
    let site = "access_log /var/log/nginx/a.log main;";
    for (global, why) in [
        ("", "one log for all sites, whose lines name the route"),
        ("access_log /var/log/nginx/x.log;", "in the combined format; its lines name neither site nor route"),
        ("access_log /var/log/nginx/x.log main;", "in one format; its lines name neither site nor route"),
        ("access_log /var/log/nginx/x.log named;", "whose lines name the host"),
    ] {
        let result = imported(&text(global, site));
        let found = result.findings.iter().rfind(|finding| finding.name == "access_log");
        let found = found.expect("the site has a log");
        assert_eq!(found.outcome, Outcome::Changed);
        assert!(found.reasons.join("; ").contains(why), "{global}: {:?}", found.reasons);
    }
    let (outcome, why) = finding(&imported(&text("", site)), "log_format");
    assert_eq!(outcome, Outcome::Changed, "{why}");
    assert!(why.contains("a site's `access_log` uses it"), "{why}");
}

#[test]
fn the_host_of_nginx_has_no_port() {
    let text = |listen: &str, value: &str| {
        format!(
            "server {{ listen {listen}; location / {{ proxy_set_header Host {value}; proxy_pass http://127.0.0.1:1; }} }}"
        )
    };
    for (listen, value, is_set) in [
        ("80", "$host", false),
        ("443 ssl", "$host", false),
        ("8080", "$host", true),
        ("8080", "$http_host", false),
        ("8080", "$host:$server_port", false),
    ] {
        let yaml = imported(&text(listen, value)).yaml;
        assert_eq!(yaml.contains("Host: \"{host}\"") || yaml.contains("Host: '{host}'"), is_set, "{yaml}");
    }
}

#[test]
fn a_variable_of_another_file_is_reported_as_such() {
    let text = |directive: &str| {
        format!("server {{ listen 80; location / {{ {directive} proxy_pass http://127.0.0.1:1; }} }}")
    };
    let both =
        text("proxy_set_header Connection $connection_upgrade; proxy_set_header Upgrade $http_upgrade;");
    assert_eq!(finding(&imported(&both), "proxy_set_header").0, Outcome::Implied);
    let alone = text("proxy_set_header Connection $connection_upgrade;");
    assert_eq!(finding(&imported(&alone), "proxy_set_header").0, Outcome::NotTranslated);
    let why = "no `map` or `set` of the files read defines `$tenant`; import nginx.conf";
    let (_, found) = finding(&imported(&text("proxy_set_header X-Tenant $tenant;")), "proxy_set_header");
    assert!(found.contains(why), "{found}");
    let (_, found) =
        finding(&imported("server { listen 80; location / { proxy_pass http://$tenant; } }"), "proxy_pass");
    assert!(found.contains(why), "{found}");
    let (_, found) =
        finding(&imported(&text("proxy_set_header X-Cert $ssl_client_cert;")), "proxy_set_header");
    assert!(found.contains("`$ssl_client_cert` has no equivalent"), "{found}");
}

#[test]
fn what_no_directive_says_is_a_remark() {
    let server = |location: &str| format!("server {{ listen 80; {location} }}");
    let two = "upstream u { server 127.0.0.1:1; server 127.0.0.1:2; } server { location / { proxy_pass http://u; } }";
    for (text, remark) in [
        (server("location /a/ { proxy_pass http://127.0.0.1:1/; }"), "X-Forwarded-Prefix"),
        (server("location /a/ { proxy_pass http://127.0.0.1:1; }"), "relative Location"),
        (server("return 301 /a;"), "relative Location"),
        (two.to_owned(), "`max_fails`"),
        (
            server(
                "location / { proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_pass http://a:1; }",
            ),
            "`server.trusted_proxies`",
        ),
    ] {
        let has = |text: &str| imported(text).remarks.iter().any(|found| found.contains(remark));
        assert!(has(&text), "{text}");
        assert!(!has(&server("location / { proxy_pass http://127.0.0.1:1; }")), "{remark}");
        let trusted = "set_real_ip_from 10.0.0.1; real_ip_header X-Forwarded-For; absolute_redirect off;";
        if !remark.contains("Prefix") && !remark.contains("max_fails") {
            assert!(!has(&format!("{trusted} {text}")), "{text}");
        }
    }
    let (_, why) =
        finding(&imported(&server("location /.well-known/acme-challenge/ { root /var/www; }")), "location");
    assert!(why.contains("certbot's webroot"), "{why}");
}
