//! Password hashing with Argon2id, on threads that do not serve requests because it takes a while.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use rocket::tokio::sync::Semaphore;
use rocket::tokio::task::spawn_blocking;

use crate::failure::{Failure, Result};

/// The minimum length that NIST SP 800-63B allows. It requires no other rules.
pub const SHORTEST: usize = 8;

/// Passwords that are hashed at a time; others wait. Each takes 19 MiB and a core, and many logins at
/// once shall not occupy all cores.
static PLACES: Semaphore = Semaphore::const_new(4);

/// A hash that matches no password and is as costly to verify as any other.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3MtaGFzaA$\
                       AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

pub async fn hash(password: &str) -> Result<String> {
    let password = password.to_owned();
    blocking(move || {
        let hash = Argon2::default().hash_password(password.as_bytes());
        hash.map(|hash| hash.to_string())
            .map_err(|error| Failure::Password(error.to_string()))
    })
    .await?
}

/// Verifies a password. Without an account, and so without a hash, it takes as long: the time of the
/// response does not reveal which names exist.
pub async fn verify(password: &str, hash: Option<String>) -> Result<bool> {
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
    let place = PLACES.acquire().await;
    let place = place.map_err(|closed| Failure::Password(closed.to_string()))?;
    let done = spawn_blocking(move || {
        // Released by the blocking task, which continues when the request is dropped.
        let _place = place;
        work()
    });
    done.await
        .map_err(|error| Failure::Password(error.to_string()))
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::Error;

    use super::*;

    #[rocket::async_test]
    async fn a_password_fits_its_own_hash_alone() {
        let stored = hash("let it steep").await.unwrap();
        assert!(verify("let it steep", Some(stored.clone())).await.unwrap());
        assert!(!verify("let it sleep", Some(stored)).await.unwrap());
        assert!(!verify("let it steep", None).await.unwrap());
    }

    #[rocket::async_test]
    async fn nobodys_hash_costs_as_much_as_somebodys() {
        let cost = "$argon2id$v=19$m=19456,t=2,p=1$";
        let stored = hash("let it steep").await.unwrap();
        for hash in [stored.as_str(), NOBODYS] {
            assert!(hash.starts_with(cost), "{hash}");
            // Hashed completely, and not refused as malformed.
            let parsed = PasswordHash::new(hash).unwrap();
            let tried = Argon2::default().verify_password(b"let it sleep", &parsed);
            assert_eq!(tried, Err(Error::PasswordInvalid));
            assert_eq!(
                parsed.salt.unwrap().len(),
                16 - 3 * usize::from(hash == NOBODYS)
            );
            assert_eq!(parsed.hash.unwrap().len(), 32);
        }
    }
}
