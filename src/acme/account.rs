//! The account at an authority (RFC 8555 §7.3): made once, kept, used for every certificate after it.

use super::client::Client;
use super::disk;
use super::issue::storage;
use super::settings::Settings;
use super::state::{Failure, Reason};
use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};

/// An account as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    contact: Vec<String>,
    credentials: AccountCredentials,
}

/// The account that is kept, if one is.
pub(super) async fn known(settings: &Settings) -> Result<Option<Account>, Failure> {
    let kept = disk::load_json::<Kept>(&disk::account(settings)).map_err(|error| storage(&error))?;
    let Some(Kept { credentials, .. }) = kept else { return Ok(None) };
    let client = client(settings)?;
    Ok(Some(Account::builder_with_http(client).from_credentials(credentials).await?))
}

fn client(settings: &Settings) -> Result<Box<Client>, Failure> {
    let client = Client::new(settings.roots.as_deref());
    Ok(Box::new(client.map_err(|why| Error::Other(Box::new(why)))?))
}

/// The account: the one that is kept, or a new one.
pub(super) async fn account(settings: &Settings) -> Result<Account, Failure> {
    let path = disk::account(settings);
    let contact: Vec<_> = settings.contact.iter().map(String::as_str).collect();
    let kept = disk::load_json::<Kept>(&path).map_err(|error| storage(&error))?;
    let Some(kept) = kept else {
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = settings.external.as_ref().map(|(id, key)| ExternalAccountKey::new(id.clone(), key));
        let (account, credentials) = Account::builder_with_http(client(settings)?)
            .create(&new, settings.directory.clone(), external.as_ref())
            .await
            .map_err(account_failed)?;
        let kept = Kept { contact: settings.contact.clone(), credentials };
        disk::keep_json(&path, &kept).map_err(|error| storage(&error))?;
        return Ok(account);
    };
    let Kept { contact: told, credentials } = kept;
    // What is sent to keep the new contact is taken back apart: the credentials cannot be copied.
    let again = serde_json::to_value(&credentials).map_err(Error::from)?;
    let account = Account::builder_with_http(client(settings)?).from_credentials(credentials).await?;
    if told != settings.contact {
        account.update_contacts(&contact).await.map_err(|error| forgotten(error, settings))?;
        let credentials = serde_json::from_value(again).map_err(Error::from)?;
        let kept = Kept { contact: settings.contact.clone(), credentials };
        disk::keep_json(&path, &kept).map_err(|error| storage(&error))?;
    }
    Ok(account)
}

/// A new account that is refused is refused as an account, whatever the authority calls it.
fn account_failed(error: Error) -> Failure {
    let failure = Failure::from(error);
    match failure.reason {
        Reason::Rejected | Reason::Challenge => Failure { reason: Reason::Account, ..failure },
        _ => failure,
    }
}

/// An account that the authority no longer knows is put aside, so that the next try makes a new one.
pub(super) fn forgotten(error: Error, settings: &Settings) -> Failure {
    if let Error::Api(problem) = &error
        && problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":accountDoesNotExist"))
    {
        let path = disk::account(settings);
        let aside = path.with_extension("json.unknown");
        if let Err(error) = std::fs::rename(&path, &aside) {
            log::warn!(file:? = path, error:%; "an account that the authority does not know cannot be put aside");
        }
    }
    error.into()
}
