//! Passwords: hashed with Argon2id, which takes a while, and therefore not on a thread that serves
//! requests.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use rocket::tokio::task::spawn_blocking;

use crate::failure::{Failure, Result};

/// The least that NIST SP 800-63B lets a password be; anything else about it is its owner's choice.
pub const SHORTEST: usize = 8;

pub async fn hash(password: &str) -> Result<String> {
    let password = password.to_owned();
    blocking(move || {
        let hash = Argon2::default().hash_password(password.as_bytes());
        hash.map(|hash| hash.to_string())
            .map_err(|error| Failure::Password(error.to_string()))
    })
    .await?
}

/// Whether it is the password. Where there is no account, and so no hash, it takes as long: the
/// time of the answer tells nobody which names exist.
pub async fn verify(password: &str, hash: Option<String>) -> Result<bool> {
    const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3MtaGFzaA$\
                           AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let password = password.to_owned();
    blocking(move || {
        let text = hash.as_deref().unwrap_or(NOBODYS);
        let parsed = PasswordHash::new(text).map_err(|e| Failure::Password(e.to_string()))?;
        let argon = Argon2::default();
        let fits = argon.verify_password(password.as_bytes(), &parsed).is_ok();
        Ok(fits && hash.is_some())
    })
    .await?
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = spawn_blocking(work).await;
    done.map_err(|error| Failure::Password(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rocket::async_test]
    async fn a_password_fits_its_own_hash_alone() {
        let stored = hash("let it steep").await.unwrap();
        assert!(stored.starts_with("$argon2id$"));
        assert!(verify("let it steep", Some(stored.clone())).await.unwrap());
        assert!(!verify("let it sleep", Some(stored)).await.unwrap());
        assert!(!verify("let it steep", None).await.unwrap());
    }
}
