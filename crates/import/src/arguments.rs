//! What nginx refuses before it starts: numbers of arguments, and two locations of one path.
//! A directive without its `;` takes the next one as arguments: what that
//! would refuse must not be lost.

use crate::reader::{Directive, SyntaxError};
use crate::tables;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// Names with the least and the most arguments of nginx.
const COUNTS: &[(usize, usize, &str)] = &[
    (0, 0, "http events types stream mail internal break ip_hash ntlm mp4 flv"),
    (0, 1, "least_conn multi_accept stub_status"),
    (
        1,
        1,
        "include proxy_pass grpc_pass fastcgi_pass uwsgi_pass scgi_pass memcached_pass auth_basic \
         auth_basic_user_file auth_request allow deny satisfy root alias default_type charset etag sendfile \
         tcp_nopush tcp_nodelay server_tokens client_max_body_size client_body_buffer_size \
         client_header_buffer_size client_header_timeout client_body_timeout send_timeout resolver_timeout \
         reset_timedout_connection keepalive_requests keepalive_time lingering_close lingering_time \
         lingering_timeout underscores_in_headers ignore_invalid_headers merge_slashes log_not_found \
         log_subrequest rewrite_log msie_padding msie_refresh port_in_redirect absolute_redirect \
         server_name_in_redirect chunked_transfer_encoding max_ranges if_modified_since recursive_error_pages \
         limit_rate limit_rate_after limit_req_status limit_conn_status limit_req_log_level limit_conn_log_level \
         limit_req_dry_run proxy_http_version proxy_connect_timeout proxy_read_timeout proxy_send_timeout \
         proxy_buffering proxy_request_buffering proxy_buffer_size proxy_busy_buffers_size \
         proxy_max_temp_file_size proxy_temp_file_write_size proxy_intercept_errors proxy_pass_header \
         proxy_hide_header proxy_pass_request_headers proxy_pass_request_body proxy_set_body proxy_method \
         proxy_next_upstream_tries proxy_next_upstream_timeout proxy_ignore_client_abort proxy_socket_keepalive \
         proxy_cache proxy_cache_key proxy_cache_lock proxy_cache_min_uses proxy_cache_revalidate \
         proxy_cache_background_update proxy_force_ranges proxy_limit_rate proxy_ssl_verify proxy_ssl_verify_depth \
         proxy_ssl_name proxy_ssl_server_name proxy_ssl_session_reuse proxy_ssl_trusted_certificate \
         proxy_ssl_certificate proxy_ssl_certificate_key proxy_ssl_ciphers proxy_ssl_crl grpc_connect_timeout \
         grpc_read_timeout grpc_send_timeout grpc_buffer_size grpc_hide_header grpc_next_upstream_tries \
         grpc_ssl_verify grpc_ssl_verify_depth grpc_ssl_name grpc_ssl_server_name grpc_ssl_session_reuse \
         grpc_ssl_trusted_certificate grpc_ssl_certificate grpc_ssl_certificate_key grpc_ssl_ciphers \
         grpc_socket_keepalive ssl ssl_certificate ssl_certificate_key ssl_client_certificate \
         ssl_trusted_certificate ssl_verify_client ssl_verify_depth ssl_crl ssl_ciphers ssl_ecdh_curve ssl_dhparam \
         ssl_prefer_server_ciphers ssl_session_timeout ssl_session_tickets ssl_session_ticket_key ssl_buffer_size \
         ssl_early_data ssl_reject_handshake ssl_stapling ssl_stapling_file ssl_stapling_responder \
         ssl_stapling_verify ssl_ocsp_responder ssl_engine http2 http2_max_concurrent_streams gzip gzip_vary \
         gzip_comp_level gzip_min_length gzip_http_version gzip_static gunzip brotli brotli_comp_level \
         brotli_min_length brotli_static set_real_ip_from real_ip_header real_ip_recursive mirror \
         mirror_request_body autoindex autoindex_exact_size autoindex_localtime random_index \
         server_names_hash_bucket_size server_names_hash_max_size types_hash_bucket_size types_hash_max_size \
         variables_hash_bucket_size variables_hash_max_size map_hash_bucket_size map_hash_max_size \
         proxy_headers_hash_bucket_size proxy_headers_hash_max_size connection_pool_size request_pool_size \
         pid daemon master_process worker_rlimit_nofile worker_rlimit_core worker_priority \
         worker_connections use accept_mutex accept_mutex_delay worker_processes worker_shutdown_timeout \
         load_module pcre_jit timer_resolution lock_file working_directory secure_link secure_link_md5 \
         secure_link_secret upstream open_file_cache_valid open_file_cache_min_uses open_file_cache_errors \
         sub_filter_once ssi state env debug_points postpone_output",
    ),
    (1, 2, "location user zone keepalive keepalive_timeout return auth_jwt expires geo hash open_file_cache"),
    (1, 3, "limit_req directio"),
    (
        2,
        2,
        "set map split_clients auth_request_set proxy_set_header grpc_set_header limit_conn limit_conn_zone \
            large_client_header_buffers proxy_buffers gzip_buffers output_buffers sub_filter",
    ),
    (2, 3, "rewrite add_header add_trailer"),
    (3, 4, "limit_req_zone"),
    (1, 2, "proxy_redirect proxy_cookie_path proxy_cookie_domain"),
    (
        1,
        usize::MAX,
        "listen if limit_except server_name try_files access_log error_log index resolver ssl_protocols gzip_types \
         gzip_proxied gzip_disable proxy_next_upstream grpc_next_upstream proxy_ignore_headers ssl_session_cache \
         proxy_ssl_protocols grpc_ssl_protocols proxy_cache_bypass proxy_no_cache",
    ),
    (0, 2, "random"),
    (2, usize::MAX, "log_format error_page proxy_cache_path"),
];

/// Directives that are blocks.
const BLOCKS: [&str; 13] = [
    "http",
    "events",
    "location",
    "if",
    "limit_except",
    "types",
    "map",
    "geo",
    "upstream",
    "split_clients",
    "stream",
    "mail",
    "match",
];

/// Blocks whose contents are no directives of HTTP.
const OTHERS: [&str; 8] = ["types", "map", "geo", "split_clients", "stream", "mail", "match", "charset_map"];

/// Directives without an underscore in their names that often follow one without its `;`.
const FOLLOWING: [&str; 14] = [
    "listen", "root", "location", "return", "allow", "deny", "satisfy", "internal", "include", "rewrite",
    "if", "set", "alias", "break",
];

static BY_NAME: LazyLock<HashMap<&str, (usize, usize)>> = LazyLock::new(|| {
    let names = COUNTS
        .iter()
        .flat_map(|(least, most, names)| names.split_whitespace().map(move |name| (name, (*least, *most))));
    names.collect()
});

/// Checks the numbers of arguments and the paths of locations, as nginx does before it starts.
///
/// # Errors
/// The first directive that nginx refuses.
pub(crate) fn check(directives: &[Directive]) -> Result<(), SyntaxError> {
    for directive in directives {
        if let Some(message) = wrong(directive) {
            return Err(SyntaxError { message, place: directive.place.clone() });
        }
        duplicate(directive)?;
        if !OTHERS.contains(&directive.name.as_str()) {
            check(directive.children())?;
        }
    }
    Ok(())
}

/// Refuses two locations of one path in a block.
fn duplicate(block: &Directive) -> Result<(), SyntaxError> {
    let mut known = HashSet::new();
    for location in block.children().iter().filter(|child| child.name == "location") {
        let path = match location.texts().collect::<Vec<_>>().as_slice() {
            ["~" | "~*", ..] => continue,
            ["^~", path] => (false, (*path).to_owned()),
            ["=", path] => (true, (*path).to_owned()),
            [word] if word.starts_with('~') => continue,
            [word] => match (word.strip_prefix('='), word.strip_prefix("^~")) {
                (Some(path), _) => (true, path.to_owned()),
                (None, path) => (false, path.unwrap_or(word).to_owned()),
            },
            _ => continue,
        };
        if !known.insert(path) {
            let message =
                format!("duplicate `{}`: nginx refuses a second location of a path", location.line());
            return Err(SyntaxError { message, place: location.place.clone() });
        }
    }
    Ok(())
}

fn wrong(directive: &Directive) -> Option<String> {
    let name = directive.name.as_str();
    if let Some(message) = swallowed(directive) {
        return Some(message);
    }
    let is_block = directive.block.is_some();
    if BLOCKS.contains(&name) && !is_block {
        return Some(format!("`{name}` needs a block in braces"));
    }
    let count = directive.arguments.len();
    let (least, most) = match name {
        "server" if is_block => (0, 0),
        "server" => (1, usize::MAX),
        name => *BY_NAME.get(name)?,
    };
    if is_block && !BLOCKS.contains(&name) && name != "server" {
        return Some(format!("`{name}` has no block; {}", question(directive, most)));
    }
    if (least..=most).contains(&count) {
        return None;
    }
    let takes = match (least, most) {
        (0, 0) => "no argument".to_owned(),
        (1, 1) => "one argument".to_owned(),
        (least, usize::MAX) => format!("at least {least} argument{}", if least == 1 { "" } else { "s" }),
        (least, most) if least == most => format!("{least} arguments"),
        (0, most) => format!("at most {most} argument{}", if most == 1 { "" } else { "s" }),
        (least, most) => format!("{least} to {most} arguments"),
    };
    Some(match count > most {
        true => format!("`{name}` takes {takes}; {}", question(directive, most)),
        false => format!("`{name}` takes {takes}, and has {count}"),
    })
}

/// A directive of another line among the arguments: nginx accepts any word as one of `server_name`.
fn swallowed(directive: &Directive) -> Option<String> {
    let mut line = directive.place.line;
    for argument in &directive.arguments {
        let name = argument.text.as_str();
        let begins = argument.place.line > line;
        let is_directive = FOLLOWING.contains(&name) || name.contains('_');
        if (begins || directive.name == "listen") && is_directive && tables::treatment(name).is_some() {
            return Some(format!(
                "`{}` has `{name}` as an argument; is a `;` missing at the end of line {line}?",
                directive.name
            ));
        }
        line = argument.place.line;
    }
    None
}

/// The line that lacks a `;`: that of the last argument that belongs to the directive.
fn question(directive: &Directive, most: usize) -> String {
    let kept = directive.arguments.get(..most.min(directive.arguments.len())).unwrap_or_default();
    let line = kept.last().map_or(directive.place.line, |argument| argument.place.line);
    format!("is a `;` missing at the end of line {line}?")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::reader::read_text;

    fn message(text: &str) -> Option<String> {
        let source = read_text("nginx.conf", text, &mut crate::Files::default()).unwrap();
        check(&source.directives).err().map(|error| error.message)
    }

    #[test]
    fn a_missing_semicolon_is_an_error() {
        for (text, expected) in [
            (
                "location / {\n proxy_pass http://a:1\n auth_basic \"A\";\n auth_basic_user_file f; }",
                "`proxy_pass` has `auth_basic` as an argument; is a `;` missing at the end of line 2?",
            ),
            (
                "allow 10.0.0.0/8\ndeny all;",
                "`allow` has `deny` as an argument; is a `;` missing at the end of line 1?",
            ),
            (
                "server { listen 42090\nserver_name a.b; }",
                "`listen` has `server_name` as an argument; is a `;` missing at the end of line 1?",
            ),
            (
                "server { server_name a.b\nreturn 403; }",
                "`server_name` has `return` as an argument; is a `;` missing at the end of line 1?",
            ),
            (
                "listen 80 deny all;",
                "`listen` has `deny` as an argument; is a `;` missing at the end of line 1?",
            ),
            (
                "proxy_pass http://a:1 auth_basic A;",
                "`proxy_pass` takes one argument; is a `;` missing at the end of line 1?",
            ),
            ("deny;", "`deny` takes one argument, and has 0"),
            ("proxy_set_header X-A;", "`proxy_set_header` takes 2 arguments, and has 1"),
            ("internal on;", "`internal` takes no argument; is a `;` missing at the end of line 1?"),
            (
                "proxy_pass http://a\nlocation /b { }",
                "`proxy_pass` has `location` as an argument; is a `;` missing at the end of line 1?",
            ),
            ("auth_basic { deny all; }", "`auth_basic` has no block; is a `;` missing at the end of line 1?"),
            (
                "server { location / { } location / { } }",
                "duplicate `location /`: nginx refuses a second location of a path",
            ),
            (
                "server { location =/a { } location = /a { } }",
                "duplicate `location = /a`: nginx refuses a second location of a path",
            ),
            (
                "server { location /a { } location ^~ /a { } }",
                "duplicate `location ^~ /a`: nginx refuses a second location of a path",
            ),
            ("location /a;", "`location` needs a block in braces"),
        ] {
            assert_eq!(message(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn lists_over_several_lines_are_valid() {
        for text in [
            "server_name a.example\n  b.example;",
            "log_format main '$remote_addr'\n '$status';",
            "gzip_types text/css\n application/json;",
            "map $a $b { default 1; proxy_pass 2 ; deny 1; }",
            "upstream u { server 127.0.0.1:1 weight=2; keepalive 5; zone u 64k; }",
            "if ($a = \"\") { return 403; }",
            "types { text/html html htm; }",
            "unknown_directive a b c;",
            "stub_status; stub_status on; error_log syslog:server=a info;",
            "upstream u { random; } upstream v { random two least_conn; } upstream w { hash $uri consistent; }",
            "server { location /a { location /b { } } location = /a { } location ~ a { } location ~ a { } location @a { } }",
            "keepalive_timeout 75s 60s; return 301 https://a; expires modified 1h;",
        ] {
            assert_eq!(message(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_has_one_count() {
        let names = COUNTS.iter().map(|(_, _, names)| names.split_whitespace().count()).sum::<usize>();
        assert_eq!(BY_NAME.len(), names);
    }
}
