use rocket::tokio::time::timeout;

use super::sample::{a_tombstone, change, holds_raw, id, lacks, raw, session, stores};
use super::{Failure, Kept, PATIENCE, begins_empty};
use crate::document::Operator;
use crate::record::field;
use crate::store::{Document, Durability, Filter, Store, Updated};

/// The call that is tried as the last one before a crash.
#[derive(Clone, Copy, Debug)]
enum Last {
    Insert,
    Update,
    Delete,
    Take,
    DeleteAll,
    PutRevocation,
}

/// Writes that were acknowledged as durable before a crash are there after it: documents that were
/// created and changed, and the absence of those that were deleted.
///
/// Each call that writes is once the last one before a crash, on an empty store that `make` gives.
/// Then `reopen` takes that store, kills the server or process that keeps its data, and gives a store
/// on the data that are left.
///
/// Inserts and updates ask for [`Durability::Identity`]; the end of a session is always durable.
/// [`Durability::Data`] promises what the database is set up for, and touches nothing: neither is
/// tried. A crash is not tried while a call is running: writes that were not acknowledged may be
/// there or not.
pub async fn survives_a_restart<S: Store>(
    make: impl AsyncFn() -> S,
    reopen: impl AsyncFn(S) -> S,
) -> Kept {
    let all = [
        Last::Insert,
        Last::Update,
        Last::Delete,
        Last::Take,
        Last::DeleteAll,
        Last::PutRevocation,
    ];
    for last in all {
        let round = async {
            let store = make().await;
            begins_empty(&store).await?;
            let acknowledged = write(&store, last).await?;
            let store = reopen(store).await;
            is_there(&store, &acknowledged).await
        };
        let kept = match timeout(PATIENCE, round).await {
            Ok(kept) => kept,
            Err(_) => Err(Failure::new("the store did not answer in time")),
        };
        kept.map_err(|failure| Failure::new(format!("after {last:?} and a restart: {failure}")))?;
    }
    Ok(())
}

const REVOCATION: &str = "~revocation";
const DURABLY: Durability = Durability::Identity;

/// The state after the acknowledged writes: documents that must be there, and ids that must be gone.
struct Acknowledged {
    there: Vec<Document>,
    gone: Vec<String>,
}

/// Stores some documents, and makes one call of the kind, which is the last.
async fn write(store: &dyn Store, last: Last) -> Result<Acknowledged, Failure> {
    let mut there: Vec<Document> = [2, 3].map(|number| raw(&session(&id(number)))).into();
    for other in &there {
        stores(store, vec![other.clone()], DURABLY).await?;
    }
    let (mut this, tombstone) = (session(&id(1)), a_tombstone(1, 0));
    stores(store, vec![raw(&this), tombstone.clone()], DURABLY).await?;
    there.push(tombstone);

    let filter = Filter::id(&id(1));
    let update = change("number", Operator::Increment(1));
    match last {
        Last::Insert => {}
        Last::PutRevocation => {
            store.put_revocation(REVOCATION).await?;
            let revocation = store.load(REVOCATION).await?;
            let missing = || Failure::new("put_revocation stored nothing");
            there.push(revocation.ok_or_else(missing)?);
        }
        Last::Update => {
            let updated = store.update(filter, update, DURABLY).await?;
            must!(updated == Updated::Applied, "update said {updated:?}");
            if let Ok(values) = this.get_document_mut(field::VALUE) {
                values.insert("number", 6_i64);
            }
        }
        Last::Delete => must!(store.delete(filter).await?, "delete found nothing"),
        Last::Take => must!(store.take(filter).await?.is_some(), "take found nothing"),
        Last::DeleteAll => {
            let deleted = store.delete_all(Filter::ids(vec![id(1)])).await?;
            must!(deleted == 1, "delete_all deleted {deleted} and not 1");
        }
    }
    let mut gone = Vec::new();
    match last {
        Last::Insert | Last::Update | Last::PutRevocation => there.push(raw(&this)),
        Last::Delete | Last::Take | Last::DeleteAll => gone.push(id(1)),
    }
    Ok(Acknowledged { there, gone })
}

async fn is_there(store: &dyn Store, acknowledged: &Acknowledged) -> Kept {
    for wanted in &acknowledged.there {
        holds_raw(store, wanted).await?;
    }
    for id in &acknowledged.gone {
        lacks(store, id, "after it was deleted").await?;
    }
    Ok(())
}
