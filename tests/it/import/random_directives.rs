//! Random directives in random places: the result is a configuration that the gateway accepts.

use crate::support::moongate;
use moongate_import::{Files, import_nginx_text};
use std::fs;

/// The number of configurations; `RANDOM_CONFIGURATIONS` sets another.
const COUNT: u64 = 80;

const VARIABLES: [&str; 24] = [
    "$host",
    "$http_x",
    "$remote_addr",
    "$scheme",
    "$uri",
    "$request_uri",
    "$args",
    "$arg_a",
    "$cookie_c",
    "$request_id",
    "$status",
    "$m",
    "$g",
    "$s",
    "$b",
    "$1",
    "$nobody",
    "$server_name",
    "$is_args",
    "$http_host",
    "$ssl_client_verify",
    "$request_method",
    "$proxy_host",
    "${m}x",
];

/// Directives of servers and locations. `@` is a variable, `?` a text.
const DIRECTIVES: [&str; 41] = [
    "proxy_set_header X-A ?;",
    "proxy_set_header X-B ?;",
    "proxy_set_header Host @;",
    "proxy_set_header X-User $u;",
    "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;",
    "add_header X-A ?;",
    "add_header X-A ? always;",
    "expires 1h;",
    "auth_basic a; auth_basic_user_file htpasswd;",
    "auth_request /svc;",
    "auth_request_set $u $upstream_http_x_user;",
    "allow 10.0.0.0/8; deny all;",
    "deny 10.0.0.1;",
    "satisfy any;",
    "limit_req zone=z burst=5;",
    "limit_conn c 5;",
    "limit_except GET POST { deny all; }",
    "client_max_body_size 1m;",
    "gzip on;",
    "proxy_hide_header X-Q;",
    "proxy_redirect http://x/ @;",
    "proxy_redirect ~^http://[^/]+(/.*)$ $1;",
    "proxy_cookie_path /a/ /;",
    "proxy_cookie_domain a.b $host;",
    "proxy_read_timeout 1h;",
    "proxy_connect_timeout 3s;",
    "mirror /svc;",
    "access_log off;",
    "set $s ?;",
    "set $b \"${b}x\";",
    "rewrite ^/a/(.*)$ /b/$1/$2 break;",
    "rewrite ^/a/(.*)$ /b/$1 last;",
    "rewrite ^/c/(.*)$ /d/$1 permanent;",
    "rewrite ^/e /f@ redirect;",
    "if (@) { return 403; }",
    "if (@ = ?) { return 302 /x@; }",
    "if (@ ~ \"^a\") { set $b ?; }",
    "if (@ !~* \"b|c\") { add_header X y; return 204; }",
    "if (-f /x) { return 403; }",
    "if (@ != \"x\") { set $s ?; return 301 https://$host$request_uri; }",
    "if (@) { rewrite ^ https://$host$uri permanent; }",
];

const HANDLERS: [&str; 13] = [
    "proxy_pass http://u;",
    "proxy_pass http://u/;",
    "proxy_pass http://u/b/;",
    "proxy_pass http://127.0.0.1:81;",
    "proxy_pass http://@;",
    "proxy_pass http://u$request_uri;",
    "proxy_pass https://10.0.0.1;",
    "grpc_pass grpc://u;",
    "proxy_pass http://unix:/run/x.sock:/y/;",
    "try_files $uri @n;",
    "return 403 \"@\";",
    "return 302 https://@/@;",
    "",
];

const PATHS: [&str; 13] = [
    "/",
    "/a/",
    "/a/b/",
    "= /x",
    "/c",
    "^~ /a/",
    "^~ /d/e/",
    "~ \\.x$",
    "~* \\.(png|jpg)$",
    "~ ^/(?!api)z",
    "~ ^/(?=x)y",
    "~ /\\.(?!well)",
    "\"/q r/\"",
];

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn one_of(&mut self, words: &[&str]) -> String {
        let mut text = words[self.below(words.len())].to_owned();
        if text.contains("@n;") {
            return text;
        }
        while let Some(at) = text.find(['@', '?']).filter(|at| !text[*at..].starts_with("?!")) {
            let is_pattern = text[at..].starts_with('?') && text[..at].ends_with('(');
            if is_pattern {
                break;
            }
            let variable = VARIABLES[self.below(VARIABLES.len())];
            let value = match (&text[at..=at], self.below(4)) {
                ("@", _) | (_, 0) => variable.to_owned(),
                (_, 1) => format!("\"{variable} \""),
                (_, 2) => format!("a-{variable}"),
                _ => "/p".to_owned(),
            };
            text.replace_range(at..=at, &value);
        }
        text
    }

    fn directives(&mut self, most: usize) -> String {
        (0..self.below(most + 1)).map(|_| self.one_of(&DIRECTIVES) + " ").collect()
    }

    fn location(&mut self, depth: usize) -> String {
        let path = PATHS[self.below(PATHS.len())];
        let internal = if self.below(9) == 0 { "internal; " } else { "" };
        let inner = if depth < 2 && self.below(4) == 0 { self.location(depth + 1) } else { String::new() };
        let (directives, handler) = (self.directives(4), self.one_of(&HANDLERS));
        format!("location {path} {{ {internal}{directives}{handler} {inner} }}\n")
    }

    fn server(&mut self) -> String {
        let names = ["a.example", "*.b.example", "_", "~^c[0-9]$", ".d.example e.*"];
        let options = ["", " default_server", " proxy_protocol"];
        let (name, option) = (names[self.below(5)], options[self.below(3)]);
        let locations: String = (0..=self.below(4)).map(|_| self.location(0)).collect();
        let (own, inner) = (self.directives(3), self.directives(2));
        format!(
            "server {{ listen 80{option}; server_name {name}; {own}\n{locations} \
             location = /svc {{ internal; proxy_pass http://u/auth; }} location @n {{ {inner} proxy_pass http://u; }} }}\n"
        )
    }

    fn configuration(&mut self) -> String {
        let defaults = ["default u;", "", "default a;", "hostnames; default u;"];
        let balancers =
            ["", "least_conn;", "ip_hash;", "hash @ consistent;", "hash $host$uri;", "hash $uri;"];
        let (map, zone, geo) =
            (self.one_of(&["@"]), self.one_of(&["@", "$binary_remote_addr"]), self.below(2));
        let (default, balancer) = (self.one_of(&defaults), self.one_of(&balancers));
        let servers: String = (0..=self.below(2)).map(|_| self.server()).collect();
        let source = ["", "$http_x "][geo];
        format!(
            "map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}\n\
             map {map} $m {{ {default} a u; ~^b 127.0.0.1:9; .z.example u; }}\n\
             geo {source}$g {{ default 0; 10.0.0.0/8 1; }}\n\
             limit_req_zone {zone} zone=z:1m rate=5r/s; limit_conn_zone {zone} zone=c:1m;\n\
             upstream u {{ {balancer} server 127.0.0.1:82; server 127.0.0.1:83 backup; }}\n{servers}"
        )
    }
}

#[test]
fn random_directives_become_a_valid_configuration() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("htpasswd"), "ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n").unwrap();
    let file = folder.path().join("moongate.yaml");
    let count = std::env::var("RANDOM_CONFIGURATIONS").ok().and_then(|count| count.parse().ok());
    let mut numbers = Numbers(1);
    let mut checked = 0;
    while checked < count.unwrap_or(COUNT) {
        let text = numbers.configuration();
        let imported = match import_nginx_text("nginx.conf", &text, &mut Files::default()) {
            Ok(imported) => imported,
            // nginx refuses two locations of one path.
            Err(problem) if problem.message.starts_with("duplicate `location") => continue,
            Err(problem) => panic!("{}\n{text}", problem.message),
        };
        checked += 1;
        fs::write(&file, &imported.yaml).unwrap();
        let check = moongate(&["check", "-c", &file.display().to_string()]);
        assert!(
            check.status.success(),
            "{}\n{text}\n{}",
            String::from_utf8_lossy(&check.stderr),
            imported.yaml
        );
    }
}
