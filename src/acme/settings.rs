//! Validated settings of an ACME certificate.

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

/// The default of `storage`.
const STORAGE: &str = "acme";

/// The size limit of a file of issuers.
const LARGEST: u64 = 1 << 20;

/// The settings of a certificate; equal settings mean the same certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The names, in lower case, in the order of the configuration.
    pub names: Vec<Box<str>>,
    /// The CA's directory URL.
    pub directory: String,
    /// `mailto:` URLs.
    pub email: Vec<String>,
    /// The challenge type.
    pub challenge: Challenge,
    /// The storage folder of all CAs.
    pub storage: PathBuf,
    /// The issuers trusted for the directory's certificate; `None` means those of the system.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// The key identifier and key for external account binding.
    pub external: Option<(String, Vec<u8>)>,
}

impl Settings {
    /// Validates the settings.
    ///
    /// # Errors
    /// Every invalid setting, with its place.
    pub(super) fn read(written: &Placed<config::Acme>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let spec = &written.value;
        let settings = Self {
            names: names(&spec.domains, &mut problems),
            directory: directory(&spec.directory, &mut problems),
            email: spec.email.iter().filter_map(|one| email(one, &mut problems)).collect(),
            challenge: spec.challenge,
            storage: problems.keep(storage(written).map_err(Into::into)).unwrap_or_default(),
            roots: spec.directory_ca.as_ref().and_then(|ca| problems.keep(roots(ca).map_err(Into::into))),
            external: spec.external_account.as_ref().and_then(|account| external(account, &mut problems)),
        };
        if problems.refuse() { Err(problems) } else { Ok(settings) }
    }

    /// An identifier that is unique within its directory, usable as a file name.
    pub fn id(&self) -> String {
        let mut sorted = self.names.clone();
        sorted.sort();
        let first = self.names.first().map_or("", |name| &**name);
        if sorted.len() < 2 {
            return first.to_owned();
        }
        let digest = Sha256::digest(sorted.join("\n"));
        digest[..4].iter().fold(format!("{first}-"), |mut id, byte| {
            // Writing to a String cannot fail.
            let _ = write!(id, "{byte:02x}");
            id
        })
    }

    /// The directory URL as a folder name.
    pub fn authority(&self) -> String {
        let rest = self.directory.split_once("://").map_or(&*self.directory, |(_, rest)| rest);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        rest.trim_matches('/').chars().map(|c| if plain(c) { c.to_ascii_lowercase() } else { '_' }).collect()
    }
}

fn names(written: &Placed<Vec<Placed<String>>>, problems: &mut Problems) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::with_capacity(written.value.len());
    if written.value.is_empty() {
        let problem = Problem::new("`domains` is empty; a certificate needs a name");
        problems.push(
            problem.help("add the host names that clients use, for example example.com").at(&written.place),
        );
    }
    for domain in &written.value {
        let name: Box<str> = domain.value.to_ascii_lowercase().into();
        match check_name(&name) {
            Err(problem) => problems.push(problem.at(&domain.place)),
            Ok(()) if names.contains(&name) => {
                problems.push(Problem::new(format!("duplicate domain `{name}`")).at(&domain.place));
            }
            Ok(()) => names.push(name),
        }
    }
    names
}

/// Host names by RFC 1035 §2.3.1, as relaxed by RFC 1123 §2.1.
fn check_name(name: &str) -> Result<(), Problem> {
    if name.contains('*') {
        return Err(Problem::new(format!("`{name}` is a wildcard; these challenges validate single names only"))
            .help(
                "list every name, or get a wildcard certificate with another ACME client and set its files in `certificates`",
            ));
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Err(Problem::new(format!("`{name}` is an IP address, not a host name")));
    }
    if !name.is_ascii() {
        return Err(
            Problem::new(format!("`{name}` has non-ASCII characters")).help("write it in punycode: xn--…")
        );
    }
    let fits = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(fits) {
        return Err(Problem::new(format!("`{name}` is not a valid host name"))
            .help("use a name such as example.com, without a final dot"));
    }
    Ok(())
}

fn directory(written: &Placed<String>, problems: &mut Problems) -> String {
    let good = written.value.parse::<Uri>().is_ok_and(|uri| is_safe(&uri));
    if !good {
        problems.push(
            Problem::new(format!("directory `{}` is not an https: URL", written.value))
                .help("use a URL such as https://acme-v02.api.letsencrypt.org/directory; http: is allowed for loopback only")
                .at(&written.place),
        );
    }
    written.value.clone()
}

/// Whether the connection is private: over TLS, or to a loopback address.
pub(super) fn is_safe(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let inside = || host == "localhost" || ip(host).is_some_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => inside(),
        _ => false,
    }
}

/// The IP address of a URL's host.
fn ip(host: &str) -> Option<std::net::IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn email(written: &Placed<String>, problems: &mut Problems) -> Option<String> {
    let address = written.value.strip_prefix("mailto:").unwrap_or(&written.value);
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | ';' | '?' | '<' | '>' | '"');
    let good = address
        .split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && check_name(&host.to_ascii_lowercase()).is_ok());
    if good && address.chars().all(plain) {
        return Some(format!("mailto:{address}"));
    }
    problems.push(
        Problem::new(format!("`{}` is not an email address", written.value))
            .help("use an address such as admin@example.com or mailto:admin@example.com")
            .at(&written.place),
    );
    None
}

/// The storage folder, relative to the file that sets it, or by default to the file with the listener.
///
/// # Errors
/// The folder can never be created: a part of its path is not a directory or cannot be examined. It need not
/// exist.
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
            Ok(_) => "not a directory".to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => continue,
            Err(error) if error.kind() == ErrorKind::NotADirectory && !path.is_symlink() => continue,
            Err(error) => error.to_string(),
        };
        let message =
            format!("certificates cannot be stored in `{}`: `{}`: {wrong}", folder.display(), path.display());
        return Err(Problem::new(message)
            .help("set `storage` to a directory that the gateway can create or write to, for example /var/lib/moongate/acme")
            .at(place));
    }
    Ok(folder)
}

fn roots(written: &Placed<String>) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let file = Files::default().read(written, LARGEST)?;
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file.bytes).collect();
    match roots {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        Ok(_) => Err(Problem::new(format!("`{}` has no PEM certificate", written.value)).at(&written.place)),
        Err(error) => {
            Err(Problem::new(format!("`{}` is not valid PEM: {error}", written.value)).at(&written.place))
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
                Problem::new("the account key is not base64url")
                    .help("copy it from the CA: letters, digits, `-` and `_`")
                    .at(&key.place),
            );
            None
        }
    }
}
