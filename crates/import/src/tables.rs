//! Directives that need no translation, or have none.

use crate::reader::Directive;
use crate::report::{Notes, Outcome};
use std::collections::HashMap;
use std::sync::LazyLock;

/// What becomes of a directive that the translation did not note.
#[derive(Debug)]
pub(crate) enum Treatment {
    /// No setting is needed: why.
    Implied(&'static str),
    /// The gateway does something else: what, and what to do.
    Changed(&'static str, &'static str),
    /// There is no equivalent: why, and what to do.
    Refused(&'static str, &'static str),
    /// No setting is needed if the first argument is one of `words`.
    Usual {
        words: &'static [&'static str],
        implied: &'static str,
        outcome: Outcome,
        why: &'static str,
        help: &'static str,
    },
    /// The translation reads it where it applies. One without a finding applies nowhere.
    Translated,
}

use Treatment::{Changed, Implied, Refused, Translated, Usual};

/// The directives by their names, which a space separates. A name occurs once.
const TREATMENTS: &[(&str, Treatment)] = &[
    ("http", Implied("the whole file is about HTTP")),
    (
        "user pid daemon master_process worker_rlimit_nofile worker_rlimit_core worker_priority \
         worker_cpu_affinity lock_file working_directory",
        Implied(
            "the service manager sets users, files and limits of the process; see packaging/moongate.service",
        ),
    ),
    (
        "load_module pcre_jit thread_pool timer_resolution ssl_engine debug_points aio",
        Implied("it concerns nginx's own construction"),
    ),
    (
        "events worker_connections use multi_accept accept_mutex accept_mutex_delay worker_aio_requests",
        Implied("the gateway has no such limit; `max_connections` of a listener sets one"),
    ),
    ("proxy_http_version", Implied("requests go to backends in HTTP/1.1")),
    (
        "sendfile sendfile_max_chunk tcp_nopush tcp_nodelay directio output_buffers postpone_output \
         read_ahead open_file_cache open_file_cache_valid open_file_cache_min_uses open_file_cache_errors",
        Implied("the gateway sends at once and serves no files"),
    ),
    (
        "types default_type types_hash_max_size types_hash_bucket_size charset_types override_charset \
         source_charset index autoindex log_not_found etag if_modified_since disable_symlinks \
         autoindex_exact_size autoindex_localtime",
        Implied("it concerns files, which the gateway does not serve"),
    ),
    (
        "server_names_hash_bucket_size server_names_hash_max_size variables_hash_bucket_size \
         variables_hash_max_size map_hash_bucket_size map_hash_max_size proxy_headers_hash_bucket_size \
         proxy_headers_hash_max_size connection_pool_size request_pool_size",
        Implied("tables have no fixed size"),
    ),
    ("server_tokens", Implied("the gateway's own responses name no version")),
    (
        "client_header_buffer_size client_body_buffer_size client_body_in_single_buffer \
         client_body_in_file_only client_body_temp_path http2_max_field_size http2_max_header_size",
        Implied("bodies are forwarded as they arrive; `server.max_header_size` limits headers"),
    ),
    (
        "proxy_buffering proxy_request_buffering proxy_buffers proxy_buffer_size proxy_busy_buffers_size \
         fastcgi_temp_path uwsgi_temp_path scgi_temp_path proxy_max_temp_file_size \
         proxy_temp_file_write_size proxy_temp_path grpc_buffer_size",
        Implied("bodies are forwarded as they arrive, in both directions"),
    ),
    ("proxy_cache_bypass proxy_no_cache", Implied("there is no cache")),
    (
        "proxy_send_timeout grpc_send_timeout",
        Implied(
            "`timeout` of the route limits requests, `websocket.write_timeout` (1m) a WebSocket that accepts nothing",
        ),
    ),
    ("proxy_pass_header", Implied("fields and bodies are forwarded")),
    ("proxy_ignore_headers", Implied("X-Accel fields have no effect here and are forwarded")),
    (
        "proxy_socket_keepalive proxy_ssl_session_reuse proxy_ssl_server_name",
        Implied("TCP keepalive, TLS sessions and SNI are always used"),
    ),
    (
        "keepalive_requests keepalive_time keepalive_disable lingering_close lingering_time \
         lingering_timeout reset_timedout_connection http2_max_requests http2_idle_timeout \
         http2_recv_timeout http2_max_concurrent_streams http2_chunk_size http2_body_preread_size",
        Implied("the gateway bounds connections without it"),
    ),
    (
        "absolute_redirect port_in_redirect server_name_in_redirect max_ranges msie_padding msie_refresh",
        Implied("redirects of the gateway are relative, and bodies are forwarded as they are"),
    ),
    (
        "ssl_prefer_server_ciphers ssl_session_cache ssl_session_timeout ssl_buffer_size ssl_dhparam \
         ssl_verify_depth ssl_stapling_verify",
        Implied("TLS follows Mozilla's intermediate profile, with session tickets and without early data"),
    ),
    (
        "gzip_vary gzip_proxied gzip_disable gzip_http_version gzip_buffers gzip_static brotli_static \
         brotli_buffers brotli_window",
        Implied("`compress` sets Vary, and uses the codings that the client accepts"),
    ),
    ("resolver_timeout", Implied("a lookup is abandoned after 10 s, and no request waits for one")),
    (
        "limit_req_log_level limit_conn_log_level log_subrequest rewrite_log uninitialized_variable_warn \
         open_log_file_cache debug_connection",
        Implied("it concerns nginx's log"),
    ),
    (
        "proxy_pass_request_headers",
        Usual {
            words: &["on"],
            implied: "fields are forwarded",
            outcome: Outcome::NotTranslated,
            why: "the fields of the client are forwarded",
            help: "remove them by `request: { remove: […] }` of the plugin `headers`",
        },
    ),
    (
        "proxy_pass_request_body",
        Usual {
            words: &["on"],
            implied: "bodies are forwarded",
            outcome: Outcome::NotTranslated,
            why: "the body of the client is forwarded",
            help: "",
        },
    ),
    (
        "underscores_in_headers",
        Usual {
            words: &["on"],
            implied: "fields with underscores are forwarded",
            outcome: Outcome::Changed,
            why: "fields with underscores are forwarded",
            help: "remove them by `request: { remove: […] }` of the plugin `headers`, which concerns every spelling of a name",
        },
    ),
    (
        "ignore_invalid_headers",
        Usual {
            words: &["on"],
            implied: "a request with an invalid field is rejected",
            outcome: Outcome::Changed,
            why: "a request with an invalid field is rejected",
            help: "",
        },
    ),
    (
        "ssi",
        Usual {
            words: &["off"],
            implied: "responses are forwarded as they are",
            outcome: Outcome::NotTranslated,
            why: "responses are forwarded as they are",
            help: "let the application include the parts",
        },
    ),
    (
        "charset",
        Usual {
            words: &["off"],
            implied: "responses are forwarded as they are",
            outcome: Outcome::NotTranslated,
            why: "`Content-Type` is forwarded as it is",
            help: "let the application add the charset, or set the field by the plugin `headers`",
        },
    ),
    (
        "ssl_session_tickets",
        Usual {
            words: &["on"],
            implied: "session tickets are in use",
            outcome: Outcome::Changed,
            why: "session tickets are in use",
            help: "",
        },
    ),
    (
        "ssl_early_data",
        Usual {
            words: &["off"],
            implied: "there is no early data",
            outcome: Outcome::Changed,
            why: "there is no early data",
            help: "",
        },
    ),
    (
        "http2",
        Usual {
            words: &["on"],
            implied: "HTTP/2 is the default with `tls`",
            outcome: Outcome::Changed,
            why: "HTTP/2 is offered with `tls`",
            help: "set `protocols: [http1]` of the listener",
        },
    ),
    (
        "chunked_transfer_encoding",
        Usual {
            words: &["on"],
            implied: "bodies are forwarded as they are",
            outcome: Outcome::Changed,
            why: "a body without a length is chunked",
            help: "",
        },
    ),
    (
        "gunzip",
        Usual {
            words: &["off"],
            implied: "bodies are forwarded as they are",
            outcome: Outcome::NotTranslated,
            why: "a compressed response is forwarded as it is",
            help: "",
        },
    ),
    (
        "satisfy",
        Usual {
            words: &["all"],
            implied: "the plugins of a route must all accept a request",
            outcome: Outcome::Changed,
            why: "the plugins of a route must all accept a request",
            help: "write two routes: one with `ip_access`, the other with the authentication",
        },
    ),
    (
        "mirror",
        Usual {
            words: &["off"],
            implied: "nothing is copied without the plugin `mirror`",
            outcome: Outcome::NotTranslated,
            why: "no location forwards the copies",
            help: "write the plugin `mirror` with their upstream",
        },
    ),
    (
        "mirror_request_body",
        Usual {
            words: &["on"],
            implied: "copies have their body",
            outcome: Outcome::Changed,
            why: "copies have their body",
            help: "",
        },
    ),
    (
        "proxy_ssl_protocols proxy_ssl_ciphers proxy_ssl_conf_command grpc_ssl_protocols grpc_ssl_ciphers \
         grpc_ssl_conf_command ssl_conf_command",
        Changed("versions, ciphers and curves are those of Mozilla's intermediate profile", ""),
    ),
    ("proxy_ssl_verify_depth grpc_ssl_verify_depth", Changed("a chain may have any usual depth", "")),
    ("ssl_trusted_certificate", Implied("it concerns OCSP, which the gateway does not fetch")),
    (
        "grpc_ssl_server_name grpc_ssl_session_reuse grpc_socket_keepalive",
        Implied("TCP keepalive, TLS sessions and SNI are always used"),
    ),
    (
        "stream mail",
        Refused(
            "the gateway forwards HTTP and WebSockets, not plain TCP, UDP or mail",
            "keep nginx or HAProxy for these ports",
        ),
    ),
    (
        "fastcgi_pass uwsgi_pass scgi_pass memcached_pass perl js_content content_by_lua_block \
         content_by_lua_file content_by_lua",
        Refused(
            "the gateway forwards HTTP alone to backends",
            "let the application listen for HTTP and list its address in `upstreams`",
        ),
    ),
    (
        "root alias try_files dav_methods mp4 flv random_index",
        Refused(
            "the gateway serves no files",
            "serve them by the application or a file server, and add a route with it as `upstream`",
        ),
    ),
    (
        "proxy_cache proxy_cache_path proxy_store proxy_cache_valid proxy_cache_key proxy_cache_use_stale \
         proxy_cache_lock proxy_cache_methods proxy_cache_min_uses proxy_cache_revalidate \
         proxy_cache_background_update slice",
        Refused("the gateway has no cache", "put a cache before or behind the gateway if backends need one"),
    ),
    (
        "error_page recursive_error_pages proxy_intercept_errors",
        Refused(
            "the gateway forwards the backend's error pages and sends short ones of its own",
            "let the application send its own error pages",
        ),
    ),
    (
        "limit_rate limit_rate_after proxy_limit_rate",
        Refused(
            "responses have no maximum rate",
            "limit the rate in the application; `websocket.bytes_per_second` limits WebSockets",
        ),
    ),
    (
        "proxy_bind proxy_method proxy_set_body proxy_force_ranges proxy_next_upstream_timeout \
         proxy_cookie_flags sub_filter sub_filter_once sub_filter_types addition_types add_after_body \
         add_before_body proxy_ssl_crl ssl_crl secure_link secure_link_md5 secure_link_secret \
         valid_referers add_trailer image_filter xslt_stylesheet post_action userid",
        Refused(
            "the gateway has no such setting",
            "a Luau or WebAssembly plugin may do it; see the reference of plugins",
        ),
    ),
    (
        "ssl_stapling ssl_stapling_file ssl_stapling_responder",
        Refused(
            "the gateway does not fetch OCSP responses",
            "set `ocsp` of the certificate to a file that another program renews, or leave stapling out",
        ),
    ),
    (
        "stub_status",
        Refused(
            "the state is at the admin address",
            "add `admin: { address: 127.0.0.1:9901 }`, which has `/metrics` and `moongate status`",
        ),
    ),
    (
        "health_check match check check_http_send check_http_expect_alive",
        Refused(
            "health checks are a setting of the upstream",
            "write `health_check` in the upstream; see the reference",
        ),
    ),
    (
        "ntlm queue state sticky_cookie_insert zone_sync",
        Refused("the gateway has no such setting", "see `upstreams` in the reference of the configuration"),
    ),
    (
        "geoip_country geoip_city geoip_org geoip2 split_clients perl_set js_set js_import \
         lua_shared_dict userid_service auth_jwt api status",
        Refused(
            "the gateway has no such setting",
            "see the plugins `luau`, `jwt` and `wasm`, and expressions (CEL)",
        ),
    ),
    (
        "env",
        Refused(
            "variables of the environment are `${NAME}` in values",
            "write `${NAME}` where the value is needed",
        ),
    ),
    (
        "ssl_ocsp ssl_ocsp_responder ssl_ocsp_cache",
        Refused(
            "the gateway does not check whether a certificate of a client is revoked",
            "issue certificates for a short time",
        ),
    ),
    (
        "proxy_read_timeout grpc_read_timeout proxy_connect_timeout grpc_connect_timeout proxy_set_header \
         grpc_set_header proxy_hide_header add_header expires client_max_body_size limit_req \
         limit_req_zone limit_req_status limit_conn limit_conn_zone limit_conn_status auth_basic \
         auth_basic_user_file auth_request auth_request_set allow deny gzip gzip_types gzip_min_length \
         gzip_comp_level brotli brotli_types brotli_comp_level brotli_min_length proxy_next_upstream \
         proxy_next_upstream_tries grpc_next_upstream grpc_next_upstream_tries proxy_redirect proxy_cookie_path proxy_cookie_domain proxy_ssl_verify \
         proxy_ssl_name proxy_ssl_trusted_certificate proxy_ssl_certificate proxy_ssl_certificate_key \
         proxy_ignore_client_abort ssl_certificate ssl_certificate_key ssl_protocols ssl_ciphers \
         ssl_ecdh_curve ssl_client_certificate ssl_verify_client ssl_session_ticket_key \
         ssl_reject_handshake log_format access_log map geo upstream server set internal set_real_ip_from \
         real_ip_header real_ip_recursive limit_except grpc_ssl_verify grpc_ssl_name \
         grpc_ssl_trusted_certificate grpc_ssl_certificate grpc_ssl_certificate_key client_header_timeout \
         client_body_timeout send_timeout keepalive_timeout worker_shutdown_timeout worker_processes \
         large_client_header_buffers resolver merge_slashes error_log listen server_name location \
         proxy_pass grpc_pass return rewrite if break ssl least_conn ip_hash hash random least_time \
         sticky keepalive zone grpc_hide_header",
        Translated,
    ),
];

static BY_NAME: LazyLock<HashMap<&str, &Treatment>> = LazyLock::new(|| {
    TREATMENTS
        .iter()
        .flat_map(|(names, treatment)| names.split_whitespace().map(move |name| (name, treatment)))
        .collect()
});

/// What becomes of a directive of that name.
pub(crate) fn treatment(name: &str) -> Option<&'static Treatment> {
    BY_NAME.get(name).copied()
}

/// The names of all directives.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    BY_NAME.keys().copied()
}

/// Gives a directive the finding of its name. `meant` is a known directive with a similar name.
pub(crate) fn note(notes: &mut Notes, directive: &Directive, meant: Option<&str>) {
    match treatment(&directive.name) {
        Some(Implied(why)) => notes.implied(directive, *why),
        Some(Changed(why, help)) => {
            notes.changed(directive, *why);
            notes.help(directive, *help);
        }
        Some(Refused(why, help)) => notes.refused(directive, *why, help),
        Some(Usual { words, implied, .. }) if words.contains(&directive.argument(0)) => {
            notes.implied(directive, *implied);
        }
        Some(Usual { outcome: Outcome::NotTranslated, why, help, .. }) => {
            notes.refused(directive, *why, help);
        }
        Some(Usual { why, help, .. }) => {
            notes.changed(directive, *why);
            notes.help(directive, *help);
        }
        Some(Translated) => notes.implied(directive, "it applies to no translated location"),
        None if meant.is_some() => {
            let help = format!("did you mean `{}`?", meant.unwrap_or_default());
            notes.refused(directive, "the import does not know this directive", &help);
        }
        None => notes.refused(
            directive,
            "the import does not know this directive",
            "look for an equivalent in the reference of the configuration",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directive_has_one_treatment() {
        let names = TREATMENTS.iter().map(|(names, _)| names.split_whitespace().count()).sum::<usize>();
        assert_eq!(BY_NAME.len(), names);
    }
}
