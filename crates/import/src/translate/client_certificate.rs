//! `ssl_verify_client` of the servers at an address: one `client_auth` of the listener, and refusals by routes.

use super::Context;
use super::responses::respond;
use crate::reader::Directive;
use crate::scope::Scope;
use crate::yaml::{Map, Yaml};

/// What the routes of a server require of client certificates, beside the listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Requirement {
    /// The listener does what nginx does.
    #[default]
    None,
    /// A verified certificate: the listener has servers that require none.
    Certificate,
    /// Nothing passes: why.
    Closed(String),
}

impl Requirement {
    /// Keeps the stricter one.
    fn raise(&mut self, other: Self) {
        if other > *self {
            *self = other;
        }
    }

    /// The plugin that refuses requests. Requests without TLS pass, as in nginx, if `may_be_plain`.
    pub(super) fn plugin(&self, may_be_plain: bool) -> Option<Map> {
        let secure = r#"request.tls.version != """#;
        let missing = r#"request.tls.client.fingerprint == """#;
        let when = match (self, may_be_plain) {
            (Self::None, _) => return None,
            (Self::Certificate, false) => missing.to_owned(),
            (Self::Certificate, true) => format!("{secure} && {missing}"),
            (Self::Closed(_), false) => return Some(respond(403)),
            (Self::Closed(_), true) => secure.to_owned(),
        };
        let mut plugin = respond(403);
        plugin.insert_after_kind("when", Yaml::text(when));
        Some(plugin)
    }
}

/// A server that requests certificates.
struct Request<'a> {
    server: usize,
    directive: &'a Directive,
    is_required: bool,
    issuer: Option<&'a Directive>,
    revocation: Option<&'a Directive>,
}

/// Adds `client_auth` to the `tls` of a listener. `servers` have their numbers, the default server first.
pub(super) fn translate<'a>(
    context: &mut Context<'_>,
    servers: &[(usize, &Scope<'a>)],
    tls: &mut Map,
    requirements: &mut [Requirement],
) {
    let requests: Vec<Request<'a>> =
        servers.iter().filter_map(|(server, scope)| request(context, *server, scope)).collect();
    let chosen = requests.iter().find_map(|request| request.issuer).map(|issuer| issuer.argument(0));
    let mut accepted = 0;
    for request in &requests {
        let directive = request.directive;
        let refusal = match (request.issuer, request.revocation) {
            (None, _) => {
                context.notes.refused(
                    directive,
                    "there is no `ssl_client_certificate`",
                    "set `tls.client_auth.ca` of the listener",
                );
                request.is_required.then_some("ssl_verify_client")
            }
            (_, Some(revocation)) => {
                let help =
                    "issue certificates for a short time, and remove the plugin `respond` of the routes";
                context.notes.refused(
                    revocation,
                    "the gateway does not check whether a certificate of a client is revoked",
                    help,
                );
                Some("ssl_crl")
            }
            (Some(issuer), None) if Some(issuer.argument(0)) != chosen => {
                let why = "a listener has one `client_auth.ca`, here that of another server";
                let help = "write a listener for each issuer, or one file with both";
                context.notes.refused(directive, why, help);
                context.notes.refused(issuer, why, help);
                Some("ssl_client_certificate")
            }
            (Some(issuer), None) => {
                context.notes.taken(issuer, "`tls.client_auth.ca` of the listener");
                accepted += usize::from(request.is_required);
                None
            }
        };
        if let Some(name) = refusal {
            requirements[request.server].raise(Requirement::Closed(name.to_owned()));
        }
    }
    let Some(chosen) = chosen else { return };
    let mut auth = Map::default().with("ca", Yaml::text(context.paths.written(chosen)));
    let is_required = accepted == servers.len();
    if !is_required {
        auth.set("mode", Yaml::text("optional"));
    }
    tls.set("client_auth", auth);
    for request in &requests {
        if request.is_required && !is_required {
            requirements[request.server].raise(Requirement::Certificate);
        }
        context.notes.changed(
            request.directive,
            "`tls.client_auth` of the listener, for all its hosts; an invalid certificate fails the handshake",
        );
    }
}

/// The request for a certificate of a server, if it makes one.
fn request<'a>(context: &mut Context<'_>, server: usize, scope: &Scope<'a>) -> Option<Request<'a>> {
    let directive = scope.find("ssl_verify_client")?;
    let is_required = match directive.argument(0) {
        "off" => {
            context.notes.implied(directive, "no certificate is requested");
            return None;
        }
        "on" => true,
        "optional" => false,
        _ => {
            let help = "verify the certificate in the gateway by `tls.client_auth`";
            let why = "certificates of unknown issuers have no equivalent";
            context.notes.refused(directive, why, help);
            return None;
        }
    };
    // nginx also accepts issuers of the second file; a certificate of one that is only there is refused.
    let issuer = scope.find("ssl_client_certificate").or_else(|| scope.find("ssl_trusted_certificate"));
    let revocation = scope
        .find("ssl_crl")
        .or_else(|| scope.find("ssl_ocsp").filter(|directive| directive.argument(0) != "off"));
    Some(Request { server, directive, is_required, issuer, revocation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_without_tls_pass_where_a_server_has_both() {
        let when = |requirement: &Requirement, plain| {
            let plugin = requirement.plugin(plain);
            plugin.map(|plugin| plugin.get("when").cloned())
        };
        let text = |text: &str| Some(Some(Yaml::text(text)));
        let closed = Requirement::Closed("ssl_crl".to_owned());
        assert_eq!(when(&Requirement::None, true), None);
        assert_eq!(when(&Requirement::Certificate, false), text(r#"request.tls.client.fingerprint == """#));
        assert_eq!(
            when(&Requirement::Certificate, true),
            text(r#"request.tls.version != "" && request.tls.client.fingerprint == """#)
        );
        assert_eq!(when(&closed, false), Some(None));
        assert_eq!(when(&closed, true), text(r#"request.tls.version != """#));
    }
}
