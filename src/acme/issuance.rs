//! One issuance, from the account to the stored file, in the order of RFC 8555 §7.

use super::account::{account, forgotten};
use super::certified_key::KeyedCertificate;
use super::failure::{Failure, Reason};
use super::job::Job;
use super::storage;
use crate::config::Challenge;
use crate::tls::{ChallengeGuard, Challenges};
use instant_acme::{
    AuthorizationHandle, AuthorizationStatus, ChallengeHandle, ChallengeType, Error, Identifier, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::Duration;

/// The CA's time limit for validation and for issuance.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));

fn rejected(detail: impl Into<String>) -> Failure {
    Failure { reason: Reason::Rejected, detail: detail.into() }
}

/// Requests a certificate, stores it, and puts it in use.
///
/// # Errors
/// The reason of the failure.
pub(super) async fn issue(job: &Job) -> Result<(), Failure> {
    let settings = &job.settings;
    // A CA counts an issued certificate, even if it cannot be stored here.
    storage::run(settings, storage::prepare).await.map_err(|error| Failure::storage(&error))?;
    let unsaved = job.unsaved.lock().take();
    if let Some(pem) = unsaved {
        return keep(job, pem).await;
    }
    let account = account(settings).await?;
    let identifiers: Vec<_> = settings.names.iter().map(|name| Identifier::Dns(name.to_string())).collect();
    let order = account.new_order(&NewOrder::new(&identifiers)).await;
    let mut order = match order {
        Ok(order) => order,
        Err(error) => return Err(forgotten(error, settings).await),
    };
    let shown = prove(&mut order, settings.challenge, &job.challenges).await?;
    match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready) => {}
        // One of the names was refused; this error does not say which.
        Err(Error::Api(problem)) => {
            return Err(validation_failure(&mut order).await.unwrap_or(Error::Api(problem).into()));
        }
        Err(error) => return Err(error.into()),
        Ok(_) => {
            return Err(validation_failure(&mut order).await.unwrap_or(rejected("the CA gave no reason")));
        }
    }
    drop(shown);
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    let pem = key + &chain;
    let keyed = KeyedCertificate::read(pem.as_bytes())
        .map_err(|error| rejected(format!("issued certificate: {error}")))?;
    if !keyed.covers(&settings.names) {
        return Err(rejected("the issued certificate does not cover every name"));
    }
    // In use before it is stored: with a full disk, the old certificate must not expire.
    job.renewed(keyed.key, keyed.validity);
    keep(job, pem).await
}

/// Stores the issued certificate. If that fails now, a later attempt stores it without a new order.
async fn keep(job: &Job, pem: String) -> Result<(), Failure> {
    // Set first: waiting for the disk may time out.
    *job.unsaved.lock() = Some(pem.clone());
    storage::run(&job.settings, move |settings| storage::keep(settings, &pem))
        .await
        .map_err(|error| Failure::storage(&error))?;
    *job.unsaved.lock() = None;
    Ok(())
}

/// Completes the challenge of every name that is not validated yet.
async fn prove(
    order: &mut Order,
    challenge: Challenge,
    challenges: &Arc<Challenges>,
) -> Result<Vec<ChallengeGuard>, Failure> {
    let mut shown = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            // Validated for an earlier order.
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            _ => return Err(rejected("the authorization of a name is no longer pending")),
        }
        let name = authorization.identifier().to_string();
        let kind = match challenge {
            Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Challenge::Http01 => ChallengeType::Http01,
        };
        let Some(mut handle) = authorization.challenge(kind) else {
            return Err(rejected(format!("the CA does not offer this challenge for {name}")));
        };
        shown.push(show(&handle, &name, challenge, challenges)?);
        handle.set_ready().await?;
    }
    Ok(shown)
}

fn show(
    handle: &ChallengeHandle<'_>,
    name: &str,
    challenge: Challenge,
    challenges: &Arc<Challenges>,
) -> Result<ChallengeGuard, Failure> {
    let authorization = handle.key_authorization();
    match challenge {
        Challenge::Http01 => Ok(challenges.show_answer(&handle.token, authorization.as_str())),
        Challenge::TlsAlpn01 => {
            let proof = proof(name, authorization.digest().as_ref());
            let proof =
                proof.map_err(|error| rejected(format!("challenge response cannot be created: {error}")))?;
            challenges.show_handshake(name, proof).map_err(|error| rejected(error.to_string()))
        }
    }
}

/// The validation certificate of a name (RFC 8737 §3), which contains the digest.
fn proof(name: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = ring::sign::any_supported_type(&PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
    // Without the usual checks: its critical extension is known to CAs only.
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

/// The CA's error for the first name whose challenge failed.
async fn validation_failure(order: &mut Order) -> Option<Failure> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if let Some(detail) = challenge_error(&mut authorization).await {
            return Some(Failure { reason: Reason::Challenge, detail });
        }
    }
    None
}

async fn challenge_error(authorization: &mut AuthorizationHandle<'_>) -> Option<String> {
    authorization.refresh().await.ok()?;
    let problem = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref())?;
    Some(format!("{}: {problem}", authorization.identifier()))
}

#[cfg(test)]
mod tests;
