//! What was written for a certificate, read in its one meaning.

use crate::config::{self, Challenge};
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::Uri;
use moongate_config::{Files, Placed, Problem, Problems};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The folder of an operator who names none.
const STORAGE: &str = "acme";

/// The largest file of issuers that is read.
const LARGEST: u64 = 1 << 20;

/// A certificate as it is wanted. Two that are equal are the same one.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The names, in lower case, in the order written.
    pub names: Vec<Box<str>>,
    /// The authority's directory.
    pub directory: String,
    /// Whom the authority may write to, as URLs.
    pub contact: Vec<String>,
    /// How it is proven that the names are ours.
    pub challenge: Challenge,
    /// The folder that keeps everything of every authority.
    pub storage: PathBuf,
    /// The issuers that are trusted for the directory; `None`: the system's.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// The identifier and the key of an account that was made elsewhere.
    pub external: Option<(String, Vec<u8>)>,
}

impl Settings {
    /// Reads what was written.
    ///
    /// # Errors
    /// Everything that is wrong with it, with places.
    pub(super) fn read(written: &Placed<config::Acme>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let spec = &written.value;
        let settings = Self {
            names: names(&spec.domains, &mut problems),
            directory: directory(&spec.directory, &mut problems),
            contact: spec.email.iter().filter_map(|one| contact(one, &mut problems)).collect(),
            challenge: spec.challenge,
            storage: problems.keep(storage(written).map_err(Into::into)).unwrap_or_default(),
            roots: spec.directory_ca.as_ref().and_then(|ca| problems.keep(roots(ca).map_err(Into::into))),
            external: spec.external_account.as_ref().and_then(|account| external(account, &mut problems)),
        };
        if problems.refuse() { Err(problems) } else { Ok(settings) }
    }

    /// What tells it from every other certificate of its directory, in letters that a file's name may have.
    pub fn id(&self) -> String {
        let mut sorted = self.names.clone();
        sorted.sort();
        let first = self.names.first().map_or("", |name| &**name);
        if sorted.len() < 2 {
            return first.to_owned();
        }
        let digest = Sha256::digest(sorted.join("\n"));
        digest[..4].iter().fold(format!("{first}-"), |mut id, byte| {
            // Writing to a text does not fail.
            let _ = write!(id, "{byte:02x}");
            id
        })
    }

    /// The directory in letters that a folder's name may have.
    pub fn authority(&self) -> String {
        let rest = self.directory.split_once("://").map_or(&*self.directory, |(_, rest)| rest);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        rest.trim_matches('/').chars().map(|c| if plain(c) { c.to_ascii_lowercase() } else { '_' }).collect()
    }
}

fn names(written: &Placed<Vec<Placed<String>>>, problems: &mut Problems) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::with_capacity(written.value.len());
    if written.value.is_empty() {
        let problem = Problem::new("`domains` is empty: a certificate needs a name");
        problems.push(problem.help("name what clients connect to, as in example.com").at(&written.place));
    }
    for domain in &written.value {
        let name: Box<str> = domain.value.to_ascii_lowercase().into();
        match check_name(&name) {
            Err(problem) => problems.push(problem.at(&domain.place)),
            Ok(()) if names.contains(&name) => {
                problems.push(Problem::new(format!("`{name}` is named twice")).at(&domain.place));
            }
            Ok(()) => names.push(name),
        }
    }
    names
}

/// RFC 1035 §2.3.1 as RFC 1123 §2.1 relaxes it.
fn check_name(name: &str) -> Result<(), Problem> {
    if name.contains('*') {
        return Err(Problem::new(format!("`{name}` is a wildcard; these challenges prove single names"))
            .help(
                "list every name, or get a wildcard with another client and name its files in `certificates`",
            ));
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Err(Problem::new(format!("`{name}` is an address, not a name")));
    }
    if !name.is_ascii() {
        return Err(Problem::new(format!("`{name}` has letters that a name on the wire has not"))
            .help("write it as clients send it, in punycode: xn--…"));
    }
    let fits = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(fits) {
        return Err(Problem::new(format!("`{name}` is not a host's name"))
            .help("as in example.com, without a dot at the end"));
    }
    Ok(())
}

fn directory(written: &Placed<String>, problems: &mut Problems) -> String {
    let good = written.value.parse::<Uri>().is_ok_and(|uri| is_safe(&uri));
    if !good {
        problems.push(
            Problem::new(format!("the directory `{}` is not an https: URL", written.value))
                .help("as in https://acme-v02.api.letsencrypt.org/directory; http: only on this machine")
                .at(&written.place),
        );
    }
    written.value.clone()
}

/// Whether what is told and asked there is between the two: over TLS, or inside this machine.
pub(super) fn is_safe(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let inside = || host == "localhost" || ip(host).is_some_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => inside(),
        _ => false,
    }
}

/// An address as it stands in a URL.
fn ip(host: &str) -> Option<std::net::IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn contact(written: &Placed<String>, problems: &mut Problems) -> Option<String> {
    let address = written.value.strip_prefix("mailto:").unwrap_or(&written.value);
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | ';' | '?' | '<' | '>' | '"');
    let good = address
        .split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && check_name(&host.to_ascii_lowercase()).is_ok());
    if good && address.chars().all(plain) {
        return Some(format!("mailto:{address}"));
    }
    problems.push(
        Problem::new(format!("`{}` is not an address to write to", written.value))
            .help("as in admin@example.com or mailto:admin@example.com")
            .at(&written.place),
    );
    None
}

/// The folder, relative to the file that names it or, by default, to the one that asks for a certificate.
///
/// # Errors
/// When it could never be made: something on its path is not a directory, or cannot be looked at. It need not exist.
fn storage(written: &Placed<config::Acme>) -> Result<PathBuf, Problem> {
    let (place, name) = match &written.value.storage {
        Some(storage) => (&storage.place, storage.value.as_str()),
        None => (&written.place, STORAGE),
    };
    let folder = Path::new(&*place.file).parent().unwrap_or(Path::new("")).join(name);
    for path in folder.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path })
    {
        let wrong = match path.metadata() {
            Ok(found) if found.is_dir() => break,
            Ok(_) => "it is not a directory".to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => continue,
            Err(error) if error.kind() == ErrorKind::NotADirectory && !path.is_symlink() => continue,
            Err(error) => error.to_string(),
        };
        let message =
            format!("certificates cannot be kept in `{}`: `{}`: {wrong}", folder.display(), path.display());
        return Err(Problem::new(message)
            .help("name a directory in `storage` that the gateway may make or write to, as /var/lib/moongate/acme")
            .at(place));
    }
    Ok(folder)
}

fn roots(written: &Placed<String>) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let file = Files::default().read(written, LARGEST)?;
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file.bytes).collect();
    match roots {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        Ok(_) => {
            Err(Problem::new(format!("`{}` has no certificate in PEM", written.value)).at(&written.place))
        }
        Err(error) => {
            Err(Problem::new(format!("`{}` cannot be read as PEM: {error}", written.value))
                .at(&written.place))
        }
    }
}

fn external(written: &Placed<config::ExternalAccount>, problems: &mut Problems) -> Option<(String, Vec<u8>)> {
    let either = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::URL_SAFE, either);
    let (id, key) = (&written.value.id, &written.value.key);
    match engine.decode(key.value.trim()) {
        Ok(decoded) if !decoded.is_empty() => Some((id.value.clone(), decoded)),
        _ => {
            problems.push(
                Problem::new("the account's key is not base64url")
                    .help("take it as the authority shows it: letters, digits, `-` and `_`")
                    .at(&key.place),
            );
            None
        }
    }
}
