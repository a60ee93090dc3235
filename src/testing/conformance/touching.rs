use std::sync::Arc;

use super::sample::{at, changes, holds, id, lacks, stored, touch};
use super::{Failure, Kept};
use crate::clock::Moment;
use crate::document::{Operator, Path, date};
use crate::record::field;
use crate::store::{Filter, Order, Store, Update};

/// [`touch`](Store::touch) moves `accessed` and `expires` to later times, which is stored when
/// [`flush`](Store::flush) has returned.
pub async fn touch_moves_times_forward(store: Arc<dyn Store>) -> Kept {
    for round in 0..20_u32 {
        let mut document = stored(&*store, round).await?;
        let (accessed, expires) = (at(5), at(100_000));
        store.touch(touch(&id(round), accessed, expires));
        if round % 2 == 1 {
            rocket::tokio::task::yield_now().await; // lets a store begin to write
        }
        store.flush().await;
        document.insert(field::ACCESSED, accessed.seconds());
        document.insert(field::EXPIRES, date(expires));
        // By `find`, which cannot see touches that are still to be written.
        let found = store
            .find(Filter::id(&id(round)), Order::OldestFirst, 0, 1)
            .await?;
        let times = found.first().and_then(|found| {
            let accessed = found.get(field::ACCESSED)?.as_f64()?;
            let expires = found.get(field::EXPIRES)?.as_datetime()?;
            Some((accessed, Moment::from_millis(expires.timestamp_millis())))
        });
        must!(
            times == Some((accessed.seconds(), expires)),
            "after a touch to {:?} and a flush, its times are {times:?}",
            (accessed.seconds(), expires)
        );
        holds(&*store, &document).await?;
    }
    Ok(())
}

/// Neither of the two times ever goes back, in whatever order touches come.
pub async fn touch_never_moves_times_backward(store: Arc<dyn Store>) -> Kept {
    let mut document = stored(&*store, 1).await?;
    let (accessed, expires) = (at(50), at(100_000));
    for (accessed, expires) in [
        (accessed, expires),
        (at(-500), at(500)),
        (at(10), expires),
        (accessed, at(90_000)),
        (at(-1_000_000), at(-1_000_000)),
    ] {
        store.touch(touch(&id(1), accessed, expires));
        store.flush().await;
    }
    document.insert(field::ACCESSED, accessed.seconds());
    document.insert(field::EXPIRES, date(expires));
    holds(&*store, &document).await?;
    // One of them may move while the other stays.
    let later = at(200_000);
    store.touch(touch(&id(1), at(0), later));
    store.flush().await;
    document.insert(field::EXPIRES, date(later));
    holds(&*store, &document).await
}

/// A touch does not prolong a session that had expired when it was used, and prolongs one whose
/// document has no such date.
pub async fn touch_revives_no_expired_session(store: Arc<dyn Store>) -> Kept {
    let mut shortened = stored(&*store, 1).await?;
    let mut dateless = stored(&*store, 2).await?;
    let end = at(60_000);
    for (number, operator) in [(1, Operator::Set(date(end).into())), (2, Operator::Unset)] {
        let mut update = Update::default();
        update.insert(Path::Meta(field::EXPIRES), operator);
        changes(&*store, number, update).await?;
    }
    let (accessed, expires) = (at(60_001), at(100_000));
    for number in [1, 2] {
        store.touch(touch(&id(number), accessed, expires));
    }
    shortened.insert(field::EXPIRES, date(end));
    holds(&*store, &shortened).await?; // before it is written, too
    store.flush().await;
    holds(&*store, &shortened).await?;
    dateless.insert(field::ACCESSED, accessed.seconds());
    dateless.remove(field::EXPIRES); // it is the last field now
    dateless.insert(field::EXPIRES, date(expires));
    holds(&*store, &dateless).await
}

/// A touch writes no other field, and to no other document.
pub async fn touch_changes_nothing_else(store: Arc<dyn Store>) -> Kept {
    let mut documents = Vec::new();
    for number in 0..6 {
        documents.push(stored(&*store, number).await?);
    }
    // In one batch, as a store may write them.
    let (accessed, expires) = (at(5), at(100_000));
    for (number, document) in (0..).zip(&mut documents) {
        if number % 2 == 0 {
            store.touch(touch(&id(number), accessed, expires));
            document.insert(field::ACCESSED, accessed.seconds());
            document.insert(field::EXPIRES, date(expires));
        }
    }
    store.flush().await;
    for document in &documents {
        holds(&*store, document).await?;
    }
    Ok(())
}

/// A touch of a document that is not there makes none.
pub async fn touch_never_creates(store: Arc<dyn Store>) -> Kept {
    stored(&*store, 1).await?;
    store.delete(Filter::id(&id(1))).await?;
    for number in [1, 2] {
        store.touch(touch(&id(number), at(5), at(100_000)));
        lacks(&*store, &id(number), "after a touch").await?;
    }
    store.flush().await;
    for number in [1, 2] {
        lacks(&*store, &id(number), "after a touch and a flush").await?;
    }
    let all = store.count(Filter::all()).await?;
    must!(all == 0, "there are {all} documents instead of none");
    Ok(())
}
