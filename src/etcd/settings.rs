//! The settings of a connection to etcd: `servers`, `tls`, `user`, `password` and `password_file`.

use super::connection::Server;
use super::servers::EtcdServers;
use crate::config::UpstreamTls;
use crate::tls;
use http::{HeaderValue, Uri};
use moongate_config::{Credentials, Files, Placed, Problem, Problems, Settings};
use rustls::pki_types::ServerName;
use std::sync::Arc;

/// etcd's port for clients.
const PORT: u16 = 2379;

/// The keys of a connection, as they are written.
pub struct EtcdKeys {
    /// The URLs of the servers.
    pub servers: Placed<Vec<Placed<String>>>,
    /// TLS.
    pub tls: Option<Placed<UpstreamTls>>,
    /// The user.
    pub user: Option<Placed<String>>,
    /// Its password.
    pub password: Option<Placed<String>>,
    /// The file of its password.
    pub password_file: Option<Placed<String>>,
}

impl EtcdKeys {
    /// Judges the settings. Reads the files that they name, and connects to nothing.
    ///
    /// # Errors
    /// Every problem, at its place.
    pub fn compile(self, settings: &Settings) -> Result<EtcdServers, Problems> {
        let mut problems = Problems::default();
        let files = Files::default();
        let noted = settings.noting(settings.name(), &files);
        let (user, password, file) = (&self.user, &self.password, &self.password_file);
        let credentials = Credentials::read(&noted, [user, password, file], &mut problems);
        if let (None, Some(secret)) = (user, password.as_ref().or(file.as_ref())) {
            let problem = Problem::new("a password needs `user`");
            problems.push(problem.help("etcd authenticates users by name").at(&secret.place));
        }
        let is_secure = self.servers.iter().any(|server| server.value.starts_with("https://"));
        if let (Some(tls), false) =
            (&self.tls, self.servers.iter().all(|server| server.starts_with("https://")))
        {
            let problem = Problem::new("`tls` needs servers with TLS");
            problems.push(problem.help("write `https://` in `servers`").at(&tls.place));
        }
        let without = || Placed { value: UpstreamTls::default(), place: settings.place().clone() };
        let tls = is_secure.then(|| tls::Client::compile(&self.tls.unwrap_or_else(without), None));
        let tls = problems.keep(tls.transpose()).flatten();
        if self.servers.is_empty() {
            let problem = Problem::new("`servers` is empty");
            problems.push(problem.help("write `servers: [http://127.0.0.1:2379]`").at(&self.servers.place));
        }
        let read = |written: &Placed<String>| {
            problems.keep(
                server(&written.value, tls.as_deref()).map_err(|problem| problem.at(&written.place).into()),
            )
        };
        let all: Vec<_> = self.servers.iter().filter_map(read).collect();
        if problems.refuse() {
            return Err(problems);
        }
        Ok(EtcdServers { all, credentials, files, tls, first: 0.into(), token: Default::default() })
    }
}

/// Judges a prefix.
///
/// # Errors
/// It is empty, or has a control character.
pub fn check_prefix(prefix: &Placed<String>) -> Result<(), Problem> {
    let problem = match &*prefix.value {
        "" => Problem::new("the prefix is empty").help("name the keys to read, as in `prefix: /chat/`"),
        text if text.contains(char::is_control) => Problem::new("the prefix has a control character"),
        _ => return Ok(()),
    };
    Err(problem.at(&prefix.place))
}

fn server(url: &str, tls: Option<&tls::Client>) -> Result<Server, Problem> {
    let invalid = || {
        Problem::new(format!("`{url}` is not the URL of a server"))
            .help("write a URL such as http://127.0.0.1:2379, or https://… for TLS")
    };
    let uri: Uri = url.parse().map_err(|_| invalid())?;
    let authority = uri.authority().ok_or_else(invalid)?;
    if authority.as_str().contains('@') {
        // The URL is not repeated: it has credentials.
        return Err(Problem::new("the URL of a server must have no credentials")
            .help("write them in `user` and `password` or `password_file`"));
    }
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(invalid());
    }
    if !matches!(uri.path_and_query().map_or("/", |target| target.as_str()), "/" | "") {
        return Err(
            Problem::new(format!("`{url}` has a path")).help("write host and port, as http://127.0.0.1:2379")
        );
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let after_host = authority.as_str().get(authority.host().len()..).unwrap_or_default();
    let port = match after_host.strip_prefix(':').map(str::parse) {
        None => PORT,
        Some(Ok(port @ 1_u16..)) => port,
        Some(_) => return Err(invalid()),
    };
    if host.is_empty() {
        return Err(invalid());
    }
    let secure = tls.filter(|_| uri.scheme_str() == Some("https"));
    let secure = secure.map(|tls| {
        let name = tls.sni().unwrap_or(&host);
        let name = ServerName::try_from(name.strip_suffix('.').unwrap_or(name).to_owned());
        name.map(|name| (Arc::clone(tls.config(false)), name)).map_err(|_| invalid())
    });
    Ok(Server {
        url: url.trim_end_matches('/').into(),
        authority: HeaderValue::from_str(authority.as_str()).map_err(|_| invalid())?,
        host,
        port,
        tls: secure.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_config::Place;

    fn keys(servers: &[&str]) -> EtcdKeys {
        let placed = |text: &&str| Placed { value: (*text).to_owned(), place: Place::nowhere() };
        let servers = Placed { value: servers.iter().map(placed).collect(), place: Place::nowhere() };
        EtcdKeys { servers, tls: None, user: None, password: None, password_file: None }
    }

    fn compile(keys: EtcdKeys) -> Result<EtcdServers, String> {
        let settings = moongate_sdk::testing::settings(serde_json::json!({}));
        keys.compile(&settings).map_err(|problems| problems.0[0].message.to_string())
    }

    #[test]
    fn every_form_of_a_server_is_taken() {
        for (url, host, port) in [
            ("http://127.0.0.1:2379", "127.0.0.1", 2379),
            ("http://etcd.internal/", "etcd.internal", 2379),
            ("http://[::1]:12379", "::1", 12379),
            ("https://etcd.internal.:443", "etcd.internal.", 443),
        ] {
            let server = server(url, None).unwrap();
            assert_eq!((&*server.host, server.port), (host, port), "{url}");
        }
    }

    #[test]
    fn invalid_settings_are_refused_with_a_reason() {
        let secret = || Some(Placed { value: "hush".to_owned(), place: Place::nowhere() });
        let tls = || Some(Placed { value: UpstreamTls::default(), place: Place::nowhere() });
        let one = || keys(&["http://127.0.0.1:2379"]);
        for (keys, expected) in [
            (keys(&[]), "`servers` is empty"),
            (keys(&["127.0.0.1:2379"]), "`127.0.0.1:2379` is not the URL of a server"),
            (keys(&["redis://127.0.0.1"]), "`redis://127.0.0.1` is not the URL of a server"),
            (keys(&["http://127.0.0.1:0"]), "`http://127.0.0.1:0` is not the URL of a server"),
            (keys(&["http://127.0.0.1:99999"]), "`http://127.0.0.1:99999` is not the URL of a server"),
            (keys(&["http://u:hush@127.0.0.1"]), "the URL of a server must have no credentials"),
            (keys(&["http://127.0.0.1/v3"]), "`http://127.0.0.1/v3` has a path"),
            (EtcdKeys { user: secret(), ..one() }, "`user` needs `password` or `password_file`"),
            (EtcdKeys { password: secret(), ..one() }, "a password needs `user`"),
            (EtcdKeys { tls: tls(), ..one() }, "`tls` needs servers with TLS"),
        ] {
            assert_eq!(compile(keys).unwrap_err(), expected);
        }
    }
}
