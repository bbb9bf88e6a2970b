//! Keys with their allowed algorithms, and the requirements for a token.
//!
//! A key is bound to its algorithms when it is read, so that a token can never choose how it is verified (RFC 8725
//! §3.1).

use super::crypto;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

/// The maximum number of keys in a set: a token without a `kid` is checked with each of them.
const MOST_KEYS: usize = 64;

/// The claims of a token.
pub(super) type Claims = Map<String, Value>;

/// The requirements for every token, with any key.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenRequirements {
    /// The accepted algorithms; empty: those of the key.
    pub(super) algorithms: Vec<Algorithm>,
    /// The accepted issuers; empty: any.
    pub(super) issuers: Vec<String>,
    /// The accepted audiences; empty: any.
    pub(super) audiences: Vec<String>,
    /// Required claims.
    pub(super) required: Vec<String>,
    /// The tolerated clock difference.
    pub(super) leeway: Duration,
}

/// Keys for verification.
#[derive(Debug)]
pub(super) struct Keys {
    keys: Vec<Key>,
    left_out: Vec<String>,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    key: DecodingKey,
    validation: Validation,
}

/// The reason why a token is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenError {
    /// It is not a signed token.
    Malformed,
    /// No key has its ID, or may be used with its algorithm.
    NoKey,
    /// The signature is wrong.
    Signature,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYet,
    /// It has another issuer.
    Issuer,
    /// It has another audience.
    Audience,
    /// A claim is missing or invalid.
    Claim,
}

impl TokenError {
    /// Text for the client that is valid in a quoted string.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "the token is malformed",
            Self::NoKey => "the token has no known key",
            Self::Signature => "the signature is wrong",
            Self::Expired => "the token is expired",
            Self::NotYet => "the token is not valid yet",
            Self::Issuer => "the issuer is unknown",
            Self::Audience => "the token is for another audience",
            Self::Claim => "a claim is missing or malformed",
        }
    }
}

/// A key set as received. Its keys are parsed one by one, so that an unusable one does not exclude the others.
#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

impl Keys {
    /// One secret.
    ///
    /// # Errors
    /// The problem, for an operator.
    pub(super) fn secret(secret: &[u8], requirements: &TokenRequirements) -> Result<Self, String> {
        let mut usable = follow(requirements, AlgorithmFamily::Hmac.algorithms());
        // A key must be at least as long as the hash (RFC 7518 §3.2).
        let long_enough = |algorithm: &Algorithm| secret.len() >= hash(*algorithm);
        let listed = !requirements.algorithms.is_empty();
        if let Some(short) = usable.iter().find(|algorithm| listed && !long_enough(algorithm)) {
            return Err(format!("it has {} bytes; {short:?} needs at least {}", secret.len(), hash(*short)));
        }
        usable.retain(long_enough);
        if !listed && usable.is_empty() {
            return Err(format!("it has {} bytes; HS256 needs at least 32", secret.len()));
        }
        Key::new(None, DecodingKey::from_secret(secret), usable, requirements).map(Self::one)
    }

    /// One public key in PEM: RSA (SPKI or PKCS#1), P-256, P-384 or Ed25519.
    ///
    /// # Errors
    /// As [`Keys::secret`].
    pub(super) fn pem(pem: &[u8], requirements: &TokenRequirements) -> Result<Self, String> {
        if pem.windows(12).any(|part| part == b"PRIVATE KEY-") {
            return Err("it is a private key; only the public one is needed here".into());
        }
        let (key, natural) = if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            (key, AlgorithmFamily::Rsa.algorithms().to_vec())
        } else if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            let algorithm = match key.try_get_as_bytes().map(<[u8]>::len) {
                Ok(65) => Algorithm::ES256,
                Ok(97) => Algorithm::ES384,
                _ => return Err("its curve is neither P-256 nor P-384".into()),
            };
            (key, vec![algorithm])
        } else if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            (key, vec![Algorithm::EdDSA])
        } else {
            return Err("it has no public key of RSA, P-256, P-384 or Ed25519 in PEM".into());
        };
        Key::new(None, key, follow(requirements, &natural), requirements).map(Self::one)
    }

    fn one(key: Key) -> Self {
        Self { keys: vec![key], left_out: Vec::new() }
    }

    /// A key set (RFC 7517 §5). Keys for other purposes and unusable ones are skipped, and in a public set also
    /// secrets.
    ///
    /// # Errors
    /// It is not a key set, or has no usable key.
    pub(super) fn set(json: &[u8], public: bool, requirements: &TokenRequirements) -> Result<Self, String> {
        let set: Set =
            serde_json::from_slice(json).map_err(|error| format!("it is not a key set: {error}"))?;
        let (mut keys, mut left_out) = (Vec::new(), Vec::new());
        for (index, written) in set.keys.into_iter().enumerate() {
            let name = match &written["kid"] {
                Value::Null => format!("keys[{index}]"),
                id => format!("keys[{index}] with kid {id}"),
            };
            match Key::in_set(&written, public, requirements) {
                Ok(Some(key)) if keys.len() < MOST_KEYS => keys.push(key),
                Ok(Some(_)) => left_out.push(format!("{name}: more than {MOST_KEYS} keys")),
                Ok(None) => {}
                Err(why) => left_out.push(format!("{name}: {why}")),
            }
        }
        if keys.is_empty() {
            let why = left_out.first().map(|why| format!(" ({why})")).unwrap_or_default();
            return Err(format!("no key of the set can be used to check a signature{why}"));
        }
        Ok(Self { keys, left_out })
    }

    /// The unusable keys of the set, each with the reason.
    pub(super) fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Checks a token. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// The reason why it is rejected.
    pub(super) fn check(
        &self,
        token: &[u8],
        requirements: &TokenRequirements,
        now: u64,
    ) -> Result<Claims, TokenError> {
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        // A recipient that does not support a critical extension must reject the token (RFC 7515 §4.1.11).
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let mut why = TokenError::NoKey;
        let fits = |key: &&Key| match (&key.id, &header.kid) {
            (Some(id), Some(wanted)) => id == wanted,
            _ => true,
        };
        for key in self.keys.iter().filter(fits).filter(|key| key.validation.algorithms.contains(&header.alg))
        {
            match decode::<Claims>(token, &key.key, &key.validation) {
                Ok(token) => return in_time(&token.claims, requirements, now).map(|()| token.claims),
                Err(error) => why = refusal(error.kind()),
            }
            if why != TokenError::Signature {
                break;
            }
        }
        Err(why)
    }
}

impl Key {
    fn new(
        id: Option<String>,
        key: DecodingKey,
        algorithms: Vec<Algorithm>,
        requirements: &TokenRequirements,
    ) -> Result<Self, String> {
        crypto::install();
        let Some(first) = algorithms.first() else {
            return Err("none of `algorithms` can be used with this key".into());
        };
        let mut validation = Validation::new(*first);
        validation.algorithms = algorithms;
        // Times are checked with the gateway's clock; see `in_time`.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = !requirements.audiences.is_empty();
        let mut required = requirements.required.clone();
        if !requirements.issuers.is_empty() {
            validation.set_issuer(&requirements.issuers);
            required.push("iss".into());
        }
        if !requirements.audiences.is_empty() {
            validation.set_audience(&requirements.audiences);
            required.push("aud".into());
        }
        validation.required_spec_claims = required.into_iter().collect();
        Ok(Self { id, key, validation })
    }

    /// A key of a set; `None` for another purpose, or for an unsupported type or algorithm (RFC 7517 §5).
    ///
    /// # Errors
    /// The reason why it cannot be used.
    fn in_set(
        written: &Value,
        public: bool,
        requirements: &TokenRequirements,
    ) -> Result<Option<Self>, String> {
        if let Some(kind) = written["kty"].as_str().filter(|kind| !TYPES.contains(kind)) {
            return Err(format!("its type `{kind}` is not known"));
        }
        let jwk: Jwk = Jwk::deserialize(written).map_err(|error| error.to_string())?;
        match &jwk.common.public_key_use {
            None | Some(PublicKeyUse::Signature) => {}
            Some(PublicKeyUse::Encryption) => return Ok(None),
            Some(PublicKeyUse::Other(purpose)) => return Err(format!("its use `{purpose}` is not known")),
        }
        // The operations for which it may be used (RFC 7517 §4.3).
        if let Some(operations) = written["key_ops"].as_array()
            && !operations.iter().any(|operation| operation == "verify")
        {
            return Ok(None);
        }
        if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) && public {
            return Err("a secret in a public key set".to_owned());
        }
        if let Some(algorithm) = written["alg"].as_str().filter(|algorithm| !is_registered(algorithm)) {
            return Err(format!("its algorithm `{algorithm}` is not known"));
        }
        check_parameters(&jwk.algorithm, written)?;
        Self::read(&jwk, requirements)
    }

    fn read(jwk: &Jwk, requirements: &TokenRequirements) -> Result<Option<Self>, String> {
        let natural = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms(),
            AlgorithmParameters::OctetKey(_) => AlgorithmFamily::Hmac.algorithms(),
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                &[Algorithm::ES256]
            }
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
                &[Algorithm::ES384]
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                &[Algorithm::EdDSA]
            }
            _ => return Err("its curve is none of P-256, P-384 and Ed25519".to_owned()),
        };
        let mut algorithms = follow(requirements, natural);
        if let Some(declared) = jwk.common.key_algorithm {
            algorithms.retain(|algorithm| declared == (*algorithm).into());
        }
        if algorithms.is_empty() {
            return Ok(None);
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|error| error.to_string())?;
        Self::new(jwk.common.key_id.clone(), key, algorithms, requirements).map(Some)
    }
}

/// Key types (RFC 7518 §6.1, RFC 8037 §2).
const TYPES: [&str; 4] = ["RSA", "EC", "oct", "OKP"];

/// Whether an algorithm is registered for signatures or encryption (RFC 7518 §3.1, §4.1, RFC 8037 §3.1, RFC 8812 §3.2).
fn is_registered(algorithm: &str) -> bool {
    let begins = |prefix: &&str| algorithm.starts_with(prefix);
    ["HS", "RS", "PS", "ES", "A128", "A192", "A256", "RSA", "ECDH-ES", "PBES2"].iter().any(begins)
        && algorithm != "RSA"
        || matches!(algorithm, "EdDSA" | "Ed25519" | "dir")
}

/// Whether the parameters of a public key have the sizes of its type: an unusable key set must not replace a usable
/// one.
fn check_parameters(algorithm: &AlgorithmParameters, written: &Value) -> Result<(), String> {
    let length = |name: &str| {
        let text = written[name].as_str().unwrap_or_default();
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|error| format!("its `{name}`: {error}"))?;
        Ok::<_, String>(bytes.iter().skip_while(|byte| **byte == 0 && name == "n").count())
    };
    let has = |name: &str, wanted: usize| match length(name)? {
        found if found == wanted => Ok(()),
        found => Err(format!("its `{name}` has {found} bytes in place of {wanted}")),
    };
    match algorithm {
        AlgorithmParameters::RSA(_) => match length("n")? {
            // At least 2048 bits (RFC 7518 §3.3).
            short @ 0..256 => Err(format!("its `n` has {} bits, and 2048 are the least", short * 8)),
            _ => Ok(()),
        },
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => has("x", 32).and_then(|()| has("y", 32)),
            EllipticCurve::P384 => has("x", 48).and_then(|()| has("y", 48)),
            _ => Ok(()),
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => has("x", 32),
        _ => Ok(()),
    }
}

/// The length of an HMAC's hash, in bytes.
const fn hash(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::HS512 => 64,
        Algorithm::HS384 => 48,
        _ => 32,
    }
}

/// The key's own algorithms that the operator allows.
fn follow(requirements: &TokenRequirements, natural: &[Algorithm]) -> Vec<Algorithm> {
    let allowed = |algorithm: &&Algorithm| {
        requirements.algorithms.is_empty() || requirements.algorithms.contains(algorithm)
    };
    natural.iter().filter(allowed).copied().collect()
}

/// Checks `exp` and `nbf` with the leeway (RFC 7519 §4.1.4, §4.1.5), and the presence of required claims that
/// jsonwebtoken does not know.
fn in_time(claims: &Claims, requirements: &TokenRequirements, now: u64) -> Result<(), TokenError> {
    let moment = |name| match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(TokenError::Claim),
    };
    if requirements.required.iter().any(|name| claims.get(name).is_none_or(Value::is_null)) {
        return Err(TokenError::Claim);
    }
    // Timestamps are far below the limit of exact integers in an f64.
    let (now, leeway) = (now as f64, requirements.leeway.as_secs_f64());
    if moment("exp")?.is_some_and(|exp| now >= exp + leeway) {
        return Err(TokenError::Expired);
    }
    if moment("nbf")?.is_some_and(|nbf| now + leeway < nbf) {
        return Err(TokenError::NotYet);
    }
    Ok(())
}

fn refusal(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature | ErrorKind::InvalidRsaKey(_) | ErrorKind::InvalidEcdsaKey => {
            TokenError::Signature
        }
        ErrorKind::InvalidAlgorithm => TokenError::NoKey,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => TokenError::Claim,
        _ => TokenError::Malformed,
    }
}
