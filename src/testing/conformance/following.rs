use std::sync::Arc;

use bson::{Bson, doc};

use super::sample::{DATA, id, put, session, stored};
use super::{Failure, Kept};
use crate::document::{Document, SERVER_TIME, Update};
use crate::record::field;
use crate::store::{ChangeKind, Filter, Store};

/// [`times`](Store::times) gives the fields that decide when sessions end, for all sessions that have
/// one of the ids, however many those are, and for no other.
pub async fn times_gives_the_documents_asked_for(store: Arc<dyn Store>) -> Kept {
    const STORED: u32 = 250;
    let mut wanted = Vec::new();
    for number in 0..STORED {
        let mut document = session(&id(number));
        document.extend(doc! { "timeout": 60.5, "lifetime": false });
        put(&*store, &document).await?;
        wanted.push(document);
    }
    wanted.remove(0);
    let asked = || (1..STORED + 50).map(id).collect();
    let mut found = store.times(asked(), false).await?;
    let committed = store.times(asked(), true).await?;
    must!(
        committed.len() == found.len(),
        "of the sessions it says that {} have ended for good, all of which are stored",
        found.len().saturating_sub(committed.len())
    );
    found.sort_by(|one, other| one.id().cmp(&other.id()));
    must!(
        found.len() == wanted.len(),
        "of {} ids, {} of which documents have, it gave {}",
        STORED + 49,
        wanted.len(),
        found.len()
    );
    for (found, wanted) in found.iter().zip(&wanted) {
        for name in [
            "_id",
            field::CREATED,
            field::ACCESSED,
            field::EXPIRES,
            "timeout",
            "lifetime",
        ] {
            let got = found
                .get(name)
                .and_then(|value| Bson::try_from(value.to_raw_bson()).ok());
            must!(
                got.as_ref() == wanted.get(name),
                "{name} is {got:?} and not {:?}",
                wanted.get(name)
            );
        }
    }
    let none = store.times(Vec::new(), false).await?;
    must!(none.is_empty(), "it gave a document for no id");
    Ok(())
}

/// [`watch`](Store::watch) reports what is inserted, renewed and deleted from its call on, in this
/// order, or fails because the store cannot report it.
pub async fn watch_tells_what_happens_in_its_order(store: Arc<dyn Store>) -> Kept {
    let mut watch = store.watch();
    stored(&*store, 1).await?;
    let this = || Filter::id(&id(1));
    let mut renewal = Update::default();
    renewal.set_now(field::RENEWED);
    store.update(this(), renewal, DATA).await?;
    store.delete(this()).await?;
    stored(&*store, 2).await?; // the last that is reported, whatever the one before was
    let mut told = Vec::new();
    loop {
        match watch.next().await {
            Ok(None) => {}
            Ok(Some(change)) if change.id() == id(2) => break,
            Ok(Some(change)) => told.push((change.id().to_owned(), change.kind())),
            // A standalone server, for instance.
            Err(_) if told.is_empty() => return Ok(()),
            Err(error) => return Err(Failure::from(error)),
        }
    }
    let kinds = [
        ChangeKind::Inserted,
        ChangeKind::Renewed,
        ChangeKind::Deleted,
    ];
    let wanted = kinds.map(|kind| (id(1), kind));
    must!(told == wanted, "it told {told:?} and not {wanted:?}");
    Ok(())
}

/// The document that ends every session, `~epoch`, is returned by [`load_many`](Store::load_many), by
/// [`times`](Store::times) and by [`ages`](Store::ages), with the generation that it names, beside
/// sessions that carry one; and [`load_now`](Store::load_now), where a store has it, returns what
/// [`load`](Store::load) does.
pub async fn the_epoch_is_told_with_what_it_ends(store: Arc<dyn Store>) -> Kept {
    const EPOCH: &str = crate::epoch::ID;
    const NUMBER: i64 = -4_611_686_018_427_387_905;
    let epoch = doc! { "_id": EPOCH, "generation": 1_i64, "since": SERVER_TIME };
    put(&*store, &epoch).await?;
    let mut update = Update::default();
    update.set("generation", NUMBER);
    update.set_now("at");
    store.update(Filter::id(EPOCH), update, DATA).await?;
    for number in 0..4 {
        let mut document = session(&id(number));
        document.insert(field::EPOCH, NUMBER + i64::from(number));
        put(&*store, &document).await?;
    }
    let ids = || [EPOCH.to_owned()].into_iter().chain((0..4).map(id));
    let check = |call: &str, found: Vec<Document>| {
        let number = |document: &Document| {
            let name = match document.id() == Some(EPOCH) {
                true => "generation",
                false => field::EPOCH,
            };
            document.get(name).and_then(|number| number.as_i64())
        };
        let mut numbers: Vec<_> = found.iter().map(number).collect();
        numbers.sort_unstable();
        let wanted = [0, 0, 1, 2, 3].map(|more| Some(NUMBER + more));
        must!(numbers == wanted, "{call} tells {numbers:?}");
        Ok(())
    };
    check("load_many", store.load_many(ids().collect()).await?)?;
    check("times", store.times(ids().collect(), false).await?)?;
    check(
        "times of what is final",
        store.times(ids().collect(), true).await?,
    )?;
    let ages = store.ages(ids().collect()).await?;
    let age = ages.iter().find(|aged| aged.document.id() == Some(EPOCH));
    let age = age.and_then(|aged| aged.age);
    must!(age.is_some(), "it has no age");
    check("ages", ages.into_iter().map(|aged| aged.document).collect())?;
    if let Some(now) = store.load_now(EPOCH) {
        must!(
            now == store.load(EPOCH).await?,
            "load_now tells another one"
        );
        must!(
            store.load_now("~").flatten().is_none(),
            "one that is not there"
        );
    }
    Ok(())
}
