//! Signature verification with `ring`, as a provider for jsonwebtoken. Signing is not supported.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::{hmac, signature};
use std::sync::Once;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: |algorithm, key| {
        Ok(Box::new(Check { algorithm: *algorithm, key: read(*algorithm, key)? }))
    },
    // Used only to export keys or to compute a thumbprint.
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        rsa_pub_components_from_public_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ec_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ed_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        compute_digest: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    },
};

/// Installs `ring` as the provider. A provider that the program has installed before stays.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

/// One key under one algorithm.
struct Check {
    algorithm: Algorithm,
    key: Key,
}

enum Key {
    Secret(hmac::Key),
    Public(signature::UnparsedPublicKey<Vec<u8>>),
    Rsa { how: &'static signature::RsaParameters, n: Vec<u8>, e: Vec<u8> },
}

/// The key for this algorithm; a public key is never used as a secret.
fn read(algorithm: Algorithm, key: &DecodingKey) -> Result<Key> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let public =
        |how| Ok(Key::Public(signature::UnparsedPublicKey::new(how, key.try_get_as_bytes()?.to_vec())));
    let secret = |how| Ok(Key::Secret(hmac::Key::new(how, key.try_get_as_bytes()?)));
    let rsa = |how: &'static signature::RsaParameters| match key.kind() {
        DecodingKeyKind::SecretOrDer(der) => {
            Ok(Key::Public(signature::UnparsedPublicKey::new(how, der.clone())))
        }
        DecodingKeyKind::RsaModulusExponent { n, e } => Ok(Key::Rsa { how, n: n.clone(), e: e.clone() }),
    };
    match algorithm {
        Algorithm::HS256 => secret(hmac::HMAC_SHA256),
        Algorithm::HS384 => secret(hmac::HMAC_SHA384),
        Algorithm::HS512 => secret(hmac::HMAC_SHA512),
        Algorithm::RS256 => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => rsa(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => rsa(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => rsa(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => public(&signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => public(&signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => public(&signature::ED25519),
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    }
}

impl Verifier<Vec<u8>> for Check {
    fn verify(&self, message: &[u8], given: &Vec<u8>) -> std::result::Result<(), Error> {
        let right = match &self.key {
            Key::Secret(key) => hmac::verify(key, message, given),
            Key::Public(key) => key.verify(message, given),
            Key::Rsa { how, n, e } => signature::RsaPublicKeyComponents { n, e }.verify(how, message, given),
        };
        right.map_err(|_| Error::new())
    }
}

impl JwtVerifier for Check {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
